"""Kernel parameters below /proc/sys, of the network namespace that the process is in.

Names are written with slashes, `net/ipv4/conf/eth0.5/arp_notify`, since an interface's name may
hold dots. Source: proc(5), the kernel's Documentation/networking/ip-sysctl.rst.

They are found in an instance of procfs that is this process's own. Of the one at /proc, the kernel
has all the `net/ipv6` that it remembers in a single list, one for each namespace where something
was looked up: with 2,000 containers, whoever looks there goes through up to 2,000 of them.
"""

from __future__ import annotations

import os
from contextlib import suppress
from functools import cache

from cni.net import libc

# include/uapi/asm-generic/unistd.h: not all C libraries have functions for them.
_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432

# include/uapi/linux/mount.h
_FSOPEN_CLOEXEC, _FSCONFIG_CMD_CREATE, _FSMOUNT_CLOEXEC = 1, 6, 1


def read(name: str) -> str | None:
    """The value, of several fields one space apart; None if the kernel has no such parameter.

    Raises OSError that names the parameter's file.
    """
    try:
        with open(name, encoding="utf-8", opener=_open) as file:
            return " ".join(file.read().split())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _naming(error, name) from None


def write(name: str, value: str) -> None:
    """Set the value, unless it is set already. Raises OSError that names the parameter's file."""
    if read(name) == value:
        return
    try:
        with open(name, "w", encoding="utf-8", opener=_open) as file:
            file.write(value)
    except OSError as error:
        raise _naming(error, name) from None


def try_write(name: str, value: str) -> bool:
    """Set the value if the kernel has the parameter and lets it be written; whether that was so."""
    try:
        write(name, value)
    except OSError:
        return False
    return True


def is_writable(name: str) -> bool:
    """Whether the value can be set, as far as one can know without doing so."""
    try:
        with open(name, "r+b", buffering=0, opener=_open):
            return True
    except OSError:
        return False


def _naming(error: OSError, name: str) -> OSError:
    return OSError(error.errno, error.strerror, f"/proc/sys/{name}")


def _open(name: str, flags: int) -> int:
    return os.open(f"sys/{name}", flags, dir_fd=_procfs())


def _mount_procfs() -> int:
    """A descriptor of a new instance, mounted nowhere. Raises OSError if there can be none."""
    context = libc.call("syscall", _FSOPEN, b"proc", _FSOPEN_CLOEXEC)
    try:
        libc.call("syscall", _FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0)
        return libc.call("syscall", _FSMOUNT, context, _FSMOUNT_CLOEXEC, 0)
    finally:
        os.close(context)


@cache
def _procfs() -> int:
    """A descriptor of a procfs: of our own, or of the one at /proc if we may not have any.

    Before Linux 5.8 it is the same one. If /proc/sys is read-only, somebody wants it to be.
    """
    if not os.statvfs("/proc/sys").f_flag & os.ST_RDONLY:
        with suppress(OSError):
            return _mount_procfs()
    return os.open("/proc", os.O_PATH | os.O_CLOEXEC)
