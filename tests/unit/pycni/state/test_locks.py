from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pycni.state import locks


def in_threads(number: int, work: Callable[[int], None]) -> None:
    """Do the work `number` times at once; what it raises is raised."""
    with ThreadPoolExecutor(number) as pool:
        list(pool.map(work, range(number)))


def test_nothing_is_left(tmp_path: Path) -> None:
    """A lock makes the directories that it needs, and removes them at its end."""
    path = tmp_path / "state/net/pod"
    with locks.directory(str(path), keep=str(tmp_path)):
        assert path.is_dir()
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_kept(tmp_path: Path) -> None:
    """Directories up to the one to keep are removed, not that one itself."""
    with locks.directory(str(tmp_path / "state/net"), keep=str(tmp_path / "state")):
        pass
    assert list(tmp_path.rglob("*")) == [tmp_path / "state"]


def test_what_is_used_stays(tmp_path: Path) -> None:
    """A directory in which there is something stays."""
    with locks.directory(str(tmp_path / "net/pod"), keep=str(tmp_path)):
        (tmp_path / "net/other").mkdir()
    assert list(tmp_path.rglob("*")) == [tmp_path / "net", tmp_path / "net/other"]


def test_an_error_ends_the_lock(tmp_path: Path) -> None:
    """A block that raises gives the lock back."""
    with pytest.raises(ZeroDivisionError), locks.directory(str(tmp_path / "a"), str(tmp_path)):
        raise ZeroDivisionError
    with locks.directory(str(tmp_path / "a"), str(tmp_path)):
        assert (tmp_path / "a").is_dir()


def test_one_at_a_time(tmp_path: Path) -> None:
    """Of those who want a lock one has it, although each removes the directory at its end."""
    inside = tmp_path / "inside"

    def work(_: int) -> None:
        for _ in range(20):
            with locks.directory(str(tmp_path / "net/pod"), keep=str(tmp_path)):
                inside.touch(exist_ok=False)
                time.sleep(0.0002)  # lets the others in, if anything does
                inside.unlink()

    in_threads(4, work)


def test_neighbours_come_and_go(tmp_path: Path) -> None:
    """That a neighbour removes the directory above both just now does no harm."""

    def work(number: int) -> None:
        for _ in range(50):
            with locks.directory(str(tmp_path / f"state/net/pod{number}"), keep=str(tmp_path)):
                pass

    in_threads(4, work)
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_gives_its_lock_back(tmp_path: Path) -> None:
    """A lock ends with the process that holds it."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        with locks.directory(str(tmp_path / "pod"), keep=str(tmp_path)):
            os.write(writer, b"locked")
            signal.pause()
    assert os.read(reader, 6) == b"locked"
    os.kill(child, signal.SIGKILL)
    with locks.directory(str(tmp_path / "pod"), keep=str(tmp_path)):
        assert os.waitpid(child, 0)[1] == signal.SIGKILL


def test_children_inherit_the_lock(tmp_path: Path) -> None:
    """A program that the holder started goes on holding the lock, for it may not be done."""
    with locks.directory(str(tmp_path / "pod"), keep=str(tmp_path)):
        held = [name for name in os.listdir("/proc/self/fd") if _leads_to(name, tmp_path / "pod")]
        assert [os.get_inheritable(int(descriptor)) for descriptor in held] == [True]


def _leads_to(descriptor: str, path: Path) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}") == str(path)
    except FileNotFoundError:  # the one that listed the directory
        return False


def test_a_file_in_the_way(tmp_path: Path) -> None:
    """What is in a directory's place is removed; where that cannot be, it is an error."""
    for path in (tmp_path / "net", tmp_path / "net/pod"):
        (tmp_path / "net").write_text("")
        with locks.directory(str(path), keep=str(tmp_path)):
            assert path.is_dir()
    (tmp_path / "kept").write_text("")
    with pytest.raises(OSError, match="Not a directory"):
        locks.directory(str(tmp_path / "kept/net"), keep=str(tmp_path / "kept")).__enter__()
