"""What a process has from its parent by fork(2) and execve(2), without being told: the launcher's
is looked up in /proc, and taken on by the child that stands in for it.

What a process may do is never taken on, but has to be the same: the agent lends nobody its rights.
"""

from __future__ import annotations

import os
import resource
import signal
from typing import NamedTuple

# Fields of /proc/PID/status (proc_pid_status(5)): who a process is and what it may do.
_ALIKE = ("Uid", "Gid", "CapPrm", "CapEff", "CapBnd", "NoNewPrivs", "Seccomp", "Seccomp_filters")

# The network's and the mounts' are entered.
_NAMESPACES = ("cgroup", "ipc", "pid", "time", "user", "uts")

# Not those that a C library keeps for itself: it handles them as it likes, and nobody else can.
_SIGNALS = signal.valid_signals()

_LIMITS = sorted({getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")})


class Different(Exception):
    """The caller is a process whose place the agent's child cannot take."""


class Own(NamedTuple):
    """What this process has itself; looked up when nobody waits for it yet."""

    status: dict[str, str]
    namespaces: dict[str, str | None]
    limits: dict[int, tuple[int, int]]


def look_up_own() -> Own:
    """See `take_place_of`."""
    namespaces = {kind: _namespace("self", kind) for kind in _NAMESPACES}
    limits = {limit: resource.getrlimit(limit) for limit in _LIMITS}
    return Own(_status("self"), namespaces, limits)


def reset_signals() -> None:
    """Handle signals as a fresh interpreter does, whatever handlers there are."""
    signal.set_wakeup_fd(-1)
    for number in _numbers(int(_status("self")["SigCgt"], 16)):
        _handle(number, ignore=False)


def take_place_of(pid: int, own: Own) -> None:
    """Become like process `pid`, with signals reset. Raises Different, or OSError if it is gone."""
    status = _status(str(pid))
    for field in _ALIKE:
        if status.get(field) != own.status.get(field):
            raise Different(f"{field} is {status.get(field)}, the agent's {own.status.get(field)}")
    for kind, namespace in own.namespaces.items():
        if _namespace(str(pid), kind) != namespace:
            raise Different(f"it is in another {kind} namespace")
    os.umask(int(status["Umask"], 8))
    if status["Groups"] != own.status["Groups"]:
        os.setgroups([int(group) for group in status["Groups"].split()])
    for limit, ours in own.limits.items():
        theirs = resource.prlimit(pid, limit)
        if theirs != ours:
            resource.setrlimit(limit, theirs)
    _take_signals(status, own.status)


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
    ignored = int(theirs["SigIgn"], 16)
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
