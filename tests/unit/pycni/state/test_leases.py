from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cni.errors import IOFailure
from cni.net.addresses import IPAddress, parse_address
from cni.request import Attachment
from pycni.state import lease_index, location
from pycni.state.leases import Store, locked

FIRST, SECOND = ip_address("10.0.0.2"), ip_address("10.0.0.3")
OWNER = Attachment("pods", "a1b2", "eth0")
BOOT_ATTRIBUTE = "user.pycni.boot"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "pods"


@pytest.fixture
def store(directory: Path) -> Iterator[Store]:
    with locked(str(directory), create=True) as store:
        yield store


def write(directory: Path, address: IPAddress, content: bytes) -> Path:
    path = directory / str(address)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("address", ["10.0.0.2", "fd00::2", "fd00:0:0:1::", "2001:db8:0:1:1:1:1:1"])
def test_a_lease_is_a_file_as_the_reference_plugin_writes_it(
    store: Store, directory: Path, address: str
) -> None:
    """The file is named after the address, holds ID CR LF IFNAME, and is root's alone to read."""
    assert store.lease_first([ip_address(address)], OWNER) == ip_address(address)
    path = directory / address
    assert path.read_bytes() == b"a1b2\r\neth0"
    assert path.stat().st_mode & 0o777 == 0o600
    assert sorted(os.listdir(directory)) == sorted([address, "lock"])


@settings(deadline=None)  # a busy disk is no failure
@given(
    container_id=st.from_regex(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]*", fullmatch=True),
    ifname=st.from_regex(r"[a-zA-Z0-9@._\-]{1,15}", fullmatch=True),
    address=st.ip_addresses().map(str).map(parse_address),
)
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory,
    container_id: str,
    ifname: str,
    address: IPAddress,
) -> None:
    """Any container ID, interface and address survive the way through the file."""
    owner = Attachment("pods", container_id, ifname)
    with locked(str(tmp_path_factory.getbasetemp() / "round-trip"), create=True) as store:
        assert store.lease_first([address], owner) == address
        lease = store.find_lease(address)
        assert lease is not None
        assert (lease.container_id, lease.ifname) == (container_id, ifname)
        store.remember_last(0, address)
        assert store.find_last(0) == address
        store.release(address)
        assert store.find_lease(address) is None


def test_the_first_free_candidate_is_leased(store: Store) -> None:
    """Addresses that somebody holds are passed over; without a free one there is no lease."""
    store.lease_first([FIRST], OWNER)
    other = Attachment("pods", "b", "eth0")
    assert store.lease_first([FIRST, SECOND], other) == SECOND
    assert store.lease_first([FIRST, SECOND], Attachment("pods", "c", "eth0")) is None


@pytest.mark.parametrize("content", [b"", b" \r\n", b"\0\0\0\0\0\0", b"\r\neth0", b"\xff\xfe\xfd"])
def test_what_a_power_cut_left_is_reclaimed(store: Store, directory: Path, content: bytes) -> None:
    """A file that is empty, zeroed or otherwise without a container ID holds no address."""
    path = write(directory, FIRST, content)
    assert store.lease_first([FIRST, SECOND], OWNER) == FIRST
    assert path.read_bytes() == b"a1b2\r\neth0"


@pytest.mark.parametrize("content", [b"x", b"x\n", b"x\r\n", b"x\r\neth0", b"x\r\neth0\r\n"])
def test_what_others_wrote_is_respected(store: Store, directory: Path, content: bytes) -> None:
    """Files of any version of the reference plugin hold their addresses."""
    write(directory, FIRST, content)
    assert store.lease_first([FIRST, SECOND], OWNER) == SECOND


