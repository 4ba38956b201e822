"""The forked process: it becomes what the launcher would have been, and runs the plugin.

Until the launcher has said GO it changes nothing but itself, and it may end at any point: the
launcher then runs the request.
"""

from __future__ import annotations

import marshal
import os
import signal
import socket
import sys
from importlib import import_module
from typing import NamedTuple, NoReturn

from cni import launcher, netns, trace
from cni.agent.caller import Different, take_place_of

IDENTITY = launcher.identify()

_STREAMS = (
    ("stdin", "r", "surrogateescape"),
    ("stdout", "w", "surrogateescape"),
    ("stderr", "w", "backslashreplace"),
)

_MOST_DESCRIPTORS = len(_STREAMS) + len(launcher.PLACES)

# Of the agent: the caller's limit, which the child takes on, may be lower.
_OPEN_MAX = os.sysconf("SC_OPEN_MAX")


class NotTaken(Exception):
    """The request is not one that this agent can run."""


class Request(NamedTuple):
    """What a launcher sends, see `cni.launcher`; `streams` are descriptors by their number."""

    plugin: str
    streams: dict[int, int]
    places: list[int]
    interpreter: str
    arguments: list[str]
    environ: dict[bytes, bytes]


def run(connection: socket.socket, caller: int) -> NoReturn:
    """Be the process that a launcher, process `caller`, asks for, to the end."""
    try:
        connection.settimeout(launcher.PATIENCE)
        take_place_of(caller)
        request = receive(connection)
        _become(request)
        _close_all_but(connection)
        _offer(connection)
    except (NotTaken, Different, OSError):
        os._exit(0)
    code = _run_plugin(request.plugin)
    # Whoever reads our output waits until it is closed, and the launcher need not see us off. What
    # else is open may take its time, see `cni.nlsocket.leave_open`.
    os.closerange(0, len(_STREAMS))
    try:
        connection.send((code << 8).to_bytes(4, sys.byteorder))
    finally:
        os._exit(code)


def receive(connection: socket.socket) -> Request:
    """Read what the launcher sends. Raises NotTaken if it is of another installation, or broken."""
    if _receive_exactly(connection, len(IDENTITY)) != IDENTITY:
        raise NotTaken("the launcher is of another installation")
    connection.send(launcher.READY)
    message, descriptors, flags, _ = socket.recv_fds(
        connection, 1 << 16, _MOST_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
    )
    message += _receive_exactly(connection, 4 - len(message))
    end = 4 + int.from_bytes(message[:4], sys.byteorder)
    message += _receive_exactly(connection, end - len(message))
    plugin, streams, *rest = marshal.loads(message[4:])  # noqa: S302 - root's, of this installation
    if flags & socket.MSG_CTRUNC or len(descriptors) != len(streams) + len(launcher.PLACES):
        raise NotTaken("descriptors are missing, or too many")
    places = descriptors[len(streams) :]
    return Request(plugin, dict(zip(streams, descriptors, strict=False)), places, *rest)


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
    os.environ.clear()
    os.environb.update(request.environ)
    sys.executable, sys.argv = request.interpreter, request.arguments
    os.setpgid(0, 0)  # what is typed at the agent's terminal is not for the request
    with open("/proc/self/comm", "wb") as comm:
        comm.write(request.plugin.encode())


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


def _close_all_but(connection: socket.socket) -> None:
    """... the streams: what is the agent's and other launchers', and what came with the request."""
    os.closerange(3, connection.fileno())
    os.closerange(connection.fileno() + 1, _OPEN_MAX)


def _offer(connection: socket.socket) -> None:
    """Give the launcher the choice. Raises NotTaken unless it says GO."""
    process = os.pidfd_open(os.getpid())
    socket.send_fds(connection, [launcher.TAKEN], [process])
    os.close(process)
    if connection.recv(len(launcher.GO)) != launcher.GO:
        raise NotTaken("the launcher runs it itself")
    connection.settimeout(None)


def _run_plugin(name: str) -> int:
    """Run it as a script is run, to its end. Returns the exit code."""
    if os.environ.get("PYCNI_TRACE") == "1":
        trace.begin("the agent's process becomes the launcher's (CPU time)")
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
    if sys.stderr:
        trace.report(sys.stderr)
    for stream in (sys.stdout, sys.stderr):
        if stream:
            stream.flush()
    return code if isinstance(code, int) else int(code is not None)
