"""Our plugins and the reference plugins v1.9.1, told the same on nodes that are the same.

Where they differ on purpose, docs/differences.md says so, in tables that are read here: a
difference that is in none of them fails, and so does a row, or a part of one, that no case shows.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.differential.case import Case
from tests.differential.cases import CASES
from tests.differential.cases.bridge import VLANS
from tests.differential.differences import Difference, compare, read_table
from tests.differential.side import observe
from tests.support.kernel import can_filter_vlans
from tests.support.node import ROOT

REFERENCE = ROOT / ".cache/reference-v1.9.1"
TABLE = read_table(ROOT / "docs/differences.md")


class Comparisons:
    """Each case is compared once in a run, by the first process that asks; others wait for it."""

    def __init__(self, bin_dir: Path, folder: Path) -> None:
        self._bin_dir = bin_dir
        self._folder = folder
        folder.mkdir(exist_ok=True)

    def of(self, case: Case) -> list[Difference]:
        with (self._folder / hashlib.sha256(case.name.encode()).hexdigest()).open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            if text := file.read():
                return [Difference(*fields) for fields in json.loads(text)]
            found = self._compare(case)
            file.write(json.dumps(found))
            return found

    def _compare(self, case: Case) -> list[Difference]:
        suites = (REFERENCE, self._bin_dir)
        with ThreadPoolExecutor() as pool:
            sides = [pool.submit(observe, case, suite, self._folder) for suite in suites]
            reference, ours = (side.result() for side in sides)
        return list(compare(case.name, reference, ours))


@pytest.fixture(scope="module")
def comparisons(bin_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Comparisons:
    if not (REFERENCE / "portmap").is_file():
        pytest.fail(f"no reference plugins in {REFERENCE}: run scripts/environment")
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # all the run's processes have it
    return Comparisons(bin_dir, folder / "differential")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_same(comparisons: Comparisons, case: Case) -> None:
    """Both suites do the same, but for what the table says."""
    found = comparisons.of(case)
    unexplained = [str(d) for d in found if not any(row.covers(d) for row in TABLE)]
    assert unexplained == []


@pytest.mark.parametrize("case", VLANS, ids=str)
def test_vlans(comparisons: Comparisons, case: Case, request: pytest.FixtureRequest) -> None:
    """They do the same with VLANs, too; a kernel that cannot filter them has them differ."""
    if not can_filter_vlans():
        reason = "the kernel cannot filter VLANs"
        request.applymarker(pytest.mark.xfail(reason=reason, strict=True))
    test_same(comparisons, case)


@pytest.mark.timeout(1200)  # if it runs alone
def test_table_is_true(comparisons: Comparisons) -> None:
    """Every part of every row of the table is shown by some case."""
    with ThreadPoolExecutor(4) as pool:
        found = [difference for each in pool.map(comparisons.of, CASES) for difference in each]
    unshown = {row.id: patterns for row in TABLE if (patterns := list(row.unshown(found)))}
    assert unshown == {}


def test_number_of_cases() -> None:
    """Two hundred at least, each by a name of its own."""
    assert len({case.name for case in CASES}) == len(CASES) >= 200
