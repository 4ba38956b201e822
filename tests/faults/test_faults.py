"""A few faults of each suite, the same each time; `scripts/soak` has any number of others."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.faults import supervised
from tests.faults.suites import SUITES, run
from tests.faults.supervised import Call

_SEED = 12


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("backend", "alone"), [("nftables", False), ("nftables", True), ("iptables-nft", False)]
)
@pytest.mark.parametrize("suite", SUITES)
def test_suite(suite: str, backend: str, alone: bool, bin_dir: Path) -> None:
    """Requests that are disturbed end with one answer, and leave nothing when they are repeated."""
    report = run(suite, _SEED, lambda n: n >= 4, bin_dir=bin_dir, worlds=[(backend, alone)])
    assert report.found == []


def test_fault_reaches_the_program() -> None:
    """A call that is to fail does fail, once, and the calls are counted."""

    def decide(call: Call) -> int:
        return errno.EIO if (call.name, call.position) == ("read", 1) else 0

    outcome = supervised.run(["head"], os.environ, b"text", decide)
    assert (outcome.code, outcome.stdout) == (1, "")
    assert os.strerror(errno.EIO) in outcome.stderr
    assert outcome.calls.count("read") == 1
