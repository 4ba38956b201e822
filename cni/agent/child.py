"""The forked process: it waits for a launcher, becomes what that would have been, and runs the
plugin. What can be done without knowing the request is done while it waits.

Until it says READY it may end at any point, and the launcher then runs the request. From then on it
has to say so (NOT_TAKEN) if it cannot. Until the plugin runs it changes nothing but itself.
"""

from __future__ import annotations

import gc
import marshal
import os
import select
import signal
import socket
import struct
import sys
import time
from contextlib import suppress
from fcntl import F_DUPFD_CLOEXEC, F_GETFL, F_SETFL, F_SETOWN, F_SETSIG, fcntl
from importlib import import_module
from typing import NamedTuple, NoReturn

from cni import launcher, netns, trace
from cni.agent import caller, memory

IDENTITY = launcher.identify()

_STREAMS = (
    ("stdin", "r", "surrogateescape"),
    ("stdout", "w", "surrogateescape"),
    ("stderr", "w", "backslashreplace"),
)

_MOST_DESCRIPTORS = len(_STREAMS) + len(launcher.PLACES)

# Of the agent: the caller's limit, which the child takes on, may be lower.
_OPEN_MAX = os.sysconf("SC_OPEN_MAX")

_OUT_OF_THE_WAY = 50  # a descriptor

# What a child that waits is called by ps(1); one that runs a request has its plugin's name.
STANDBY = b"pycni-standby"

# The exit code of a child that found the installation changed. A plugin's is 0 or 1.
OUTDATED = 3

# If no launcher comes for so long, there is time to copy pages.
_IDLE_SECONDS = 0.002


class NotTaken(Exception):
    """The request is not one that this agent can run."""


class Outdated(Exception):
    """The launcher is of another installation since this one has been replaced."""


class Request(NamedTuple):
    """What a launcher sends, see `cni.launcher`; `streams` are descriptors by their number."""

    plugin: str
    streams: dict[int, int]
    places: list[int]
    interpreter: str
    arguments: list[str]
    environ: dict[bytes, bytes]


def wait_and_run(listener: socket.socket, server: socket.socket) -> NoReturn:
    """Wait for a launcher, and be the process that it asks for, to the end.

    `server` gets the launcher's connection, as soon as there is one; this process ends when the
    other end of it is closed before.
    """
    _call_itself(STANDBY)
    os.setpgid(0, 0)  # what is typed at the agent's terminal is not for the request
    gc.disable()  # as the launcher does
    caller.reset_signals()
    own = caller.look_up_own()
    _close_all_but(listener, server)
    os.environ.clear()
    connection = _accept(listener, server)
    start = time.perf_counter()
    try:
        socket.send_fds(server, [b"t"], [connection.fileno()])
        request = _take(connection, own)
    except Outdated:
        os._exit(OUTDATED)
    except (NotTaken, caller.Different, OSError, KeyboardInterrupt):
        os._exit(0)
    code = _run_plugin(request.plugin, start)
    # Whoever reads our output waits until it is closed, and the launcher need not see us off. What
    # else is open may take its time, see `cni.nlsocket.leave_open`.
    os.closerange(0, len(_STREAMS))
    try:
        connection.send((code << 8).to_bytes(4, sys.byteorder))
    finally:
        os._exit(code)


def _accept(listener: socket.socket, server: socket.socket) -> socket.socket:
    events = select.epoll()
    # A launcher wakes one child that waits, not all. Should that one end before it accepts, the
    # next child that is made finds the launcher: to register is to look.
    events.register(listener, select.EPOLLIN | select.EPOLLEXCLUSIVE)
    events.register(server, select.EPOLLIN)
    if not events.poll(_IDLE_SECONDS):
        for _ in memory.copy_pages():
            if events.poll(0):
                break
    while True:
        if any(descriptor == server.fileno() for descriptor, _ in events.poll()):
            os._exit(0)
        try:
            connection, _ = listener.accept()
        except BlockingIOError:  # another child was faster
            continue
        # The plugin is to get the same numbers for what it opens as in a process of its own.
        with connection:
            return socket.socket(fileno=fcntl(connection, F_DUPFD_CLOEXEC, _OUT_OF_THE_WAY))


