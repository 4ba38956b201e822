"""The iptables rules as text: pure functions from entries to what iptables-restore reads.

Everything is in chains of our own, to which these lead:

    nat PREROUTING, OUTPUT   to one of the node's addresses -> PYCNI-HOSTPORTS; in PREROUTING
                             never for 127.0.0.0/8, where a port is for the node's processes
                             alone, nor for link-local addresses: a pod's answer to a link-local
                             source would not leave the pod's link
    nat POSTROUTING          first, host port traffic -> PYCNI-SOURCENAT, which masquerades what
                             was marked on its way in; last, any traffic -> PYCNI-MASQUERADE
    raw PREROUTING           -> PYCNI-LOCALNET, which drops what neighbours send from or to
                             127.0.0.0/8, where route_localnet lets it in

PYCNI-HOSTPORTS leads to each attachment's chains, of up to 15 ports each, PYCNI-MASQUERADE to one
for each network, by an ipset of the addresses that the network's attachments have.

Jumps are put behind those of others, so that kube-proxy is asked first whether a port is its own
(CVE-2019-9946); but what was sent to a host port is masqueraded first, as the reference plugins'
chains end a packet's way through POSTROUTING. Source: iptables(8), iptables-extensions(8).
"""

from __future__ import annotations

import re

from cni import TYPE_CHECKING
from cni.namedtuple import NamedTuple
from cni.request import Attachment
from pycni.firewall.entries import HostPort, Masquerade, SourceNat
from pycni.state import names

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from cni.net.addresses import IPAddress, IPNetwork
    from pycni.firewall.entries import Translation

PREFIX = "PYCNI-"
HOSTPORTS, SOURCENAT = "PYCNI-HOSTPORTS", "PYCNI-SOURCENAT"
MASQUERADE, LOCALNET = "PYCNI-MASQUERADE", "PYCNI-LOCALNET"
SET_PREFIX = "pycni-"

# XT_EXTENSION_MAXNAMELEN and IPSET_MAXNAMELEN, less the final zero.
_CHAIN_LENGTH, _SET_LENGTH = 28, 31

_MULTIPORT_MOST = 15
_COMMENT_LENGTH = 255

_MULTICAST = {4: "224.0.0.0/4", 6: "ff00::/8"}


class Rule(NamedTuple):
    """A rule of a chain: in front of what is there already if `first`, or else behind it.

    `about` says to a person what is not in force without it.
    """

    chain: str
    match: str
    target: str
    about: str
    first: bool = False

    @property
    def put(self) -> str:
        """As a line that adds it."""
        return f"-{'I' if self.first else 'A'} {self}"

    @property
    def drop(self) -> str:
        """As a line that deletes it, and fails if there is none."""
        return f"-D {self}"

    @property
    def want(self) -> str:
        """As a line that fails if there is none."""
        return f"-C {self}"

    def __str__(self) -> str:
        return " ".join(filter(None, (self.chain, self.match, f"-j {self.target}")))


def restore(table: str, lines: Iterable[str]) -> str:
    """What iptables-restore reads to change one table, completely or not at all."""
    return "\n".join([f"*{table}", *lines, "COMMIT", ""])


def empty(chain: str) -> str:
    """A line that makes a chain, or empties it."""
    return f":{chain} - [0:0]"


def discard(chain: str) -> list[str]:
    """Lines that delete a chain, to which no rule may lead any more."""
    return [f"-F {chain}", f"-X {chain}"]


# The static part


def jumps(version: int) -> list[Rule]:
    """The rules of nat's own chains that lead to ours."""
    local = "-m addrtype --dst-type LOCAL"
    if version == 6:
        local = f"! -d fe80::/10 {local}"
    inbound = f"! -d 127.0.0.0/8 {local}" if version == 4 else local
    return [
        Rule("PREROUTING", inbound, HOSTPORTS, _way(HOSTPORTS)),
        Rule("OUTPUT", local, HOSTPORTS, _way(HOSTPORTS)),
        Rule("POSTROUTING", "-m conntrack --ctstate DNAT", SOURCENAT, _way(SOURCENAT), first=True),
        Rule("POSTROUTING", "", MASQUERADE, _way(MASQUERADE)),
    ]


def source_nat(bits: Iterable[int]) -> list[Rule]:
    """The rules that masquerade what has one of these bits in its mark."""
    marks = (f"{1 << bit:#x}" for bit in sorted(bits))
    return [
        Rule(SOURCENAT, f"-m mark --mark {mark}/{mark}", "MASQUERADE", f"source NAT by mark {mark}")
        for mark in marks
    ]


