"""Kernel parameters below /proc/sys, of the network namespace that the process is in.

Names are written with slashes, `net/ipv4/conf/eth0.5/arp_notify`, since an interface's name may
hold dots. Source: proc(5), the kernel's Documentation/networking/ip-sysctl.rst.
"""

from __future__ import annotations

_ROOT = "/proc/sys/"


def read(name: str) -> str | None:
    """The value, of several fields one space apart; None if the kernel has no such parameter."""
    try:
        with open(_ROOT + name, encoding="utf-8") as file:
            return " ".join(file.read().split())
    except FileNotFoundError:
        return None


def write(name: str, value: str) -> None:
    """Set the value, unless it is set already. Raises OSError that names the parameter's file."""
    if read(name) == value:
        return
    path = _ROOT + name
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(value)
    except OSError as error:  # of a value that the kernel refuses, without the file's name
        raise OSError(error.errno, error.strerror, path) from None


def try_write(name: str, value: str) -> bool:
    """Set the value if the kernel has the parameter and lets it be written; whether that was so."""
    try:
        write(name, value)
    except OSError:
        return False
    return True