def _take(connection: socket.socket, own: caller.Own) -> Request:
    """Receive the request and become its process. If this raises, the launcher runs it."""
    connection.settimeout(launcher.PATIENCE)
    pid, uid, _ = struct.unpack(
        "3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    )
    if uid != 0:
        raise NotTaken("only root is served")
    identify(connection)
    caller.take_place_of(pid, own)
    invite(connection)
    try:
        request = receive(connection)
        _end_with_launcher(connection)
        _become(request)
        _close_all_but(connection)
    except BaseException:
        with suppress(OSError):
            connection.send(launcher.NOT_TAKEN.to_bytes(4, sys.byteorder))
        raise
    connection.settimeout(None)
    return request


def identify(connection: socket.socket) -> None:
    """Hear who the launcher is. Raises NotTaken or Outdated if it is of another installation."""
    if _receive_exactly(connection, len(IDENTITY)) != IDENTITY:
        if not os.path.exists(launcher.__file__) or launcher.identify() != IDENTITY:
            raise Outdated
        raise NotTaken("the launcher is of another installation")


def invite(connection: socket.socket) -> None:
    """Ask the launcher for its request."""
    process = os.pidfd_open(os.getpid())
    socket.send_fds(connection, [launcher.READY], [process])
    os.close(process)


def receive(connection: socket.socket) -> Request:
    """Read the request. Raises NotTaken if it is broken."""
    message, descriptors, flags, _ = socket.recv_fds(connection, 1 << 16, _MOST_DESCRIPTORS)
    message += _receive_exactly(connection, 4 - len(message))
    end = 4 + int.from_bytes(message[:4], sys.byteorder)
    message += _receive_exactly(connection, end - len(message))
    plugin, streams, *rest = marshal.loads(message[4:])  # noqa: S302 - root's, of this installation
    if flags & socket.MSG_CTRUNC or len(descriptors) != len(streams) + len(launcher.PLACES):
        raise NotTaken("descriptors are missing, or too many")
    places = descriptors[len(streams) :]
    return Request(plugin, dict(zip(streams, descriptors, strict=False)), places, *rest)


def _end_with_launcher(connection: socket.socket) -> None:
    """From now on the kernel kills this process as soon as the other end is closed (fcntl(2))."""
    fcntl(connection, F_SETOWN, os.getpid())
    fcntl(connection, F_SETSIG, signal.SIGKILL)
    fcntl(connection, F_SETFL, fcntl(connection, F_GETFL) | os.O_ASYNC)
    events = select.poll()
    events.register(connection, select.POLLRDHUP)
    if events.poll(0):
        raise NotTaken("the launcher went away")


def _receive_exactly(connection: socket.socket, size: int) -> bytes:
    chunks = []
    while size > 0:
        chunk = connection.recv(min(size, 1 << 20))
        if not chunk:
            raise NotTaken("the launcher went away")
        chunks.append(chunk)
        size -= len(chunk)
    return b"".join(chunks)


def _become(request: Request) -> None:
    netns_fd, mounts, root, directory = request.places
    for namespace, own in ((netns_fd, "/proc/self/ns/net"), (mounts, "/proc/self/ns/mnt")):
        if not os.path.samestat(os.fstat(namespace), os.stat(own)):
            netns.join(namespace)
    os.fchdir(root)
    os.chroot(".")
    os.fchdir(directory)
    for number, (name, mode, errors) in enumerate(_STREAMS):
        _open_stream(request.streams.get(number), number, name, mode, errors)
    os.environb.update(request.environ)
    sys.executable, sys.argv = request.interpreter, request.arguments
    _call_itself(request.plugin.encode())


def _call_itself(name: bytes) -> None:
    with open("/proc/self/comm", "wb") as comm:
        comm.write(name)


def _open_stream(source: int | None, number: int, name: str, mode: str, errors: str) -> None:
    """A stream as Python sets it up: one that is closed is None."""
    stream = None
    if source is None:
        os.close(number)
    else:
        os.dup2(source, number)
        buffering = 1 if number == 2 else -1
        stream = open(number, mode, buffering, "utf-8", errors, closefd=False)  # noqa: SIM115
    setattr(sys, name, stream)


def _close_all_but(*sockets: socket.socket) -> None:
    """... the streams: what is the agent's and other launchers', and what came with the request."""
    lowest = len(_STREAMS)
    for descriptor in sorted(kept.fileno() for kept in sockets):
        os.closerange(lowest, descriptor)
        lowest = descriptor + 1
    os.closerange(lowest, _OPEN_MAX)


def _run_plugin(name: str, start: float) -> int:
    """Run it as a script is run, to its end. Returns the exit code."""
    if os.environ.get("PYCNI_TRACE") == "1":
        trace.begin("the agent's process becomes the launcher's", start)
    try:
        import_module(f"cni_plugins.{name.replace('-', '_')}.main").main()
        code: object = 0
    except SystemExit as end:
        code = end.code
    except BaseException as error:  # noqa: BLE001 - the end of the process
        sys.excepthook(type(error), error, error.__traceback__)
        if isinstance(error, KeyboardInterrupt):
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
        code = 1
    with suppress(OSError):  # nobody reads it
        if sys.stderr:
            trace.report(sys.stderr)
        for stream in (sys.stdout, sys.stderr):
            if stream:
                stream.flush()
    return code if isinstance(code, int) else int(code is not None)
