"""What a run of tests leaves on the machine is noticed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support import leftovers


def test_process() -> None:
    """A process that a test started and forgot is named by its command line."""
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            found = leftovers.find_processes(leftovers.mark_processes())
        finally:
            process.kill()
    assert f"process {process.pid}: sleep\00060\0" in found


def test_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file where plugins keep theirs is named."""
    monkeypatch.setattr(leftovers, "_PLACES", (str(tmp_path),))
    before = leftovers.see()
    (tmp_path / "lease").touch()
    assert leftovers.see() - before == {f"file {tmp_path}/lease"}
