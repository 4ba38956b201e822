"""The forked process: it waits for a launcher, becomes what that would have been, and runs the
plugin. What can be done without knowing the request is done while it waits.

Until it says that it takes the request it changes nothing but itself, and may end at any point: the
launcher then runs the request.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import time
from contextlib import suppress
from fcntl import F_DUPFD_CLOEXEC, F_GETFL, F_SETFL, F_SETOWN, F_SETSIG, fcntl
from importlib import import_module
from typing import NoReturn

from cni.errors import CniError
from pycni import launcher, trace
from pycni.agent import caller, calls, memory
from pycni.launcher import ANSWER, LIFELINE

_STREAMS = (
    ("stdin", "r", "surrogateescape"),
    ("stdout", "w", "surrogateescape"),
    ("stderr", "w", "backslashreplace"),
)

# The directory of pycni's packages.
_PACKAGES = os.path.dirname(os.path.dirname(launcher.__file__))

# Of the agent: the caller's limit, which the child takes on, may be lower.
_OPEN_MAX = os.sysconf("SC_OPEN_MAX")

# What a child that waits is called by ps(1); one that runs a request has its plugin's name.
STANDBY = "pycni-standby"

# The exit code of a child that found the installation changed. A plugin's is 0 or 1.
OUTDATED = 3


class Outdated(Exception):
    """This installation has been replaced."""


def identify() -> tuple[int, ...]:
    """What tells this installation, at its place, from itself before an upgrade."""
    file = os.stat(launcher.__file__)
    return file.st_dev, file.st_ino, file.st_mtime_ns


IDENTITY = identify()


def wait_and_run(listener: socket.socket, server: socket.socket) -> NoReturn:
    """Wait for a launcher, and be the process that it asks for, to the end.

    `server` gets a descriptor for answers to the launcher, as soon as that has said something; this
    process ends when the other end of it is closed before.
    """
    _call_itself(STANDBY)
    os.setpgid(0, 0)  # what is typed at the agent's terminal is not for the request
    gc.disable()  # as the launcher does
    caller.reset_signals()
    own = caller.look_up_own()
    listener, server = _move(listener), _move(server)
    _close_all_but(listener.fileno(), server.fileno())
    os.environ.clear()
    said = calls.wait(listener, server, while_idle=memory.copy_pages())
    if said is None:
        os._exit(0)
    start = time.perf_counter()
    try:
        socket.send_fds(server, [b"t"], [ANSWER])
        plugin = _take(said, own)
    except Outdated:
        os._exit(OUTDATED)
    except (calls.NotTaken, caller.Different, CniError, OSError, KeyboardInterrupt):
        os._exit(0)
    code = _run_plugin(plugin, start)
    # Whoever reads our output waits until it is closed, and the launcher need not see us off. What
    # else is open may take its time, see `cni.net.netlink.socket.leave_open`.
    os.closerange(0, len(_STREAMS))
    try:
        calls.say(ANSWER, "ended", code << 8)
    finally:
        os._exit(code)


def _move(used: socket.socket) -> socket.socket:
    """The same socket, out of the way of the pipes' descriptors."""
    return socket.socket(fileno=fcntl(used, F_DUPFD_CLOEXEC, LIFELINE + 1))


def _take(said: bytes, own: caller.Own) -> str:
    """Become the request's process. Returns its plugin. If this raises, the launcher runs it."""
    try:
        request = calls.parse(said)
        _require_installation(request)
        theirs = caller.look_up(request.pid, request.streams, own)
        _end_with_launcher()
        _become(request, theirs, own)
        _close_all_but(ANSWER, LIFELINE)
        calls.say(ANSWER, "taken", os.getpid())
    except BaseException:
        with suppress(OSError):
            calls.say(ANSWER, "refused")
        raise
    return request.plugin


def _require_installation(request: calls.Request) -> None:
    """Raise NotTaken if the launcher is of another one than this process; Outdated if it is new."""
    if _is_outdated():
        raise Outdated
    if request.packages != _PACKAGES:
        raise calls.NotTaken("the launcher is of another installation")


def _is_outdated() -> bool:
    try:
        return identify() != IDENTITY
    except FileNotFoundError:
        return True


def _end_with_launcher() -> None:
    """From now on the kernel kills this process as soon as the other end is closed (fcntl(2))."""
    fcntl(LIFELINE, F_SETOWN, os.getpid())
    fcntl(LIFELINE, F_SETSIG, signal.SIGKILL)
    fcntl(LIFELINE, F_SETFL, fcntl(LIFELINE, F_GETFL) | os.O_ASYNC)
    if calls.has_hung_up():
        raise calls.NotTaken("the launcher went away")


def _become(request: calls.Request, theirs: caller.Caller, own: caller.Own) -> None:
    caller.take_place_of(theirs, own)
    if _is_outdated():
        raise calls.NotTaken("where the launcher is, another installation is at the same place")
    for number, (name, mode, errors) in enumerate(_STREAMS):
        _open_stream(theirs.streams[number], number, name, mode, errors)
    os.environb.update(theirs.environ)
    sys.executable = request.interpreter
    sys.argv = theirs.arguments[request.skipped :]
    _call_itself(request.plugin)


def _call_itself(name: str) -> None:
    with open("/proc/self/comm", "w") as comm:
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


def _close_all_but(*kept: int) -> None:
    """... the streams: what is the agent's and other launchers', and what was the launcher's."""
    lowest = len(_STREAMS)
    for descriptor in sorted({*kept}):
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
