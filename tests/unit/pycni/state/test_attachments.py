from __future__ import annotations

import os
from pathlib import Path

import pytest

from cni.net import namespace
from cni.request import Attachment
from pycni.state import attachments, location
from pycni.state.attachments import Record

POD = Attachment("net", "pod", "eth0")
OTHERS = [
    Attachment("net", "pod", "eth1"),
    Attachment("net", "pod2", "eth0"),
    Attachment("net2", "pod", "eth0"),
]
RECORD = Record(
    "/run/netns/pod", namespace.Identity(4, 4026531840), [["Masquerade", "10.1.0.5/16"]]
)


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of the test's own for what is in /run otherwise."""
    monkeypatch.setattr(location, "DEFAULT", str(tmp_path / "state"))
    return tmp_path / "state"


def attach(owner: Attachment, plugin: str = "bridge", record: Record = RECORD) -> None:
    with attachments.locked(owner):
        attachments.write_record(owner, plugin, record)


def detach(owner: Attachment, plugin: str = "bridge") -> None:
    with attachments.locked(owner):
        attachments.remove_record(owner, plugin)


# Records


def test_a_record(state: Path) -> None:
    """A record is a file of the attachment, and is read as it was written."""
    attach(POD)
    assert attachments.find_record(POD, "bridge") == RECORD
    files = [path for path in state.rglob("*") if path.is_file()]
    assert files == [state / "attachments/net/pod/eth0/bridge.json"]


def test_a_record_of_an_unknown_namespace() -> None:
    """A namespace that was not there has no identity, which is kept, too."""
    attach(POD, record=RECORD._replace(identity=None))
    record = attachments.find_record(POD, "bridge")
    assert record is not None
    assert record.identity is None
    assert not record.is_live


def test_a_record_is_replaced() -> None:
    """A later record takes the place of an earlier one."""
    attach(POD)
    attach(POD, record=RECORD._replace(owned=[]))
    assert attachments.records_of(POD) == {"bridge": RECORD._replace(owned=[])}


def test_no_record() -> None:
    """Neither other plugins nor other attachments have a record."""
    attach(POD)
    assert attachments.find_record(POD, "portmap") is None
    for other in OTHERS:
        assert attachments.find_record(other, "bridge") is None
        assert attachments.records_of(other) == {}


def test_nothing_is_left(state: Path) -> None:
    """With its last record, all of an attachment's directories go."""
    attach(POD, "bridge")
    attach(POD, "portmap")
    detach(POD, "bridge")
    assert attachments.records_of(POD) == {"portmap": RECORD}
    detach(POD, "portmap")
    assert list(state.iterdir()) == []


def test_removing_nothing(state: Path) -> None:
    """A record that is not there may be removed, and locking leaves no trace."""
    detach(POD)
    assert list(state.iterdir()) == []


def test_an_unfinished_record(state: Path) -> None:
    """What a killed process did not finish writing is no record, and is removed with it."""
    attach(POD)
    unfinished = state / "attachments/net/pod/eth0/bridge.json.new"
    unfinished.write_text('{"netns": "/run')
    assert attachments.records_of(POD) == {"bridge": RECORD}
    assert [owner for owner, _, _ in attachments.all_records()] == [POD]
    detach(POD)
    assert list(state.iterdir()) == []


def test_all_records() -> None:
    """Every attachment's records can be listed."""
    for owner in (POD, *OTHERS):
        attach(owner)
    attach(POD, "portmap")
    found = {(owner, plugin) for owner, plugin, _ in attachments.all_records()}
    assert found == {(owner, "bridge") for owner in (POD, *OTHERS)} | {(POD, "portmap")}


def test_no_records() -> None:
    """Where nothing was ever attached, the list is empty."""
    assert list(attachments.all_records()) == []


def test_live_and_dead(tmp_path: Path) -> None:
    """An attachment lives as long as its path leads to the namespace that it led to."""
    path = tmp_path / "netns"
    path.write_text("")
    record = Record(str(path), namespace.identify(str(path)), [])
    seen = [record.is_live]
    path.rename(tmp_path / "moved")  # so that the next file cannot have the same inode
    seen.append(record.is_live)
    path.write_text("")
    seen.append(record.is_live)
    assert seen == [True, False, False]


