"""Hostile directories: one that state is in belongs to somebody else, who has set traps in it.

The traps are links to a file beside the state, pipes, claims and records that are lies. Requests
may be refused, but each ends with one answer, DEL succeeds, and the file beside is as it was.
"""

from __future__ import annotations

import random
from typing import Any, NamedTuple

from tests.faults.fuzz_state import _CANARY, _IS_UNHARMED
from tests.faults.world import Broken, World, require_one_answer

DIRECTORIES = (
    "/run/cni",
    "/run/cni/pycni",
    "/run/cni/pycni/attachments",
    "/run/cni/pycni/attachments/net",
    "/run/cni/pycni/attachments/net/a",
    "/run/cni/pycni/attachments/net/a/eth0",
    "/run/cni/pycni/claims",
    "/run/cni/pycni/leases",
    "/var/lib/cni",
    "/var/lib/cni/networks",
    "/var/lib/cni/networks/net",
)

# By kind: how the directory $1 is somebody else's.
OWNERS = {
    "another owner": 'mkdir -p "$1"; chown 1000:1000 "$1"',
    "everybody's": 'mkdir -p "$1"; chmod 777 "$1"',
    "sticky": 'mkdir -p "$1"; chown 1000:1000 "$1"; chmod 1777 "$1"',
    "a link": """
        mkdir -p "${1%/*}" /run/evil
        chown 1000:1000 /run/evil
        rm -rf "$1"
        ln -s /run/evil "$1" """,
    "nobody may": 'mkdir -p "$1"; chmod 0 "$1"',
}

# By name: what is laid in the directory $1.
TRAPS = {
    "none": ":",
    "names that lead to a file": """
        for name in nftables iptables forwarding bridge portmap; do
            ln -s /run/canary "$1/$name.json"
            ln -s /run/canary "$1/$name.json.new"
        done
        for name in lock unfinished last_reserved_ip.0 10.22.0.2; do
            ln -s /run/canary "$1/$name"
        done""",
    "names that lead to a directory": """
        for name in pycni attachments claims leases net a eth0 networks; do
            [ -e "$1/$name" ] || ln -s /run/canary.d "$1/$name"
        done""",
    "pipes": """
        for name in nftables.json forwarding.json lock unfinished bridge.json last_reserved_ip.0; do
            mkfifo "$1/$name"
        done""",
    "lies": """
        ln -s ../attachments/net/z/eth0 "$1/hostport-ip-tcp-8001"
        echo '{"netns": "/run/netns/b", "identity": [1, 2], "owned": []}' >"$1/bridge.json"
        echo '{"subnets": {}, "localnet": ["lo", "../../x"]}' >"$1/nftables.json"
        printf 'z\\r\\neth0' >"$1/10.22.0.2"
        chown -R -h 1000:1000 "$1" """,
}


class Case(NamedTuple):
    """A directory, whose it is, and what is in it."""

    directory: str
    owner: str
    trap: str

    def __str__(self) -> str:
        return "|".join(self)


class Owners:
    """Trials in one world."""

    def __init__(self, world: World) -> None:
        self.world = world
        world.node.run("sh", "-ec", _CANARY)

    def choose(self, chance: random.Random) -> Case:
        """Any of it."""
        owner, trap = chance.choice(list(OWNERS)), chance.choice(list(TRAPS))
        return Case(chance.choice(DIRECTORIES), owner, trap)

    def parse(self, text: str) -> Case:
        """The case that prints as `text`."""
        return Case(*text.split("|"))

    def run(self, case: Case) -> str:
        """Returns `refused` if an ADD was, or `taken`. Raises Broken."""
        world, node = self.world, self.world.node
        world.reset()
        node.run("sh", "-c", "rm -rf /run/evil")
        unharmed = node.run("sh", "-c", _IS_UNHARMED).stdout
        for script in (OWNERS[case.owner], TRAPS[case.trap]):
            node.run("sh", "-c", script, "sh", case.directory, check=False)
        refused, result = False, dict[str, Any]()
        for plugin in ("bridge", "portmap"):
            outcome = world.request("ADD", plugin, "a", world.config(plugin) | result)
            refused = refused or not require_one_answer(outcome, "ADD")
            result = {} if refused else {"prevResult": world.parse(outcome)}
            if refused:
                break
        for verb in ("STATUS", "DEL", "GC"):
            for plugin in ("portmap", "bridge"):
                config = world.config(plugin) | world.valid()
                outcome = world.request(verb, plugin, "a", config)
                if not require_one_answer(outcome, verb) and verb != "STATUS":
                    raise Broken(f"{verb} of {plugin} fails: {outcome}")
        if node.run("sh", "-c", _IS_UNHARMED).stdout != unharmed:
            raise Broken("what is beside the state was touched")
        return "refused" if refused else "taken"
