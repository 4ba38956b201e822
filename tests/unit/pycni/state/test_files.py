"""Files of state."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pycni.state import files
from pycni.state.files import Damaged

# What somebody may have put where a file of state is to be.
OBSTACLES: dict[str, Callable[[Path], object]] = {
    "a link to nowhere": lambda path: path.symlink_to("/nowhere"),
    "a link to a file": lambda path: path.symlink_to(__file__),
    "a pipe": os.mkfifo,
    "a device": lambda path: os.mknod(path, 0o20600, os.makedev(1, 5)),
    "a directory": lambda path: (path / "in it").mkdir(parents=True),
}

# JSON that nobody wrote for us: what is no JSON, what is too deep, and what is too long.
NONSENSE = ["", "{", "\0", "NaN", "[" * 100_000, '{"a":' * 100_000, "9" * 5000, "null", "[7]"]


@pytest.fixture(params=OBSTACLES)
def obstacle(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A path with something else at it than a file."""
    if os.geteuid() != 0 and request.param == "a device":
        pytest.fail("this test makes a device: run it as root", pytrace=False)
    path = tmp_path / "file"
    OBSTACLES[str(request.param)](path)
    return path


def test_only_plain_files_are_read(obstacle: Path) -> None:
    """Neither a link nor a pipe, a device or a directory is read, nor waited for."""
    with pytest.raises(Damaged, match=str(obstacle)):
        files.read(str(obstacle))


def test_whatever_is_there_can_be_removed(obstacle: Path) -> None:
    """What is in a file's place is removed, and what a link leads to stays."""
    files.remove(str(obstacle))
    assert os.listdir(obstacle.parent) == []
    assert Path(__file__).exists()


@pytest.mark.parametrize("text", NONSENSE)
def test_nonsense_is_damage(tmp_path: Path, text: str) -> None:
    """A file with whatever else in it than what was written there is damaged, and is named."""
    path = tmp_path / "file"
    path.write_text(text)
    with pytest.raises(Damaged, match=str(path)):
        files.read_json(str(path), lambda value: int(value["number"]))


def test_only_absence_is_absence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that cannot be looked for is neither there nor missing."""
    assert not files.exists(str(tmp_path / "file"))

    def fail(path: str) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    monkeypatch.setattr(os, "lstat", fail)
    with pytest.raises(OSError, match="Input/output error"):
        files.exists(str(tmp_path / "file"))


def test_written_over_what_was_not_finished(tmp_path: Path) -> None:
    """A file is written whatever a killed writer left, and no link is written through."""
    target = tmp_path / "target"
    (tmp_path / "file.new").symlink_to(target)
    files.write(str(tmp_path / "file"), "new")
    assert (tmp_path / "file").read_text() == "new"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("call", ["write", "rename"])
def test_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """A file that cannot be written, or renamed, stays as it was, and nothing is beside it."""
    path = tmp_path / "file"
    path.write_text("old")

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(OSError, match="No space"):
            files.write(str(path), "new")
    assert {name.name: name.read_text() for name in tmp_path.iterdir()} == {"file": "old"}
