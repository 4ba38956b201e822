"""What an executable in /opt/cni/bin runs when its shell (executable.sh) leaves it to Python. It
imports next to nothing, not even `__future__`, which is a file: start-up is the budget.

If a child of the agent (`cni.agent`) waits, that runs the request, for it has imported everything
already. If none does, or it does not take the request, this process runs it: standard input is
unread by then.

A child that waits has a directory in WAITING, by its pid. Who makes the file `taken` in that has
the child for itself. A shell does so, and never waits for one. At the SOCKET a child that is free
makes it for who connects, and says its pid; the connection is kept until it has heard more.

Launcher and child talk by pipes, which the child has open as descriptors REQUEST, ANSWER and
LIFELINE, and the launcher opens in /proc. In lines they say:

    launcher    its pid, its descriptor of REQUEST, those of the plugin's streams, the plugin, how
                many of its arguments are the interpreter's, that interpreter, the directory of
                pycni's packages
    child       its pid, when it has looked up in /proc what else the launcher is, and has become
                that: from now on the request runs there or nowhere; or an empty line
    child       how it ended, as a wait status (waitpid(2)); its agent says so if it was killed

The launcher never writes to the LIFELINE. When that hangs up, the kernel kills the child. A shell
opens it before it takes the child, which so knows when a shell has ended that took it.
"""

import gc
import posix
import sys

TYPE_CHECKING = False  # typing's own is not free
if TYPE_CHECKING:
    pass

EXECUTABLES = ("bridge", "host-local", "loopback", "portmap")

# In a directory of root's alone. The one in /run/cni goes with the last attachment.
SOCKET = "/run/pycni/agent.sock"
WAITING = "/run/pycni/waiting"

# What a child that waits is called by ps(1); one that runs a request has its plugin's name.
STANDBY = "pycni-standby"

# Out of the way of what a plugin opens.
REQUEST, ANSWER, LIFELINE = 60, 61, 62

# How the launcher opens them. Whoever may read, too, gets no signal when the child is gone.
_PIPES = ((REQUEST, posix.O_RDWR), (ANSWER, posix.O_RDONLY), (LIFELINE, posix.O_RDWR))

# An agent that is stuck, or has more to do than it can, must not keep a pod waiting.
PATIENCE = 3.0  # seconds

# SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM, SIGTERM: those by which one process asks
# another to end. After any other that ends the launcher, the agent kills the request's process.
_PASSED_ON = (1, 2, 3, 10, 12, 14, 15)

LOST = """{
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
        answers = _hand_over(name)
        if answers is not None:
            _end_as(_wait(answers))
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


def _is_there(path: str) -> bool:
    try:
        posix.stat(path)
    except OSError:
        return False
    return True


def _hand_over(name: str) -> int | None:
    """Have a child of the agent run the request. Returns the pipe that tells how that ends, None if
    none does.
    """
    import _socket

    agent = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    pipes: list[int] = []
    taken = b""
    try:
        agent.settimeout(PATIENCE)
        agent.connect(SOCKET)
        child = agent.recv(16).strip()
        if _is_standby(child):
            for number, flags in _PIPES:
                path = b"/proc/%s/fd/%d" % (child, number)
                pipes.append(posix.open(path, flags | posix.O_CLOEXEC))
            posix.write(pipes[0], _introduce(name, pipes[0]))
            taken = _read_line(pipes[1])
    except OSError:
        pass
    agent.close()
    if taken:
        _pass_on_signals(int(taken))
        return pipes[1]
    for pipe in pipes:  # the request that is run here has nothing of the talk
        posix.close(pipe)
    return None


def _is_standby(child: bytes) -> bool:
    """In other namespaces than the agent's, the pid is another process's."""
    comm = posix.open(b"/proc/%s/comm" % child, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        return posix.read(comm, 16) == STANDBY.encode() + b"\n"
    finally:
        posix.close(comm)


def _introduce(name: str, descriptor: int) -> bytes:
    skipped = len(sys.orig_argv) - len(sys.argv)
    packages = __file__.removesuffix("/cni/launcher.py")
    lines = (posix.getpid(), descriptor, "0 1 2", name, skipped, sys.executable, packages, "")
    return "\n".join([str(line) for line in lines]).encode(errors="surrogateescape")


def _read_line(pipe: int) -> bytes:
    """A line without its end; an empty one if nobody is left to say more."""
    line = b""
    while not line.endswith(b"\n"):
        byte = posix.read(pipe, 1)
        if not byte:
            return b""
        line += byte
    return line[:-1]


def _wait(answers: int) -> int | None:
    """How the request ended, as a wait status; None if nobody is left to tell."""
    status = _read_line(answers)
    return int(status) if status else None


def _pass_on_signals(child: int) -> None:
    """... to that process, but those that the caller had this one ignore."""
    from _signal import (  # type: ignore[import-not-found]
        SIG_IGN,
        getsignal,
        pidfd_send_signal,
        signal,
    )

    try:
        process = posix.pidfd_open(child)
    except OSError:  # it has ended already
        return

    def pass_on(number: int, _frame: object) -> None:
        try:  # noqa: SIM105 - contextlib's import is not free
            pidfd_send_signal(process, number)
        except OSError:  # it has ended, and says so
            pass

    for number in _PASSED_ON:
        if getsignal(number) != SIG_IGN:
            signal(number, pass_on)


def _end_as(status: int | None) -> None:
    _report_trace()
    if status is None:
        posix.write(1, LOST.encode())
        posix._exit(1)  # noqa: SLF001
    if posix.WIFSIGNALED(status):
        from _signal import SIG_DFL, SIGKILL, signal

        if posix.WTERMSIG(status) != SIGKILL:
            signal(posix.WTERMSIG(status), SIG_DFL)
        posix.kill(posix.getpid(), posix.WTERMSIG(status))
        posix._exit(128 + posix.WTERMSIG(status))  # noqa: SLF001 - it is blocked
    posix._exit(posix.WEXITSTATUS(status))  # noqa: SLF001
