"""What an executable in /opt/cni/bin runs when its shell (executable.sh) leaves it to Python. It
imports next to nothing, not even `__future__`, which is a file: start-up is the budget.

If a child of the agent (`pycni.agent`) waits, that runs the request, for it has imported everything
already. If none does, or it does not take the request, this process runs it: standard input is
unread by then.

A child that waits has a directory in WAITING, by its pid and, as pids are used again, the time
when it started: `123.4567`. Who makes the file `taken` in that has the child for itself. A shell
does so, and never waits for one. At the SOCKET a child that is free makes it for who connects, and
says the directory's name; the connection is kept until it has heard more.

Launcher and child talk by pipes, which the child has open as descriptors REQUEST, ANSWER and
LIFELINE, and the launcher opens in /proc. They say, in a line each:

    launcher    between tabs: its pid, its descriptor of REQUEST, those of the plugin's streams, the
                plugin, how many of its arguments are the interpreter's, that interpreter, the
                directory of pycni's packages
    child       `taken` and its pid, when it has looked up in /proc what else the launcher is, and
                has become that: from now on the request runs there or nowhere; or `refused`
    child       `ended` and its wait status (waitpid(2)); its agent says so if it was killed, and if
                that was before it had taken the request, the launcher runs it

The launcher never writes to the LIFELINE. When that hangs up, the kernel kills the child. A shell
opens it before it takes the child, which so knows when a shell has ended that took it.
"""

import gc
import posix
import sys

EXECUTABLES = ("bridge", "host-local", "loopback", "portmap")

# In a directory of root's alone. The one in /run/cni goes with the last attachment.
SOCKET = "/run/pycni/agent.sock"
WAITING = "/run/pycni/waiting"

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
        from pycni import trace

        trace.begin("Python starts (CPU time)")
    if _is_there(SOCKET):
        answers = _hand_over(name)
        if answers is not None:
            _end_as(_wait(answers))
    from pycni import bundle

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
    trace = sys.modules.get("pycni.trace")
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
    word, taken = b"", 0
    try:
        agent.settimeout(PATIENCE)
        agent.connect(SOCKET)
        pid, _, start = agent.recv(64).decode().strip().partition(".")
        # In other namespaces than the agent's, the pid is another process's.
        if start and find_start(pid) == start:
            for number, flags in _PIPES:
                pipes.append(posix.open(f"/proc/{pid}/fd/{number}", flags | posix.O_CLOEXEC))
            posix.write(pipes[0], _introduce(name, pipes[0]))
            word, taken = _read_line(pipes[1])
    except OSError:
        pass
    agent.close()
    if word == b"taken":
        _pass_on_signals(taken)
        return pipes[1]
    for pipe in pipes:  # the request that is run here has nothing of the talk
        posix.close(pipe)
    return None


def find_start(pid: str) -> str:
    """When a process started, in clock ticks: proc_pid_stat(5). Raises OSError if there is none."""
    stat = posix.open(f"/proc/{pid}/stat", posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        text = posix.read(stat, 1024).decode(errors="replace")
    finally:
        posix.close(stat)
    return text.rpartition(")")[2].split()[19]  # the name before it may hold anything


def _introduce(name: str, descriptor: int) -> bytes:
    # What the caller had closed is None; its number may be another descriptor's by now.
    files = enumerate((sys.stdin, sys.stdout, sys.stderr))
    streams = " ".join([str(fd) if file else "-1" for fd, file in files])
    skipped = len(sys.orig_argv) - len(sys.argv)
    packages = __file__.removesuffix("/pycni/launcher.py")
    fields = (posix.getpid(), descriptor, streams, name, skipped, sys.executable, packages)
    return ("\t".join([str(field) for field in fields]) + "\n").encode(errors="surrogateescape")


def _read_line(pipe: int) -> tuple[bytes, int]:
    """A word and its number; no word if nobody is left to say more."""
    line = b""
    while not line.endswith(b"\n"):
        byte = posix.read(pipe, 1)
        if not byte:
            return b"", 0
        line += byte
    word, _, number = line.strip().partition(b" ")
    return word, int(number)


def _wait(answers: int) -> int | None:
    """How the request ended, as a wait status; None if nobody is left to tell."""
    word, status = _read_line(answers)
    return status if word else None


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
