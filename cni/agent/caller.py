"""What a process has from its parent by fork(2) and execve(2), without being told: the launcher's
is looked up in /proc, and taken on by the child that stands in for it.

What a process may do is never taken on, but has to be the same: the agent lends nobody its rights.
"""

from __future__ import annotations

import os
import resource
import signal

# Fields of /proc/PID/status (proc_pid_status(5)): who a process is and what it may do.
_ALIKE = ("Uid", "Gid", "CapPrm", "CapEff", "CapBnd", "NoNewPrivs", "Seccomp", "Seccomp_filters")

# The network's and the mounts' are entered.
_NAMESPACES = ("cgroup", "ipc", "pid", "time", "user", "uts")

_LIMITS = sorted({getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")})


class Different(Exception):
    """The caller is a process whose place the agent's child cannot take."""


def take_place_of(pid: int) -> None:
    """Become like process `pid`. Raises Different, or OSError if it is gone."""
    theirs, ours = _status(str(pid)), _status("self")
    for field in _ALIKE:
        if theirs.get(field) != ours.get(field):
            raise Different(f"{field} is {theirs.get(field)}, the agent's {ours.get(field)}")
    for kind in _NAMESPACES:
        if _namespace(str(pid), kind) != _namespace("self", kind):
            raise Different(f"it is in another {kind} namespace")
    os.umask(int(theirs["Umask"], 8))
    if theirs["Groups"] != ours["Groups"]:
        os.setgroups([int(group) for group in theirs["Groups"].split()])
    _take_limits(pid)
    _take_signals(theirs, ours)


def _status(pid: str) -> dict[str, str]:
    with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
        fields = (line.partition(":") for line in file)
        return {name: value.strip() for name, _, value in fields}


def _namespace(pid: str, kind: str) -> str | None:
    try:
        return os.readlink(f"/proc/{pid}/ns/{kind}")
    except FileNotFoundError:  # an older kernel
        return None


def _take_limits(pid: int) -> None:
    for limit in _LIMITS:
        theirs = resource.prlimit(pid, limit)
        if theirs != resource.getrlimit(limit):
            resource.setrlimit(limit, theirs)


def _take_signals(theirs: dict[str, str], ours: dict[str, str]) -> None:
    """What is ignored and blocked. The rest is as Python sets it up, the agent's handlers gone."""
    signal.set_wakeup_fd(-1)
    ignored, caught = int(theirs["SigIgn"], 16), int(ours["SigCgt"], 16)
    for number in _numbers((ignored ^ int(ours["SigIgn"], 16)) | caught):
        is_ignored = ignored >> number - 1 & 1
        signal.signal(number, signal.SIG_IGN if is_ignored else signal.SIG_DFL)
    if not ignored >> signal.SIGINT - 1 & 1:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if theirs["SigBlk"] != ours["SigBlk"]:
        signal.pthread_sigmask(signal.SIG_SETMASK, _numbers(int(theirs["SigBlk"], 16)))


def _numbers(mask: int) -> list[int]:
    """The signals of a mask of proc_pid_status(5)."""
    return [number for number in range(1, signal.NSIG) if mask >> number - 1 & 1]
