"""pycni-agent: run the plugins' requests for their launchers, without an interpreter's start-up.

Children that wait accept the launchers themselves, so that a request need not wait for a fork. This
process sees to it that there are some, and to how they end.

Started by systemd (conf/pycni-agent.socket) or by hand. SIGTERM, SIGINT and SIGHUP end it when the
requests that run have ended; what comes meanwhile is turned away, and run by the launchers.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import socket
import sys
import time
from contextlib import suppress
from typing import NoReturn

from pycni import launcher
from pycni.agent import caller, calls, systemd, warmth
from pycni.agent.child import OUTDATED, wait_and_run

# Much of a request's time is spent waiting for the kernel.
_CHILDREN_PER_CPU = 4

# A pod needs as many at a time, or one after the other: loopback, bridge, portmap, and another one.
_STANDBYS = 4

# When nobody has called for so long, children are made in place of those that run requests, which
# want the CPU themselves; or when fewer are left than a pod needs at a time.
_QUIET_SECONDS = 0.05
_FEWEST_STANDBYS = 2

# Launchers that wait for a free child; with more, the kernel lets none connect.
_BACKLOG = 128

# For so long nothing may change in an upgraded installation before it is run.
_SETTLING_SECONDS = 2.0

# Until another try after a child could not be made, or ended while it waited.
_RETRY_SECONDS = 1.0


class Child:
    """A process that waits for a launcher, or has one and runs its request."""

    def __init__(self, pid: int, control: socket.socket) -> None:
        self.pid = pid
        self.pidfd = os.pidfd_open(pid)
        self.control = control  # closing it ends a child that waits
        self.answer: int | None = None  # a descriptor, for the launcher


class Server:
    """Has children wait for launchers; `limit` is how many requests may run at once.

    `changes` can be read when the installation has changed, see `warmth.watch`.
    """

    def __init__(self, listener: socket.socket, limit: int, changes: int) -> None:
        self.is_outdated = False
        self._is_ending = False
        self._listener = listener
        self._listener.setblocking(False)
        self._limit = limit
        self._children: list[Child] = []
        self._watched: dict[int, Child] = {}  # by each of their descriptors
        self._last_call = self._last_failure = 0.0
        self._answered = 0
        self._changes = changes
        self._last_change = 0.0
        self._events = select.epoll()
        self._events.register(changes, select.EPOLLIN)
        # poll() goes on after a signal, unless there is something to read, too.
        self._wake, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._events.register(self._wake, select.EPOLLIN)
        signal.set_wakeup_fd(wake)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._end)

    def serve(self) -> None:
        """Serve until a signal says to end, or the installation has been upgraded."""
        self._replenish()
        systemd.notify("READY=1")
        while not (self._is_ending or self.is_outdated):
            self._handle_next(self._seconds_until_start())
            self._replenish()
        self._take_no_more()
        while self._children or not (self._is_ending or self._has_settled()):
            self._handle_next(_SETTLING_SECONDS / 2)

    def _end(self, *_: object) -> None:
        self._is_ending = True

    def _replenish(self) -> None:
        """Have as many children wait as may, or should."""
        while self._seconds_until_start() == 0:
            try:
                self._start()
            except OSError as error:
                self._fail(f"no child can be started: {error}")

    def _seconds_until_start(self) -> float | None:
        """When to make another child; None if there are enough."""
        running = sum(child.answer is not None for child in self._children)
        waiting = len(self._children) - running
        if waiting >= min(_STANDBYS, self._limit - running):
            return None
        due = self._last_failure + _RETRY_SECONDS
        if waiting >= _FEWEST_STANDBYS:
            due = max(due, self._last_call + _QUIET_SECONDS)
        return max(0, due - time.monotonic())

    def _fail(self, reason: str) -> None:
        sys.stderr.write(f"pycni-agent: {reason}\n")
        self._last_failure = time.monotonic()

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            try:
                wait_and_run(self._listener, theirs)
            except BaseException as error:  # noqa: BLE001 - the end of the process
                sys.excepthook(type(error), error, error.__traceback__)
            finally:  # come what may, it must not go on as the server
                os._exit(1)
        theirs.close()
        self._children.append(Child(pid, ours))
        self._watch(self._children[-1].pidfd, self._children[-1])
        self._watch(ours.fileno(), self._children[-1])

    def _watch(self, descriptor: int, child: Child) -> None:
        self._watched[descriptor] = child
        self._events.register(descriptor, select.EPOLLIN)

    def _take_no_more(self) -> None:
        """End the children that wait, unless they have taken a request by now."""
        for child in self._children:
            if child.control.fileno() in self._watched:
                child.control.shutdown(socket.SHUT_WR)
        self._events.register(self._listener, select.EPOLLIN)

    def _has_settled(self) -> bool:
        """Whether an upgrade is complete, as far as that can be seen."""
        is_quiet = time.monotonic() - self._last_change > _SETTLING_SECONDS
        return is_quiet and os.path.exists(__file__) and os.path.exists(launcher.__file__)

    def _handle_next(self, at_most: float | None) -> None:
        """Wait for something to do, for so many seconds if not None; and do it."""
        limits = (at_most, systemd.watchdog_seconds())
        patience = min((seconds for seconds in limits if seconds is not None), default=None)
        # One at a time: what it does may give the next one's descriptor another meaning.
        for descriptor, _ in self._events.poll(patience, 1):
            self._handle(descriptor)
        systemd.notify("WATCHDOG=1", f"STATUS={self._answered} requests taken")

    def _handle(self, descriptor: int) -> None:
        if descriptor == self._wake:
            os.read(self._wake, 1024)
        elif descriptor == self._changes:
            os.read(self._changes, 1 << 16)
            self.is_outdated, self._last_change = True, time.monotonic()
        elif descriptor == self._listener.fileno():
            self._turn_away()
        elif descriptor in self._watched:
            child = self._watched[descriptor]
            if descriptor == child.pidfd:
                self._bury(child)
            else:
                self._receive(child)

    def _turn_away(self) -> None:
        with suppress(BlockingIOError):
            connection, _ = self._listener.accept()
            connection.close()

    def _receive(self, child: Child) -> None:
        """A child has a launcher, or has ended without."""
        self._forget(child.control.fileno())
        with child.control:
            _, descriptors, _, _ = socket.recv_fds(child.control, 1, 1)
        if descriptors:
            (child.answer,) = descriptors
            self._last_call = time.monotonic()
            self._answered += 1

    def _bury(self, child: Child) -> None:
        """Its child has ended. One that was killed could not tell the launcher so."""
        if child.control.fileno() in self._watched:
            self._receive(child)
        calls.remove(child.pid)  # before the pid can be another process's
        _, status = os.waitpid(child.pid, 0)
        if child.answer is not None:
            if os.WIFSIGNALED(status):
                with suppress(OSError):  # nobody is there any more
                    calls.say(child.answer, "ended", status)
            os.close(child.answer)
        elif status != 0 and not (self._is_ending or self.is_outdated):
            self._fail(f"a child that waited has ended with status {status}")
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) == OUTDATED:
            self.is_outdated, self._last_change = True, time.monotonic()
        self._forget(child.pidfd)
        os.close(child.pidfd)
        self._children.remove(child)

    def _forget(self, descriptor: int) -> None:
        """A later child may still hold a copy: by closing this one, epoll would not forget it."""
        self._events.unregister(descriptor)
        del self._watched[descriptor]


def main() -> NoReturn:
    """Run as an executable."""
    parser = argparse.ArgumentParser(prog="pycni-agent", description=__doc__)
    limit = _CHILDREN_PER_CPU * (os.cpu_count() or 1)
    parser.add_argument("--children", type=int, default=limit, help="requests run at once")
    limit = max(1, parser.parse_args().children)
    if os.geteuid() != 0:
        sys.exit("pycni-agent: only root can do what plugins do")
    _open_standard_streams()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # whoever started it may ignore it
    directory = os.getcwd()
    os.chdir("/")
    try:
        caller.require_descriptors()
    except OSError as error:
        sys.exit(f"pycni-agent: descriptors cannot be taken over (since Linux 5.6): {error}")
    listener = systemd.take_listener()
    is_by_hand = listener is None
    try:
        changes = warmth.watch()  # before it is loaded, lest a change meanwhile go unnoticed
    except OSError as error:
        sys.exit(f"pycni-agent: the installation cannot be watched (inotify): {error}")
    warmth.load_all()
    listener = listener or _listen(launcher.SOCKET)
    calls.clear()
    server = Server(listener, limit, changes)
    server.serve()
    calls.clear()
    systemd.notify("STOPPING=1")
    if is_by_hand:
        os.unlink(launcher.SOCKET)
        if server.is_outdated:
            os.chdir(directory)
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
