"""Locks between processes, which end with the process that holds them.

A lock is an flock(2) of a directory, so that it needs no file beside what it protects. Its holder
may remove the directory: whoever waited for it notices and starts anew.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager, suppress

from cni import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def directory(path: str, keep: str) -> Iterator[None]:
    """Hold a directory, which is made if need be and removed at the end if it is empty.

    So are the directories above it, up to `keep`, which stays. Programs started meanwhile inherit
    the lock: if this process is killed, it lasts until they have ended as well. So an IPAM plugin
    must not leave a daemon behind that keeps all descriptors it was given.
    """
    descriptor = _lock_directory(path)
    try:
        yield
    finally:
        try:
            while path != keep:
                os.rmdir(path)
                path = os.path.dirname(path)
        except OSError:
            pass  # not empty: still needed
        os.close(descriptor)


def _lock_directory(path: str) -> int:
    while True:
        try:
            # It, or one above it, may be removed by its holder in between any two of these steps.
            with suppress(FileExistsError):
                os.makedirs(path, mode=0o700, exist_ok=True)
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue
        os.set_inheritable(descriptor, True)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if _leads_to(path, descriptor):
            return descriptor
        os.close(descriptor)


def _leads_to(path: str, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
