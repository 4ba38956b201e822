"""What the agent notices of its own installation."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import pytest

from pycni.agent import warmth


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that stands in for pycni's."""
    (tmp_path / "module.py").touch()
    monkeypatch.setattr(warmth, "_directories", lambda: [str(tmp_path)])
    return tmp_path


@pytest.mark.parametrize(
    "change",
    ["echo >> module.py", "touch module.py", "mv module.py x", "rm module.py", "touch new"],
)
def test_changes(package: Path, change: str) -> None:
    """Whatever happens to a file is told, and nothing before."""
    with open(warmth.watch(), "rb", buffering=0) as changes:
        assert changes.read(4096) is None
        os.system(f"cd {package} && {change}")
        assert changes.read(4096)


def test_no_directory(package: Path) -> None:
    """What cannot be watched is an error that names it."""
    (package / "module.py").unlink()
    package.rmdir()
    with pytest.raises(FileNotFoundError, match=str(package)):
        warmth.watch()


def test_no_inotify(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So is that the kernel gives none, as when too many are in use (EMFILE)."""

    class Exhausted:
        def __init__(self, *_: object, **__: object) -> None: ...

        def inotify_init1(self, _: int) -> int:
            ctypes.set_errno(24)
            return -1

    monkeypatch.setattr(ctypes, "CDLL", Exhausted)
    with pytest.raises(OSError, match="Too many open files"):
        warmth.watch()
    assert package.exists()
