"""How a launcher finds a child that waits, and what the two say; see `cni.launcher`."""

from __future__ import annotations

import os
import select
import socket
import struct
from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple

from cni.launcher import ANSWER, EXECUTABLES, LIFELINE, REQUEST, WAITING

# If no launcher comes for so long, there is time for other things.
_IDLE_SECONDS = 0.002

# A request has two paths of 4 KiB at most.
_MOST = 1 << 14


class NotTaken(Exception):
    """The request is not one that this agent can run."""


class Request(NamedTuple):
    """What a launcher says: who it is, its descriptors, and what cannot be looked up.

    `line` is its descriptor of REQUEST, `streams` are those of the plugin's.
    """

    pid: int
    line: int
    streams: tuple[int, ...]
    plugin: str
    skipped: int
    interpreter: str
    packages: str


def wait(
    listener: socket.socket, server: socket.socket, while_idle: Iterable[object]
) -> bytes | None:
    """Wait for a launcher. Returns what it says; None if this process is to end.

    That is when the other end of `server` is closed, or the launcher that has taken this process
    for itself has ended. `while_idle` is gone through, as far as there is time; it yields what is
    true.
    """
    _open_pipes()
    events = select.epoll()
    # Pipes that nobody has open for writing have hung up; that is said once, here, and not again.
    for pipe in (REQUEST, LIFELINE):
        events.register(pipe, select.EPOLLIN | select.EPOLLET)
    events.poll(0)
    events.register(server, select.EPOLLIN)
    # A launcher wakes one child that waits, not all. Should that one end before it accepts, the
    # next child that is made finds the launcher: to register is to look.
    events.register(listener, select.EPOLLIN | select.EPOLLEXCLUSIVE)
    os.makedirs(os.path.dirname(_taken(os.getpid())))
    guest: socket.socket | None = None
    to_do = iter(while_idle)
    patience: float | None = _IDLE_SECONDS
    while True:
        ready = {descriptor for descriptor, _ in events.poll(patience)}
        if REQUEST in ready and (said := os.read(REQUEST, _MOST)):
            return said
        if guest is None:
            is_deserted = os.path.exists(_taken(os.getpid())) and has_hung_up()
        else:
            is_deserted = guest.fileno() in ready
        if server.fileno() in ready or is_deserted:
            remove(os.getpid())
            return None
        if listener.fileno() in ready:
            is_taken = not _take()
            guest = None if is_taken else _accept(listener)
            if guest is not None:
                events.register(guest, select.EPOLLIN)
            if is_taken or guest is not None:
                events.unregister(listener)
        elif not ready:
            patience = 0 if next(to_do, False) else None


def _open_pipes() -> None:
    """Launchers open the other ends, in /proc; so these are open nowhere."""
    for number, used in ((REQUEST, 0), (ANSWER, 1), (LIFELINE, 0)):
        ends = os.pipe()
        os.dup2(ends[used], number, inheritable=False)
        for end in ends:
            os.close(end)


def _take() -> bool:
    """As a launcher does; False if a shell was faster."""
    try:
        os.close(os.open(_taken(os.getpid()), os.O_CREAT | os.O_EXCL | os.O_CLOEXEC))
    except FileExistsError:
        return False
    return True


def _accept(listener: socket.socket) -> socket.socket | None:
    """Give this child, which is taken, to who connects. If nobody has it, it is free again."""
    with suppress(OSError):  # another child was faster, or who connected has left
        guest, _ = listener.accept()
        _, uid, _ = struct.unpack("3i", guest.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if uid == 0:
            guest.send(b"%d\n" % os.getpid())
            return guest
        guest.close()
    os.unlink(_taken(os.getpid()))
    return None


def parse(said: bytes) -> Request:
    """What a launcher has said. Raises NotTaken if it is not what one says; or OSError."""
    try:
        pid, line, streams, plugin, skipped, interpreter, packages, end = os.fsdecode(said).split(
            "\n"
        )
        numbers = tuple(int(number) for number in streams.split())
        request = Request(int(pid), int(line), numbers, plugin, int(skipped), interpreter, packages)
    except ValueError:
        raise NotTaken(f"{said!r} is not what a launcher says") from None
    if end or plugin not in EXECUTABLES or len(numbers) != 3:
        raise NotTaken(f"{said!r} is not what a launcher says")
    # Its pid may be that of another process, in another namespace.
    theirs = os.stat(f"/proc/{request.pid}/fd/{request.line}")
    if not os.path.samestat(theirs, os.fstat(REQUEST)):
        raise NotTaken(f"the launcher is not the process {request.pid}")
    return request


def has_hung_up() -> bool:
    """Whether the launcher is gone."""
    events = select.poll()
    events.register(LIFELINE, 0)  # POLLHUP is always told
    return bool(events.poll(0))


def say(answer: int, number: int | None = None) -> None:
    """Answer with a number, or an empty line. Raises OSError if nobody is there any more."""
    os.write(answer, b"\n" if number is None else b"%d\n" % number)


def clear() -> None:
    """Remove what children of an agent that was killed have left."""
    with suppress(FileNotFoundError):
        for pid in os.listdir(WAITING):
            remove(int(pid))
        os.rmdir(WAITING)


def remove(pid: int) -> None:
    """Remove what says that this child waits."""
    with suppress(FileNotFoundError):
        os.unlink(_taken(pid))
    with suppress(FileNotFoundError):
        os.rmdir(os.path.dirname(_taken(pid)))


def _taken(pid: int) -> str:
    return f"{WAITING}/{pid}/taken"
