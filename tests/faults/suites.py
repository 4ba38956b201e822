"""The suites, and what a run of one found."""

from __future__ import annotations

import contextlib
import random
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from tests.faults.fuzz_state import FuzzState
from tests.faults.fuzz_stdin import FuzzStdin
from tests.faults.inject import Injection
from tests.faults.owners import Owners
from tests.faults.stop import Stop
from tests.faults.world import Broken, World
from tests.support.node import ROOT, Node


class Suite(Protocol):
    """Faults for one world."""

    def choose(self, chance: random.Random, /) -> Any:
        """A fault. As a string it is what `parse` takes."""

    def parse(self, text: str, /) -> Any:
        """The same fault again."""

    def run(self, fault: Any, /) -> str | None:
        """Inject it and judge. Returns what was hit, None if nothing was. Raises Broken."""


SUITES: dict[str, Callable[[World], Suite]] = {
    "inject": Injection,
    "stop": Stop,
    "fuzz-stdin": FuzzStdin,
    "fuzz-state": FuzzState,
    "owners": Owners,
}

# Backends, and whether the pod that faults are about is alone.
WORLDS = [(backend, alone) for backend in ("nftables", "iptables-nft") for alone in (False, True)]

_AT_MOST_IN_A_WORLD = 50

_BIN = ROOT / ".cache/cni-bin"


class Report:
    """How many faults were injected, which hit, and what was not as it should be."""

    def __init__(self, suite: str) -> None:
        self.suite = suite
        self.injected = 0
        self.hit: Counter[str] = Counter()
        self.found: list[str] = []

    def row(self) -> str:
        """A row of the table in docs/reliability.md, and below it what was hit."""
        counts = ", ".join(f"{what} {count}" for what, count in self.hit.most_common())
        row = f"| {self.suite} | {self.injected} | {self.hit.total()} | {len(self.found)} |"
        return f"{row}\n{counts}"


def run(
    suite: str,
    seed: int,
    is_over: Callable[[int], bool],
    *,
    tell: Callable[[str], None] = print,
    bin_dir: Path = _BIN,
    worlds: Sequence[tuple[str, bool]] = WORLDS,
) -> Report:
    """Inject faults of a suite into one world after the other, until `is_over` by their number."""
    chance, report = random.Random(seed), Report(suite)
    while not is_over(report.injected):
        with _new_world(bin_dir, *chance.choice(worlds)) as world:
            faults = SUITES[suite](world)
            for _ in range(_AT_MOST_IN_A_WORLD):
                if is_over(report.injected):
                    break
                if not _inject(report, world, faults, partial(faults.choose, chance), tell):
                    break
    return report


def again(suite: str, text: str, tell: Callable[[str], None] = print) -> Report:
    """Inject a fault that was reported as `<world> <fault>`."""
    report = Report(suite)
    where, _, fault = text.partition(" ")
    backend = where.removesuffix("-alone")
    with _new_world(_BIN, backend, where != backend) as world:
        faults = SUITES[suite](world)
        _inject(report, world, faults, partial(faults.parse, fault), tell)
    return report


def _inject(
    report: Report,
    world: World,
    faults: Suite,
    choose: Callable[[], Any],
    tell: Callable[[str], None],
) -> bool:
    """Returns whether the world can be used further."""
    report.injected += 1
    fault: object = "none yet"
    try:
        fault = choose()
        hit = faults.run(fault)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is to be reported
        wrong = str(error) if isinstance(error, Broken) else traceback.format_exc()
        report.hit["something"] += 1
        report.found.append(f"{world} {fault}: {wrong}")
        tell(report.found[-1])
        return False
    if hit:
        report.hit[hit] += 1
    return True


@contextlib.contextmanager
def _new_world(bin_dir: Path, backend: str, alone: bool) -> Iterator[World]:
    with tempfile.TemporaryDirectory() as scratch, Node(bin_dir, Path(scratch)) as node:
        yield World(node, backend, alone=alone)
