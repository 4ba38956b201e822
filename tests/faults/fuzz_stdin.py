"""Fuzz of what a plugin is told: real requests with one to three things changed.

Each is answered once, with success or an error that was foreseen. A failed ADD leaves nothing, and
a DEL with the same words nothing of one that succeeded. Another network's pod keeps what it has.
"""

from __future__ import annotations

import copy
import json
import random
from typing import Any, NamedTuple

from tests.faults.world import Broken, World, require_one_answer

VERBS = ("ADD", "ADD", "ADD", "CHECK", "DEL", "GC", "STATUS", "VERSION")
PLUGINS = ("bridge", "host-local", "portmap", "loopback")

VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 13, 4095, 65536, 2**31, 2**63, 2**64, 10**400, 1.5, 1e308),
    *("", " ", "\0", "\n", "\ud800", "%s", "eth%d", "..", "../a", "a" * 15, "a" * 300, "ü" * 20),
    *("a", "b", "br0", "lo", "eth0", "bridge", "host-local", "portmap", "auto", "iptables", "tcp"),
    *(
        "10.22.0.2",
        "10.22.0.2/24",
        "10.22.0.0/33",
        "0.0.0.0",
        "0.0.0.0/0",
        "127.0.0.1",
        "::",
        "::1",
    ),
    *("fd00:22::2", "fd00:22::/64", "fe80::1", "ff02::1", "::ffff:10.22.0.9", "0a:00:00:00:00:01"),
    *("0.1.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0", "9.9.9", "/run/netns/a", "/run/netns/b"),
    *([], {}, [None], [[]], [{}], {"": None}, [0] * 2000, [{"dst": "0.0.0.0/0"}] * 3),
]


# What can be put into a text, behind its first brace.
INSERTED = (
    b'"mtu":NaN,"mtu":1e999,',
    b" " * 100_000,
    b'"deep":' + b"[" * 900 + b"]" * 900 + b",",
    b'"deep":' + b"[" * 100_000 + b"]" * 100_000 + b",",
)

ENVIRON = [
    ("CNI_CONTAINERID", ["", ".", "..", "a/b", "x" * 240, "ü", "a b", "-", "b"]),
    (
        "CNI_IFNAME",
        ["", ".", "eth%d", "lo", "all", "default", "x" * 15, "x" * 16, "a/b", "ü", "e:0"],
    ),
    ("CNI_NETNS", ["", "/", "/run/netns/gone", "/proc/self/ns/net", "/run/netns/b", "relative"]),
    ("CNI_ARGS", [";", "=", "IP=", "IP=10.22.0.9", "MAC=x", "K8S_POD_NAME=" + "y" * 9000, "a=b=c"]),
    ("CNI_PATH", ["", ":", "/nowhere", "/run"]),
    ("CNI_COMMAND", ["add", "", "ADD ", "GC", "STATUS"]),
]


class Case(NamedTuple):
    """A request, and the seed of what is changed in it."""

    verb: str
    plugin: str
    seed: int

    def __str__(self) -> str:
        return f"{self.verb}:{self.plugin}:{self.seed}"


class FuzzStdin:
    """Trials in one world."""

    def __init__(self, world: World) -> None:
        self.world = world

    def choose(self, chance: random.Random) -> Case:
        """Any request, any change."""
        return Case(chance.choice(VERBS), chance.choice(PLUGINS), chance.randrange(10**9))

    def parse(self, text: str) -> Case:
        """The case that prints as `text`."""
        verb, plugin, seed = text.split(":")
        return Case(verb, plugin, int(seed))

    def run(self, case: Case) -> str:
        """Returns `refused` or `taken`. Raises Broken."""
        world, chance = self.world, random.Random(case.seed)
        before = world.snapshot()
        environ = world.environ(case.verb, "a")
        stdin = self._request(case, chance)
        if chance.random() < 0.3:
            name, values = chance.choice(ENVIRON)
            environ[name] = chance.choice(values)
        try:
            taken = self._judge(case.plugin, environ, stdin)
            world.remove_bridges()
            world.require_same(before, "at the end", but=".*/pycni/parameters/.*")
        except Broken as error:
            said = {name: value for name, value in environ.items() if name.startswith("CNI")}
            raise Broken(f"{error}\n{said} {stdin[:3000]!r}") from None
        return "taken" if taken else "refused"

    def _judge(self, plugin: str, environ: dict[str, str], stdin: bytes) -> bool:
        """Run the request, and the DEL behind an ADD. Returns whether it succeeded."""
        verb, outcome = environ["CNI_COMMAND"], self.world.raw(plugin, environ, stdin)
        taken = not verb or require_one_answer(outcome, verb)
        if verb == "ADD" and taken:
            undone = self.world.raw(plugin, environ | {"CNI_COMMAND": "DEL"}, stdin)
            if not require_one_answer(undone, "DEL"):
                raise Broken(f"its DEL fails: {undone.stdout}")
        return taken

    def _request(self, case: Case, chance: random.Random) -> bytes:
        config = self.world.config(case.plugin) | {"name": "fuzz"}
        if case.plugin in ("bridge", "host-local"):
            ranges = [[{"subnet": "10.33.0.0/24"}], [{"subnet": "fd00:33::/64"}]]
            config["ipam"] = {"type": "host-local", "ranges": ranges, "routes": [{"dst": "::/0"}]}
        if case.plugin == "bridge":
            config |= {"bridge": "br1", "mtu": 1400, "dns": {"nameservers": ["192.0.2.1"]}}
        if case.plugin == "portmap" or case.verb == "CHECK":
            config["prevResult"] = _result("1.1.0")
        for _ in range(chance.choice((0, 1, 1, 1, 2, 3))):
            _change(chance, config)
        text = json.dumps(config).encode()
        return _damage(chance, text) if chance.random() < 0.2 else text


def _result(version: str) -> dict[str, Any]:
    return {
        "cniVersion": version,
        "interfaces": [{"name": "eth0", "mac": "0a:00:00:00:00:01", "sandbox": "/run/netns/a"}],
        "ips": [{"address": "10.33.0.9/24", "gateway": "10.33.0.1", "interface": 0}],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dns": {},
    }


def _change(chance: random.Random, config: dict[str, Any]) -> None:
    """Change one value, or remove, rename or add one."""
    holder, key = chance.choice(list(_places(config)))
    kind = chance.random()
    if kind < 0.7 or isinstance(holder, list):
        holder[key] = copy.deepcopy(chance.choice(VALUES))
    elif kind < 0.8:
        del holder[key]
    elif kind < 0.9:
        holder[str(key).swapcase()] = chance.choice((holder[key], chance.choice(VALUES)))
    else:
        names = ("vlan", "mac", "gateway", "ips", "rangeStart", "hostIP", "snat", "isGateway", "x")
        holder[chance.choice(names)] = copy.deepcopy(chance.choice(VALUES))


def _places(value: Any) -> Any:
    """Every (container, key) in a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in list(items):
        yield value, key
        if isinstance(inner, dict | list):
            yield from _places(inner)


def _damage(chance: random.Random, text: bytes) -> bytes:
    """What can become of a text, which may not be JSON any more."""
    kind = chance.randrange(4)
    if kind == 0:
        return text[: chance.randrange(len(text) + 1)]
    if kind == 1:
        return text.replace(b"{", b"{" + chance.choice(INSERTED), 1)
    if kind == 2:
        return chance.choice((text + text, b"\xef\xbb\xbf" + text, text.replace(b'"', b"'")))
    changed = bytearray(text)
    for _ in range(chance.randint(1, 5)):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)