def guard_jump() -> Rule:
    """The rule of raw's own chain that leads to the guard."""
    return Rule("PREROUTING", "", LOCALNET, _way(LOCALNET), first=True)


def guard(interfaces: Iterable[str]) -> list[Rule]:
    """The rules that keep neighbours from the node's loopback addresses."""
    return [
        Rule(LOCALNET, f"-i {name} {side} 127.0.0.0/8", "DROP", f"the guard of {name}")
        for name in sorted(interfaces)
        for side in ("-s", "-d")
    ]


# Networks


def network_chain(network: str) -> str:
    """The chain through which a network's masqueraded addresses send."""
    prefix = f"{PREFIX}NET-"
    return prefix + names.shorten(network, _CHAIN_LENGTH - len(prefix))


def address_set(network: str, version: int) -> str:
    """The ipset of a network's masqueraded addresses."""
    room = _SET_LENGTH - len(SET_PREFIX) - 2
    return f"{SET_PREFIX}{names.shorten(network, room)}-{version}"


def network_jump(network: str, version: int) -> Rule:
    """The one rule by which packets get into a network's chain."""
    chain = network_chain(network)
    match = f"-m set --match-set {address_set(network, version)} src"
    return Rule(MASQUERADE, match, chain, _way(chain))


def network_rules(network: str, version: int, subnets: Iterable[IPNetwork]) -> list[Rule]:
    """A network's chain: its own subnets, multicast, and all else."""
    chain = network_chain(network)
    about = f"masquerading for {network}"
    inside = sorted(str(subnet) for subnet in subnets)
    return [
        *(Rule(chain, f"-d {net}", "RETURN", about) for net in (*inside, _MULTICAST[version])),
        Rule(chain, "", "MASQUERADE", about),
    ]


def masqueraded(entries: Iterable[Translation]) -> list[IPAddress]:
    """The addresses that are to be in their network's sets."""
    return [entry.address.ip for entry in entries if isinstance(entry, Masquerade)]


def subnets(entries: Iterable[Translation]) -> frozenset[IPNetwork]:
    """The subnets that a network's chain has to know for these entries."""
    found = (entry.address.network for entry in entries if isinstance(entry, Masquerade))
    return frozenset(found)


# Attachments


def version_of(entry: Translation) -> int:
    """The IP version of what an entry is about."""
    return int(entry.address.version)


def host_ports(entries: Iterable[Translation], version: int) -> list[HostPort]:
    """Those entries that are host ports, in the order in which they are looked at."""
    ports = [entry for entry in entries if isinstance(entry, HostPort)]
    mine = [port for port in ports if version_of(port) == version]
    return sorted(mine, key=lambda port: port.host_address is None)


def mark_bits(entries: Iterable[Translation]) -> set[int]:
    """The bits by which these entries ask for source NAT."""
    marks = {entry.mark for entry in entries if isinstance(entry, SourceNat)}
    return {mark for mark in marks if isinstance(mark, int)}


def mark_chains(entries: Iterable[Translation]) -> set[str]:
    """Other people's chains by which these entries ask for source NAT."""
    marks = {entry.mark for entry in entries if isinstance(entry, SourceNat)}
    return {mark for mark in marks if isinstance(mark, str)}


def attachment_chain(owner: Attachment, plugin: str, number: int = 0) -> str:
    """One of the chains of what a plugin publishes for an attachment, counted from 0."""
    which = f" {number}" if number else ""
    return f"{PREFIX}HP-{names.digest(f'{owner} {plugin}{which}'):016x}"


class _Group(NamedTuple):
    """Host ports that one rule leads to one chain, as many as multiport takes."""

    chain: str
    address: IPAddress | None
    protocol: str
    conditions: tuple[str, ...]
    ports: list[HostPort]


def _groups(
    owner: Attachment, plugin: str, entries: Iterable[Translation], version: int
) -> list[_Group]:
    """An attachment's host ports, chain by chain.

    iptables compares a rule that it is to expect or to delete with all of its chain, so chains stay
    short, however many ports there are.
    """
    alike: dict[tuple[IPAddress | None, str, tuple[str, ...]], list[HostPort]] = {}
    for port in host_ports(entries, version):
        alike.setdefault((port.host_address, port.protocol, port.conditions), []).append(port)
    pieces = [
        (*key, sorted(ports, key=lambda port: port.host_port)[at : at + _MULTIPORT_MOST])
        for key, ports in alike.items()
        for at in range(0, len(ports), _MULTIPORT_MOST)
    ]
    return [_Group(attachment_chain(owner, plugin, n), *piece) for n, piece in enumerate(pieces)]