def test_a_lease_of_an_earlier_boot_is_reclaimed(store: Store, directory: Path) -> None:
    """A lease that says it was made in another boot is over; the new one says this boot."""
    path = write(directory, FIRST, b"x\r\neth0")
    os.setxattr(path, BOOT_ATTRIBUTE, b"00000000-0000-0000-0000-000000000000")
    assert store.lease_first([FIRST, SECOND], OWNER) == FIRST
    boot = Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()
    assert os.getxattr(path, BOOT_ATTRIBUTE) == boot


def test_a_lease_of_this_boot_or_of_no_known_one_is_not_over(store: Store, directory: Path) -> None:
    """Leases without the attribute are never judged by boot."""
    store.lease_first([FIRST], OWNER)
    write(directory, SECOND, b"x\r\neth0")
    for address in (FIRST, SECOND):
        lease = store.find_lease(address)
        assert lease is not None
        assert not store.is_over(lease)


def test_leases_are_found_by_owner(directory: Path) -> None:
    """Exact ones only, if there are any; else those of old versions, which name no interface."""
    directory.mkdir()
    write(directory, FIRST, b"a1b2")
    with locked(str(directory)) as store:
        assert [lease.address for lease in store.find_owned(OWNER)] == [FIRST]
        store.lease_first([SECOND], OWNER)
        assert [lease.address for lease in store.find_owned(OWNER)] == [SECOND]
        assert store.find_owned(Attachment("pods", "a1", "eth0")) == []


def owned(directory: Path) -> list[IPAddress]:
    with locked(str(directory)) as store:
        return sorted(lease.address for lease in store.find_owned(OWNER))


def test_others_leases_cost_nothing(directory: Path) -> None:
    """A lease is found without a look at any other: what is in those is not seen."""
    with locked(str(directory), create=True) as store:
        store.lease_first([FIRST], OWNER)
        store.lease_first([SECOND], Attachment("pods", "b", "eth0"))
    with locked(str(directory)) as store:
        write(directory, SECOND, b"a1b2\r\neth0")  # which nobody may who does not hold the lock
        assert [lease.address for lease in store.find_owned(OWNER)] == [FIRST]


@pytest.mark.parametrize("times", [1, 2])
def test_what_others_change_is_noticed(directory: Path, times: int) -> None:
    """Leases come and go by the reference plugin, too, even at the moment the lock is released."""
    with locked(str(directory), create=True) as store:
        store.lease_first([FIRST], OWNER)
    for _ in range(times):
        write(directory, SECOND, b"a1b2\r\neth0")
        assert owned(directory) == [FIRST, SECOND]
        (directory / str(SECOND)).unlink()
        assert owned(directory) == [FIRST]


def test_what_others_put_into_a_lease_is_noticed(directory: Path) -> None:
    """A lease's own content tells whose it is."""
    with locked(str(directory), create=True) as store:
        store.lease_first([FIRST], OWNER)
    write(directory, FIRST, b"b\r\neth0")
    assert owned(directory) == []


@pytest.mark.parametrize(
    "damage", ["rm -r {}", "rm {}/*.seal", "rm -r {}/*-*/", "truncate -s 0 {}/*.seal"]
)
def test_a_lost_index_is_made_anew(directory: Path, damage: str) -> None:
    """Leases are found, whatever became of the index."""
    with locked(str(directory), create=True) as store:
        store.lease_first([FIRST], OWNER)
    subprocess.run(["sh", "-c", damage.format(location.path("leases"))], check=True)
    assert owned(directory) == [FIRST]
    assert owned(directory) == [FIRST]


def test_no_index(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there can be no index, leases are found without."""
    monkeypatch.setenv(location.VARIABLE, "/proc/nowhere")
    with locked(str(directory), create=True) as store:
        store.lease_first([FIRST], OWNER)
        assert [lease.address for lease in store.find_owned(OWNER)] == [FIRST]
    assert owned(directory) == [FIRST]


def test_nothing_is_left_of_an_empty_index(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its last lease, an index goes, and so does the directory of indexes."""
    monkeypatch.setenv(location.VARIABLE, f"{directory}-state")
    with locked(str(directory), create=True) as store:
        store.lease_first([FIRST], OWNER)
    assert os.listdir(f"{directory}-state/leases")
    with locked(str(directory)) as store:
        store.release(FIRST)
    assert not os.path.exists(f"{directory}-state/leases")


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["lease", "release", "their lease", "their release"]),
        st.sampled_from([FIRST, SECOND]),
        st.sampled_from(["a1b2", "b"]),
    ),
    max_size=12,
)


