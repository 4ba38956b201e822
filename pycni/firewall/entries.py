"""What can be asked of a firewall, as values; nothing here knows how it is carried out."""

from __future__ import annotations

from cni import TYPE_CHECKING
from cni.formats import parse_ifname, parse_protocol
from cni.namedtuple import NamedTuple
from cni.net.addresses import IPAddress, IPInterface, parse_address, parse_mac, parse_prefixed
from pycni.state import attachments

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

# The reference plugins' default, too. Kubernetes uses 14 and 15, Calico 20 to 31.
MARK_BIT = 13


class Bridge(NamedTuple):
    """A bridge, and whether its containers send through the node, too, or just to one another."""

    name: str
    routes: bool


class Masquerade(NamedTuple):
    """What this address sends out of its network leaves with the node's address."""

    address: IPInterface

    @property
    def claim(self) -> str:
        """The name by which an attachment claims this, unique on the node."""
        return f"masquerade-{self.address.ip}"

    def __str__(self) -> str:
        return f"masquerade for {self.address.ip}"


class HostPort(NamedTuple):
    """What arrives at a port of the node goes to a port of an address.

    `host_address` None stands for all of the node's addresses of the family. `conditions`, in the
    backend's own language, are what else a packet has to meet; see
    `pycni.firewall.nftables.conditions`.
    """

    protocol: str
    host_address: IPAddress | None
    host_port: int
    address: IPAddress
    port: int
    conditions: tuple[str, ...] = ()

    @property
    def claim(self) -> str:
        """The name by which an attachment claims this, unique on the node."""
        family = "ip" if self.address.version == 4 else "ip6"
        where = f"-{self.host_address}" if self.host_address else ""
        return f"hostport-{family}-{self.protocol}{where}-{self.host_port}"

    @property
    def published(self) -> str:
        """The side that others see."""
        everywhere = "0.0.0.0" if self.address.version == 4 else "[::]"
        host = self.host_address or everywhere
        bracketed = f"[{host}]" if ":" in str(host) and self.host_address else host
        return f"host port {bracketed}:{self.host_port}/{self.protocol}"

    def __str__(self) -> str:
        address = f"[{self.address}]" if self.address.version == 6 else self.address
        return f"{self.published} to {address}:{self.port}"


class SourceNat(NamedTuple):
    """Host port traffic to a port of an address gets the node's address as its source.

    That is needed from the address's own subnet, whose answers would bypass the node, and from
    127.0.0.0/8, which the answer could not be sent to. `everyone` means all other sources, too.
    `mark` is for iptables, which has the decision taken on a packet's way in and carried out on its
    way out: the bit of the packet's mark that tells, or somebody else's chain that sees to it.
    """

    protocol: str
    address: IPInterface
    port: int
    everyone: bool = False
    mark: int | str = MARK_BIT

    @property
    def claim(self) -> str:
        """The name by which an attachment claims this, unique on the node."""
        return f"sourcenat-{self.protocol}-{self.address.ip}-{self.port}"

    def __str__(self) -> str:
        return f"source NAT for {self.address.ip} port {self.port}/{self.protocol}"


class MacGuard(NamedTuple):
    """What comes from a port of a bridge with another source MAC than this one is dropped."""

    ifname: str
    mac: str

    @property
    def claim(self) -> str:
        """The name by which an attachment claims this, unique on the node."""
        return f"macguard-{self.ifname}"

    def __str__(self) -> str:
        return f"MAC check for {self.mac} at {self.ifname}"


class Address(NamedTuple):
    """An attachment has this address. Nothing carries that out; nobody else is to get it."""

    network: str
    address: IPAddress

    @property
    def claim(self) -> str:
        """The name by which an attachment claims this, unique on the node."""
        return attachments.address_claim(self.network, self.address)

    def __str__(self) -> str:
        return f"address {self.address}"


# What a backend translates; a MacGuard needs no backend to choose, see `pycni.firewall.macguard`.
Translation = Masquerade | HostPort | SourceNat

Entry = Translation | MacGuard | Address


def split(entries: Iterable[Entry]) -> tuple[list[MacGuard], list[Translation]]:
    """What `pycni.firewall.macguard` carries out, and what a backend does."""
    guards: list[MacGuard] = []
    translations: list[Translation] = []
    for entry in entries:
        if isinstance(entry, MacGuard):
            guards.append(entry)
        elif not isinstance(entry, Address):
            translations.append(entry)
    return guards, translations


def entry_to_record(entry: Entry) -> list[Any]:
    """As a JSON value for an attachment's record."""
    return [type(entry).__name__, *map(_to_json, entry)]


def _to_json(value: object) -> object:
    if isinstance(value, tuple):
        return list(value)
    return value if value is None or isinstance(value, int) else str(value)


def entry_from_record(fields: list[Any]) -> Entry:
    """The reverse of `entry_to_record`."""
    kind, *values = fields
    if kind == "Masquerade":
        return Masquerade(parse_prefixed(values[0]))
    if kind == "HostPort":
        # Older records have no conditions.
        protocol, host, host_port, address, port, conditions = (
            values if values[5:] else [*values, []]
        )
        host_address = parse_address(host) if host else None
        target = parse_address(address)
        ports = _parse_port(host_port), target, _parse_port(port)
        return HostPort(parse_protocol(protocol), host_address, *ports, _parse_words(conditions))
    if kind == "MacGuard":
        ifname, mac = values
        return MacGuard(parse_ifname(ifname), parse_mac(mac))
    if kind == "Address":
        network, address = values
        return Address(str(network), parse_address(address))
    if kind != "SourceNat":
        raise ValueError(f"{kind!r} is no kind of entry")
    # Nor the mark.
    protocol, prefixed, port, everyone, mark = values if values[4:] else [*values, MARK_BIT]
    if not isinstance(mark, (int, str)) or not isinstance(everyone, (bool, int)):
        raise ValueError(f"{mark!r} is no mark, or {everyone!r} no yes or no")
    address, port = parse_prefixed(prefixed), _parse_port(port)
    return SourceNat(parse_protocol(protocol), address, port, bool(everyone), mark)


def _parse_port(value: object) -> int:
    if not isinstance(value, int) or not 1 <= value <= 65535:
        raise ValueError(f"{value!r} is no port")
    return value


def _parse_words(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise ValueError(f"{value!r} is no list of strings")
    return tuple(value)
