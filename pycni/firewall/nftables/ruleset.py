"""The nftables ruleset as text: pure functions from entries to what `nft list ruleset` prints.

One table, `inet pycni`; nobody else's chain is touched. Its static part looks entries up in sets
and maps, so a packet's cost does not depend on how many there are:

    prerouting, output    to one of the node's own addresses -> hostports; in prerouting never for
                          127.0.0.0/8, where a port is published for the node's processes alone
    hostports             a map from host port to address and port, DNAT; before that, for ports
                          with conditions, a map from host port to its own chain `hostport-…`
    postrouting           host port traffic whose target is in a set -> hairpins, or masqueraded;
                          any traffic whose source is in a set -> networks
    hairpins, networks    a rule for each network's subnet -> `hairpin-…`, `network-…`
    localnet-guard        drops what neighbours send from or to 127.0.0.0/8 (see `_GUARD`)

and each network has two chains of its own, which know the network's subnets. A map from each pod to
its network's chain would do without rules for networks. But whenever an element is added that leads
to a chain, the kernel looks at all of them for loops (nf_tables_validate), a millisecond for 2,000
pods; so they lead nowhere, except for those of ports with conditions.

The nat hooks come just after the standard priorities, so that kube-proxy, which uses those, is
asked first whether a port is its own (CVE-2019-9946). What it accepts in its own table comes here
all the same, and in IPVS mode the addresses of Services are local ones, of a device of its own:
so an address that a packet did not come in at has to be in one of the sets `own-…`, see
`pycni.firewall.own_addresses`. Nor are link-local addresses taken: a pod's answer to a link-local
source would not leave the pod's link.
"""

from __future__ import annotations

from cni import TYPE_CHECKING
from cni.namedtuple import NamedTuple
from cni.net.addresses import IPAddress, IPNetwork
from pycni.firewall.entries import HostPort, Masquerade, Translation
from pycni.state import names

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

NAME = "pycni"
TABLE = f"inet {NAME}"

# What is done with routed loopback traffic. A node's process can reach a host port at 127.0.0.1
# only if its packets may leave by the bridge, which route_localnet allows; but that would allow
# the bridge's other hosts to address the node's 127.0.0.1 as well, so they are refused here.
_GUARD = """
    set localnet {
        type ifname
    }

    chain localnet-guard {
        type filter hook prerouting priority raw; policy accept;
        iifname @localnet ip saddr 127.0.0.0/8 drop
        iifname @localnet ip daddr 127.0.0.0/8 drop
    }
"""

