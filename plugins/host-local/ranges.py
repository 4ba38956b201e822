"""Which addresses a configuration offers, and the order in which they are tried. No I/O here.

A range is a piece of one subnet. A range set is a list of ranges of one family that are used up one
after the other; an attachment gets one address of each set, so a dual-stack network has two sets.
"""

from __future__ import annotations

from bisect import bisect_right
from ipaddress import ip_interface
from math import inf

from cni import TYPE_CHECKING
from cni.errors import InvalidConfig
from cni.namedtuple import NamedTuple
from cni.net.addresses import IPAddress, IPNetwork, parse_address, parse_prefixed
from cni.result import IPConfig
from cni.versions import at_least

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any


class Range(NamedTuple):
    """The addresses from `start` to `end`, both included, as the configuration has it at `key`."""

    key: str
    subnet: IPNetwork
    start: IPAddress
    end: IPAddress
    gateway: IPAddress

    def covers(self, address: IPAddress) -> bool:
        same_family = address.version == self.subnet.version
        return same_family and int(self.start) <= int(address) <= int(self.end)

    def overlaps(self, other: Range) -> bool:
        return self.covers(other.start) or other.covers(self.start)

    def __str__(self) -> str:
        return f"{self.start}-{self.end}"


class RangeSet(NamedTuple):
    """The ranges out of which an attachment gets one address.

    `withheld` are the addresses that nobody gets. They come from all sets, for a network that has
    two sets in one subnet must not lease the gateway of one as an address of the other.
    """

    number: int
    ranges: tuple[Range, ...]
    withheld: frozenset[IPAddress] = frozenset()

    def offers(self, address: IPAddress) -> bool:
        return address not in self.withheld and any(r.covers(address) for r in self.ranges)

    def candidates(self, after: IPAddress | None = None) -> Iterator[IPAddress]:
        """Every address that may be leased, once, the one behind `after` first and `after` last.

        Lazily, for an IPv6 range has more addresses than anybody could list.
        """
        family = type(self.ranges[0].start)
        for first, last in self._spans(after):
            for number in range(first, last + 1):
                address = family(number)
                if address not in self.withheld:
                    yield address

    def _spans(self, after: IPAddress | None) -> list[tuple[int, int]]:
        """The ranges as numbers, turned so that they start behind `after` if one covers it."""
        spans = [(int(r.start), int(r.end)) for r in self.ranges]
        for n, (first, last) in enumerate(spans):
            if after is not None and self.ranges[n].covers(after):
                here = int(after)
                return [(here + 1, last), *spans[n + 1 :], *spans[:n], (first, here)]
        return spans

    def describe(self, address: IPAddress) -> IPConfig:
        """One of the set's addresses, with its subnet's prefix length and gateway."""
        home = next(r for r in self.ranges if r.covers(address))
        return IPConfig(ip_interface((address, home.subnet.prefixlen)), home.gateway)

    def __str__(self) -> str:
        return ", ".join(map(str, self.ranges))


class Catalogue:
    """Which of several range sets offers an address, without asking each of them."""

    def __init__(self, sets: Sequence[RangeSet]) -> None:
        self._ranges = sorted(
            (r.start.version, int(r.start), int(r.end), n)
            for n, ranges in enumerate(sets)
            for r in ranges.ranges
        )
        self._sets = sets

    def find(self, address: IPAddress) -> RangeSet | None:
        """The set that covers the address, one at most as ranges do not overlap, and gives it."""
        number = int(address)
        at = bisect_right(self._ranges, (address.version, number, inf))
        version, _, end, n = self._ranges[at - 1] if at else (0, 0, 0, 0)
        if version != address.version or end < number:
            return None
        return None if address in self._sets[n].withheld else self._sets[n]


def parse_range_sets(config: Mapping[str, Any], version: str) -> tuple[RangeSet, ...]:
    """All range sets of a configuration that its schema allows.

    The runtime's come first, then the one that is written straight into `ipam`, then `ranges`.
    Raises InvalidConfig that names the key.
    """
    ipam = config["ipam"]
    sets = _parse_sets("runtimeConfig.ipRanges", config.get("runtimeConfig", {}).get("ipRanges"))
    # Without a subnet, the other three keys beside it say nothing, as in the reference plugin.
    sets += [[_parse_range("ipam", ipam)]] if "subnet" in ipam else []
    sets += _parse_sets("ipam.ranges", ipam.get("ranges"))
    if not sets:
        raise InvalidConfig("ipam.ranges: missing", "host-local needs `ranges` or `subnet`")
    _require_one_family(sets)
    _require_no_overlap(sets)
    if not at_least(version, "0.3.0"):
        _require_one_set_a_family(sets, version)
    withheld = frozenset(a for ranges in sets for r in ranges for a in _withheld_by(r))
    return tuple(RangeSet(n, tuple(ranges), withheld) for n, ranges in enumerate(sets))


