"""How the tests of each runtime ended, with our plugins and with the reference's, as a table."""

from __future__ import annotations

import re
from collections import Counter, defaultdict

import pytest

# A test's parameter, as `every` names it.
_KIND = re.compile(r"tests/runtimes/.*\[.*?\b(\w+)-(pycni|reference)\b")


class Table:
    """A plugin for pytest: prints a line for each runtime and plugins that tests ran with."""

    def __init__(self) -> None:
        self._ended: defaultdict[tuple[str, ...], Counter[str]] = defaultdict(Counter)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        kind = _KIND.search(report.nodeid)
        if kind and (report.when == "call" or not report.passed):
            outcome = "failed as expected" if hasattr(report, "wasxfail") else report.outcome
            self._ended[kind.groups()][outcome] += 1

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._ended:
            terminalreporter.section("runtimes")
        for (runtime, plugins), ended in sorted(self._ended.items()):
            counts = ", ".join(f"{number} {outcome}" for outcome, number in sorted(ended.items()))
            terminalreporter.line(f"{runtime:10} {plugins:10} {counts}")
