"""What an executable in /opt/cni/bin runs. It imports next to nothing, not even `__future__`, which
is a file: start-up is the budget.

If an agent (`cni.agent`) answers, it runs the request, for it has imported everything already. If
none does, or it does not take the request, this process runs it: standard input is unread by then.
How the two talk:

    launcher    `identify()`
    agent       READY, with a pidfd of the process that waits for the request
    launcher    the request, see `_make_request`, with descriptors: the open streams, then PLACES;
                from now on it runs there or nowhere
    agent       how that process ended: a wait status (waitpid(2)), 4 bytes; or NOT_TAKEN

Either ends the talk by closing the connection. The launcher waits for READY since descriptors that
nobody receives would keep the caller's pipes open.
"""

import gc
import posix
import sys

TYPE_CHECKING = False  # typing's own is not free
if TYPE_CHECKING:
    from _socket import socket

EXECUTABLES = ("bridge", "host-local", "loopback", "portmap")

# In a directory of root's alone. The one in /run/cni goes with the last attachment.
SOCKET = "/run/pycni/agent.sock"

READY = b"r"

# In place of a wait status: nothing of the request has been run, or read from its streams.
NOT_TAKEN = 0xFFFFFFFF

# An agent that is stuck, or has more to do than it can, must not keep a pod waiting.
PATIENCE = 3.0  # seconds

# What a process has from its caller besides streams; opened, and sent along.
PLACES = (
    ("/proc/self/ns/net", posix.O_RDONLY),
    ("/proc/self/ns/mnt", posix.O_RDONLY),
    ("/", posix.O_PATH),
    (".", posix.O_PATH),
)

# SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM, SIGTERM: those by which one process asks
# another to end. After any other that ends the launcher, the agent kills the request's process.
_PASSED_ON = (1, 2, 3, 10, 12, 14, 15)

_LOST = b"""{
    "cniVersion": "1.1.0",
    "code": 999,
    "msg": "the agent (pycni-agent) ended before the request did",
    "details": "how far the request got is not known; a DEL removes what there may be of it"
}
"""


def run(name: str) -> None:
    """Run the plugin of this name as this process, or end as the agent's process that ran it."""
    gc.disable()  # the process ends before there is garbage to collect
    if posix.environ.get(b"PYCNI_TRACE") == b"1":
        from cni import trace

        trace.begin("Python starts (CPU time)")
    if _is_there(SOCKET):
        status = _hand_over(name)
        if status != NOT_TAKEN:
            _end_as(status)
    from cni import bundle

    bundle.use()
    # The built-in does without importlib, whose import is not free.
    plugin = __import__(f"cni_plugins.{name.replace('-', '_')}.main", fromlist=["main"])
    try:
        plugin.main()
    except SystemExit as end:
        _end(end.code)


def _end(code: str | int | None) -> None:
    """End without Python's taking itself apart, for which it needs a fifth of its start-up again.

    So what is left to the interpreter's end (atexit, finalizers) is not run.
    """
    if not isinstance(code, int):
        sys.exit(code)
    _report_trace()
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except OSError:
        pass  # nobody reads it
    posix._exit(code)  # noqa: SLF001 - as os names it, too


def _report_trace() -> None:
    trace = sys.modules.get("cni.trace")
    if trace is not None and sys.stderr is not None:
        trace.report(sys.stderr)
        sys.stderr.flush()


def identify() -> bytes:
    """What tells this installation from others, and from itself before an upgrade.

    It has always the same length, so that the agent need not wait for more.
    """
    file = posix.stat(__file__)
    identity = (sys.hexversion, file.st_dev, file.st_ino, file.st_mtime_ns)
    return b"pycni " + b" ".join(b"%016x" % number for number in identity) + b"\n"


def _is_there(path: str) -> bool:
    try:
        posix.stat(path)
    except OSError:
        return False
    return True


