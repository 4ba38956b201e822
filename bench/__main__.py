"""Measure pycni beside the reference plugins v1.9.1: `python -m bench [--ports] [--quick]`.

All contenders run in one run, in turn, each in a throw-away node of its own. Written are
`report.md`, `figures.json` and `growth.{png,svg}` in .cache/bench; with --publish these go to
docs/performance, and the report to the end of docs/performance.md. Only ratios carry over to
another machine.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from bench import many_ports, measure, report
from bench.contenders import (
    ALL,
    ALONE,
    APART,
    NOTHING,
    OURS,
    REFERENCE_DEFAULT,
    REFERENCE_NFTABLES,
    WITH_AGENT,
    Contender,
    Host,
    Place,
    write_nothing,
)
from bench.fill import ROOM, Filler
from bench.report import Bar
from tests.support.node import ROOT

# The budget: at most so much of the reference's time with its default backend.
_CHAIN_BARS = {
    WITH_AGENT: {"ADD": 0.40, "CHECK": 0.60, "DEL": 0.40},
    ALONE: {"ADD": 1.0, "CHECK": 2.0, "DEL": 0.7},
}
_GROWTH_BAR = 1.10
# Beside a contender's name: its pod is not on the bridge that gets fuller, or not on that node. Of
# the latter there are two: other ratios may be wrong by as much as theirs is.
_ELSEWHERE = ", others elsewhere"
_NO_OTHERS = ", one other pod"
_CONTROL = ", one other pod, again"
_AT_ONCE_BAR = 0.5
_CONNECTION_BAR = 1.1
_MEMORY_BAR = 60.0


class Effort(NamedTuple):
    """How much is measured."""

    rounds: int
    sizes: tuple[int, ...]
    growth_rounds: int
    most_rounds: int  # with the largest of these sizes
    at_once_rounds: int
    connection_rounds: int
    requests: int
    ports_rounds: int


_FULL = Effort(25, (100, 500, 1000, 2000), 11, 41, 3, 21, 10_000, 6)
_QUICK = Effort(7, (50, 150), 3, 5, 1, 5, 500, 2)


def main() -> None:
    """Measure, write it all down, and print the tables."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="about three minutes")
    parser.add_argument("--publish", action="store_true", help="write it into docs/")
    parser.add_argument("--ports", action="store_true", help="only pods of many ports, anew")
    arguments = parser.parse_args()
    output = ROOT / ("docs/performance" if arguments.publish else ".cache/bench")
    output.mkdir(parents=True, exist_ok=True)
    effort = _QUICK if arguments.quick else _FULL
    kept = output / "figures.json"
    ports = _measure_ports(effort)
    if arguments.ports and not kept.exists():
        print(many_ports.table(ports["medians"]))
        return
    figures = json.loads(kept.read_text()) if arguments.ports else _measure(effort)
    figures["many ports"] = ports
    kept.write_text(json.dumps(figures, indent=1) + "\n")
    report.plot_growth(output, {int(size): by for size, by in figures["growth"].items()})
    text = _report(figures)
    if arguments.publish:
        page = ROOT / "docs/performance.md"
        page.write_text(page.read_text().partition(_FIRST_HEADING)[0] + text)
    else:
        (output / "report.md").write_text(text)
    print(text)


def _measure(effort: Effort) -> dict[str, Any]:
    figures: dict[str, Any] = {"machine": report.machine(), "effort": effort._asdict()}
    with ExitStack() as stack:
        quiet = {contender.name: _host(stack, contender) for contender in ALL}
        write_nothing()
        with_floor = quiet | {NOTHING.name: _host(stack, NOTHING)}
        for through in ("cnitool", "exec"):
            _tell(f"the chain through {through}")
            places = {name: Place(host) for name, host in with_floor.items()}
            samples = measure.latency(places, effort.rounds, through)
            figures[f"chain through {through}"] = measure.medians(samples)
        figures["traces"] = {
            contender.name: measure.trace(quiet[contender.name]) for contender in OURS
        }
        _tell("50 at once")
        samples = measure.at_once(quiet, 50, effort.at_once_rounds)
        figures["50 at once"] = measure.medians(samples)
        full = {contender.name: _host(stack, contender) for contender in ALL}
        fresh = {contender.name: _host(stack, contender) for contender in OURS}
        figures |= _measure_growth(effort, full, fresh, quiet)
        _tell("connections")
        figures["connections"] = _measure_connections(effort, quiet, full)
    with ExitStack() as stack:
        _tell("the agent's memory")
        host = _host(stack, WITH_AGENT)
        figures["memory"] = measure.agent_memory(host, effort.requests)
    return figures


