"""Network namespaces: open, enter, compare, identify.

A namespace is known by a path (`/run/netns/x`, `/proc/1234/ns/net`) that may be gone, be a plain
file, or lead to another namespace than it used to. Its identity is the device and inode
number of what the path leads to now.

Source: network_namespaces(7), setns(2), ioctl_ns(2).
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager

from cni import TYPE_CHECKING
from cni.errors import CniError, InvalidEnvironment
from cni.namedtuple import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_OWN = "/proc/thread-self/ns/net"

# include/uapi/linux/sched.h, include/uapi/linux/nsfs.h
_CLONE_NEWNET = 0x40000000
_NS_GET_NSTYPE = 0xB703


class Identity(NamedTuple):
    """What tells one network namespace from another for as long as it exists."""

    device: int
    inode: int


def identify(path: str) -> Identity | None:
    """The identity of the namespace at `path`, None if there is nothing."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return Identity(status.st_dev, status.st_ino)


def is_own(path: str) -> bool:
    """Whether `path` leads to the namespace that this process is in."""
    return identify(path) == identify(_OWN)


@contextmanager
def opened(path: str) -> Iterator[int]:
    """A descriptor of the namespace at `path`, open for the block.

    Raises InvalidEnvironment, which names CNI_NETNS, if there is none.
    """
    try:
        # Not to wait for whoever writes into a pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise InvalidEnvironment(f"CNI_NETNS: {path} cannot be opened", str(error)) from None
    try:
        if not _is_network_namespace(descriptor):
            raise InvalidEnvironment(f"CNI_NETNS: {path} is not a network namespace")
        yield descriptor
    finally:
        os.close(descriptor)


def _is_network_namespace(descriptor: int) -> bool:
    try:
        return fcntl.ioctl(descriptor, _NS_GET_NSTYPE) == _CLONE_NEWNET
    except OSError:  # not even a namespace
        return False


@contextmanager
def entered(descriptor: int) -> Iterator[None]:
    """Run the block inside the namespace: sockets opened there stay there, sysctls are its own.

    Only the thread that runs it is moved. Raises CniError if the kernel does not allow it.
    """
    home = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        join(descriptor)
        try:
            yield
        finally:
            join(home)
    finally:
        os.close(home)


@contextmanager
def passing() -> Iterator[None]:
    """Run the block inside a new namespace, which is gone after it with all that was made there."""
    home = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _call("unshare", _CLONE_NEWNET)
        try:
            yield
        finally:
            join(home)
    finally:
        os.close(home)


def join(descriptor: int) -> None:
    """Move this process into the namespace, of whatever type, that the descriptor is of."""
    _call("setns", descriptor, 0)


def _call(function: str, *arguments: int) -> None:
    if hasattr(os, function):  # since Python 3.12
        try:
            getattr(os, function)(*arguments)
        except OSError as error:
            raise CniError(f"{function}: {error.strerror}") from None
        return
    from cni.net import libc

    if libc.call(function, *arguments) != 0:
        raise CniError(f"{function} failed")
