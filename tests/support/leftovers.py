"""What a run of tests may leave on the machine: outside of its nodes, it should be nothing."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

# Where plugins, agent and runtimes keep what is theirs: in a test, these are the node's.
_PLACES = ("/run/netns", "/run/cni", "/run/pycni", "/var/lib/cni", "/etc/cni", "/etc/pycni")

_SYSCTLS = ("ipv4/ip_forward", "ipv6/conf/all/forwarding", "ipv6/conf/default/disable_ipv6")

# In the environment of all that a process of the tests starts: whose it is.
_VARIABLE = "PYCNI_TEST_RUN"


def mark_processes() -> str:
    """From now on what this process starts can be told. Returns the mark."""
    os.environ[_VARIABLE] = str(os.getpid())
    return f"{_VARIABLE}={os.getpid()}"


def find_processes(mark: str) -> list[str]:
    """The command lines of the marked processes that run."""
    return [
        f"process {pid}: {_read(Path(f'/proc/{pid}/cmdline'))}"
        for pid in filter(str.isdecimal, os.listdir("/proc"))
        if f"\0{mark}\0" in f"\0{_read(Path(f'/proc/{pid}/environ'))}"
    ]


def _read(path: Path) -> str:
    with suppress(OSError):  # it has ended, or is not ours
        return path.read_text(errors="replace")
    return ""


def see() -> set[str]:
    """What there is in this process's namespaces."""
    return {*_look()}


def _look() -> Iterator[str]:
    for _, name in socket.if_nameindex():
        yield f"interface {name}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        yield f"mount {line.split()[4]}"
    for place in map(Path, _PLACES):
        yield from (f"file {path}" for path in (place, *place.rglob("*")) if path.exists())
    for name in _SYSCTLS:
        yield f"sysctl {name}={_read(Path('/proc/sys/net', name)).strip()}"
    if os.geteuid() == 0 and shutil.which("nft"):
        command = ["nft", "list", "tables"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        yield from done.stdout.splitlines()