def _measure_ports(effort: Effort) -> dict[str, Any]:
    """Pods of hundreds of ports, with the machine's load before that."""
    load, _, _ = os.getloadavg()
    _tell("many ports")
    sizes = many_ports.QUICK if effort == _QUICK else many_ports.FULL
    return {"load": load, "medians": many_ports.measure_sizes(sizes, effort.ports_rounds)}


def _host(stack: ExitStack, contender: Contender) -> Host:
    scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    host = stack.enter_context(Host(contender, scratch))
    measure.attach_neighbour(Place(host))
    return host


def _measure_growth(
    effort: Effort,
    full: Mapping[str, Host],
    quiet: Mapping[str, Host],
    control: Mapping[str, Host],
) -> dict[str, Any]:
    """The chain with more and more attachments; pycni's also where these are on other bridges, and
    on the nodes of `quiet`, made with the full ones, and of `control`, which keep one other pod.
    With the most, pycni's ratios to `quiet`, round by round.
    """
    fillers = [Filler(host) for host in full.values()]
    places = {name: Place(host) for name, host in full.items()}
    for name in quiet:
        places[name + _ELSEWHERE] = Place(full[name], APART)
        measure.attach_neighbour(places[name + _ELSEWHERE])
        places[name + _NO_OTHERS] = Place(quiet[name])
        places[name + _CONTROL] = Place(control[name])
    growth = {}
    for size in (0, *effort.sizes):
        _tell(f"{size} attachments")
        for filler in fillers:
            filler.fill(size)
        rounds = effort.most_rounds if size == effort.sizes[-1] else effort.growth_rounds
        samples = measure.latency(places, rounds, "exec")
        growth[str(size)] = measure.medians(samples)
    ratios = {
        name + where: measure.median_ratios(samples[name + where], samples[name + _NO_OTHERS])
        for name in quiet
        for where in (_ELSEWHERE, "", _CONTROL)
    }
    return {"growth": growth, "growth ratios": ratios}


def _measure_connections(
    effort: Effort, quiet: Mapping[str, Host], full: Mapping[str, Host]
) -> dict[str, dict[str, float]]:
    """Microseconds until a new connection is there; pycni's rules do not depend on the agent."""
    names = [one.name for one in (WITH_AGENT, REFERENCE_DEFAULT, REFERENCE_NFTABLES)]
    hosts = {f"{name}: few": quiet[name] for name in names}
    hosts |= {f"{name}: many": full[name] for name in names}
    spent = measure.connections(hosts, effort.connection_rounds)
    return {name: {"few": spent[f"{name}: few"], "many": spent[f"{name}: many"]} for name in names}


