"""Locks between processes, which end with the process that holds them.

A lock is an flock(2) of a directory, so that it needs no file beside what it protects. Its holder
may remove the directory: whoever waited for it notices and starts anew.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager, suppress

from cni import TYPE_CHECKING, log
from cni.errors import IOFailure

if TYPE_CHECKING:
    from collections.abc import Iterator

# Each try that fails is another process's success in removing the directory.
_MOST_TRIES = 1000

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def directory(path: str, keep: str) -> Iterator[None]:
    """Hold a directory, which is made if need be and removed at the end if it is empty.

    So are the directories above it, up to `keep`, which stays. Below `keep` no link is followed:
    whatever is in the way there, and is not a directory, is removed. Programs started meanwhile
    inherit the lock: if this process is killed, it lasts until they have ended as well. So an IPAM
    plugin must not leave a daemon behind that keeps all descriptors it was given.
    """
    try:
        descriptor = _lock_directory(path, keep)
    except OSError as error:
        _remove_empty(path, keep)
        raise OSError(error.errno, error.strerror, path) from None
    try:
        yield
    finally:
        _remove_empty(path, keep)
        os.close(descriptor)


def _remove_empty(path: str, keep: str) -> None:
    with suppress(OSError):  # one that is not empty is still needed
        while path != keep:
            with suppress(FileNotFoundError):
                os.rmdir(path)
            path = os.path.dirname(path)


def _lock_directory(path: str, keep: str) -> int:
    for _ in range(_MOST_TRIES):
        try:
            descriptor = _open_directory(path, keep)
        except FileNotFoundError:
            continue  # it, or one above it, has been removed by its holder meanwhile
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _leads_to(path, descriptor):
                os.set_inheritable(descriptor, True)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
    raise IOFailure(f"{path} cannot be locked", "whenever it is made, it is gone at once")


def _open_directory(path: str, keep: str) -> int:
    """A descriptor of the directory, which is made if need be."""
    with suppress(FileExistsError):
        os.makedirs(keep, mode=0o700, exist_ok=True)
    descriptor = os.open(keep, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for name in filter(None, path.removeprefix(keep).split("/")):
        try:
            below = _open_below(descriptor, name)
        finally:
            os.close(descriptor)
        descriptor = below
    return descriptor


def _open_below(parent: int, name: str) -> int:
    with suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=parent)
    try:
        return os.open(name, _DIRECTORY, dir_fd=parent)
    except NotADirectoryError:
        log.warn(f"{os.readlink(f'/proc/self/fd/{parent}')}/{name} is not a directory: removed")
        os.unlink(name, dir_fd=parent)
        os.mkdir(name, 0o700, dir_fd=parent)
        return os.open(name, _DIRECTORY, dir_fd=parent)


def _leads_to(path: str, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
