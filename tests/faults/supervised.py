"""Run a program and decide over each of its system calls: let it be made, fail it, or do something
else first while the program waits in it.

A seccomp filter (SECCOMP_RET_USER_NOTIF, Linux 5.9 and later, here for x86-64) has the kernel ask
us before each call, children and executed programs included. So a call can fail that is never made,
and a program can be held or killed at exactly that point. It costs some 20 µs a call.

Source: seccomp(2), seccomp_unotify(2), linux/seccomp.h, linux/filter.h.
"""

from __future__ import annotations

import array
import ctypes
import fcntl
import os
import select
import signal
import socket
import struct
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from tests.faults.numbers import NAMES, READ, SECCOMP, SENDMSG, UNINTERESTING

_LISTEN = 8  # SECCOMP_FILTER_FLAG_NEW_LISTENER
_RECEIVE, _SEND = 0xC0502100, 0xC0182101  # SECCOMP_IOCTL_NOTIF_RECV, SECCOMP_IOCTL_NOTIF_SEND
_CONTINUE = 1  # SECCOMP_USER_NOTIF_FLAG_CONTINUE
_REQUEST, _RESPONSE = "QIIiIQ6Q", "QqiI"  # struct seccomp_notif, struct seccomp_notif_resp
_ALLOW, _ASK = 0x7FFF0000, 0x7FC00000  # SECCOMP_RET_ALLOW, SECCOMP_RET_USER_NOTIF
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K
_NUMBER, _FIRST_ARGUMENT = 0, 16  # offsets in struct seccomp_data
_libc = ctypes.CDLL(None, use_errno=True)


class Call(NamedTuple):
    """A system call that is about to be made: `position` counts those of the request from 1 on."""

    position: int
    name: str
    pid: int
    arguments: tuple[int, ...]

    def text(self, number: int) -> str:
        """The string that an argument points to, such as a path."""
        with open(f"/proc/{self.pid}/mem", "rb", buffering=0) as memory:
            memory.seek(self.arguments[number])
            return memory.read(4096).partition(b"\0")[0].decode(errors="replace")


class Outcome(NamedTuple):
    """How a program ended; `code` is negative if by a signal, None if it had to be killed."""

    code: int | None
    stdout: str
    stderr: str
    calls: list[str]


# What to do about a call: the errno that it fails with, or 0 to have it made.
Decision = Callable[[Call], int]


def run(
    argv: Sequence[str],
    environ: Mapping[str, str],
    stdin: bytes,
    decide: Decision,
    *,
    seconds: float = 60,
) -> Outcome:
    """Run a program, asking `decide` about each call from the one on that reads its input."""
    with (
        tempfile.TemporaryFile() as given,
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
    ):
        given.write(stdin)
        given.seek(0)
        pid, listener = _start(argv, environ, (given.fileno(), out.fileno(), err.fileno()))
        try:
            calls = _supervise(listener, decide, time.monotonic() + seconds)
        finally:
            os.close(listener)
        code = _reap(pid)
        streams = [_text(out.fileno()), _text(err.fileno())]
    return Outcome(code, streams[0], streams[1], calls)


def _text(descriptor: int) -> str:
    return os.pread(descriptor, 1 << 20, 0).decode(errors="replace")


def _start(
    argv: Sequence[str], environ: Mapping[str, str], streams: tuple[int, int, int]
) -> tuple[int, int]:
    """Returns the pid, and the descriptor at which the kernel asks."""
    ours, childs = socket.socketpair()
    with ours, childs:
        pid = os.fork()
        if pid == 0:
            try:
                for number, descriptor in enumerate(streams):
                    os.dup2(descriptor, number)
                os.setpgid(0, 0)
                filtered = _install_filter(childs.fileno())
                descriptors = array.array("i", [filtered])
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)]
                childs.sendmsg([b"x"], rights)
                os.execvpe(argv[0], list(argv), environ)
            finally:
                os._exit(127)
        childs.close()
        _, ancillary, *_ = ours.recvmsg(1, socket.CMSG_SPACE(4))
    if not ancillary:
        _reap(pid)
        raise OSError("the kernel does not let system calls be supervised (seccomp_unotify(2))")
    return pid, array.array("i", ancillary[0][2])[0]


def _install_filter(channel: int) -> int:
    """Returns the listener. It is sent over `channel`, about which so nobody may be asked."""
    allowed = sorted(UNINTERESTING)
    rules = [(_LOAD, 0, 0, _NUMBER)]
    for left, number in zip(range(len(allowed), 0, -1), allowed, strict=True):
        rules.append((_JUMP_IF_EQUAL, left + 2, 0, number))
    rules += [
        (_JUMP_IF_EQUAL, 0, 3, SENDMSG),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_JUMP_IF_EQUAL, 0, 1, channel),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _ASK),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *rule) for rule in rules))
    program = struct.pack("HxxxxxxP", len(rules), ctypes.addressof(code))
    buffer = ctypes.create_string_buffer(program)
    listener = int(_libc.syscall(SECCOMP, 1, _LISTEN, buffer))
    if listener < 0:
        raise OSError(ctypes.get_errno(), "seccomp")
    return listener


def _supervise(listener: int, decide: Decision, deadline: float) -> list[str]:
    """Answer the kernel until nobody is left who makes calls. Returns the calls' names."""
    poll = select.poll()
    poll.register(listener)
    calls: list[str] = []
    while (left := deadline - time.monotonic()) > 0:
        for _, event in poll.poll(left * 1000):
            if not event & select.POLLIN:
                return calls
            request = bytearray(struct.calcsize(_REQUEST))
            try:
                fcntl.ioctl(listener, _RECEIVE, request)
            except OSError:  # its process has been killed
                continue
            identity, pid, _, number, _, _, *arguments = struct.unpack(_REQUEST, request)
            error = 0
            if calls or (number == READ and arguments[0] == 0):
                calls.append(NAMES.get(number, str(number)))
                error = decide(Call(len(calls), calls[-1], pid, tuple(arguments)))
            answer = (identity, 0, -error, 0 if error else _CONTINUE)
            try:
                fcntl.ioctl(listener, _SEND, bytearray(struct.pack(_RESPONSE, *answer)))
            except OSError:
                continue
    return calls


def _reap(pid: int) -> int | None:
    """The exit code; a program that has not ended by now is killed, with all of its group."""
    ended, status = os.waitpid(pid, os.WNOHANG)
    for _ in range(200):
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
        ended, status = os.waitpid(pid, os.WNOHANG)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None