def _tell(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


# What people read

_FIRST_HEADING = "## The budget\n"


def _report(figures: Mapping[str, Any]) -> str:
    growth = figures["growth"]
    most = max(map(int, growth))
    parts = [
        _FIRST_HEADING,
        _table_of_bars(figures),
        "## Control: the ratio of two nodes with one other pod each\n",
        _table_of_control(figures["growth ratios"]),
        "## The chain, on a node with one other pod (medians, ms)\n",
        *(_table_of_chain(figures, through) for through in ("cnitool", "exec")),
        "## The chain with more and more attachments (medians, ms)\n",
        *(_table_of_growth(growth, verb) for verb in measure.VERBS),
        "![Milliseconds against attachments](performance/growth.svg)\n",
        "## 50 at once, through cnitool, until the last is done (medians, ms)\n",
        _table_of_at_once(figures["50 at once"]),
        f"## A new connection to a published port, beside one other pod and {most:,} more\n",
        _table_of_connections(figures["connections"]),
        "## A pod of many ports (medians, ms)\n",
        _words_of_ports(figures["many ports"]["load"]),
        many_ports.table(figures["many ports"]["medians"]),
        "## The agent's resident memory, MiB\n",
        report.table(("", "MiB"), figures["memory"].items()),
        "## Where the time of an ADD goes\n",
        *(f"{name}:\n\n```\n{text}```\n" for name, text in figures["traces"].items()),
        "## The machine\n",
        report.table(("", ""), figures["machine"].items()),
    ]
    return "\n".join(parts)


def _bars(figures: Mapping[str, Any]) -> list[Bar]:
    chain = figures["chain through cnitool"]
    reference = chain[REFERENCE_DEFAULT.name]
    bars = [
        Bar(
            f"{contender.name}: {verb} / reference",
            chain[contender.name][verb] / reference[verb],
            limit,
        )
        for contender, limits in _CHAIN_BARS.items()
        for verb, limit in limits.items()
    ]
    most = max(map(int, figures["growth"]))
    ratios = figures["growth ratios"]
    for name in (contender.name for contender in OURS):
        near = f"{min(ROOM, most):,} on its bridge"
        for where, others in ((_ELSEWHERE, "on other bridges"), ("", near)):
            for verb in measure.VERBS:
                what = f"{name}: {verb} beside {most:,} pods, {others} / beside one pod"
                bars.append(Bar(what, ratios[name + where][verb], _GROWTH_BAR))
    at_once = figures["50 at once"]
    ratio = at_once[WITH_AGENT.name]["ADD"] / at_once[REFERENCE_DEFAULT.name]["ADD"]
    bars.append(Bar("50 ADDs at once, with agent / reference", ratio, _AT_ONCE_BAR))
    spent = figures["connections"][WITH_AGENT.name]
    what = f"new connection, {2 * most:,} mappings / few"
    bars.append(Bar(what, spent["many"] / spent["few"], _CONNECTION_BAR))
    before, after = figures["memory"].values()
    bars.append(Bar("agent's memory at the start, MiB", before, _MEMORY_BAR))
    bars.append(Bar("agent's memory in the end, MiB", after, _MEMORY_BAR))
    return [*bars, *many_ports.bars(figures["many ports"]["medians"])]


def _words_of_ports(load: float) -> str:
    return (
        "The chain through exec, IPv4 only, on a node with one other pod, in turn.\n"
        "`scripts/bench --ports` measures this part by itself, so it may be of another run than\n"
        f"the rest. The machine's load average before it was {load:.1f}.\n"
    )


def _table_of_bars(figures: Mapping[str, Any]) -> str:
    rows = [
        (bar.measure, bar.value, f"≤ {bar.limit:g}", "yes" if bar.is_met else "no")
        for bar in _bars(figures)
    ]
    return report.table(("measure", "value", "bar", "met"), rows)


def _table_of_control(ratios: Mapping[str, Any]) -> str:
    rows = [(one.name, *ratios[one.name + _CONTROL].values()) for one in OURS]
    return report.table(("", *measure.VERBS), rows)


def _table_of_chain(figures: Mapping[str, Any], through: str) -> str:
    chain = figures[f"chain through {through}"]
    reference = chain[REFERENCE_DEFAULT.name]
    rows = [
        (
            name,
            *(
                cell
                for verb in measure.VERBS
                for cell in (spent[verb], spent[verb] / reference[verb])
            ),
        )
        for name, spent in chain.items()
    ]
    header = [f"through {through}", *(cell for verb in measure.VERBS for cell in (verb, "ratio"))]
    return report.table(header, rows)


def _table_of_growth(growth: Mapping[str, Any], verb: str) -> str:
    sizes = sorted(growth, key=int)
    rows = [(name, *(growth[size][name][verb] for size in sizes)) for name in growth[sizes[0]]]
    return report.table((verb, *(f"{int(size):,}" for size in sizes)), rows)


def _table_of_at_once(samples: Mapping[str, Any]) -> str:
    reference = samples[REFERENCE_DEFAULT.name]
    rows = [
        (
            name,
            spent["ADD"],
            spent["ADD"] / reference["ADD"],
            spent["DEL"],
            spent["DEL"] / reference["DEL"],
        )
        for name, spent in samples.items()
    ]
    return report.table(("", "50 ADDs", "ratio", "50 DELs", "ratio"), rows)


def _table_of_connections(connections: Mapping[str, Any]) -> str:
    rows = [
        (
            name,
            spent["few"],
            spent["many"],
            spent["many"] / spent["few"],
            1e6 / spent["few"],
            1e6 / spent["many"],
        )
        for name, spent in connections.items()
    ]
    header = ("", "few: µs", "many: µs", "ratio", "few: per second", "many: per second")
    return report.table(header, rows)


if __name__ == "__main__":
    main()
