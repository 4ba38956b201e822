"""Kernel parameters: where they are looked up, and what an error says."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cni.net import libc, sysctl


@pytest.fixture(params=["own procfs", "the one at /proc"])
def procfs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whichever the kernel lets us have, and that of a kernel that lets us have none."""
    if request.param != "own procfs":
        monkeypatch.setattr(libc, "call", lambda *_: -1)
    sysctl._procfs.cache_clear()
    yield
    sysctl._procfs.cache_clear()


@pytest.mark.usefixtures("procfs")
def test_reading() -> None:
    """A value is read; a parameter that there is not has none."""
    assert sysctl.read("kernel/ostype") == "Linux"
    assert sysctl.read("kernel/nothing") is None


@pytest.mark.usefixtures("procfs")
def test_what_cannot_be_read() -> None:
    """An error names the file."""
    with pytest.raises(IsADirectoryError) as error:
        sysctl.read("kernel")
    assert error.value.filename == "/proc/sys/kernel"


@pytest.mark.usefixtures("procfs")
def test_what_cannot_be_written() -> None:
    """An error names the file; who only tries is told that it did not work."""
    with pytest.raises(OSError, match="/proc/sys/kernel/ostype"):
        sysctl.write("kernel/ostype", "Other")
    assert not sysctl.try_write("kernel/ostype", "Other")
