"""Pods of hundreds of ports: what one ADD, CHECK and DEL take, with each contender in turn.

The reference plugins take half a minute for 500 ports, so they are measured at some sizes only, and
fewer times.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from bench import measure, report
from bench.contenders import ALONE, REFERENCE_DEFAULT, WITH_AGENT, Contender, Host, Place, Pod
from bench.report import Bar


class Size(NamedTuple):
    """So many ports of a protocol, and whether the reference is measured, too."""

    ports: int
    protocol: str
    with_reference: bool = False

    def __str__(self) -> str:
        return f"{self.ports:,} {self.protocol}"


FULL = (
    Size(250, "tcp", with_reference=True),
    Size(500, "tcp", with_reference=True),
    Size(1000, "tcp"),
    Size(500, "udp"),
    Size(1000, "udp"),
)
QUICK = (Size(50, "tcp", with_reference=True), Size(100, "tcp"), Size(100, "udp"))

_CONTENDERS = (WITH_AGENT, ALONE, REFERENCE_DEFAULT)

# The budget: of the reference's time; of the time that half as many take; of the time of as many
# TCP ports.
_REFERENCE_BAR = 0.1
_GROWTH_BAR = 2.2
_UDP_BAR = 2.0

# By size and contender: milliseconds by verb.
Figures = dict[str, dict[str, dict[str, float]]]


def measure_sizes(sizes: Sequence[Size], rounds: int) -> Figures:
    """The medians of so many rounds, of a third as many for the reference."""
    samples: dict[str, dict[str, dict[str, list[float]]]] = {}
    with ExitStack() as stack:
        hosts = {one: _host(stack, one) for one in _CONTENDERS}
        for number in range(rounds + 1):  # the first round warms caches
            for size in sizes:
                for contender in _taking_part(size, number):
                    spent = _run(hosts[contender], size, f"pod{number}")
                    mine = samples.setdefault(str(size), {}).setdefault(contender.name, {})
                    if number or contender is REFERENCE_DEFAULT:
                        for verb, milliseconds in spent.items():
                            mine.setdefault(verb, []).append(milliseconds)
    return {
        size: {
            name: {verb: statistics.median(spent) for verb, spent in verbs.items()}
            for name, verbs in by_contender.items()
        }
        for size, by_contender in samples.items()
    }


def _host(stack: ExitStack, contender: Contender) -> Host:
    scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    host = stack.enter_context(Host(contender, scratch))
    measure.attach_neighbour(Place(host))
    return host


def _taking_part(size: Size, number: int) -> Iterator[Contender]:
    for contender in _CONTENDERS:
        if contender is not REFERENCE_DEFAULT or (size.with_reference and number % 3 == 1):
            yield contender


def _run(host: Host, size: Size, name: str) -> dict[str, float]:
    netns = host.node.add_netns(name)
    ports = [
        {"hostPort": 20000 + n, "containerPort": 1000 + n, "protocol": size.protocol}
        for n in range(size.ports)
    ]
    pod = Pod(name, netns, ports)
    spent = {}
    for verb in measure.VERBS:
        time.sleep(measure.REST)
        spent[verb] = host.run(verb, pod)
    host.node.run("ip", "netns", "del", name)
    return spent


# What people read


def bars(figures: Figures) -> list[Bar]:
    """How the figures compare with the budget: an ADD and its DEL together, and a CHECK."""
    found = []
    spent = {_parse(size): by_contender for size, by_contender in figures.items()}
    for verbs in (("ADD", "DEL"), ("CHECK",)):
        for (count, protocol), mine in spent.items():
            here = _sum(mine[WITH_AGENT.name], verbs)
            where = f"{' and '.join(verbs)} of {count:,} {protocol} ports, with agent"
            if REFERENCE_DEFAULT.name in mine:
                ratio = here / _sum(mine[REFERENCE_DEFAULT.name], verbs)
                found.append(Bar(f"{where} / reference", ratio, _REFERENCE_BAR))
            half = spent.get((count // 2, protocol))
            if half and protocol == "tcp":
                ratio = here / _sum(half[WITH_AGENT.name], verbs)
                found.append(Bar(f"{where} / half as many", ratio, _GROWTH_BAR))
            if protocol == "udp" and (count, "tcp") in spent:
                ratio = here / _sum(spent[count, "tcp"][WITH_AGENT.name], verbs)
                found.append(Bar(f"{where} / as many tcp ports", ratio, _UDP_BAR))
    return found


def _sum(spent: Mapping[str, float], verbs: Sequence[str]) -> float:
    return sum(spent[verb] for verb in verbs)


def _parse(size: str) -> tuple[int, str]:
    count, protocol = size.split()
    return int(count.replace(",", "")), protocol


def table(figures: Figures) -> str:
    """Milliseconds, and ratios to the reference."""
    rows = [
        (f"{size}: {name}", *_cells(spent, by_contender.get(REFERENCE_DEFAULT.name)))
        for size, by_contender in figures.items()
        for name, spent in by_contender.items()
    ]
    header = ("ports", *(cell for verb in measure.VERBS for cell in (verb, "ratio")))
    return report.table(header, rows)


def _cells(spent: Mapping[str, float], reference: Mapping[str, float] | None) -> Iterator[Any]:
    for verb in measure.VERBS:
        yield spent[verb]
        yield spent[verb] / reference[verb] if reference else ""
