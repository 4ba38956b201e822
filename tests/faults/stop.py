"""Stopped and killed: a request that is frozen, or dies, at one of its system calls.

While it is frozen (SIGSTOP), another pod comes, a third one goes, and the pod's own DEL is asked
for. Then the request goes on, or is killed. Others may have had to wait, for it may have held the
node's lock; but in the end everybody has succeeded, and the DEL leaves nothing.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
from typing import Any, NamedTuple

from tests.faults.supervised import Call, Decision
from tests.faults.world import Broken, World, require_one_answer

REQUESTS = [("ADD", "bridge"), ("ADD", "portmap"), ("DEL", "bridge"), ("DEL", "portmap")]

_PATIENCE = 1.0  # seconds that others are given while a request is frozen
_AT_MOST = 60.0  # seconds in which everybody has ended afterwards


class Case(NamedTuple):
    """Where a request is frozen, and whether it is killed then."""

    verb: str
    plugin: str
    at: int
    killed: bool

    def __str__(self) -> str:
        return f"{self.verb}:{self.plugin}:{self.at}:{'killed' if self.killed else 'continued'}"


class Stop:
    """Trials in one world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._lengths: dict[tuple[str, str], int] = {}

    def choose(self, chance: random.Random) -> Case:
        """A case, whose request is measured if it comes for the first time."""
        request = chance.choice(REQUESTS)
        if request not in self._lengths:
            calls: list[str] = []
            self._try(Case(*request, 0, False), calls)
            self._lengths[request] = len(calls)
        return Case(*request, chance.randint(1, self._lengths[request]), chance.random() < 0.5)

    def parse(self, text: str) -> Case:
        """The case that prints as `text`."""
        verb, plugin, at, end = text.split(":")
        return Case(verb, plugin, int(at), end == "killed")

    def run(self, case: Case) -> str | None:
        """Returns `waited` if others had to wait, `passed` if not. Raises Broken."""
        return self._try(case, [])

    def _try(self, case: Case, calls: list[str]) -> str | None:
        world = self.world
        at_rest = world.snapshot()
        config = world.config(case.plugin)
        if case.verb == "DEL":
            world.attach("a")
        elif case.plugin == "portmap":
            config["prevResult"] = world.attach("a", 8001, "bridge")
        others: list[subprocess.Popen[str]] = []
        seen: list[str] = []
        decide = _decide(case, lambda: self._others(others, seen))
        outcome = world.supervised(case.verb, case.plugin, "a", config, decide)
        calls += outcome.calls
        for other in others:
            _require_end(other)
        # What was killed may be a program that the request had started.
        if not (case.killed and outcome.code == -signal.SIGKILL):
            succeeded = require_one_answer(outcome, case.verb, strict=False)
            if not (succeeded or case.killed):
                raise Broken(f"it fails: {outcome}")
        for pod in "ac":
            world.detach(pod)
        world.require_same(at_rest, "at the end", but="br0")
        return seen[0] if seen else None

    def _others(self, others: list[subprocess.Popen[str]], seen: list[str]) -> None:
        """What others ask for meanwhile: another pod's ADD, and a DEL of what is not there."""
        world = self.world
        for verb, pod in (("ADD", "c"), ("DEL", "d")):
            others.append(world.start(verb, "bridge", pod))
        try:
            for other in others:
                other.wait(_PATIENCE)
            seen.append("others passed")
        except subprocess.TimeoutExpired:
            seen.append("others waited")
        others.append(world.start("DEL", "portmap", "a"))


def _decide(case: Case, meanwhile: Any) -> Decision:
    def decide(call: Call) -> int:
        # Until it is answered, a call is not made, and its process is frozen as if by SIGSTOP.
        if call.position == case.at:
            os.kill(call.pid, signal.SIGSTOP)
            meanwhile()
            os.kill(call.pid, signal.SIGKILL if case.killed else signal.SIGCONT)
        return 0

    return decide


def _require_end(process: subprocess.Popen[str]) -> None:
    """Raise Broken unless a request ends well, in time."""
    try:
        stdout, stderr = process.communicate(timeout=_AT_MOST)
    except subprocess.TimeoutExpired:
        process.kill()
        raise Broken(f"{process.args!r} does not end") from None
    if process.returncode != 0:
        raise Broken(f"{process.args!r} fails: {stdout} {stderr}")
    if stdout:
        json.loads(stdout)
