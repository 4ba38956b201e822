"""What the firewall of a test's node holds, whichever backend its networks have asked for."""

from __future__ import annotations

import re
from ipaddress import ip_address, ip_network
from typing import Any

from cni.net.addresses import IPNetwork
from tests.support.node import Node

_PROGRAMS = {"ip": "iptables", "ip6": "ip6tables"}

_JUMP = re.compile(r"-A PYCNI-HOSTPORTS .*-j (PYCNI-HP-\S+)")
_DNAT = re.compile(
    r"-A (?P<chain>PYCNI-HP-\S+) (-d (?P<host>[^/ ]+)/\d+ )?-p (?P<protocol>\w+) -m \w+"
    r" --dport (?P<port>\d+) -j DNAT --to-destination \[?(?P<target>[^]]+?)]?:(?P<to>\d+)"
)

# What there is of the firewall: our table, our chains, our sets.
REMAINS = {
    "nftables": "nft list tables | grep pycni",
    "iptables": """
        { iptables-save; ip6tables-save; } | grep PYCNI
        ipset list -name
    """,
}


def remains(node: Node) -> str:
    """A script that prints what is there of the firewall, with each backend that may be used."""
    both = REMAINS["nftables"], REMAINS["iptables"] if node.backend == "iptables" else ""
    return "\n".join(both)


def published(node: Node) -> dict[str, str]:
    """Host ports and where they lead to: `ip tcp 8080`, `10.77.0.2 80`."""
    return _published_by_iptables(node) if node.backend == "iptables" else _published_by_nft(node)


def _published_by_nft(node: Node) -> dict[str, str]:
    found: dict[str, str] = {}
    for item in node.json("nft", "-j", "list", "ruleset").get("nftables", []):
        map_ = item.get("map", {})
        name, _, family = map_.get("name", "").rpartition("-")
        if name in ("hostports", "bound-hostports"):
            elements = map_.get("elem", [])
            found |= {f"{family} {_join(key)}": _join(value) for key, value in elements}
    return found


def _join(fields: dict[str, list[Any]]) -> str:
    return " ".join(map(str, fields["concat"]))


def _published_by_iptables(node: Node) -> dict[str, str]:
    found: dict[str, str] = {}
    for family in _PROGRAMS:
        lines = saved(node, family)
        reached = {match[1] for line in lines if (match := _JUMP.fullmatch(line))}
        for rule in filter(None, map(_DNAT.fullmatch, lines)):
            if rule["chain"] in reached:
                host = f"{rule['host']} " if rule["host"] else ""
                key = f"{family} {host}{rule['protocol']} {rule['port']}"
                found[key] = f"{rule['target']} {rule['to']}"
    return found


def saved(node: Node, family: str = "ip", table: str = "nat") -> list[str]:
    """The lines of iptables-save, or of ip6tables-save."""
    return node.run(f"{_PROGRAMS[family]}-save", "-t", table).stdout.splitlines()


def masqueraded(node: Node) -> dict[str, str]:
    """The addresses that are masqueraded, and the chain or the set of each one's network."""
    found: dict[str, str] = {}
    if node.backend == "iptables":
        for line in node.run("ipset", "save").stdout.splitlines():
            verb, name, member, *_ = line.split()
            found |= {member: name} if verb == "add" else {}
        return found
    ruleset = node.json("nft", "-j", "list", "ruleset").get("nftables", [])
    chains = [
        _goto(item["rule"]["expr"])
        for item in ruleset
        if item.get("rule", {}).get("chain") == "networks"
    ]
    for item in ruleset:
        set_ = item.get("set", {})
        for address in set_.get("elem", []) if "masquerade" in set_.get("name", "") else ():
            led = (chain for subnet, chain in chains if ip_address(address) in subnet)
            found[address] = next(led, "")
    return found


def _goto(expressions: list[dict[str, Any]]) -> tuple[IPNetwork, str]:
    """The subnet that a rule of the chain `networks` is about, and where it leads to."""
    match, verdict = expressions
    prefix = match["match"]["right"]["prefix"]
    return ip_network(f"{prefix['addr']}/{prefix['len']}"), verdict["goto"]["target"]


def network_rules(node: Node, network: str) -> list[str]:
    """The rules that decide what of a network's is masqueraded, IPv4 first."""
    if node.backend == "iptables":
        start = f"-A PYCNI-NET-{network} "
        lines = (line for family in _PROGRAMS for line in saved(node, family))
        return [line.removeprefix(start) for line in lines if line.startswith(start)]
    listing = node.run("nft", "list", "chain", "inet", "pycni", f"network-{network}").stdout
    return [line.strip() for line in listing.splitlines()[2:-2]]


def has_network_chain(node: Node, network: str) -> bool:
    """Whether a network's chain is there."""
    if node.backend == "iptables":
        lines = (line for family in _PROGRAMS for line in saved(node, family))
        return any(line.startswith(f":PYCNI-NET-{network} ") for line in lines)
    return f" chain network-{network} " in node.run("nft", "list", "ruleset").stdout.replace(
        "\t", " "
    )
