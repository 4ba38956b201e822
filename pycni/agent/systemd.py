"""systemd's side of a service: sd_listen_fds(3), sd_notify(3), sd_watchdog_enabled(3)."""

from __future__ import annotations

import os
import socket
from contextlib import suppress

_FIRST_DESCRIPTOR = 3  # SD_LISTEN_FDS_START


def take_listener() -> socket.socket | None:
    """The socket that systemd listens on for this process, None if there is none."""
    count = os.environ.pop("LISTEN_FDS", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if os.environ.pop("LISTEN_PID", "") != str(os.getpid()) or count != "1":
        return None
    os.set_inheritable(_FIRST_DESCRIPTOR, False)
    return socket.socket(fileno=_FIRST_DESCRIPTOR)


def notify(*assignments: str) -> None:
    """Tell systemd, if it runs this process, such as `READY=1`."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with (
            suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as messages,
        ):
            # An abstract address is written with an @ in place of its first byte.
            messages.sendto("\n".join(assignments).encode(), address.replace("@", "\0", 1))


def watchdog_seconds() -> float | None:
    """How often to say `WATCHDOG=1`: twice in the time after which systemd gives up on us."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 2_000_000 if microseconds.isdecimal() else None
