r"""The leases of one network, as files that the reference plugin reads and writes too.

    <directory>/10.22.0.5             ID\r\nIFNAME of who has it; ID alone from old versions
    <directory>/last_reserved_ip.0    the address of range set 0 that was leased last
    <directory>/lock                  flock(2)ed by whoever changes anything
    <directory>/unfinished            a file that is being written; never one that is read

A lease appears with all of its content (it is a link to a finished file) or not at all. A file that
is empty or holds no container ID is what a power cut left of one, and stands for nothing; so
nobody has to wait for the disk.

After a reboot no container is left, and most runtimes forget to say DEL for those that were. So a
lease carries the kernel's boot ID as an extended attribute, and one of an earlier boot is over. The
age of a file would not do: clocks are set, and nodes run for years; a boot ID tells one boot from
all others. A lease without the attribute, as the reference plugin writes it, is left alone.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager, suppress

from cni import TYPE_CHECKING, log
from cni.errors import IOFailure, from_oserror
from cni.namedtuple import NamedTuple
from cni.net.addresses import IPAddress, parse_address
from cni.request import Attachment, Request, is_name
from pycni.state import attachments, files, location
from pycni.state.files import Damaged
from pycni.state.lease_index import Index

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_DATA_DIR = "/var/lib/cni/networks"
_LONGEST_FILE = 4096
_LONGEST_NAME = 255  # NAME_MAX
_BOOT_ATTRIBUTE = "user.pycni.boot"


def find_directory(request: Request) -> str:
    """Where the network's leases are, whatever else is wrong with the configuration."""
    ipam = request.config.get("ipam")
    data_dir = ipam.get("dataDir") if isinstance(ipam, dict) else None
    root = data_dir if isinstance(data_dir, str) and data_dir else _DATA_DIR
    return os.path.join(root, request.network)


class Lease(NamedTuple):
    """Who has an address. `ifname` is empty if an old version wrote the file."""

    address: IPAddress
    container_id: str
    ifname: str

    def __str__(self) -> str:
        if not self.container_id:
            return "a file that cannot be read"
        return f"container {self.container_id} {self.ifname}".rstrip()


@contextmanager
def locked(directory: str, *, create: bool = False) -> Iterator[Store]:
    """The store in `directory`, which nobody else changes meanwhile.

    Raises IOFailure for whatever goes wrong with files inside of the `with` block.
    """
    try:
        if create:
            os.makedirs(directory, 0o755, exist_ok=True)
        path = os.path.join(directory, "lock")
        lock = _open_lock(path)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            store = Store(directory)
            store.clean()
            store.ensure_index()
            try:
                yield store
            except OSError:
                store.distrust_index()
                raise
            finally:
                store.seal_index()
        finally:
            os.close(lock)
    except OSError as error:
        raise IOFailure(
            f"the leases in {directory} cannot be changed", from_oserror(error).message
        ) from None


def require_writable(directory: str) -> None:
    """Raise IOFailure if there can be no leases in `directory`, which is not made by this."""
    obstacle = location.find_obstacle(directory)
    if obstacle:
        raise IOFailure(f"there can be no leases in {directory}", obstacle)