_BASE = f"""
table {TABLE} {{
    map hostports-ip {{
        typeof meta l4proto . th dport : ip daddr . th dport
    }}

    map hostports-ip6 {{
        typeof meta l4proto . th dport : ip6 daddr . th dport
    }}

    map bound-hostports-ip {{
        typeof ip daddr . meta l4proto . th dport : ip daddr . th dport
    }}

    map bound-hostports-ip6 {{
        typeof ip6 daddr . meta l4proto . th dport : ip6 daddr . th dport
    }}

    map conditional-hostports-ip {{
        typeof meta l4proto . th dport : verdict
    }}

    map conditional-hostports-ip6 {{
        typeof meta l4proto . th dport : verdict
    }}

    map conditional-bound-hostports-ip {{
        typeof ip daddr . meta l4proto . th dport : verdict
    }}

    map conditional-bound-hostports-ip6 {{
        typeof ip6 daddr . meta l4proto . th dport : verdict
    }}

    set everyone-ip {{
        typeof ip daddr . meta l4proto . th dport
    }}

    set everyone-ip6 {{
        typeof ip6 daddr . meta l4proto . th dport
    }}

    set sourcenat-ip {{
        typeof ip daddr . meta l4proto . th dport
    }}

    set sourcenat-ip6 {{
        typeof ip6 daddr . meta l4proto . th dport
    }}

    set masquerade-ip {{
        typeof ip saddr
    }}

    set masquerade-ip6 {{
        typeof ip6 saddr
    }}

    set own-ip {{
        typeof ip daddr
        flags interval
    }}

    set own-ip6 {{
        typeof ip6 daddr
        flags interval
    }}

    chain hostports {{
        ip6 daddr fe80::/10 return
        ip daddr . meta l4proto . th dport vmap @conditional-bound-hostports-ip
        ip6 daddr . meta l4proto . th dport vmap @conditional-bound-hostports-ip6
        dnat ip to ip daddr . meta l4proto . th dport map @bound-hostports-ip
        dnat ip6 to ip6 daddr . meta l4proto . th dport map @bound-hostports-ip6
        meta nfproto ipv4 meta l4proto . th dport vmap @conditional-hostports-ip
        meta nfproto ipv6 meta l4proto . th dport vmap @conditional-hostports-ip6
        dnat ip to meta l4proto . th dport map @hostports-ip
        dnat ip6 to meta l4proto . th dport map @hostports-ip6
    }}

    chain prerouting {{
        type nat hook prerouting priority dstnat + 5; policy accept;
        ip daddr 127.0.0.0/8 accept
        fib daddr . iif type local goto hostports
        ip daddr @own-ip fib daddr type local goto hostports
        ip6 daddr @own-ip6 fib daddr type local goto hostports
    }}

    chain output {{
        type nat hook output priority -95; policy accept;
        ip daddr @own-ip fib daddr type local goto hostports
        ip6 daddr @own-ip6 fib daddr type local goto hostports
    }}

    chain hairpins {{
    }}

    chain networks {{
    }}

    chain postrouting {{
        type nat hook postrouting priority srcnat + 5; policy accept;
        ct status dnat ip daddr . meta l4proto . th dport @everyone-ip masquerade
        ct status dnat ip6 daddr . meta l4proto . th dport @everyone-ip6 masquerade
        ct status dnat ip daddr . meta l4proto . th dport @sourcenat-ip jump hairpins
        ct status dnat ip6 daddr . meta l4proto . th dport @sourcenat-ip6 jump hairpins
        ip saddr @masquerade-ip goto networks
        ip6 saddr @masquerade-ip6 goto networks
    }}
{_GUARD}}}
"""

# How many rules each static chain has: what CHECK compares with.
STATIC_RULES = {
    "hostports": 9,
    "prerouting": 4,
    "output": 2,
    "postrouting": 6,
    "localnet-guard": 2,
}

# An attribute's length has 16 bits, and no element takes more than 200 bytes.
_ELEMENTS_MOST = 300

# Longer names than this are cut; the kernel's limit is NFT_CHAIN_MAXNAMELEN, 128 with a prefix.
_LONGEST_NETWORK_NAME = 100

Field = IPAddress | str | int


class Element(NamedTuple):
    """An element of one of the sets or maps. `value` is what a map's key leads to: fields, or a
    verdict; None in a set.

    A field is an address, a transport protocol's name or a port.
    """

    holder: str
    key: tuple[Field, ...]
    value: tuple[Field, ...] | str | None

    def __str__(self) -> str:
        if self.value is None:
            return _concatenate(self.key)
        value = self.value if isinstance(self.value, str) else _concatenate(self.value)
        return f"{_concatenate(self.key)} : {value}"


def element(entry: Translation) -> Element:
    """The element that carries out an entry."""
    if isinstance(entry, HostPort):
        port = (entry.protocol, entry.host_port)
        bound = (entry.host_address, *port) if entry.host_address else None
        name = "bound-hostports" if bound else "hostports"
        if entry.conditions:
            name, verdict = f"conditional-{name}", f"jump {port_chain(entry)}"
            return Element(_holder(name, entry.address), bound or port, verdict)
        return Element(_holder(name, entry.address), bound or port, (entry.address, entry.port))
    address = entry.address.ip
    if isinstance(entry, Masquerade):
        return Element(_holder("masquerade", address), (address,), None)
    name = "everyone" if entry.everyone else "sourcenat"
    return Element(_holder(name, address), (address, entry.protocol, entry.port), None)


