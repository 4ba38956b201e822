from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pycni import launcher
from pycni.agent import caller, calls, systemd
from tests.support.launchers import receive
from tests.support.network import wait_until


def open_as_launcher() -> list[int]:
    return [os.open(f"/proc/self/fd/{number}", flags) for number, flags in launcher._PIPES]


def close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


# What a launcher says


@pytest.mark.usefixtures("standby")
def test_request() -> None:
    """What the launcher says of itself is what the child understands."""
    opened = open_as_launcher()
    request = calls.parse(launcher._introduce("bridge", opened[0]))
    close(opened)
    assert (request.pid, request.plugin, request.streams) == (os.getpid(), "bridge", (0, 1, 2))
    assert request.interpreter == sys.executable
    assert request.skipped == len(sys.orig_argv) - len(sys.argv)
    assert Path(request.packages, "pycni/launcher.py").samefile(launcher.__file__)


@pytest.mark.parametrize(
    "said",
    [
        "",
        "garbage",
        "garbage\t" * 6 + "garbage\n",
        "1\t3\t0 1 2\tbridge\t1\t/python\t/packages",
        "1\t3\t0 1 2\tbridge\t1\t/python\t/packages\nmore\n",
        "1\t3\t0 1\tbridge\t1\t/python\t/packages\n",
        "1\t3\t0 1 2\twhat\t1\t/python\t/packages\n",
        "1\t3\t0 1 2\tbridge\tx\t/python\t/packages\n",
    ],
)
def test_not_what_a_launcher_says(said: str) -> None:
    """Nothing is taken that is not whole, or of which a line is not what it should be."""
    with pytest.raises(calls.NotTaken, match="not what a launcher says"):
        calls.parse(said.encode())


@pytest.mark.usefixtures("standby")
def test_somebody_else() -> None:
    """A process is not the launcher that does not have the pipe open."""
    said = launcher._introduce("bridge", 0)
    with pytest.raises(calls.NotTaken, match="not the process"):
        calls.parse(said)


@pytest.mark.usefixtures("standby")
def test_lifeline() -> None:
    """A launcher has hung up that has closed its end, or has never opened it."""
    assert calls.has_hung_up()
    opened = open_as_launcher()
    assert not calls.has_hung_up()
    close(opened)
    assert calls.has_hung_up()


# What is looked up of it


def test_looking_up() -> None:
    """All that a process has from its caller is found; descriptors are of the same files."""
    with subprocess.Popen(
        ["sleep", "60"], cwd="/usr", env={"A": "=b\n", "C": ""}, stdin=subprocess.DEVNULL
    ) as process:
        try:
            # The kernel has these a moment after the program runs.
            wait_until(lambda: Path(f"/proc/{process.pid}/environ").read_bytes() != b"")
            found = caller.look_up(process.pid, (0, 1, 50), caller.look_up_own())
            assert found.arguments == ["sleep", "60"]
            assert found.environ == {b"A": b"=b\n", b"C": b""}
            stdin, stdout, none = found.streams
            assert none is None
            assert stdin is not None
            assert stdout is not None
            for descriptor, path in (
                (stdin, "/dev/null"),
                (stdout, "/proc/self/fd/1"),
                (found.network, "/proc/self/ns/net"),
                (found.mounts, "/proc/self/ns/mnt"),
                (found.root, "/"),
                (found.directory, "/usr"),
            ):
                assert os.path.samestat(os.fstat(descriptor), os.stat(path))
                os.close(descriptor)
        finally:
            process.kill()


def test_signals_of_the_c_library() -> None:
    """Of a mask of signals those count that a program can handle: not 32 and 33 of glibc's."""
    assert caller._numbers(1 << 0 | 1 << 31 | 1 << 32 | 1 << 63) == [1, 64]


# The launcher, as far as it is written in Python