def _hand_over(name: str) -> int | None:
    """Have the agent run the request. Returns how that ended: a wait status, or NOT_TAKEN, or None
    if nobody is left to tell.
    """
    import _socket

    agent = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    process = None
    places: list[int] = []
    try:
        agent.settimeout(PATIENCE)
        agent.connect(SOCKET)
        agent.sendall(identify())
        # The other side looks who calls; what can be done meanwhile is.
        for path, flags in PLACES:
            places.append(posix.open(path, flags | posix.O_CLOEXEC))
        message, streams = _make_request(name)
        process = _receive_process(agent)
        _send_request(agent, message, streams + places)
    except OSError:
        _close(agent, process)
        return NOT_TAKEN
    finally:
        for fd in places:
            posix.close(fd)
    passed_on, handlers = _pass_on_signals(process)
    status = _wait(agent)
    if status == NOT_TAKEN:
        _close(agent, process)
        _handle_signals(handlers)
        for number in passed_on:  # in vain
            posix.kill(posix.getpid(), number)
    return status


def _close(agent: "socket", process: int | None) -> None:
    """The request that is run here has nothing of the talk."""
    agent.close()
    if process is not None:
        posix.close(process)


def _receive_process(agent: "socket") -> int:
    """The pidfd that comes with READY. Raises OSError if that does not come."""
    from _socket import CMSG_SPACE

    answer, ancillary, _, _ = agent.recvmsg(len(READY), CMSG_SPACE(4))
    if answer != READY or not ancillary:
        raise ConnectionRefusedError
    return int.from_bytes(ancillary[0][2], sys.byteorder)


def _wait(agent: "socket") -> int | None:
    """What the agent says in the end; None if it says nothing."""
    agent.settimeout(None)
    try:
        status = agent.recv(4)
    except OSError:
        return None
    return int.from_bytes(status, sys.byteorder) if status else None


def _make_request(name: str) -> tuple[bytes, list[int]]:
    """Returns the message, and the open streams, which go along.

    The message is its length in 4 bytes, then a marshalled tuple: the plugin, the numbers of the
    open streams, the interpreter, arguments, environment.
    """
    import marshal

    # What the caller had closed is None; its number may be another descriptor's by now.
    streams = [fd for fd, file in enumerate((sys.stdin, sys.stdout, sys.stderr)) if file]
    request = marshal.dumps((name, streams, sys.executable, sys.argv, posix.environ))
    return len(request).to_bytes(4, sys.byteorder) + request, streams


def _send_request(agent: "socket", message: bytes, descriptors: list[int]) -> None:
    from _socket import SCM_RIGHTS, SOL_SOCKET

    rights = b"".join(fd.to_bytes(4, sys.byteorder) for fd in descriptors)
    sent = agent.sendmsg([message], [(SOL_SOCKET, SCM_RIGHTS, rights)])
    if sent < len(message):
        agent.sendall(message[sent:])


def _pass_on_signals(process: int) -> tuple[list[int], dict[int, object]]:
    """... to the process of this pidfd, but those that the caller had this one ignore.

    Returns a list that will have those that came, and the handlers that they had.
    """
    from _signal import (  # type: ignore[import-not-found]
        SIG_IGN,
        getsignal,
        pidfd_send_signal,
    )

    passed_on: list[int] = []

    def pass_on(number: int, _frame: object) -> None:
        passed_on.append(number)
        try:  # noqa: SIM105 - contextlib's import is not free
            pidfd_send_signal(process, number)
        except OSError:  # it has ended, and says so
            pass

    heard = [number for number in _PASSED_ON if getsignal(number) != SIG_IGN]
    return passed_on, _handle_signals(dict.fromkeys(heard, pass_on))


def _handle_signals(handlers: dict[int, object]) -> dict[int, object]:
    """By signal; returns the handlers that they had."""
    from _signal import signal

    return {number: signal(number, handler) for number, handler in handlers.items()}


def _end_as(status: int | None) -> None:
    _report_trace()
    if status is None:
        posix.write(1, _LOST)
        posix._exit(1)  # noqa: SLF001
    if posix.WIFSIGNALED(status):
        from _signal import SIG_DFL, SIGKILL, signal

        if posix.WTERMSIG(status) != SIGKILL:
            signal(posix.WTERMSIG(status), SIG_DFL)
        posix.kill(posix.getpid(), posix.WTERMSIG(status))
        posix._exit(128 + posix.WTERMSIG(status))  # noqa: SLF001 - it is blocked
    posix._exit(posix.WEXITSTATUS(status))  # noqa: SLF001