# The last one


@pytest.mark.parametrize("other", OTHERS)
def test_not_the_last(other: Attachment) -> None:
    """Another attachment, of whatever kind, keeps one from being the last."""
    attach(POD)
    assert attachments.is_last(POD, "bridge", "nftables")
    attach(other)
    assert not attachments.is_last(POD, "bridge", "nftables")
    assert attachments.is_last_of_network(POD, "bridge", "nftables") == (
        other.network != POD.network
    )


def test_another_plugin_counts() -> None:
    """So does another plugin's record of the same attachment."""
    attach(POD, "bridge")
    attach(POD, "portmap")
    assert not attachments.is_last_of_network(POD, "bridge", "nftables")


def test_another_backend_does_not_count() -> None:
    """Each backend has a last attachment of its own; one without entries is nobody's."""
    attach(POD)
    attach(OTHERS[0], record=RECORD._replace(backend="iptables"))
    attach(OTHERS[1], record=RECORD._replace(backend=""))
    assert attachments.is_last(POD, "bridge", "nftables")
    assert attachments.is_last(OTHERS[0], "bridge", "iptables")
    assert not attachments.is_last(OTHERS[1], "bridge", "iptables")


def test_an_older_record(state: Path) -> None:
    """A record that names no backend was made when there was only nftables."""
    attach(POD)
    path = state / "attachments/net/pod/eth0/bridge.json"
    path.write_text(path.read_text().replace(', "backend": "nftables"', ""))
    assert attachments.find_record(POD, "bridge") == RECORD


# Claims


def test_a_claim() -> None:
    """Who claims something holds it."""
    attachments.claim("tcp-80", POD)
    assert attachments.find_holder("tcp-80") == POD
    assert attachments.find_holder("tcp-81") is None


def test_a_second_claim() -> None:
    """What somebody holds cannot be claimed, not even by its holder."""
    attachments.claim("tcp-80", POD)
    for owner in (OTHERS[0], POD):
        with pytest.raises(FileExistsError):
            attachments.claim("tcp-80", owner)
    assert attachments.find_holder("tcp-80") == POD


def test_release() -> None:
    """A claim that was given up is anybody's."""
    attachments.claim("tcp-80", POD)
    attachments.release("tcp-80", POD)
    attachments.release("tcp-80", POD)
    attachments.claim("tcp-80", OTHERS[0])
    assert attachments.find_holder("tcp-80") == OTHERS[0]


@pytest.mark.parametrize("other", OTHERS)
def test_only_the_holder_releases(other: Attachment) -> None:
    """Nobody gives up another's claim."""
    attachments.claim("tcp-80", POD)
    attachments.release("tcp-80", other)
    assert attachments.find_holder("tcp-80") == POD


def test_a_claim_is_a_link_to_its_owner(state: Path) -> None:
    """A person sees from `ls -l` who holds what."""
    attach(POD)
    attachments.claim("tcp-80", POD)
    link = state / "claims/tcp-80"
    assert os.readlink(link) == "../attachments/net/pod/eth0"
    assert link.resolve() == state / "attachments/net/pod/eth0"


# What a GC finds


def test_stale_attachments() -> None:
    """The network's attachments that are not valid are stale; other networks' are not looked at."""
    for owner in (POD, *OTHERS):
        attach(owner)
    assert attachments.find_stale("net", {POD}) == OTHERS[:2]


def test_stale_without_a_record(state: Path) -> None:
    """What an ADD left that was killed before it wrote a record is stale, too."""
    (state / "attachments/net/pod/eth0").mkdir(parents=True)
    assert attachments.find_stale("net", set()) == [POD]


def test_files_are_no_attachments(state: Path) -> None:
    """A file that somebody put among the attachments is left alone."""
    attach(POD)
    (state / "attachments/net/notes").touch()
    (state / "attachments/net/pod/notes").touch()
    assert attachments.find_stale("net", set()) == [POD]


def test_nothing_is_stale(state: Path) -> None:
    """Where nobody was attached nothing is stale, and looking makes no directory."""
    assert attachments.find_stale("net", set()) == []
    assert not state.exists()
