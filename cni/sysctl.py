"""Kernel parameters below /proc/sys, of the network namespace that the process is in.

Names are written with slashes, `net/ipv4/conf/eth0.5/arp_notify`, since an interface's name may
hold dots.
"""

from __future__ import annotations

_ROOT = "/proc/sys/"


def read(name: str) -> str | None:
    """The value, None if the kernel has no such parameter."""
    try:
        with open(_ROOT + name, encoding="ascii") as file:
            return file.read().strip()
    except FileNotFoundError:
        return None


def write(name: str, value: str) -> None:
    """Set the value, unless it is set already. Raises OSError where that cannot be done."""
    if read(name) != value:
        with open(_ROOT + name, "w", encoding="ascii") as file:
            file.write(value)


def try_write(name: str, value: str) -> bool:
    """Set the value if the kernel has the parameter and lets it be written."""
    try:
        write(name, value)
    except OSError:
        return False
    return True
