"""Many pods on a node, made faster than by as many ADDs of the chain, one after the other.

pycni's pods are real ones with two ports each, attached by the executables, each in a namespace of
its own: one with many interfaces looks through the routes of all of them for every multicast
packet of IPv6 that reaches one, and bridges bring such packets to every port.

The reference's interfaces and leases are made by pycni's executables, too, with masquerading
switched off. The rules are copies of those that the reference made for one pod, with names,
addresses and ports exchanged: its own ADDs get slower with every pod, and 2,000 of them take long.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from bench.contenders import BENCH, PYCNI, WIRING, Host, Network, Pod, ports

# The pods that BENCH's bridge has no room for: a bridge has 1,023 ports at most (BR_MAX_PORTS).
_MORE = Network("more", "cni1", "10.23.0.0/16")
ROOM = 980

_FIRST_PORT = 20000
_AT_ONCE = 2

_MODEL_NAME, _MODEL_PORT = "model", 60000
_HASH = re.compile(r"\b(CNI-(?:DN-)?)([0-9a-f]+)\b")


class Filler:
    """Adds pods to a host, step by step."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._is_ours = host.contender.directory == PYCNI
        self._number = 0

    def fill(self, number: int) -> None:
        """Attach more pods until there are so many."""
        names = [f"netns add {self._pod(index).name}" for index in range(self._number, number)]
        self._host.node.run("ip", "-batch", "-", stdin="\n".join(names))
        for first in range(self._number, number, _AT_ONCE):
            indices = range(first, min(first + _AT_ONCE, number))
            pods = [self._pod(index) for index in indices]
            network = BENCH if first < ROOM else _MORE
            suite = self._host.contender if self._is_ours else WIRING
            self._host.run_at_once("ADD", pods, through="exec", network=network, suite=suite)
        if not self._is_ours:
            self._copy_rules(range(self._number, number))
        self._number = max(self._number, number)

    def _pod(self, index: int) -> Pod:
        name = f"fill{index}"
        return Pod(name, f"/run/netns/{name}", ports(_FIRST_PORT + 2 * index))

    def _copy_rules(self, indices: range) -> None:
        nftables = self._host.contender.backend == "nftables"
        listing = ("nft", "list", "ruleset") if nftables else ("iptables-save", "-t", "nat")
        restore = ("nft", "-f", "-") if nftables else ("iptables-restore", "--noflush")
        read = _read_nft if nftables else _read_iptables
        before = set(read(self._host.node.run(*listing).stdout))
        model = self._host.pod(_MODEL_NAME, _MODEL_PORT)
        self._host.run("ADD", model)
        (address,) = self._host.addresses([model])
        rules = [rule for rule in read(self._host.node.run(*listing).stdout) if rule not in before]
        self._host.run("DEL", model)
        self._host.node.run("ip", "netns", "del", _MODEL_NAME)
        lines = [
            self._copy(rule, address.split("/")[0], index) for index in indices for rule in rules
        ]
        text = "\n".join(lines) if nftables else "\n".join(["*nat", *lines, "COMMIT"])
        self._host.node.run(*restore, stdin=text + "\n")

    def _copy(self, rule: str, address: str, index: int) -> str:
        """A rule of the model pod as it would be for another one."""
        pod = self._pod(index)
        (other,) = self._host.addresses([pod])
        for number in range(2):
            port = str(_FIRST_PORT + 2 * index + number)
            rule = re.sub(rf"\b{_MODEL_PORT + number}\b", port, rule)
        rule = re.sub(rf"\b{re.escape(address)}\b", other.split("/")[0], rule)
        rule = re.sub(rf"\b{_MODEL_NAME}\b", pod.name, rule)
        return _HASH.sub(lambda found: f"{found[1]}{index:0{len(found[2])}x}", rule)


def _read_iptables(listing: str) -> Iterator[str]:
    """The chains and rules of `iptables-save`, as iptables-restore takes them."""
    for line in listing.splitlines():
        if line.startswith(":"):
            yield re.sub(r"\[.*\]", "[0:0]", line)
        elif line.startswith("-A"):
            yield line


def _read_nft(listing: str) -> Iterator[str]:
    """The rules of `nft list ruleset`, as commands that add them."""
    table = chain = ""
    for line in listing.splitlines():
        words = line.split()
        if line.startswith("table"):
            table = " ".join(words[1:3])
        elif words[:1] == ["chain"]:
            chain = words[1]
        elif words and words[0] not in ("type", "}", "comment"):
            yield f"add rule {table} {chain} {line.strip()}"
