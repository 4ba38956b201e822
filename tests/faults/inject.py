"""Error injection: a system call of a request fails.

One call of one request is not made and fails with one of ERRORS; in half of the cases so does each
later one of the same name. A failed ADD leaves nothing, by itself if one call failed, after its DEL
if many did; a DEL or GC that fails succeeds when it is repeated, and leaves nothing; a request that
succeeds is whole. Whatever happens, another pod keeps what it has.
"""

from __future__ import annotations

import errno
import json
import random
from collections.abc import Sequence
from typing import NamedTuple

from tests.faults.supervised import Call
from tests.faults.world import World, require_one_answer

ERRORS = ("ENOSPC", "EIO", "ENOMEM", "EMFILE", "EINTR")

REQUESTS = [
    ("ADD", "bridge"),
    ("ADD", "portmap"),
    ("ADD", "host-local"),
    ("ADD", "loopback"),
    ("DEL", "bridge"),
    ("DEL", "portmap"),
    ("DEL", "host-local"),
    ("GC", "bridge"),
    ("GC", "portmap"),
    ("GC", "host-local"),
]


# What a failed ADD may leave for other pods, until the last one goes: a guarded interface, and what
# its parameter was before; a directory that is locked and empty, of which a DEL makes nothing.
_FOR_ALL_PODS = '.*localnet.*|"br0".*|.*/pycni/parameters.*|.*/attachments/net/a(/eth0)? d'


# A bridge stays; an index of leases that could not be changed is made anew by who changes it next.
_AT_THE_END = "br0|/run/cni/pycni/leases/.*"


class Case(NamedTuple):
    """What is injected: into the how manyth call of a name, and if `lasting` into later ones."""

    verb: str
    plugin: str
    error: str
    call: str
    number: int
    lasting: bool

    def __str__(self) -> str:
        which = f"{self.call}#{self.number}{'+' if self.lasting else ''}"
        return f"{self.verb}:{self.plugin}:{self.error}:{which}"


class Injection:
    """Trials in one world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._calls: dict[tuple[str, str], list[str]] = {}

    def choose(self, chance: random.Random) -> Case:
        """A case, whose request is made undisturbed once to learn its calls."""
        request = chance.choice(REQUESTS)
        if request not in self._calls:
            self._calls[request] = self._try(Case(*request, "EIO", "", 0, False))[0]
        calls = self._calls[request]
        at = chance.randrange(len(calls))
        error = chance.choice(ERRORS)
        # For ever interrupted is not what happens: who is interrupted tries again.
        lasting = error != "EINTR" and chance.random() < 0.5
        return Case(*request, error, calls[at], calls[: at + 1].count(calls[at]), lasting)

    def parse(self, text: str) -> Case:
        """The case that prints as `text`."""
        verb, plugin, error, which = text.split(":")
        call, _, number = which.rstrip("+").partition("#")
        return Case(verb, plugin, error, call, int(number), which.endswith("+"))

    def run(self, case: Case) -> str | None:
        """Returns the name of the call that was hit, None if there was none. Raises Broken."""
        return case.call if self._try(case)[1] else None

    def _try(self, case: Case) -> tuple[list[str], int]:
        """Returns the request's calls, and how many of them were hit."""
        world, config = self.world, self.world.config(case.plugin)
        if world.alone:  # the bridge is made anew
            world.node.run("ip", "link", "delete", "br0", check=False)
        at_rest = world.snapshot()
        chain = ("host-local",) if case.plugin == "host-local" else ("bridge", "portmap")
        if case.verb != "ADD":
            world.attach("a", 8001, *chain)
        elif case.plugin == "portmap":
            config["prevResult"] = world.attach("a", 8001, "bridge")
        if case.verb == "GC":
            config |= world.valid()
        ready = world.snapshot() if case.verb == "ADD" else set()
        injector = _Injector(case)
        outcome = world.supervised(case.verb, case.plugin, "a", config, injector.decide)
        can_answer = case.call != "write" or not case.lasting
        if can_answer and require_one_answer(outcome, case.verb, strict=False):
            if case.verb == "ADD" and case.plugin in chain:
                result = {"prevResult": json.loads(outcome.stdout)}
                world.require("CHECK", case.plugin, "a", config | result)
        elif case.verb != "ADD":
            world.require(case.verb, case.plugin, "a", config)
        elif not case.lasting:
            world.require_same(ready, "after the failed ADD", but=_FOR_ALL_PODS)
        self._clean_up(case, chain)
        world.require_same(at_rest, "at the end", but=_AT_THE_END)
        return outcome.calls, injector.hits

    def _clean_up(self, case: Case, chain: Sequence[str]) -> None:
        """The DELs; behind a GC, the other plugins' GCs, for a GC does all that a DEL would do."""
        verb = "GC" if case.verb == "GC" else "DEL"
        for plugin in reversed(chain):
            if plugin != case.plugin or verb == "DEL":
                self.world.require(
                    verb, plugin, "a", self.world.config(plugin) | self.world.valid()
                )


class _Injector:
    """Fails the calls of a case."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._error = int(getattr(errno, case.error))
        self._seen = 0
        self.hits = 0

    def decide(self, call: Call) -> int:
        """The errno for a call, 0 to have it made."""
        if call.name != self._case.call:
            return 0
        self._seen += 1
        is_due = self._seen == self._case.number
        if not (is_due or (self._case.lasting and self.hits)):
            return 0
        self.hits += 1
        return self._error
