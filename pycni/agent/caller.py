"""What a process has from its parent by fork(2) and execve(2), without being told: the launcher's
is looked up in /proc, and taken on by the child that stands in for it.

What a process may do is never taken on, but has to be the same: the agent lends nobody its rights.
That also lets the kernel give the child what the launcher has open (pidfd_getfd(2), since Linux
5.6; ptrace(2) tells who may).
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
from collections.abc import Iterable
from typing import NamedTuple

from cni.net import namespace

# include/uapi/asm-generic/unistd.h
_PIDFD_GETFD = 438

_syscall = ctypes.CDLL(None, use_errno=True).syscall

# Fields of /proc/PID/status (proc_pid_status(5)): who a process is and what it may do.
_ALIKE = ("Uid", "Gid", "CapPrm", "CapEff", "CapBnd", "NoNewPrivs", "Seccomp", "Seccomp_filters")

# The network's and the mounts' are entered.
_NAMESPACES = ("cgroup", "ipc", "pid", "time", "user", "uts")

# Those that Python ignores from its start: SIGPIPE and SIGXFSZ.
_PYTHON_IGNORES = 1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1

# Not those that a C library keeps for itself: it handles them as it likes, and nobody else can.
_SIGNALS = signal.valid_signals()

_LIMITS = sorted({getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")})


class Different(Exception):
    """The caller is a process whose place the agent's child cannot take."""


class Caller(NamedTuple):
    """What a child gets from the launcher, all of it open; nothing of the child is changed yet.

    A stream that it has closed is None.
    """

    status: dict[str, str]
    limits: dict[int, tuple[int, int]]
    streams: list[int | None]
    network: int
    mounts: int
    root: int
    directory: int
    arguments: list[str]
    environ: dict[bytes, bytes]


class Own(NamedTuple):
    """What this process has itself; looked up when nobody waits for it yet."""

    status: dict[str, str]
    namespaces: dict[str, str | None]
    limits: dict[int, tuple[int, int]]


def look_up_own() -> Own:
    """See `look_up`."""
    namespaces = {kind: _namespace("self", kind) for kind in _NAMESPACES}
    limits = {limit: resource.getrlimit(limit) for limit in _LIMITS}
    return Own(_status("self"), namespaces, limits)


def reset_signals() -> None:
    """Handle signals as a fresh interpreter does, whatever handlers there are."""
    signal.set_wakeup_fd(-1)
    for number in _numbers(int(_status("self")["SigCgt"], 16)):
        _handle(number, ignore=False)


def look_up(pid: int, streams: Iterable[int], own: Own) -> Caller:
    """What process `pid` has; `streams` are its descriptors of them. Raises Different; or OSError,
    if it is gone, for one.
    """
    status = _status(str(pid))
    for field in _ALIKE:
        if status.get(field) != own.status.get(field):
            raise Different(f"{field} is {status.get(field)}, the agent's {own.status.get(field)}")
    for kind, inode in own.namespaces.items():
        if _namespace(str(pid), kind) != inode:
            raise Different(f"it is in another {kind} namespace")
    return Caller(
        status,
        {limit: resource.prlimit(pid, limit) for limit in own.limits},
        _take_descriptors(pid, streams),
        network=os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC),
        mounts=os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC),
        root=os.open(f"/proc/{pid}/root", os.O_PATH | os.O_CLOEXEC),
        directory=os.open(f"/proc/{pid}/cwd", os.O_PATH | os.O_CLOEXEC),
        arguments=[os.fsdecode(argument) for argument in _strings(pid, "cmdline")],
        environ=dict(_split(variable) for variable in _strings(pid, "environ")),
    )


def take_place_of(caller: Caller, own: Own) -> None:
    """Become like that process, with signals reset; streams and environment are left to do."""
    for descriptor, ours in ((caller.network, "net"), (caller.mounts, "mnt")):
        if not os.path.samestat(os.fstat(descriptor), os.stat(f"/proc/self/ns/{ours}")):
            namespace.join(descriptor)
    os.fchdir(caller.root)
    os.chroot(".")
    os.fchdir(caller.directory)
    os.umask(int(caller.status["Umask"], 8))
    if caller.status["Groups"] != own.status["Groups"]:
        os.setgroups([int(group) for group in caller.status["Groups"].split()])
    for limit, theirs in caller.limits.items():
        if theirs != own.limits[limit]:
            resource.setrlimit(limit, theirs)
    _take_signals(caller.status, own.status)


def require_descriptors() -> None:
    """Raise OSError if the kernel cannot give us what another process has open."""
    for descriptor in _take_descriptors(os.getpid(), [2]):
        if descriptor is not None:
            os.close(descriptor)


def _take_descriptors(pid: int, numbers: Iterable[int]) -> list[int | None]:
    process = os.pidfd_open(pid)
    try:
        return [_take_descriptor(process, number) for number in numbers]
    finally:
        os.close(process)


def _take_descriptor(process: int, number: int) -> int | None:
    """A copy of a descriptor of another process; None if it has none of this number."""
    descriptor: int = _syscall(_PIDFD_GETFD, process, number, 0)
    if descriptor >= 0:
        return descriptor
    error = ctypes.get_errno()
    if error == errno.EBADF:
        return None
    raise OSError(error, os.strerror(error), "pidfd_getfd")


def _strings(pid: int, kind: str) -> list[bytes]:
    """Of a file in /proc that holds strings, each of which ends with a NUL."""
    with open(f"/proc/{pid}/{kind}", "rb") as file:
        return file.read().split(b"\0")[:-1]


def _split(variable: bytes) -> tuple[bytes, bytes]:
    name, _, value = variable.partition(b"=")
    return name, value


def _status(pid: str) -> dict[str, str]:
    with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
        fields = (line.partition(":") for line in file)
        return {name: value.strip() for name, _, value in fields}


def _namespace(pid: str, kind: str) -> str | None:
    try:
        return os.readlink(f"/proc/{pid}/ns/{kind}")
    except FileNotFoundError:  # an older kernel
        return None


def _take_signals(theirs: dict[str, str], ours: dict[str, str]) -> None:
    """What is ignored and blocked."""
    ignored = int(theirs["SigIgn"], 16) | _PYTHON_IGNORES
    for number in _numbers(ignored ^ int(ours["SigIgn"], 16)):
        _handle(number, ignore=bool(ignored >> number - 1 & 1))
    if theirs["SigBlk"] != ours["SigBlk"]:
        signal.pthread_sigmask(signal.SIG_SETMASK, _numbers(int(theirs["SigBlk"], 16)))


def _handle(number: int, *, ignore: bool) -> None:
    default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    signal.signal(number, signal.SIG_IGN if ignore else default)


def _numbers(mask: int) -> list[int]:
    """The signals of a mask of proc_pid_status(5)."""
    return [number for number in _SIGNALS if mask >> number - 1 & 1]
