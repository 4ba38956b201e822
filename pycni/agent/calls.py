"""How a launcher finds a child that waits, and what the two say; see `pycni.launcher`."""

from __future__ import annotations

import os
import select
import socket
import struct
from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple

from pycni.launcher import ANSWER, EXECUTABLES, LIFELINE, REQUEST, WAITING, find_start

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
    events.register(listener, select.EPOLLIN)
    directory = f"{WAITING}/{os.getpid()}.{find_start('self')}"
    os.makedirs(directory)
    guest: socket.socket | None = None
    to_do = iter(while_idle)
    patience: float | None = _IDLE_SECONDS
    while True:
        ready = {descriptor for descriptor, _ in events.poll(patience)}
        if REQUEST in ready and (said := os.read(REQUEST, _MOST)):
            return said
        if guest is None:
            is_deserted = os.path.exists(f"{directory}/taken") and has_hung_up()
        else:
            is_deserted = guest.fileno() in ready
        if server.fileno() in ready or is_deserted:
            remove(os.getpid())
            return None
        if listener.fileno() in ready:
            is_taken = not _take(directory)
            guest = None if is_taken else _accept(listener, directory)
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


def _take(directory: str) -> bool:
    """As a launcher does; False if a shell was faster."""
    try:
        os.close(os.open(f"{directory}/taken", os.O_CREAT | os.O_EXCL | os.O_CLOEXEC))
    except FileExistsError:
        return False
    return True


def _accept(listener: socket.socket, directory: str) -> socket.socket | None:
    """Give this child, which is taken, to who connects. If nobody has it, it is free again."""
    with suppress(OSError):  # another child was faster, or who connected has left
        guest, _ = listener.accept()
        _, uid, _ = struct.unpack("3i", guest.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if uid == 0:
            guest.send(os.path.basename(directory).encode() + b"\n")
            return guest
        guest.close()
    os.unlink(f"{directory}/taken")
    return None


def parse(said: bytes) -> Request:
    """What a launcher has said. Raises NotTaken if it is not what one says; or OSError."""
    text, end, rest = os.fsdecode(said).partition("\n")
    try:
        pid, line, streams, plugin, skipped, interpreter, packages = text.split("\t")
        numbers = tuple(int(number) for number in streams.split())
        request = Request(int(pid), int(line), numbers, plugin, int(skipped), interpreter, packages)
    except ValueError:
        raise NotTaken(f"{said!r} is not what a launcher says") from None
    if not end or rest or plugin not in EXECUTABLES or len(numbers) != 3:
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


def say(answer: int, word: str, number: int = 0) -> None:
    """Answer the launcher. Raises OSError if nobody is there any more."""
    os.write(answer, f"{word} {number}\n".encode())


def clear() -> None:
    """Remove what children of an agent that was killed have left."""
    with suppress(FileNotFoundError):
        for name in os.listdir(WAITING):
            _remove(name)
        os.rmdir(WAITING)


def remove(pid: int) -> None:
    """Remove what says that this child waits; to be called while no other process has its pid."""
    with suppress(FileNotFoundError):
        for name in os.listdir(WAITING):
            if name.startswith(f"{pid}."):
                _remove(name)


def _remove(name: str) -> None:
    hidden = f"{WAITING}/.{name.removeprefix('.')}"  # no shell finds it from now on
    with suppress(FileNotFoundError):
        os.rename(f"{WAITING}/{name}", hidden)
        with suppress(FileNotFoundError):
            os.unlink(f"{hidden}/taken")
        os.rmdir(hidden)
