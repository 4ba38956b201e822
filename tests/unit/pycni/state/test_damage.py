"""Attachments' state that somebody else has touched."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cni.net import namespace
from cni.request import Attachment
from pycni.state import attachments, location
from pycni.state.attachments import Record

POD, OTHER = Attachment("net", "pod", "eth0"), Attachment("net", "pod2", "eth0")
RECORD = Record("/run/netns/pod", namespace.Identity(4, 4026531840), [])

# What a claim may be instead of a link to an attachment.
ATTACHMENTS = "../attachments/net"
CLAIMS = ["..", "nowhere", ATTACHMENTS, f"{ATTACHMENTS}/pod/eth0/x", "../x/net/pod/eth0"]


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of the test's own for state."""
    monkeypatch.setenv(location.VARIABLE, str(tmp_path / "state"))
    (tmp_path / "state").mkdir()
    return tmp_path / "state"


@pytest.mark.parametrize("target", CLAIMS)
def test_a_claim_that_names_nobody(state: Path, target: str) -> None:
    """A claim that names no attachment is nobody's, and does not keep anybody from claiming."""
    (state / "claims").mkdir()
    (state / "claims/port").symlink_to(target)
    assert attachments.find_holder("port") is None
    attachments.claim("port", POD)
    assert attachments.find_holder("port") == POD
    with pytest.raises(FileExistsError):
        attachments.claim("port", OTHER)


@pytest.mark.parametrize("what", ["file", "directory"])
def test_a_claim_that_is_no_link(state: Path, what: str) -> None:
    """Nor does anything else in a claim's place."""
    path = state / "claims/port"
    (path / "in it").mkdir(parents=True) if what == "directory" else _touch(path)
    assert attachments.claims_of(POD) == []
    attachments.release("port", POD)
    attachments.claim("port", POD)
    assert attachments.claims_of(POD) == ["port"]


@pytest.mark.parametrize("target", ["/nowhere", "..", ""])
def test_no_claims(state: Path, target: str) -> None:
    """A link or a file in place of all claims is removed, not followed."""
    path = state / "claims"
    path.symlink_to(target) if target else _touch(path)
    assert attachments.claims_of(POD) == []
    with attachments.all_locked():
        assert attachments.release_orphaned() == []
        attachments.claim("port", POD)
    assert attachments.claims_of(POD) == ["port"]


def _touch(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.touch()


@pytest.mark.parametrize("place", ["attachments", "attachments/net", "attachments/net/pod/eth0"])
@pytest.mark.parametrize("target", ["/nowhere", "..", ""])
def test_a_link_in_the_way(state: Path, place: str, target: str) -> None:
    """A link or a file in place of a directory is removed, not followed, and nothing waits."""
    path = state / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target) if target else path.write_text("")
    with attachments.locked(POD):
        attachments.write_record(POD, "bridge", RECORD)
    assert attachments.find_record(POD, "bridge") == RECORD
    assert not path.is_symlink()


def test_a_place_that_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there can be no state directory, that is an error, and tried a few times only."""
    (tmp_path / "link").symlink_to("/nowhere")
    monkeypatch.setenv(location.VARIABLE, str(tmp_path / "link"))
    with (
        pytest.raises(Exception, match=r"state cannot be kept in .*/link"),
        attachments.locked(POD),
    ):
        pass


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.ENOMEM])
def test_only_absence_is_no_record(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """A record that cannot be looked at, or read, is neither missing nor damaged."""

    def fail(path: Any, *_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), path)

    for call in ("lstat", "open"):
        monkeypatch.setattr(os, call, fail)
    for ask in (attachments.has_record, attachments.find_record):
        with pytest.raises(OSError, match=os.strerror(number)):
            ask(POD, "bridge")


def test_a_namespace_that_cannot_be_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """An attachment whose namespace cannot be looked at counts as live."""

    def fail(path: str) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    monkeypatch.setattr(os, "stat", fail)
    assert RECORD.is_live


def test_names_that_there_cannot_be(state: Path) -> None:
    """GC passes over what cannot be an attachment's directory."""
    for name in ("-x/eth0", "pod/eth0", "pod/" + "x" * 16, "a b/eth0", "é/eth0"):
        (state / "attachments/net" / name).mkdir(parents=True)
    subprocess.run(["touch", state / "attachments/net/file"], check=True)
    assert attachments.find_stale("net", []) == [POD]
