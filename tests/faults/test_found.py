"""What the suites found, each by the one call that was answered wrongly."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.faults.supervised import Call, Decision
from tests.faults.world import World, require_one_answer
from tests.support.node import Node

_SIOCGIFINDEX = 0x8933

PYCNI = Path(sys.executable).with_name("pycni")


class Pods(NamedTuple):
    """A node where pods a and b are attached, and what there was before a came."""

    world: World
    before: set[str]

    def disturb(self, verb: str, plugin: str, decide: Decision) -> bool:
        """Run a request for pod a. Returns whether it succeeded."""
        config = self.world.config(plugin) | self.world.valid()
        outcome = self.world.supervised(verb, plugin, "a", config, decide)
        return require_one_answer(outcome, verb)

    def require_nothing_left(self) -> None:
        """Repeat pod a's DELs, after which there must be just what was before it came."""
        self.world.detach("a")
        self.world.require_same(self.before, "after the DELs")


@pytest.fixture
def pods(node: Node) -> Pods:
    world = World(node)
    before = world.snapshot()
    world.attach("a")
    return Pods(world, before)


def once(
    error: int,
    name: str,
    matches: Callable[[Call], bool],
    *,
    lasting: bool = False,
    but: int = 0,
) -> Decision:
    """Have the first call that has this name and matches fail, each one if `lasting`.

    `but` is how many are let through before.
    """
    seen: list[Call] = []

    def decide(call: Call) -> int:
        if call.name != name or not matches(call):
            return 0
        seen.append(call)
        return error if len(seen) == but + 1 or (lasting and len(seen) > but) else 0

    return decide


def opening(word: str, error: int = errno.EIO, *, lasting: bool = False) -> Decision:
    """Have the first attempt, or each, fail to open a file whose path has this word in it."""
    return once(error, "openat", lambda call: word in call.text(1), lasting=lasting)


def test_link_that_cannot_be_looked_up(pods: Pods) -> None:
    """A DEL that cannot look up the pair fails, and does not take it for gone."""
    looking_up = once(errno.EIO, "ioctl", lambda call: call.arguments[1] == _SIOCGIFINDEX)
    assert not pods.disturb("DEL", "bridge", looking_up)
    pods.require_nothing_left()


@pytest.mark.parametrize("verb", ["DEL", "GC"])
def test_lease_that_cannot_be_read(pods: Pods, verb: str) -> None:
    """A DEL or GC that cannot read a lease fails, and does not take it for another pod's."""
    assert not pods.disturb(verb, "host-local", opening("/networks/net/10.22.0.3"))
    pods.require_nothing_left()


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENOMEM])
def test_library_that_cannot_be_loaded(pods: Pods, error: int) -> None:
    """A DEL that cannot load libnftables for the moment fails, and leaves no rule in the end."""
    assert not pods.disturb("DEL", "bridge", opening("libnftables", error, lasting=True))
    pods.require_nothing_left()


def test_record_of_another_pod_that_cannot_be_read(pods: Pods, node: Node) -> None:
    """Rules are not made anew without those of a pod whose record cannot be read."""
    before = pods.world.snapshot()
    node.run("nft", "flush", "ruleset")
    assert not pods.disturb("DEL", "portmap", opening("/net/b/eth0/portmap.json"))
    node.run(PYCNI, "repair")
    pods.world.require_same(before, "after the repair")


def test_index_that_cannot_be_changed(pods: Pods) -> None:
    """A DEL that cannot change the index of leases succeeds, and the index is made anew."""
    unlinking = once(errno.EIO, "unlink", lambda call: "/pycni/leases/" in call.text(0))
    assert pods.disturb("DEL", "host-local", unlinking)
    pods.world.attach("c", 8003)
    pods.world.detach("c")
    pods.require_nothing_left()


def test_answer_that_cannot_be_written(pods: Pods) -> None:
    """An ADD whose result cannot be written is undone, and answered with that error."""
    pods.world.detach("a")
    writing = once(errno.ENOSPC, "write", lambda call: '"ips"' in call.text(1))
    outcome = pods.world.supervised("ADD", "bridge", "a", pods.world.config("bridge"), writing)
    assert pods.world.parse(outcome)["code"] == 5
    pods.world.require_same(pods.before, "after the ADD")


@pytest.mark.parametrize("but", [1, 2, 3])
def test_lease_that_is_not_finished(pods: Pods, but: int) -> None:
    """A lease of an ADD that could not remove its unfinished file any more is found by the DEL."""
    pods.world.detach("a")
    unlinking = once(
        errno.EIO, "unlink", lambda call: "unfinished" in call.text(0), lasting=True, but=but
    )
    pods.disturb("ADD", "host-local", unlinking)
    pods.world.require("DEL", "host-local", "a", pods.world.config("host-local"))
    pods.require_nothing_left()
