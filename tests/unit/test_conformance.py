from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache

import pytest

from tests.support.conformance import Watch, needed, read_lines
from tests.support.node import ROOT

LINES = read_lines()
NAMED = sorted({test for line in LINES for test in line.tests})


@cache
def functions_of(file: str) -> dict[str, str]:
    """The functions of a file, and their docstrings."""
    functions = ast.parse((ROOT / file).read_text()).body
    return {
        function.name: ast.get_docstring(function) or ""
        for function in functions
        if isinstance(function, ast.FunctionDef)
    }


def test_lines() -> None:
    """The page has lines, each of which is there once."""
    behaviours = [line.behaviour for line in LINES]
    assert len(behaviours) > 100
    assert len(behaviours) == len(set(behaviours))


def test_every_line_is_held() -> None:
    """Every line names a test."""
    assert [line.behaviour for line in LINES if not line.tests] == []


def test_named_tests_exist() -> None:
    """Every test that is named exists, and says in a sentence what it holds."""
    assert [name for file, name in NAMED if not functions_of(file).get(name)] == []


def test_only_a_kernel_is_a_reason() -> None:
    """What is held elsewhere is held by tests that `scripts/test-kernel` runs."""
    script = ROOT / "scripts/test-kernel"
    run_there = script.read_text() if script.exists() else ""
    for line in LINES:
        if line.elsewhere:
            assert all(file in run_there for file, _ in line.tests)


def report(test: str, when: str, outcome: str) -> pytest.TestReport:
    return pytest.TestReport(test, ("", 0, ""), {}, outcome, None, when)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("reports", "missing"),
    [
        ([], ["a.py::test_a"]),
        ([("a.py::test_a", "call", "passed")], []),
        ([("a.py::test_a[1]", "call", "passed")], []),
        ([("a.py::test_b", "call", "passed")], ["a.py::test_a"]),
        ([("a.py::test_a", "setup", "passed")], ["a.py::test_a"]),
        ([("a.py::test_a", "setup", "skipped")], ["a.py::test_a"]),
        (
            [("a.py::test_a[1]", "call", "passed"), ("a.py::test_a[2]", "setup", "skipped")],
            ["a.py::test_a"],
        ),
    ],
)
def test_what_did_not_run(reports: list[tuple[str, str, str]], missing: list[str]) -> None:
    """A test that is named ran if each of its cases was called; skipped ones count as not run."""
    watch = Watch({"a.py::test_a"})
    for each in reports:
        watch.pytest_runtest_logreport(report(*each))
    assert watch.missing == missing


def test_a_run_that_leaves_tests_out() -> None:
    """A run for conformance fails if it left out a test that the page names, and names it."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--conformance"]
    ran = "tests/unit/cni/test_errors.py::test_the_only_error"
    done = subprocess.run([*command, ran], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "1 passed" in done.stdout
    summary = done.stdout.partition("named in docs/conformance.md, and not run")[2]
    assert set(summary.split()) >= needed() - {ran}
    assert ran not in summary