def attachment_jumps(
    owner: Attachment, plugin: str, entries: Iterable[Translation], version: int
) -> list[Rule]:
    """The rules by which packets to its host ports get into an attachment's chains.

    A port at one address of the node goes before one at all of them, whosever that is.
    """
    comment = quoted(str(owner)[:_COMMENT_LENGTH])
    rules = []
    for chain, address, protocol, conditions, members in _groups(owner, plugin, entries, version):
        where = _destination(address, conditions)
        more = "".join(f" {quoted(word)}" for word in conditions)
        ports = ",".join(str(port.host_port) for port in members)
        match = (
            f"-p {protocol}{where} -m multiport --dports {ports}{more}"
            f" -m comment --comment {comment}"
        )
        rules.append(Rule(HOSTPORTS, match, chain, _way(chain), first=address is not None))
    return rules


def attachment_rules(
    owner: Attachment, plugin: str, entries: Collection[Translation], version: int
) -> list[Rule]:
    """An attachment's chains: mark what needs source NAT, then translate the destination."""
    marks = {
        (entry.protocol, entry.address.ip, entry.port): entry
        for entry in entries
        if isinstance(entry, SourceNat)
    }
    rules = []
    for group in _groups(owner, plugin, entries, version):
        where = f"-p {group.protocol}{_destination(group.address, ())}"
        for port in group.ports:
            match = f"{where} --dport {port.host_port}"
            source = marks.get((port.protocol, port.address, port.port))
            if source:
                target = _mark(source)
                rules += [
                    Rule(group.chain, match + who, target, str(source)) for who in _sources(source)
                ]
            address = port.address if version == 4 else f"[{port.address}]"
            target = f"DNAT --to-destination {address}:{port.port}"
            rules.append(Rule(group.chain, match, target, str(port)))
    return rules


def trial(port: HostPort) -> list[str]:
    """Lines to be tried, not carried out: a rule with a host port's conditions."""
    owner = Attachment("net", "trial", "eth0")
    (rule,) = attachment_jumps(owner, "trial", [port], version_of(port))
    target = attachment_chain(owner, "trial")
    return [empty(HOSTPORTS), empty(target), rule.put]


def trial_jump(chain: str) -> list[str]:
    """Lines that change nothing, and fail if there is no such chain."""
    passing = f"{PREFIX}TRIAL"
    return [empty(passing), f"-A {passing} -j {chain}", *discard(passing)]


def _destination(address: IPAddress | None, conditions: Sequence[str]) -> str:
    """The match of a host port's address; -d may be given once, and so is left to conditions."""
    if address is None:
        return ""
    return f" -m conntrack --ctorigdst {address}" if conditions else f" -d {address}"


def _sources(entry: SourceNat) -> list[str]:
    """The matches of whose source address is changed."""
    if entry.everyone:
        return [""]
    inside = f" -s {entry.address.network}"
    return [inside, " -s 127.0.0.0/8"] if entry.address.version == 4 else [inside]


def _mark(entry: SourceNat) -> str:
    if isinstance(entry.mark, str):
        return entry.mark
    mark = f"{1 << entry.mark:#x}"
    return f"MARK --set-xmark {mark}/{mark}"


def _way(chain: str) -> str:
    return f"the way to the chain {chain}"


# What is listed


_CHAIN = re.compile(rf":({PREFIX}\S+) ")
_JUMP = re.compile(rf"-A ((?:PREROUTING|OUTPUT|POSTROUTING) (?:.* )?-j {PREFIX}\S+)")
_GUARDED = re.compile(rf"-A {LOCALNET} -s 127\.0\.0\.0/8 -i (\S+) -j DROP")


def listed_chains(listing: str) -> list[str]:
    """Our chains in what iptables-save prints of a table."""
    return [match[1] for line in listing.splitlines() if (match := _CHAIN.match(line))]


def listed_jumps(listing: str) -> list[str]:
    """Lines that delete the rules by which a table's own chains lead to ours."""
    found = map(_JUMP.fullmatch, listing.splitlines())
    return [f"-D {match[1]}" for match in found if match]


def listed_guards(listing: str) -> set[str]:
    """The interfaces that the guard of raw knows."""
    found = map(_GUARDED.fullmatch, listing.splitlines())
    return {match[1] for match in found if match}


# Arguments


def quoted(word: str) -> str:
    """One argument of a rule: iptables-restore takes what is between quotes as it is."""
    if not word.isprintable() or '"' in word or "\\" in word:
        raise ValueError(f"{word!r} cannot be an argument of a rule")
    return f'"{word}"'