@given(STEPS)
def test_beside_the_reference_plugin(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, IPAddress, str]]
) -> None:
    """Whoever leases and releases, in whatever order, those leases are found that are there."""
    directory = tmp_path_factory.mktemp("pods")
    for step, address, container_id in steps:
        path = directory / str(address)
        if step == "their lease" and not path.exists():
            path.write_bytes(f"{container_id}\r\neth0".encode())
        elif step == "their release":
            path.unlink(missing_ok=True)
        else:
            with locked(str(directory)) as store:
                if step == "lease":
                    store.lease_first([address], Attachment("pods", container_id, "eth0"))
                else:
                    store.release(address)
        present = [path for path in directory.iterdir() if path.name.startswith("10.")]
        mine = sorted(path.name for path in present if path.read_bytes().startswith(b"a1b2"))
        assert [str(address) for address in owned(directory)] == mine


def test_what_is_no_lease_is_skipped(store: Store, directory: Path) -> None:
    """Directories, pipes, links and notes to oneself do no harm, and keep their addresses."""
    (directory / str(FIRST)).mkdir()
    os.mkfifo(directory / str(SECOND))
    (directory / "10.0.0.4").symlink_to("nowhere")
    (directory / "README").write_text("a1b2\r\neth0")
    assert store.find_owned(OWNER) == []
    fourth, fifth = map(ip_address, ("10.0.0.4", "10.0.0.5"))
    assert store.lease_first([FIRST, SECOND, fourth, fifth], OWNER) == fifth


@pytest.mark.parametrize("content", [b"", b"10.0.0.", b"\xff", b"10.0.0.2 10.0.0.3"])
def test_a_corrupt_last_reserved_ip_is_tolerated(
    store: Store, directory: Path, content: bytes
) -> None:
    """It costs a round of the round robin, and no more."""
    (directory / "last_reserved_ip.0").write_bytes(content)
    assert store.find_last(0) is None
    store.remember_last(0, FIRST)
    assert (directory / "last_reserved_ip.0").read_bytes() == b"10.0.0.2"


def test_what_a_killed_process_left_is_no_danger(directory: Path) -> None:
    """A file left unfinished may be linked to a lease; the lease keeps its content."""
    with locked(str(directory), create=True) as store:
        store.lease_first([FIRST], OWNER)
    os.link(directory / str(FIRST), directory / "unfinished")
    with locked(str(directory)) as store:
        store.lease_first([SECOND], Attachment("pods", "another", "eth0"))
    assert (directory / str(FIRST)).read_bytes() == b"a1b2\r\neth0"
    assert sorted(os.listdir(directory)) == [str(FIRST), str(SECOND), "lock"]


def test_a_directory_that_cannot_be_used_is_an_io_failure(tmp_path: Path) -> None:
    """Failing to lock is an error, for without the lock nothing is certain."""
    (tmp_path / "file").touch()
    with pytest.raises(IOFailure), locked(str(tmp_path / "file" / "pods"), create=True):
        pass


def test_index_that_was_never_sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ADD that is killed before it seals the index leaves nothing that the DEL does not find."""
    root = tmp_path / "leases"
    monkeypatch.setenv(location.VARIABLE, str(tmp_path))
    killed = lease_index.Index(str(tmp_path))
    killed.rebuild([("pod", "10.22.0.2")])
    assert root.exists()
    delete = lease_index.Index(str(tmp_path))
    delete.rebuild([])
    delete.seal()
    assert not root.exists()