# Runs a launcher that calls at an address, of a plugin that says that it was run, and what is open.
_LAUNCHER = """
import os, sys, types
path, address = sys.argv[1:]
sys.path[:] = path.split(":")
from pycni import launcher
launcher.SOCKET = address
plugin = sys.modules["cni_plugins.bridge.main"] = types.ModuleType("main")
descriptors = lambda: (fd for fd in range(100) if os.path.exists(f"/proc/self/fd/{fd}"))
plugin.main = lambda: print("run", *descriptors())
launcher.run("bridge")
"""


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "agent.sock"))
        listener.listen()
        yield listener


@contextmanager
def launched(listener: socket.socket) -> Iterator[subprocess.Popen[str]]:
    program = (_LAUNCHER, ":".join(sys.path), listener.getsockname())
    command = [sys.executable, "-I", "-S", "-c", *program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.usefixtures("standby")
@pytest.mark.parametrize("word", ["refused", "ended"])
def test_not_taken(listener: socket.socket, word: str) -> None:
    """A launcher whose request is not taken runs it, and has nothing of the talk open then.

    That is so if the child says no, or is killed.
    """
    with launched(listener) as called:
        assert calls.parse(receive(listener)).pid == called.pid
        calls.say(launcher.ANSWER, word, 9)
        assert called.communicate()[0] == "run 0 1 2\n"
        assert called.returncode == 0


def test_child_that_ends(listener: socket.socket) -> None:
    """So it does if the child that it was given has ended, or says nothing at all."""
    for said in (b"", b"4194305.1\n"):
        with launched(listener) as called:
            connection, _ = listener.accept()
            with connection:
                connection.send(said)
            assert called.communicate()[0] == "run 0 1 2\n"


@pytest.mark.usefixtures("standby")
@pytest.mark.parametrize(("status", "code"), [(0, 0), (1 << 8, 1), (15, -15), (9, -9)])
def test_taken(listener: socket.socket, status: int, code: int) -> None:
    """A launcher passes signals on to whoever runs the request, and ends as that does."""
    with launched(listener) as called, subprocess.Popen(["sleep", "60"]) as runs:
        receive(listener)
        calls.say(launcher.ANSWER, "taken", runs.pid)
        wait_until_caught(called.pid, signal.SIGTERM)
        called.send_signal(signal.SIGTERM)
        assert runs.wait() == -signal.SIGTERM
        calls.say(launcher.ANSWER, "ended", status)
        assert called.communicate()[0] == ""
        assert called.returncode == code


def wait_until_caught(pid: int, number: int) -> None:
    """... by a handler of the process."""
    mask = 0
    while not mask >> number - 1 & 1:
        status = Path(f"/proc/{pid}/status").read_text()
        mask = int(status.partition("SigCgt:")[2].split()[0], 16)


# systemd


def test_listener_of_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """What systemd opened for another process is not ours; children must not take it for theirs."""
    monkeypatch.setenv("LISTEN_PID", str(os.getpid() + 1))
    monkeypatch.setenv("LISTEN_FDS", "1")
    assert systemd.take_listener() is None
    assert "LISTEN_FDS" not in os.environ


@pytest.mark.parametrize("address", ["\0pycni-test", "/notify"])
def test_notify(monkeypatch: pytest.MonkeyPatch, tmp_path: str, address: str) -> None:
    """systemd gets one message, at an abstract address or a path."""
    bound = address if address.startswith("\0") else f"{tmp_path}{address}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as messages:
        messages.bind(bound)
        monkeypatch.setenv("NOTIFY_SOCKET", bound.replace("\0", "@"))
        systemd.notify("READY=1", "STATUS=well")
        assert messages.recv(100) == b"READY=1\nSTATUS=well"


def test_watchdog(monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent says twice in the watchdog's time that it is alive, if that is asked of it."""
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    assert systemd.watchdog_seconds() is None
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    assert systemd.watchdog_seconds() == 15
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid() + 1))
    assert systemd.watchdog_seconds() is None
