"""Whether anything is left of a great many pods: ADD and DEL of the chain, through the agent.

    python -m bench.soak [ADDS]

Workers add pods and remove them again, each at its own pace. What there is on the node is counted
after the first few and at the end, with no pod there: of nothing may there be more. SIGINT ends it
early, with what it has found by then.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from subprocess import Popen
from threading import Event
from typing import Any

from bench.contenders import BENCH, WITH_AGENT, plugins
from tests.support.agents import STANDBYS, running, standbys
from tests.support.network import remains, wait_until
from tests.support.node import ROOT, Answer, Node

_WARM_UP = 50
_PODS_PER_NAMESPACE = 20
_WORKERS = 3

# The agent's memory: the most there may be, and by how much the pages it uses may differ.
_MOST_KIB, _SETTLING_KIB = 60 * 1024, 256

_ended_early = Event()


def main(adds: int) -> int:
    """Run it, and print the counts. Returns the exit code."""
    with ExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory())
        node = stack.enter_context(Node(ROOT / ".cache/cni-bin", Path(scratch), agent=False))
        agent = node.start_agent()
        _run(node, _WARM_UP)
        before = _count(node, agent)
        began = time.monotonic()
        signal.signal(signal.SIGINT, lambda *_: _ended_early.set())
        adds = _run(node, adds)
        spent = time.monotonic() - began
        after = _count(node, agent)
    print(f"{adds} ADDs and DELs in {spent:.0f} s\n{'':24}{'before':>10}{'after':>10}")
    for what, count in before.items():
        print(f"{what:24}{count:10}{after[what]:10}")
    leaks = [what for what in before if _has_leaked(what, before[what], after[what])]
    print(f"leaks: {', '.join(leaks) or 'none'}")
    return 1 if leaks else 0


def _run(node: Node, adds: int) -> int:
    """Returns how many there were."""
    shares = [adds // _WORKERS + (number < adds % _WORKERS) for number in range(_WORKERS)]
    with ThreadPoolExecutor(_WORKERS) as workers:
        return sum(workers.map(_work, [node] * _WORKERS, range(_WORKERS), shares))


def _work(node: Node, worker: int, adds: int) -> int:
    """Each pod has a container id of its own; one port is published. Returns their number."""
    network = {"cniVersion": "1.0.0", "name": BENCH.name}
    bridge, portmap = (network | plugin for plugin in plugins(WITH_AGENT, BENCH))
    portmap["runtimeConfig"] = {
        "portMappings": [{"hostPort": 8000 + worker, "containerPort": 80, "protocol": "tcp"}]
    }
    for first in range(0, adds, _PODS_PER_NAMESPACE):
        if _ended_early.is_set():
            return first
        netns = node.add_netns(f"{worker}-{first}")
        for number in range(first, min(first + _PODS_PER_NAMESPACE, adds)):
            pod = (f"pod-{worker}-{number}", netns)
            result = _require_ok(node.cni("ADD", "bridge", bridge, *pod))
            _require_ok(node.cni("ADD", "portmap", portmap | {"prevResult": result}, *pod))
            _require_ok(node.cni("DEL", "portmap", portmap, *pod))
            _require_ok(node.cni("DEL", "bridge", bridge, *pod))
        node.run("ip", "netns", "del", f"{worker}-{first}")
    return adds


def _require_ok(answer: Answer) -> Any:
    if not answer.ok:
        raise SystemExit(f"{answer}")
    return answer.document


def _count(node: Node, agent: Popen[str]) -> dict[str, int]:
    """What there is on the node, and of the agent, when nothing is attached."""
    wait_until(lambda: len(standbys(agent)) == STANDBYS and not running(agent))
    status = Path(f"/proc/{agent.pid}/status").read_text()
    return {
        "descriptors": len(os.listdir(f"/proc/{agent.pid}/fd")),
        "named namespaces": len(node.run("ls", "/run/netns").stdout.split()),
        "interfaces": len(node.json("ip", "-j", "link")),
        "rules of the firewall": len(node.run("nft", "list", "ruleset").stdout.splitlines()),
        "leases, records, claims": len(remains(node)),
        "memory, KiB": int(status.partition("VmRSS:")[2].split()[0]),
    }


def _has_leaked(what: str, before: int, after: int) -> bool:
    if what == "memory, KiB":
        return after > _MOST_KIB or after > before + _SETTLING_KIB
    return after > before


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000))
