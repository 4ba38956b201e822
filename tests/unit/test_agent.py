from __future__ import annotations

import marshal
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cni import launcher
from cni.agent import caller, child, systemd

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A launcher's end and the agent's."""
    ends = socket.socketpair()
    yield ends
    for end in ends:
        end.close()


def message(request: bytes) -> bytes:
    return len(request).to_bytes(4, sys.byteorder) + request


def open_descriptors() -> set[int]:
    return {
        int(number)
        for number in os.listdir("/proc/self/fd")
        if os.path.exists(f"/proc/self/fd/{number}")
    }


# What a launcher sends


def test_request(pair: Pair) -> None:
    """What the launcher sends is what the agent receives, with descriptors of the same files."""
    places = [os.open(path, flags) for path, flags in launcher.PLACES]
    sent, streams = launcher._make_request("bridge")
    launcher._send_request(pair[0], sent, streams + places)
    request = child.receive(pair[1])
    assert request.plugin == "bridge"
    assert request.environ == os.environb
    assert request.arguments == sys.argv
    assert request.interpreter == sys.executable
    netns, mounts, root, directory = request.places
    assert os.path.samestat(os.fstat(netns), os.stat("/proc/self/ns/net"))
    assert os.path.samestat(os.fstat(mounts), os.stat("/proc/self/ns/mnt"))
    assert os.path.samestat(os.fstat(root), os.stat("/"))
    assert os.path.samestat(os.fstat(directory), os.stat("."))
    for descriptor in (*places, *request.places, *request.streams.values()):
        os.close(descriptor)


def test_request_in_pieces(pair: Pair) -> None:
    """A request may come byte by byte, the descriptors with the first of them."""
    whole = message(marshal.dumps(("bridge", [], "python", [], {})))
    socket.send_fds(pair[0], [whole[:1]], [0, 0, 0, 0])
    for at in range(1, len(whole)):
        pair[0].send(whole[at : at + 1])
    request = child.receive(pair[1])
    assert request.plugin == "bridge"
    for descriptor in request.places:
        os.close(descriptor)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        message(b"x" * 100)[:-1],
        message(marshal.dumps(("bridge", [], "python", [], {}))),
    ],
)
def test_broken_requests(pair: Pair, sent: bytes) -> None:
    """What is not whole, or without descriptors, is not taken."""
    pair[0].sendall(sent)
    pair[0].shutdown(socket.SHUT_WR)
    with pytest.raises(child.NotTaken):
        child.receive(pair[1])


@pytest.mark.parametrize(
    "identity", [b"", b"garbage", b"pycni 0 0 0 0\n", child.IDENTITY[:-1] + b"0\n"]
)
def test_strange_launchers(pair: Pair, identity: bytes) -> None:
    """Whoever is not of this installation gets no answer."""
    pair[0].sendall(identity)
    pair[0].shutdown(socket.SHUT_WR)
    with pytest.raises(child.NotTaken):
        child.identify(pair[1])


def test_invitation(pair: Pair) -> None:
    """A launcher of this installation is told whom to send its signals to."""
    pair[0].sendall(launcher.identify())
    child.identify(pair[1])
    child.invite(pair[1])
    process = launcher._receive_process(pair[0])
    with open(f"/proc/self/fdinfo/{process}") as file:
        assert f"Pid:\t{os.getpid()}\n" in file.read()
    os.close(process)


@pytest.mark.parametrize("answer", [b"", b"x", launcher.READY])
def test_no_invitation(pair: Pair, answer: bytes) -> None:
    """Any other answer, or one without a process, is none."""
    pair[1].sendall(answer)
    pair[1].shutdown(socket.SHUT_WR)
    with pytest.raises(OSError):  # noqa: PT011 - whichever
        launcher._receive_process(pair[0])


# Runs a launcher that calls at an address, of a plugin that says that it was run, and what is open.
_LAUNCHER = """
import os, sys, types
path, address = sys.argv[1:]
sys.path[:] = path.split(":")
from cni import launcher
launcher.SOCKET = address
plugin = sys.modules["cni_plugins.bridge.main"] = types.ModuleType("main")
descriptors = lambda: (fd for fd in range(100) if os.path.exists(f"/proc/self/fd/{fd}"))
plugin.main = lambda: print("run", *descriptors())
launcher.run("bridge")
"""


@pytest.mark.parametrize("number", [None, signal.SIGTERM])
def test_not_taken(tmp_path: Path, number: signal.Signals | None) -> None:
    """A launcher whose request is not taken after all runs it, or ends if it has been told to.

    Of the talk nothing is open then.
    """
    address = str(tmp_path / "agent.sock")
    with (
        socket.socket(socket.AF_UNIX) as listener,
        subprocess.Popen(["sleep", "60"]) as child_process,
    ):
        listener.bind(address)
        listener.listen()
        command = [sys.executable, "-I", "-S", "-c", _LAUNCHER, ":".join(sys.path), address]
        called = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        connection, _ = listener.accept()
        connection.recv(1 << 20)
        socket.send_fds(connection, [launcher.READY], [os.pidfd_open(child_process.pid)])
        connection.recv(1 << 20)
        if number:
            wait_until_caught(called.pid, number)
            called.send_signal(number)
            assert child_process.wait() == -number
        child_process.kill()
        connection.sendall(launcher.NOT_TAKEN.to_bytes(4, sys.byteorder))
        printed, _ = called.communicate()
    assert (called.returncode, printed) == ((-number, "") if number else (0, "run 0 1 2\n"))


def test_not_invited(tmp_path: Path) -> None:
    """Nor is after one that was not even asked for its request."""
    address = str(tmp_path / "agent.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        command = [sys.executable, "-I", "-S", "-c", _LAUNCHER, ":".join(sys.path), address]
        called = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        connection, _ = listener.accept()
        connection.close()
        printed, _ = called.communicate()
    assert (called.returncode, printed) == (0, "run 0 1 2\n")


def wait_until_caught(pid: int, number: int) -> None:
    """... by a handler of the process."""
    mask = 0
    while not mask >> number - 1 & 1:
        status = Path(f"/proc/{pid}/status").read_text()
        mask = int(status.partition("SigCgt:")[2].split()[0], 16)


def test_too_many_descriptors(pair: Pair) -> None:
    """More descriptors than a request has are not taken."""
    whole = message(marshal.dumps(("bridge", [0, 1, 2], "python", [], {})))
    socket.send_fds(pair[0], [whole], [0] * 100)
    before = open_descriptors()
    with pytest.raises(child.NotTaken, match="too many"):
        child.receive(pair[1])
    received = open_descriptors() - before
    assert len(received) == child._MOST_DESCRIPTORS
    for descriptor in received:  # a child's end does that
        os.close(descriptor)


def test_signals_of_the_c_library() -> None:
    """Of a mask of signals those count that a program can handle: not 32 and 33 of glibc's."""
    assert caller._numbers(1 << 0 | 1 << 31 | 1 << 32 | 1 << 63) == [1, 64]


def test_identity() -> None:
    """An installation says the same of itself each time, in as many bytes as any other."""
    assert launcher.identify() == child.IDENTITY
    assert child.IDENTITY.endswith(b"\n")
    assert len(child.IDENTITY) == len("pycni") + 4 * len(f" {0:016x}") + len("\n")


# systemd


def test_listener_of_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """What systemd opened for another process is not ours; children must not take it for theirs."""
    monkeypatch.setenv("LISTEN_PID", "1")
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
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert systemd.watchdog_seconds() is None