def subnets(entries: Iterable[Translation]) -> set[IPNetwork]:
    """The subnets that a network's chains have to know for these entries."""
    return {entry.address.network for entry in entries if not isinstance(entry, HostPort)}


def by_holder(items: Iterable[Element]) -> list[tuple[str, list[Element]]]:
    """The elements by their sets and maps, in pieces that have room in one netlink attribute."""
    held: dict[str, list[Element]] = {}
    for item in items:
        held.setdefault(item.holder, []).append(item)
    return [
        (holder, members[at : at + _ELEMENTS_MOST])
        for holder, members in held.items()
        for at in range(0, len(members), _ELEMENTS_MOST)
    ]


def add(items: Iterable[Element]) -> str:
    """Commands that add elements; one that is there already is no error."""
    return "".join(
        f"add element {TABLE} {holder} {{ {', '.join(map(str, members))} }}\n"
        for holder, members in by_holder(items)
    )


def delete(items: Iterable[Element]) -> str:
    """Commands that delete elements by their keys; one that is not there is an error."""
    return "".join(
        f"delete element {TABLE} {holder} {{ {', '.join(_concatenate(m.key) for m in members)} }}\n"
        for holder, members in by_holder(items)
    )


def conditional_ports(entries: Iterable[Translation]) -> list[HostPort]:
    """Those entries that need a chain of their own."""
    return [entry for entry in entries if isinstance(entry, HostPort) and entry.conditions]


def port_chains(entries: Iterable[Translation]) -> str:
    """Commands that make the chains of host ports with conditions, which have one rule each."""
    lines = []
    for port in conditional_ports(entries):
        chain = f"{TABLE} {port_chain(port)}"
        lines += [f"add chain {chain}", f"flush chain {chain}", f"add rule {chain} {_dnat(port)}"]
    return "".join(f"{line}\n" for line in lines)


def delete_port_chains(entries: Iterable[Translation]) -> str:
    """Commands that delete these chains, to which no element may lead any more."""
    ports = conditional_ports(entries)
    return "".join(f"delete chain {TABLE} {port_chain(port)}\n" for port in ports)


def trial(port: HostPort) -> str:
    """Commands to be tried, not carried out: a table of its own with a host port's rule."""
    table = f"inet {NAME}-trial"
    return f"add table {table}\nadd chain {table} c\nadd rule {table} c {_dnat(port)}\n"


def port_chain(port: HostPort) -> str:
    """The chain of a host port with conditions."""
    return port.claim.replace(":", "_")  # which is no letter of a chain's name


def _dnat(port: HostPort) -> str:
    ip, nfproto, address = (
        ("ip", "ipv4", str(port.address))
        if port.address.version == 4
        else ("ip6", "ipv6", f"[{port.address}]")
    )
    conditions = " ".join(port.conditions)
    return (
        f"meta nfproto {nfproto} meta l4proto {port.protocol} {conditions}"
        f" dnat {ip} to {address}:{port.port}"
    )


def own_addresses(networks: Iterable[IPNetwork]) -> str:
    """Commands that have host ports taken at just these addresses, as far as they are local."""
    lines = [f"flush set {TABLE} {own_set(version)}" for version in (4, 6)]
    for version in (4, 6):
        listed = ", ".join(str(net) for net in sorted(networks, key=str) if net.version == version)
        if listed:
            lines.append(f"add element {TABLE} {own_set(version)} {{ {listed} }}")
    return "\n".join(lines) + "\n"


def own_set(version: int) -> str:
    """The set of the node's own addresses."""
    return "own-ip" if version == 4 else "own-ip6"


def guard(interfaces: Iterable[str]) -> str:
    """Commands that have interfaces guarded, see `_GUARD`."""
    return "".join(f'add element {TABLE} localnet {{ "{name}" }}\n' for name in interfaces)


