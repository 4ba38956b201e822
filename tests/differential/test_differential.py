"""Our plugins and the reference plugins v1.9.1, told the same on nodes that are the same.

Where they differ on purpose, docs/differences.md says so, in tables that are read here: a
difference that is in none of them fails, and so does a row, or a part of one, that no case shows.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.differential.case import Case
from tests.differential.cases import CASES
from tests.differential.cases.bridge import VLANS
from tests.differential.differences import Difference, compare, read_table
from tests.differential.side import observe
from tests.support.node import ROOT, can_filter_vlans

REFERENCE = ROOT / ".cache/reference-v1.9.1"
TABLE = read_table(ROOT / "docs/differences.md")


class Comparisons:
    """Cases run ahead in the background, and each only once."""

    def __init__(self, bin_dir: Path, scratch: Path, pool: ThreadPoolExecutor) -> None:
        self._bin_dir = bin_dir
        self._scratch = scratch
        self._pool = pool
        self._running: dict[str, Future[list[Difference]]] = {}

    def start(self, case: Case) -> Future[list[Difference]]:
        if case.name not in self._running:
            self._running[case.name] = self._pool.submit(self._compare, case)
        return self._running[case.name]

    def _compare(self, case: Case) -> list[Difference]:
        reference = observe(case, REFERENCE, self._scratch)
        ours = observe(case, self._bin_dir, self._scratch)
        return list(compare(case.name, reference, ours))


@pytest.fixture(scope="module")
def comparisons(
    bin_dir: Path, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Comparisons]:
    if not (REFERENCE / "portmap").is_file():
        pytest.fail(f"no reference plugins in {REFERENCE}: run scripts/environment")
    pool = ThreadPoolExecutor(4)
    comparisons = Comparisons(bin_dir, tmp_path_factory.mktemp("differential"), pool)
    for item in request.session.items:
        parametrized = getattr(item, "callspec", None)
        case = parametrized.params.get("case") if parametrized else None
        if isinstance(case, Case):
            comparisons.start(case)
    yield comparisons
    pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_same(comparisons: Comparisons, case: Case) -> None:
    """Both suites do the same, but for what the table says."""
    found = comparisons.start(case).result()
    unexplained = [str(d) for d in found if not any(row.covers(d) for row in TABLE)]
    assert unexplained == []


@pytest.mark.parametrize("case", VLANS, ids=str)
def test_vlans(comparisons: Comparisons, case: Case, request: pytest.FixtureRequest) -> None:
    """They do the same with VLANs, too; a kernel that cannot filter them has them differ."""
    if not can_filter_vlans():
        reason = "the kernel cannot filter VLANs"
        request.applymarker(pytest.mark.xfail(reason=reason, strict=True))
    test_same(comparisons, case)


def test_table_is_true(comparisons: Comparisons) -> None:
    """Every part of every row of the table is shown by some case."""
    running = [comparisons.start(case) for case in CASES]
    found = [difference for future in running for difference in future.result()]
    unshown = {row.id: patterns for row in TABLE if (patterns := list(row.unshown(found)))}
    assert unshown == {}


def test_number_of_cases() -> None:
    """Two hundred at least, each by a name of its own."""
    assert len({case.name for case in CASES}) == len(CASES) >= 200
