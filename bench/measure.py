"""The measurements. Contenders take turns: what the machine does meanwhile hits them all."""

from __future__ import annotations

import json
import random
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from bench.contenders import APART, BENCH, Host, Network, Place
from tests.support.node import ROOT

# Seconds before each figure is taken, lest it pay for what was left to be done by the one before:
# the kernel deletes in the background, and an agent replaces its children when it is quiet.
REST = 0.1

VERBS = ("ADD", "CHECK", "DEL")

_PORT = 8080
_NEIGHBOURS = {BENCH: ("neighbour", 7000), APART: ("neighbour-apart", 7002)}

T = TypeVar("T")

# By measurement or contender: milliseconds by verb, one figure a round.
Samples = dict[str, dict[str, list[float]]]


def attach_neighbour(place: Place) -> None:
    """Attach a pod of two ports, to stay: no node that matters makes its rules for every ADD anew.

    Without it each ADD would find no table of rules, and each DEL would remove the last one's.
    """
    name, port = _NEIGHBOURS[place.network]
    place.host.run("ADD", place.host.pod(name, port), network=place.network)


def latency(places: Mapping[str, Place], rounds: int, through: str) -> Samples:
    """The time of each verb of the chain, for one pod after the other.

    The pods' namespaces go in the end: the kernel takes its time for that, and locks meanwhile what
    an ADD needs.
    """
    samples: Samples = {name: {verb: [] for verb in VERBS} for name in places}
    for number in range(rounds + 1):
        for name, (host, network) in _shuffled(places, number).items():
            pod = host.pod(_name(network, number), _PORT)
            for verb in VERBS:
                time.sleep(REST)
                spent = host.run(verb, pod, through=through, network=network)
                if number:  # the first round warms caches
                    samples[name][verb].append(spent)
    for host, network in places.values():
        for number in range(rounds + 1):
            host.node.run("ip", "netns", "del", _name(network, number))
    return samples


def _shuffled(contenders: Mapping[str, T], number: int) -> dict[str, T]:
    """Not to have the same one before another in each round."""
    return dict(random.Random(number).sample(list(contenders.items()), len(contenders)))


def _name(network: Network, number: int) -> str:
    return f"pod{number}-{network.name}"


def at_once(hosts: Mapping[str, Host], number: int, rounds: int) -> Samples:
    """The time until the last of many ADDs, then of as many DELs, through cnitool, is done."""
    samples: Samples = {name: {"ADD": [], "DEL": []} for name in hosts}
    for _ in range(rounds):
        for name, host in hosts.items():
            time.sleep(REST)
            pods = [host.pod(f"pod{index}", 10000 + 2 * index) for index in range(number)]
            for verb in samples[name]:
                samples[name][verb].append(host.run_at_once(verb, pods, through="cnitool"))
                # cnitool tells what ADD returned; whoever shares an address has none.
                if verb == "ADD" and len(set(host.addresses(pods))) != number:
                    raise SystemExit(
                        f"{name}: {number} pods at once do not have {number} addresses"
                    )
            for pod in pods:
                host.node.run("ip", "netns", "del", pod.name)
    return samples


def trace(host: Host) -> str:
    """Where the time of an ADD goes, not of the first one."""
    for name in ("first", "second"):
        pod = host.pod(name, _PORT)
        text = host.trace(pod)
        host.run("DEL", pod)
        host.node.run("ip", "netns", "del", name)
    return text


def connections(hosts: Mapping[str, Host], rounds: int) -> dict[str, float]:
    """Microseconds until a connection from a machine outside to a published port is there."""
    measured: dict[str, list[float]] = {name: [] for name in hosts}
    for number in range(rounds + 1):
        for name, host in _shuffled(hosts, number).items():
            spent = _connect(host, f"server{number}")
            if number:
                measured[name].append(spent)
    return {name: statistics.median(spent) for name, spent in measured.items()}


def _connect(host: Host, name: str, count: int = 500) -> float:
    pod = host.pod(name, _PORT)
    host.run("ADD", pod)
    server = host.start_inside("-m", "bench.connect", "serve", "80", netns=pod.netns)
    try:
        python = str(ROOT / ".venv/bin/python")
        argv = (python, "-m", "bench.connect", "measure", "192.0.2.1", str(_PORT), str(count))
        environ = {"PYTHONPATH": str(ROOT)}
        done = host.node.run(*argv, netns="/run/netns/outside", env=environ)
    finally:
        server.kill()
        server.wait()
    host.run("DEL", pod)
    host.node.run("ip", "netns", "del", pod.name)
    microseconds: list[float] = json.loads(done.stdout)
    return statistics.median(microseconds)


def agent_memory(host: Host, requests: int) -> dict[str, float]:
    """The memory of the agent and its children in MiB, at the start and after so many requests.

    The requests are CHECKs of one pod, two (bridge and portmap) at a time.
    """
    if host.agent is None:
        raise ValueError(f"{host.contender.name} has no agent")
    before = _resident(host.agent.pid)
    pod = host.pod("checked", _PORT)
    host.run("ADD", pod)
    for _ in range(requests // 2):
        host.run("CHECK", pod)
    host.run("DEL", pod)
    return {"at the start": before, f"after {requests:,} requests": _resident(host.agent.pid)}


def _resident(pid: int) -> float:
    """... of a process and its children when nothing runs; what they share counts once."""
    time.sleep(1)
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return sum(_proportional(Path("/proc", process)) for process in (str(pid), *children))


def _proportional(process: Path) -> float:
    for line in (process / "smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"{process} has no memory")


def medians(samples: Mapping[str, Mapping[str, Sequence[float]]]) -> dict[str, dict[str, float]]:
    """The median of each list of figures."""
    return {
        name: {verb: statistics.median(spent) for verb, spent in verbs.items()}
        for name, verbs in samples.items()
    }


def median_ratios(
    samples: Mapping[str, Sequence[float]], others: Mapping[str, Sequence[float]]
) -> dict[str, float]:
    """By verb: the median of the rounds' ratios, which a slow minute does not change."""
    return {
        verb: statistics.median(a / b for a, b in zip(spent, others[verb], strict=True))
        for verb, spent in samples.items()
    }
