"""Which addresses a container has, without reading every lease; see `location` for where it is:

    leases/<device>-<inode>/<container ID>/<address>    empty files
    leases/<device>-<inode>.seal                        a time, see below

The leases alone count: what is found here is looked up there. But what is missing here must be
missing there, and the reference plugin, which may use the same leases, knows no index. So whoever
changes leases sets the time of their directory to a second ago and keeps that time as a seal. The
kernel sets it to now whenever a file comes or goes; then the seal is broken, and the index is made
anew, from one look at all leases.

Whatever the index cannot do (its place may not be writable), is done without it.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress

from cni import TYPE_CHECKING
from cni.errors import CniError
from pycni.state import files, location

if TYPE_CHECKING:
    from collections.abc import Iterable

_LEASES = "leases"

# The kernel's clock for files stands still for up to 10 ms, so "now" could be the same time twice.
_A_SECOND = 1_000_000_000


class Index:
    """The index of a directory of leases. What changes it is to be called under their lock."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        try:
            status = os.stat(directory)
        except OSError:
            self._path = location.path(_LEASES, "nowhere")
            self.is_sealed = False
        else:
            self._path = location.path(_LEASES, f"{status.st_dev}-{status.st_ino}")
            self.is_sealed = self.is_intact() and os.path.isdir(self._path)

    def is_intact(self) -> bool:
        """Whether nobody has changed leases since the seal was made."""
        try:
            return self._read_seal() == str(os.stat(self._directory).st_mtime_ns)
        except OSError:
            return False

    def find(self, container_id: str) -> list[str] | None:
        """The addresses that a container may have; None if this does not tell."""
        if not self.is_sealed:
            return None
        try:
            return os.listdir(os.path.join(self._path, container_id))
        except FileNotFoundError:
            return []
        except OSError:
            self.is_sealed = False
            return None

    def add(self, container_id: str, address: str) -> None:
        """Note that a container has an address."""
        if self.is_sealed:
            try:
                directory = os.path.join(self._path, container_id)
                os.makedirs(directory, 0o700, exist_ok=True)
                os.close(files.open_plain(os.path.join(directory, address), os.O_CREAT))
            except (CniError, OSError):
                self.is_sealed = False

    def remove(self, container_id: str, address: str) -> None:
        """Note that a container does not have an address any more."""
        if self.is_sealed:
            directory = os.path.join(self._path, container_id)
            try:
                os.unlink(os.path.join(directory, address))
            except FileNotFoundError:
                pass
            except OSError:
                self.is_sealed = False
            with suppress(OSError):  # it has others
                os.rmdir(directory)

    def rebuild(self, leases: Iterable[tuple[str, str]]) -> None:
        """Make the index anew from container IDs and addresses."""
        try:
            files.remove_any(self._path)
        except OSError:
            return
        self.is_sealed = True
        for container_id, address in leases:
            self.add(container_id, address)

    def seal(self) -> None:
        """Keep what is known now. An empty index is not kept."""
        if not self.is_sealed:
            return
        with suppress(OSError):
            if self._remove_empty():
                return
            a_second_ago = time.time_ns() - _A_SECOND
            os.utime(self._directory, ns=(a_second_ago, a_second_ago))
            # A coarse file system keeps less of it.
            sealed = os.stat(self._directory).st_mtime_ns
            files.write(f"{self._path}.seal", str(sealed))

    def _read_seal(self) -> str:
        try:
            return files.read(f"{self._path}.seal")
        except (CniError, OSError):
            return ""

    def _remove_empty(self) -> bool:
        try:
            os.rmdir(self._path)
        except FileNotFoundError:
            pass
        except OSError:
            return False
        with suppress(FileNotFoundError):  # who was to make it may have been killed
            os.unlink(f"{self._path}.seal")
        with suppress(OSError):  # other directories of leases have theirs there
            os.rmdir(location.path(_LEASES))
        return True
