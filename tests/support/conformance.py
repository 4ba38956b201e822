"""docs/conformance.md: the tests that it names, and whether a run of all tests ran them."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import NamedTuple

import pytest

from tests.support.pages import DOCS

# How a line says that its tests need a kernel that not every machine has.
ELSEWHERE = "by `scripts/test-kernel`, for "

_TEST = re.compile(r"`(tests/[\w/-]+\.py)::(test_\w+)`")


class Line(NamedTuple):
    """A line of the page: a behaviour, its tests as (file, name), and why they run elsewhere."""

    behaviour: str
    tests: tuple[tuple[str, str], ...]
    elsewhere: str


def read_lines() -> list[Line]:
    """The lines of the page's tables."""
    text = (DOCS / "conformance.md").read_text()
    rows = re.findall(r"^\| (.*) \| (.*) \|$", text, re.MULTILINE)
    return [
        Line(behaviour, tuple(_TEST.findall(tests)), tests.partition(ELSEWHERE)[2])
        for behaviour, tests in rows
        if behaviour != "behaviour"
    ]


def needed() -> set[str]:
    """The tests that a run of the whole suite has to run."""
    lines = (line for line in read_lines() if not line.elsewhere)
    return {f"{file}::{name}" for line in lines for file, name in line.tests}


class Watch:
    """A plugin for pytest: fails a run in which one of these tests did not run, or only in part."""

    def __init__(self, tests: Collection[str]) -> None:
        self._tests = tests
        self._ran: set[str] = set()
        self._skipped: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # What follows is the case, and the group of those that run in one process.
        test = re.split(r"[\[@]", report.nodeid)[0]
        if report.skipped:
            self._skipped.add(test)
        elif report.when == "call":
            self._ran.add(test)

    @property
    def missing(self) -> list[str]:
        return sorted(set(self._tests) - (self._ran - self._skipped))

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.missing and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.missing:
            terminalreporter.section("named in docs/conformance.md, and not run")
            for test in self.missing:
                terminalreporter.line(test)
