"""PYCNI_TRACE: where the time of a request goes."""

from __future__ import annotations

import inspect
import io
import json
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from pycni import trace

EACH_STEP = [(module, name) for module, names in trace.STEPS.items() for name in names]


@pytest.mark.parametrize(("module", "name"), EACH_STEP)
def test_steps(module: str, name: str) -> None:
    """What is to be timed is there, and takes the arguments that its label names."""
    import_module(module)
    _, function = trace.find(module, name)
    parameters = inspect.signature(function).parameters
    trace.STEPS[module][name].format(*parameters)


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "_trace", trace._Trace("start", time.perf_counter()))


def printed() -> list[str]:
    stderr = io.StringIO()
    trace.report(stderr)
    return [line[20:].rstrip() for line in stderr.getvalue().splitlines()]


@pytest.mark.usefixtures("begun")
def test_order_and_nesting() -> None:
    """Spans stand in the order in which they began, those within another one indented."""
    with trace.span("outer"):
        with trace.span("inner"):
            pass
        with trace.span("unworthy", shortest=1.0):
            pass
    with trace.span("next"):
        pass
    spans = ["start", "outer", "  inner", "next"]
    assert printed() == ["", *spans, "the end"]


@pytest.mark.usefixtures("begun")
def test_failure() -> None:
    """A block that fails is timed, too."""
    with pytest.raises(ValueError, match="x"), trace.span("outer"):
        raise ValueError("x")
    assert "outer" in printed()


@pytest.mark.usefixtures("begun")
def test_time() -> None:
    """A span takes as long as what is in it."""
    with trace.span("sleep"):
        time.sleep(0.02)
    (span,) = [span for span in trace._trace.spans if span.what == "sleep"]  # type: ignore[union-attr]
    assert 0.02 <= span.seconds < 1


def test_off() -> None:
    """Nothing is kept and nothing printed by those who did not ask."""
    with trace.span("outer"):
        pass
    assert printed() == []


def run(environ: dict[str, str], tmp_path: Path) -> Any:
    """A GC of host-local, by the launcher."""
    program = (
        f"import sys; sys.path[:] = {sys.path!r}\nfrom pycni.launcher import run\nrun('host-local')"
    )
    config = {"cniVersion": "1.1.0", "name": "net", "cni.dev/valid-attachments": []}
    return subprocess.run(
        [sys.executable, "-IS", "-c", program],
        input=json.dumps(config | {"ipam": {"dataDir": str(tmp_path)}}),
        env={"CNI_COMMAND": "GC"} | environ,
        capture_output=True,
        text=True,
        check=True,
    )


def test_run(tmp_path: Path) -> None:
    """A request's spans are printed on standard error, and its answer is the same."""
    done = run({"PYCNI_TRACE": "1"}, tmp_path)
    assert done.stdout == ""
    assert done.stderr.count("read the configuration") == 1
    for what in (
        "Python starts",
        "from cni_plugins.host_local.main import main",
        "read the configuration",
    ):
        assert what in done.stderr


@pytest.mark.parametrize("environ", [{}, {"PYCNI_TRACE": "0"}])
def test_silent_run(environ: dict[str, str], tmp_path: Path) -> None:
    """Without PYCNI_TRACE=1 there is nothing on standard error."""
    assert run(environ, tmp_path).stderr == ""
