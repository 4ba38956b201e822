"""Network namespaces: open, enter, compare, identify.

A namespace is known by a path (`/run/netns/x`, `/proc/1234/ns/net`) that may be gone, be a plain
file, or lead to another namespace than it used to. Its identity is the device and inode
number of what the path leads to now.

Source: network_namespaces(7), setns(2), ioctl_ns(2).
"""

from __future__ import annotations

import _socket as socket
import errno
import fcntl
import os
from contextlib import contextmanager

from cni import TYPE_CHECKING
from cni.errors import CniError, InvalidEnvironment
from cni.namedtuple import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_OWN = "/proc/thread-self/ns/net"

# include/uapi/linux/sched.h, include/uapi/linux/nsfs.h
_CLONE_NEWNET = 0x40000000
_NS_GET_USERNS, _NS_GET_NSTYPE = 0xB701, 0xB703

# include/uapi/linux/sockios.h, include/uapi/linux/if.h
_SIOCGIFINDEX = 0x8933
_IFREQ_SIZE = 40

# include/uapi/linux/capability.h: CAP_NET_ADMIN, CAP_SYS_ADMIN
_NEEDED = 1 << 12 | 1 << 21
_PRIVILEGES = "it takes root, or the capabilities CAP_NET_ADMIN and CAP_SYS_ADMIN"


class Identity(NamedTuple):
    """What tells one network namespace from another for as long as it exists."""

    device: int
    inode: int


def identify(path: str) -> Identity | None:
    """The identity of the namespace at `path`, None if there is nothing.

    Raises OSError if that cannot be found out.
    """
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError, ProcessLookupError):
        return None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENAMETOOLONG):  # a path that leads nowhere
            return None
        raise
    except ValueError:  # of a path with a NUL in it
        return None
    return Identity(status.st_dev, status.st_ino)


def is_own(path: str) -> bool:
    """Whether `path` leads to the namespace that this process is in, as far as that is known."""
    try:
        return identify(path) == identify(_OWN)
    except OSError:
        return False


def find_interfaces(names: Iterable[str]) -> list[str]:
    """Those of the names, alternative ones included, that interfaces of this namespace have.

    This costs no more than a system call for each, and needs no netlink. Raises OSError.
    """
    found = []
    anything = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        for name in names:
            try:
                fcntl.ioctl(anything, _SIOCGIFINDEX, name.encode().ljust(_IFREQ_SIZE, b"\0"))
            except OSError as error:
                if error.errno != errno.ENODEV:
                    raise
            else:
                found.append(name)
    finally:
        anything.close()
    return found


@contextmanager
def opened(path: str) -> Iterator[int]:
    """A descriptor of the namespace at `path`, open for the block.

    Raises InvalidEnvironment, which names CNI_NETNS, if there is none.
    """
    try:
        # Not to wait for whoever writes into a pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        what = f"CNI_NETNS: {path} cannot be opened"
        raise InvalidEnvironment(what, error.strerror or "") from None
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
        try:
            _call("unshare", _CLONE_NEWNET)
        except OSError as error:
            what = "a network namespace cannot be made"
            hint = _PRIVILEGES if error.errno == errno.EPERM else ""
            raise CniError(f"{what}: unshare: {error.strerror}", hint) from None
        try:
            yield
        finally:
            join(home)
    finally:
        os.close(home)


def join(descriptor: int) -> None:
    """Move this process into the namespace, of whatever type, that the descriptor is of."""
    try:
        _call("setns", descriptor, 0)
    except OSError as error:
        name = os.readlink(f"/proc/thread-self/fd/{descriptor}")
        hint = explain_refusal(descriptor) if error.errno == errno.EPERM else ""
        what = f"the namespace {name} cannot be entered: setns"
        raise CniError(f"{what}: {error.strerror}", hint) from None


def explain_refusal(descriptor: int | None = None) -> str:
    """Why the kernel says EPERM where a network namespace is concerned, and what to do.

    `descriptor` is of the namespace, this process's own without it. Empty if nothing is known.
    """
    try:
        opened = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC) if descriptor is None else descriptor
        try:
            os.close(fcntl.ioctl(opened, _NS_GET_USERNS))
        finally:
            if descriptor is None:
                os.close(opened)
    except OSError as error:
        if error.errno != errno.EPERM:  # it is not a network namespace, or the kernel is an old one
            return ""
        return (
            "the network namespace belongs to another user namespace than this process: have one"
            " that belongs to its own, as of `unshare --user --map-root-user --net --mount`"
        )
    return "" if _is_privileged() else _PRIVILEGES


def _is_privileged() -> bool:
    """Whether this process has the capabilities, in its user namespace (capabilities(7))."""
    with open("/proc/thread-self/status", encoding="utf-8", errors="replace") as file:
        held = next(int(line.split()[1], 16) for line in file if line.startswith("CapEff:"))
    return held & _NEEDED == _NEEDED


def _call(function: str, *arguments: int) -> None:
    """Raises OSError."""
    if hasattr(os, function):  # since Python 3.12
        getattr(os, function)(*arguments)
        return
    from cni.net import libc

    libc.call(function, *arguments)
