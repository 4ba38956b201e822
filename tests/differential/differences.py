"""Differences between the reference plugins and ours, and the table of those that are meant."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tests.differential.case import HARMLESS
from tests.differential.side import Observation

# What a step shows of itself; all else is the node's state, which lasts.
_OF_THE_STEP = ("code", "exit", "error", "answer", "reaches")


class Difference(NamedTuple):
    """At a step of a case, what stands under a path: as text.

    `-` means nothing, `there` something of several parts.
    """

    case: str
    step: str
    path: str
    reference: str
    ours: str

    def __str__(self) -> str:
        return f"{self.step}: {self.path}: {self.reference} there, {self.ours} here"


def compare(
    case: str, reference: list[Observation], ours: list[Observation]
) -> Iterator[Difference]:
    """All differences, those of state at the step where they begin.

    Where a step goes well on one side only, that is the difference; after such a step, unless it
    is one that changes nothing, the nodes have nothing in common any more: the comparison ends.
    """
    before: set[tuple[str, str, str]] = set()
    for there, here in zip(reference, ours, strict=True):
        step = there.step.name
        if (there.code == 0) != (here.code == 0):
            yield Difference(case, step, "code", str(there.code), str(here.code))
            if there.step.verb not in HARMLESS:
                return
            continue
        found = set(_differences("", there.seen, here.seen))
        for path, theirs, our in sorted(found - before):
            yield Difference(case, step, path, theirs, our)
        lasting = {item for item in found if item[0].split(".")[0] not in _OF_THE_STEP}
        before = before | lasting if there.step.verb in HARMLESS else lasting


_NOTHING = object()


def _differences(path: str, there: Any, here: Any) -> Iterator[tuple[str, str, str]]:
    if isinstance(there, Mapping) and isinstance(here, Mapping):
        for key in there.keys() | here.keys():
            below = f"{path}.{key}" if path else key
            yield from _differences(below, there.get(key, _NOTHING), here.get(key, _NOTHING))
    elif there != here:
        yield path, _text(there), _text(here)


def _text(value: Any) -> str:
    if value is _NOTHING:
        return "-"
    if isinstance(value, Mapping):
        return "there"
    return value if value and isinstance(value, str) else json.dumps(value)


class Row(NamedTuple):
    """A row of the table: of each column some patterns, in which `*` stands for any text."""

    id: str
    columns: tuple[tuple[str, ...], ...]

    def covers(self, difference: Difference) -> bool:
        return all(
            any(_matches(pattern, text) for pattern in patterns)
            for patterns, text in zip(self.columns, difference, strict=True)
        )

    def unshown(self, differences: Iterable[Difference]) -> Iterator[str]:
        """The patterns that none of the differences needs which the row covers."""
        covered = [difference for difference in differences if self.covers(difference)]
        for number, patterns in enumerate(self.columns):
            for pattern in patterns:
                if not any(_matches(pattern, difference[number]) for difference in covered):
                    yield pattern


def _matches(pattern: str, text: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text, re.DOTALL) is not None


def read_table(path: Path) -> list[Row]:
    """The rows of a page's tables with the columns id, cases, step, what, reference, pycni, why.

    All but the first and the last hold patterns, between backticks.
    """
    rows = []
    for line in path.read_text().splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]
        if len(cells) == len(Difference._fields) + 2 and "`" in line:
            patterns = [tuple(re.findall(r"`([^`]+)`", cell)) for cell in cells[1:-1]]
            rows.append(Row(cells[0], tuple(patterns)))
    return rows
