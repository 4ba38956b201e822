"""pycni-agent: run the plugins' requests for their launchers, without an interpreter's start-up.

Started by systemd (conf/pycni-agent.socket) or by hand. SIGTERM, SIGINT and SIGHUP end it when the
requests that run have ended; what comes meanwhile is turned away, and run by the launchers.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import socket
import struct
import sys
import time
from contextlib import suppress
from typing import NamedTuple, NoReturn

from cni import launcher
from cni.agent import child, systemd, warmth

# Much of a request's time is spent waiting for the kernel.
_CHILDREN_PER_CPU = 4

# Launchers that wait for a free child; with more, the kernel lets none connect.
_BACKLOG = 128

# For so long nothing may change in an upgraded installation before it is run.
_SETTLING_SECONDS = 2.0


class Run(NamedTuple):
    """A request that runs, from its launcher's connection to its child's end."""

    connection: socket.socket
    pid: int
    pidfd: int


class Server:
    """Accepts launchers and forks for them; `limit` is how many children may run at once."""

    def __init__(self, listener: socket.socket, limit: int) -> None:
        self.is_outdated = False
        self._is_ending = False
        self._listener = listener
        self._limit = limit
        self._runs: dict[int, Run] = {}  # by connection, and by pidfd
        self._answered = 0
        self._stamp = warmth.stamp()
        self._last_change = 0.0
        self._events = select.epoll()
        self._events.register(listener, select.EPOLLIN)
        # poll() goes on after a signal, unless there is something to read, too.
        self._wake, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._events.register(self._wake, select.EPOLLIN)
        signal.set_wakeup_fd(wake)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._end)

    def serve(self) -> None:
        """Serve until a signal says to end, or the installation has been upgraded."""
        systemd.notify("READY=1")
        period = systemd.watchdog_seconds()
        while not self._is_over():
            waiting = _SETTLING_SECONDS if self.is_outdated else period
            # One at a time: what it does may give the next one's descriptor another meaning.
            for descriptor, _ in self._events.poll(waiting, 1):
                self._handle(descriptor)
            systemd.notify("WATCHDOG=1", f"STATUS={self._answered} requests taken")

    def _end(self, *_: object) -> None:
        self._is_ending = True

    def _is_over(self) -> bool:
        """Whether it is to end, and nothing runs any more."""
        if self._runs or not (self._is_ending or self.is_outdated):
            return False
        return self._is_ending or self._has_settled()

    def _has_settled(self) -> bool:
        """Whether an upgrade is complete, as far as that can be seen."""
        now = warmth.stamp()
        if now != self._stamp:
            self._stamp, self._last_change = now, time.monotonic()
        is_quiet = time.monotonic() - self._last_change > _SETTLING_SECONDS
        return is_quiet and os.path.exists(__file__) and os.path.exists(launcher.__file__)

    def _handle(self, descriptor: int) -> None:
        if descriptor == self._listener.fileno():
            self._accept()
        elif descriptor == self._wake:
            os.read(self._wake, 1024)
        elif descriptor in self._runs:
            run = self._runs[descriptor]
            if descriptor == run.pidfd:
                self._bury(run)
            else:
                self._kill(run)

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        pid, uid, _ = struct.unpack(
            "3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        )
        if not self._is_ending and warmth.stamp() != self._stamp:
            self.is_outdated = True
        if uid != 0 or self._is_ending or self.is_outdated:
            connection.close()
            return
        try:
            self._start(connection, pid)
        except OSError as error:
            sys.stderr.write(f"pycni-agent: no child can be started: {error}\n")
            connection.close()

    def _start(self, connection: socket.socket, caller: int) -> None:
        pid = os.fork()
        if pid == 0:
            try:
                child.run(connection, caller)
            finally:  # come what may, it must not go on as the server
                os._exit(1)
        run = Run(connection, pid, os.pidfd_open(pid))
        self._answered += 1
        self._runs[connection.fileno()] = self._runs[run.pidfd] = run
        self._events.register(connection, select.EPOLLRDHUP | select.EPOLLONESHOT)
        self._events.register(run.pidfd, select.EPOLLIN)
        if self._is_full():
            self._events.unregister(self._listener)

    def _is_full(self) -> bool:
        return len(self._runs) == 2 * self._limit

    def _kill(self, run: Run) -> None:
        """Its launcher is gone. When that ended as its child did, there is nobody left to kill."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(run.pidfd, signal.SIGKILL)

    def _bury(self, run: Run) -> None:
        """Its child has ended. One that was killed could not tell the launcher so."""
        if self._is_full():
            self._events.register(self._listener, select.EPOLLIN)
        _, status = os.waitpid(run.pid, 0)
        if os.WIFSIGNALED(status):
            with suppress(OSError):
                run.connection.send(status.to_bytes(4, sys.byteorder), socket.MSG_DONTWAIT)
        # A later child may still hold copies: by closing them here, epoll would not forget them.
        for descriptor in (run.connection.fileno(), run.pidfd):
            self._events.unregister(descriptor)
            del self._runs[descriptor]
        run.connection.close()
        os.close(run.pidfd)


def main() -> NoReturn:
    """Run as an executable."""
    parser = argparse.ArgumentParser(prog="pycni-agent", description=__doc__)
    limit = _CHILDREN_PER_CPU * (os.cpu_count() or 1)
    parser.add_argument("--children", type=int, default=limit, help="requests run at once")
    limit = max(1, parser.parse_args().children)
    if os.geteuid() != 0:
        sys.exit("pycni-agent: only root can do what plugins do")
    _open_standard_streams()
    os.chdir("/")
    listener = systemd.take_listener()
    is_by_hand = listener is None
    warmth.import_all()
    server = Server(listener or _listen(launcher.SOCKET), limit)
    server.serve()
    systemd.notify("STOPPING=1")
    if is_by_hand:
        os.unlink(launcher.SOCKET)
        if server.is_outdated:
            os.execv(sys.executable, sys.orig_argv)  # noqa: S606 - itself
    sys.exit(0)  # after an upgrade, systemd starts the new one for the next launcher


def _open_standard_streams() -> None:
    """Descriptors of the agent's must not have their numbers."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def _listen(path: str) -> socket.socket:
    """Listen in the place of an agent that was killed; one that answers stays."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    with socket.socket(socket.AF_UNIX) as other:
        if other.connect_ex(path) == 0:
            sys.exit(f"pycni-agent: another one listens on {path}")
    with suppress(FileNotFoundError):
        os.unlink(path)
    umask = os.umask(0o177)
    listener.bind(path)
    os.umask(umask)
    listener.listen(_BACKLOG)
    return listener


if __name__ == "__main__":
    main()
