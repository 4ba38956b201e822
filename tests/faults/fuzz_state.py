"""Fuzz of state: one file, link or directory of it is damaged, and requests go on.

Whatever it is, requests end with one answer, DEL and GC succeed, `pycni repair` and `pycni list`
end without a traceback, and nothing beside the state is touched. Another pod keeps what it has,
unless that was damaged. When all pods are gone nothing is left but what was damaged itself.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import NamedTuple

from tests.faults.world import Broken, World, require_one_answer

PYCNI = Path(sys.executable).with_name("pycni")

# By kind: what is done to the path $1. /run/canary is beside the state.
DAMAGE = {
    "empty": ': >"$1"',
    "half": 'half=$(head -c $(($(stat -c %s "$1") / 2)) "$1"); printf %s "$half" >"$1"',
    "garbage": 'printf "\\377\\000\\001garbage\\n{[" >"$1"',
    "null": 'echo null >"$1"',
    "list": "echo '[]' >\"$1\"",
    "number": 'echo 1e999 >"$1"',
    "types": 'sed -i -E \'s/"[^"]*"(, |])/7\\1/g; s/true|[0-9]+([],])/{}\\1/g\' "$1"',
    "keys": 'sed -i -E \'s/"([a-z]+)":/"x\\1":/\' "$1"',
    "deep": 'head -c 100000 /dev/zero | tr "\\0" "[" >"$1"',
    "huge": 'head -c 8388608 /dev/zero | tr "\\0" a >"$1"',
    "fifo": 'rm -r "$1"; mkfifo "$1"',
    "socket": 'rm -r "$1"; cp -a /run/canary.d/socket "$1"',
    "endless device": 'rm -r "$1"; mknod "$1" c 1 5',
    "full device": 'rm -r "$1"; mknod "$1" c 1 7',
    "file": 'rm -r "$1"; echo file >"$1"',
    "directory": 'rm -r "$1"; mkdir "$1"; echo inside >"$1/file"; mkdir "$1/10.22.0.9"',
    "link to a file": 'rm -r "$1"; ln -s /run/canary "$1"',
    "link to a directory": 'rm -r "$1"; ln -s /run/canary.d "$1"',
    "link to nowhere": 'rm -r "$1"; ln -s /nowhere "$1"',
    "link to itself": 'rm -r "$1"; ln -s "$1" "$1"',
    "link to b": 'rm -r "$1"; ln -s ../attachments/net/b/eth0 "$1"',
    "link of one part": 'rm -r "$1"; ln -s x "$1"',
    "long link": 'rm -r "$1"; ln -s "$(head -c 4000 /dev/zero | tr "\\0" "/")" "$1"',
    "mode 0": 'chmod 0 "$1"',
    "another owner": 'chown -h 1000:1000 "$1"',
    "gone": 'rm -r "$1"',
}
# These write into what is there, which makes no sense of a link or a directory.
_OF_FILES = {"empty", "half", "garbage", "null", "list", "number", "types", "keys", "deep", "huge"}

ACTIONS = ("CHECK a", "ADD c", "STATUS", "GC", "repair", "list")

_CANARY = """
mkdir -p /run/canary.d
echo canary >/run/canary
echo canary >/run/canary.d/file
bind='import socket; socket.socket(1).bind("/run/canary.d/socket")'
[ -S /run/canary.d/socket ] || python3 -c "$bind"
chmod 700 /run/canary.d
"""
_IS_UNHARMED = """
find /run/canary /run/canary.d -printf '%p %M %u\\n' | sort
cat /run/canary /run/canary.d/file
"""


class Case(NamedTuple):
    """What is damaged, and what is asked for before all pods are removed."""

    path: str
    damage: str
    actions: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.path}|{self.damage}|{','.join(self.actions)}"


class FuzzState:
    """Trials in one world."""

    def __init__(self, world: World) -> None:
        self.world = world
        world.node.run("sh", "-ec", _CANARY)

    def choose(self, chance: random.Random) -> Case:
        """Any file of the state of pods a and b, with names that are the same each time."""
        self._begin()
        script = "find /run/cni /var/lib/cni -mindepth 1 -printf '%y %p\\n' | sort"
        found = self.world.node.run("sh", "-c", script).stdout.splitlines()
        kind, _, path = chance.choice(found).partition(" ")
        damage = chance.choice([name for name in DAMAGE if kind == "f" or name not in _OF_FILES])
        actions = chance.sample(ACTIONS, chance.randint(0, 3))
        return Case(self._name(path), damage, tuple(actions))

    def parse(self, text: str) -> Case:
        """The case that prints as `text`."""
        path, damage, actions = text.split("|")
        return Case(path, damage, tuple(actions.split(",")) if actions else ())

    def run(self, case: Case) -> str:
        """Returns what was left. Raises Broken."""
        self._begin()
        world, node = self.world, self.world.node
        before = world.snapshot()
        unharmed = node.run("sh", "-c", _IS_UNHARMED).stdout
        path = self._path(case.path)
        node.run("sh", "-c", DAMAGE[case.damage], "sh", path)
        for action in case.actions:
            self._act(action)
        for pod in "ca":
            self._delete(pod)
        if "/a/" in path or "10.22.0.3" in path:  # nothing of b's was damaged
            lost = {line for line in before - world.snapshot() if line.startswith("b has")}
            if lost:
                raise Broken(f"b lost {sorted(lost)}")
        self._delete("b")
        if node.run("sh", "-c", _IS_UNHARMED).stdout != unharmed:
            raise Broken("what is beside the state was touched")
        return self._require_nothing_left(path)

    def _require_nothing_left(self, path: str) -> str:
        """Nothing is left but what was damaged, at the latest after a repair and a GC.

        If the whole state directory became something else, rules may stay: nothing tells of them.
        """
        if not self._left(path):
            return "nothing left"
        self._act("repair")
        for plugin in ("portmap", "bridge"):
            config = self.world.config(plugin) | {"cni.dev/valid-attachments": []}
            require_one_answer(self.world.request("GC", plugin, "a", config), "GC")
        left = self._left(path)
        if left and path != _STATE:
            raise Broken(f"left: {sorted(left)}")
        return "nothing left after repair and GC" if not left else "rules left"

    def _left(self, path: str) -> set[str]:
        ignored = ["b has lo", "a has lo", "c has lo"]
        if path.startswith("/var/lib/cni"):  # of leases that are gone, the index may be left
            ignored.append("/run/cni/pycni/leases")
        left = self.world.snapshot() - _AT_REST
        # It may be left, and so the directories that it is in.
        about = {line for line in left if path in line or path.startswith(line.removesuffix(" d"))}
        return {line for line in left - about if not line.startswith(tuple(ignored))}

    def _begin(self) -> None:
        """Have pods a and b attached, and nothing else, whatever was before."""
        self.world.reset()
        self.world.attach("b", 8002)
        self.result = self.world.attach("a", 8001)

    def _name(self, path: str) -> str:
        return path.replace(self._index(), "INDEX")

    def _path(self, name: str) -> str:
        return name.replace("INDEX", self._index())

    def _index(self) -> str:
        script = "stat -c %d-%i /var/lib/cni/networks/net"
        return self.world.node.run("sh", "-c", script).stdout.strip()

    def _act(self, action: str) -> None:
        world, (verb, _, pod) = self.world, action.partition(" ")
        if verb in ("repair", "list"):
            done = world.node.run("timeout", "20", PYCNI, verb, check=False)
            if done.returncode not in (0, 1) or "Traceback" in done.stderr:
                raise Broken(f"pycni {verb}: {done.returncode} {done.stderr}")
            return
        plugins = (
            ("bridge", "portmap") if verb in ("ADD", "CHECK", "STATUS") else ("portmap", "bridge")
        )
        result = {"prevResult": self.result}
        for plugin in plugins:
            config = world.config(plugin, 8003 if pod == "c" else 8001)
            config |= {"cni.dev/valid-attachments": _VALID} if verb == "GC" else {}
            config |= result if verb == "CHECK" or (verb, plugin) == ("ADD", "portmap") else {}
            outcome = world.request(verb, plugin, pod or "a", config)
            succeeded = require_one_answer(outcome, verb)
            if verb == "GC" and not succeeded:
                raise Broken(f"GC of {plugin} fails: {outcome}")
            if verb == "ADD" and not succeeded:
                return

    def _delete(self, pod: str) -> None:
        for plugin in ("portmap", "bridge"):
            outcome = self.world.request("DEL", plugin, pod, self.world.config(plugin))
            if not require_one_answer(outcome, "DEL"):
                raise Broken(f"DEL of {plugin} for {pod} fails: {outcome}")


_VALID = [{"containerID": pod, "ifname": "eth0"} for pod in "abc"]

_STATE = "/run/cni/pycni"

_AT_REST = {"lo", "br0"}