def network_chains(network: str, networks: Collection[IPNetwork]) -> str:
    """Commands that make a network's chains know just these subnets."""
    inside, outside = hairpin_chain(network), network_chain(network)
    lines = [
        f"{verb} chain {TABLE} {name}" for name in (inside, outside) for verb in ("add", "flush")
    ]
    for subnet in sorted(networks, key=lambda subnet: (subnet.version, subnet)):
        ip = _family(subnet)
        lines.append(
            f"add rule {TABLE} {inside} {ip} saddr {subnet} {ip} daddr {subnet} masquerade"
        )
        lines.append(f"add rule {TABLE} {outside} {ip} daddr {subnet} accept")
    lines += [
        f"add rule {TABLE} {inside} ip saddr 127.0.0.0/8 masquerade",
        f"add rule {TABLE} {outside} ip daddr 224.0.0.0/4 accept",
        f"add rule {TABLE} {outside} ip6 daddr ff00::/8 accept",
        f"add rule {TABLE} {outside} masquerade",
    ]
    return "\n".join(lines) + "\n"


def dispatch(subnets: Mapping[str, Collection[IPNetwork]]) -> str:
    """Commands that lead traffic of these networks' subnets, and no other, to their chains.

    Where subnets of several networks overlap, it goes to the first one by name: the node's routes
    do not tell them apart, either.
    """
    lines = [f"flush chain {TABLE} {chain}" for chain in ("hairpins", "networks")]
    for network in sorted(subnets):
        for subnet in sorted(subnets[network], key=lambda subnet: (subnet.version, subnet)):
            ip = _family(subnet)
            lines += [
                f"add rule {TABLE} hairpins {ip} daddr {subnet} jump {hairpin_chain(network)}",
                f"add rule {TABLE} networks {ip} saddr {subnet} goto {network_chain(network)}",
            ]
    return "\n".join(lines) + "\n"


def dispatch_rules(subnets: Mapping[str, Collection[IPNetwork]]) -> dict[str, int]:
    """How many rules `dispatch` puts into each chain."""
    return dict.fromkeys(("hairpins", "networks"), sum(map(len, subnets.values())))


def network_chain_rules(networks: Collection[IPNetwork]) -> tuple[int, int]:
    """How many rules `network_chains` puts into the hairpin and into the network chain."""
    return len(networks) + 1, len(networks) + 3


def delete_network_chains(network: str) -> str:
    """Commands that delete a network's chains, if any, which no rule may lead to any more."""
    names = (hairpin_chain(network), network_chain(network))
    return "".join(f"{verb} chain {TABLE} {name}\n" for name in names for verb in ("add", "delete"))


def base(comment: str = "") -> str:
    """Commands that make the table anew, without elements, whatever there was."""
    return f'{delete_table()}add table {TABLE} {{ comment "{comment}"; }}\n{_BASE}'


def delete_table() -> str:
    """Commands that delete the table; that there is none is no error."""
    return f"add table {TABLE}\ndelete table {TABLE}\n"


def network_chain(network: str) -> str:
    """The chain through which a network's masqueraded addresses send."""
    return f"network-{_short(network)}"


def hairpin_chain(network: str) -> str:
    """The chain through which a network's published ports are reached."""
    return f"hairpin-{_short(network)}"


def _short(network: str) -> str:
    if len(network) <= _LONGEST_NETWORK_NAME:
        return network
    return f"{network[: _LONGEST_NETWORK_NAME - 17]}-{names.digest(network):016x}"


def _holder(name: str, address: IPAddress) -> str:
    return f"{name}-{_family(address)}"


def _family(address: IPAddress | IPNetwork) -> str:
    return "ip" if address.version == 4 else "ip6"


def _concatenate(fields: Iterable[Field]) -> str:
    return " . ".join(str(field) for field in fields)
