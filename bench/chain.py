"""How long a pod waits for its network: ADD, CHECK, DEL of bridge (host-local) and portmap.

    python -m bench.chain REFERENCE-DIRECTORY [ROUNDS]

pycni, with and without its agent, and the reference run on this machine in one run, taking turns,
each in a throw-away node of its own with one pod there already, driven by cnitool. Printed are
medians in milliseconds, and ratios to the reference: only they carry over to another machine.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from tests.netns.node import ROOT, Node

CONFLIST = {
    "cniVersion": "1.0.0",
    "name": "bench",
    "plugins": [
        {
            "type": "bridge",
            "bridge": "cni0",
            "isDefaultGateway": True,
            "ipMasq": True,
            "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.22.0.0/16"}]]},
        },
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ],
}

_PORTS = [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]

_VERBS = ("add", "check", "del")


def main(reference: Path, rounds: int) -> None:
    """Measure and print."""
    ours = ROOT / ".cache/cni-bin"
    directories = {"agent": ours, "pycni": ours, "reference": reference}
    times: dict[tuple[str, str], list[float]] = {}
    with ExitStack() as stack:
        nodes = {}
        for name, directory in directories.items():
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            nodes[name] = stack.enter_context(Node(directory, scratch, agent=False))
            if name == "agent":
                nodes[name].start_agent()
            _run(nodes[name], "add", nodes[name].add_netns("neighbour"), ports=[])
        for number in range(rounds + 1):
            for name, node in nodes.items():
                netns = node.add_netns(f"pod{number}")
                for verb in _VERBS:
                    spent = _run(node, verb, netns, _PORTS)
                    if number:  # the first round warms caches
                        times.setdefault((name, verb), []).append(spent)
    print(f"{'':8}{'agent':>10}{'ratio':>8}{'pycni':>10}{'ratio':>8}{'reference':>12}")
    for verb in _VERBS:
        agent, pycni, theirs = (statistics.median(times[name, verb]) for name in directories)
        ratios = f"{agent:10.0f}{agent / theirs:8.2f}{pycni:10.0f}{pycni / theirs:8.2f}"
        print(f"{verb.upper():8}{ratios}{theirs:12.0f}")
    print(f"(medians of {rounds}, ms)")


def _run(node: Node, verb: str, netns: str, ports: list[dict[str, object]]) -> float:
    start = time.perf_counter()
    answer = node.cnitool(verb, CONFLIST, netns, ports)
    spent = (time.perf_counter() - start) * 1000
    if not answer.ok:
        raise SystemExit(f"{verb}: {answer.stderr}")
    return spent


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), int(sys.argv[2]) if len(sys.argv) > 2 else 20)
