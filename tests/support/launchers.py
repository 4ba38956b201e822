"""To be, in a test, the child of the agent's that a launcher finds."""

from __future__ import annotations

import os
import socket

from pycni.launcher import REQUEST, find_start


def receive(listener: socket.socket) -> bytes:
    """Give this process, which stands by, to the launcher that connects. Returns what that says."""
    connection, _ = listener.accept()
    with connection:
        connection.send(f"{os.getpid()}.{find_start('self')}\n".encode())
        said = b""
        while not said:  # the pipe has yet to be opened
            said = os.read(REQUEST, 4096)
        return said