def _parse_sets(key: str, documents: Sequence[Sequence[Any]] | None) -> list[list[Range]]:
    return [
        [_parse_range(f"{key}[{n}][{m}]", document) for m, document in enumerate(ranges)]
        for n, ranges in enumerate(documents or [])
    ]


def _parse_range(key: str, document: Mapping[str, Any]) -> Range:
    subnet = _parse_subnet(f"{key}.subnet", document["subnet"])
    # The last IPv4 address is for broadcasts; the last IPv6 address is one like any other.
    last = subnet[-2] if subnet.version == 4 else subnet[-1]
    start = _parse_member(key, "rangeStart", document, subnet) or subnet[1]
    end = _parse_member(key, "rangeEnd", document, subnet) or last
    if int(start) > int(end):
        name = "rangeEnd" if document.get("rangeEnd") else "rangeStart"
        raise _not_allowed(f"{key}.{name}", document[name], f"{start}-{end} would be no range")
    gateway = parse_address(document["gateway"]) if document.get("gateway") else subnet[1]
    if gateway.version != subnet.version:
        why = f"allowed: an IPv{subnet.version} address, as in {subnet}"
        raise _not_allowed(f"{key}.gateway", gateway, why)
    return Range(key, subnet, start, end, gateway)


def _parse_subnet(key: str, text: str) -> IPNetwork:
    written = parse_prefixed(text)
    subnet = written.network
    longest = subnet.max_prefixlen - 2
    if written.ip != subnet.network_address:
        raise _not_allowed(key, text, f"it has host bits set; the subnet is {subnet}")
    if subnet.prefixlen > longest:
        raise _not_allowed(key, text, f"it is too small; allowed: prefix lengths up to {longest}")
    if written.version == 6 and written.ip.ipv4_mapped is not None:
        raise _not_allowed(key, text, "an IPv4 subnet is written as one")
    if not _is_for_interfaces(subnet):
        raise _not_allowed(key, text, "the kernel gives no interface such an address")
    return subnet


def _is_for_interfaces(subnet: IPNetwork) -> bool:
    """Whether it is neither multicast nor 0.0.0.0/8, and does not begin with :: and ::1."""
    first = subnet.network_address
    is_zero = first.packed[0] == 0 if subnet.version == 4 else first.is_unspecified
    return not (subnet.is_multicast or is_zero)


def _parse_member(
    key: str, name: str, document: Mapping[str, Any], subnet: IPNetwork
) -> IPAddress | None:
    """An address that has to be one of the subnet's; None if it is not given."""
    if not document.get(name):
        return None
    address = parse_address(document[name])
    if address not in subnet:
        raise _not_allowed(f"{key}.{name}", address, f"allowed: an address in {subnet}")
    return address


def _require_one_family(sets: Sequence[Sequence[Range]]) -> None:
    for first, *others in sets:
        for other in others:
            if other.subnet.version != first.subnet.version:
                why = f"allowed: IPv{first.subnet.version}, as {first.key} of the same set"
                raise _not_allowed(f"{other.key}.subnet", other.subnet, why)


def _require_no_overlap(sets: Sequence[Sequence[Range]]) -> None:
    """In the order of their addresses, only the one that reaches furthest can overlap the next."""
    ranges = [r for ranges in sets for r in ranges]
    order = sorted(range(len(ranges)), key=lambda n: (ranges[n].subnet.version, ranges[n].start))
    furthest = None
    for n in order:
        if furthest is not None and ranges[furthest].overlaps(ranges[n]):
            earlier, later = (ranges[m] for m in sorted((furthest, n)))
            raise _not_allowed(later.key, later, f"it overlaps {earlier.key}, {earlier}")
        furthest = n


def _require_one_set_a_family(sets: Sequence[Sequence[Range]], version: str) -> None:
    seen: dict[int, str] = {}
    for first, *_ in sets:
        earlier = seen.setdefault(first.subnet.version, first.key)
        if earlier != first.key:
            why = f"cniVersion {version} has room for one address a family; {earlier} gives it"
            raise _not_allowed(first.key, first, why)


def _withheld_by(offered: Range) -> Iterator[IPAddress]:
    """The subnet's own address, its IPv4 broadcast address, and the gateway's."""
    yield offered.subnet.network_address
    if offered.subnet.version == 4:
        yield offered.subnet.broadcast_address
    yield offered.gateway


def _not_allowed(key: str, value: object, why: str) -> InvalidConfig:
    return InvalidConfig(f"{key}: {value} is not allowed", why)