class Store:
    """A network's directory of leases. What changes it is to be called under `locked`."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._unfinished = self._path("unfinished")
        self._boot = _read_boot_id()
        self._index = Index(directory)

    def ensure_index(self) -> None:
        """Have the index tell of all leases, see `index`."""
        if not self._index.is_sealed:
            leases = ((lease.container_id, str(lease.address)) for lease in self.leases())
            self._index.rebuild(lease for lease in leases if 0 < len(lease[0]) <= _LONGEST_NAME)

    def seal_index(self) -> None:
        """Have the next one who holds the lock believe the index."""
        self._index.seal()

    def distrust_index(self) -> None:
        """Have the next one make the index anew: how far a change got that failed is not known."""
        self._index.is_sealed = False

    def find_owned(self, owner: Attachment) -> list[Lease]:
        """The attachment's leases; if it has none, those of an old version for its container."""
        leases = [own for own in self._leases_of(owner) if own.container_id == owner.container_id]
        exact = [lease for lease in leases if lease.ifname == owner.ifname]
        return exact or [lease for lease in leases if not lease.ifname]

    def _leases_of(self, owner: Attachment) -> Iterator[Lease]:
        """All that the owner's container has, and maybe others."""
        found = self._index.find(owner.container_id)
        # Without the lock, somebody may be making it anew.
        if found is None or not (found or self._index.is_intact()):
            return self.leases()
        return self._existing(found)

    def find_lease(self, address: IPAddress) -> Lease | None:
        """Who has the address; None if there is no lease, or only what is left of one.

        Raises OSError if that is not known.
        """
        try:
            text = _read_plain(self._path(str(address)))
        except FileNotFoundError:
            return None
        except Damaged:
            return Lease(address, "", "")  # whatever it is, the address is not free
        container_id, _, ifname = (part.strip() for part in text.partition("\n"))
        if not is_name(container_id, longest=_LONGEST_FILE):
            return None
        return Lease(address, container_id, ifname)

    def is_over(self, lease: Lease) -> bool:
        """Whether the lease was made before the node was booted."""
        try:
            boot = os.getxattr(self._path(str(lease.address)), _BOOT_ATTRIBUTE)
        except OSError:
            return False
        return bool(self._boot) and boot != self._boot

    def is_free(self, address: IPAddress) -> bool:
        """Whether the address has no lease, or none that counts."""
        lease = self.find_lease(address)
        return lease is None or self.is_over(lease)

    def lease_first(
        self, candidates: Iterable[IPAddress], owner: Attachment, *, take_over: bool = False
    ) -> IPAddress | None:
        """Lease the first candidate that is free to the owner; None if there is none.

        An address whose lease was lost while its holder lives is not free. With `take_over`, one is
        whose holder is known to be gone, though nobody has said DEL.
        """
        text = f"{owner.container_id}\r\n{owner.ifname}"
        with self._written(text) as path:
            if self._boot:
                # Where the file system has no extended attributes, leases outlive a reboot.
                with suppress(OSError):
                    os.setxattr(path, _BOOT_ATTRIBUTE, self._boot)
            leased = next(
                (each for each in candidates if self._link(path, each, owner, take_over)), None
            )
        if leased is not None:
            self._index.add(owner.container_id, str(leased))
        return leased

    def release(self, address: IPAddress) -> None:
        lease = self.find_lease(address)
        with suppress(FileNotFoundError):
            os.unlink(self._path(str(address)))
        if lease is not None:
            self._index.remove(lease.container_id, str(address))

    def find_last(self, number: int) -> IPAddress | None:
        """The address of a range set that was leased last, None if nobody knows."""
        try:
            return parse_address(_read_plain(self._path(f"last_reserved_ip.{number}")).strip())
        except (Damaged, OSError, ValueError):
            return None

    def remember_last(self, number: int, address: IPAddress) -> None:
        with self._written(str(address)) as path:
            os.replace(path, self._path(f"last_reserved_ip.{number}"))

    def clean(self) -> None:
        """Remove what a process that was killed did not finish.

        It may be linked to a lease by now, so it must be unlinked and not be written over.
        """
        files.remove_any(self._unfinished)

    def leases(self) -> Iterator[Lease]:
        """All leases. The only place that looks at every file: for GC, and to make the index."""
        yield from self._existing(files.names_in(self._directory))

    def _existing(self, names: Iterable[str]) -> Iterator[Lease]:
        """The leases of those names that are addresses."""
        for name in names:
            with suppress(ValueError):
                lease = self.find_lease(parse_address(name))
                if lease is not None:
                    yield lease

    def _link(self, path: str, address: IPAddress, owner: Attachment, take_over: bool) -> bool:
        """Make the finished file the address's lease, unless it has one that counts."""
        lease_path = self._path(str(address))
        try:
            os.link(path, lease_path)
        except FileExistsError:
            if not self.is_free(address) and not (take_over and self._end(address, owner.network)):
                return False
            self.release(address)
            os.link(path, lease_path)
        holder = attachments.find_holder(attachments.address_claim(owner.network, address))
        if holder in (owner, None) or not attachments.is_live(holder):
            return True
        log.warn(f"{address} has lost its lease, and {holder} lives: it is passed over")
        os.unlink(lease_path)
        return False

    def _end(self, address: IPAddress, network: str) -> bool:
        """Whether the lease of an address is over, as its holder is known to be gone."""
        lease = self.find_lease(address)
        if lease is None:
            return True
        holder = Attachment(network, lease.container_id, lease.ifname)
        if not attachments.is_abandoned(holder):
            return False
        log.warn(f"{address} is taken over from {holder}, whose namespace is gone")
        return True

    @contextmanager
    def _written(self, text: str) -> Iterator[str]:
        """The path of a file with that text, for the time of the `with` block."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            with open(os.open(self._unfinished, flags, 0o600), "wb") as file:
                file.write(text.encode())
            yield self._unfinished
        finally:
            with suppress(OSError):  # the next one who holds the lock does it
                self.clean()

    def _path(self, name: str) -> str:
        return os.path.join(self._directory, name)


def _open_lock(path: str) -> int:
    """A descriptor of the lock. What is no file, in its place, cannot be locked by anybody."""
    try:
        return files.open_plain(path, os.O_RDONLY | os.O_CREAT)
    except Damaged as error:
        log.warn(f"{error}; so it is removed")
        files.remove_any(path)
        return files.open_plain(path, os.O_RDONLY | os.O_CREAT)


def _read_plain(path: str) -> str:
    """What is in a small file. Raises FileNotFoundError, Damaged, OSError."""
    descriptor = files.open_plain(path, os.O_RDONLY)
    try:
        return os.read(descriptor, _LONGEST_FILE).decode(errors="replace")
    finally:
        os.close(descriptor)


def _read_boot_id() -> bytes:
    """What the kernel draws at random when it boots; empty where /proc does not tell."""
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            return file.read().strip()
    except OSError:
        return b""
