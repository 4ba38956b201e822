"""Ranges: which addresses they hold, and in which order those are given."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from itertools import islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni.errors import InvalidConfig
from cni.net.addresses import IPNetwork, parse_address
from cni_plugins.host_local.ranges import RangeSet, parse_range_sets

Document = dict[str, Any]


def parse(*sets: list[Document], version: str = "1.0.0") -> tuple[RangeSet, ...]:
    return parse_range_sets({"ipam": {"ranges": list(sets)}}, version)


def offered(*ranges: Document, after: str | None = None) -> list[str]:
    (found,) = parse(list(ranges))
    return [str(a) for a in found.candidates(ip_address(after) if after else None)]


@st.composite
def subnets(draw: st.DrawFn) -> IPNetwork:
    """Small ones of both families, so that all of their addresses can be looked at."""
    bits, family = draw(st.sampled_from([(32, 4), (128, 6)]))
    length = draw(st.integers(bits - 7, bits - 2))
    highest = 224 * 2**24 if family == 4 else 2**120  # multicast is above
    number = draw(st.integers(2**24, highest - 1)) >> (bits - length) << (bits - length)
    address = ip_address(number) if family == 4 else ip_address(number | 0xFD << 120)
    return ip_network(f"{address}/{length}")


@st.composite
def sets(draw: st.DrawFn) -> list[Document]:
    """Pieces of one subnet that do not overlap, with all sorts of gateways."""
    subnet = draw(subnets())
    cuts = draw(st.lists(st.integers(0, subnet.num_addresses - 1), min_size=2, unique=True))
    cuts = sorted(cuts)[: len(cuts) // 2 * 2]
    pieces = draw(st.permutations([cuts[n : n + 2] for n in range(0, len(cuts), 2)]))
    gateways = st.none() | st.integers(0, subnet.num_addresses - 1)
    documents = []
    for start, end in pieces:
        document = {"subnet": str(subnet)}
        document |= {"rangeStart": str(subnet[start]), "rangeEnd": str(subnet[end])}
        gateway = draw(gateways)
        documents.append(document | ({} if gateway is None else {"gateway": str(subnet[gateway])}))
    return documents


@given(sets())
def test_nobody_gets_an_address_that_has_another_purpose(documents: list[Document]) -> None:
    """Offered addresses are unique, in a range, and no network, broadcast or gateway address."""
    (found,) = parse(documents)
    addresses = list(found.candidates())
    subnet = ip_network(documents[0]["subnet"])
    special = {subnet.network_address} | {r.gateway for r in found.ranges}
    special |= {subnet.broadcast_address} if subnet.version == 4 else set()
    expected = {a for a in subnet if any(r.covers(a) for r in found.ranges)} - special
    assert len(addresses) == len(set(addresses))
    assert set(addresses) == expected
    assert all(found.offers(a) == (a in expected) for a in subnet)


@given(sets(), st.data())
def test_round_robin_visits_each_address_once(
    documents: list[Document], data: st.DataObject
) -> None:
    """From any starting point each address comes once, in the same circle, the start last."""
    (found,) = parse(documents)
    circle = list(found.candidates())
    subnet = found.ranges[0].subnet
    after = subnet[data.draw(st.integers(0, subnet.num_addresses - 1))]
    visited = list(found.candidates(after))
    assert sorted(map(int, visited)) == sorted(map(int, circle))
    at = circle.index(visited[0]) if circle else 0
    assert visited == circle[at:] + circle[:at]
    if after in circle:
        assert visited[-1] == after


def test_a_subnet_is_enough() -> None:
    """The gateway is the first address by default, and the last IPv4 address is not offered."""
    assert offered({"subnet": "10.0.0.0/29"}) == [f"10.0.0.{n}" for n in range(2, 7)]


def test_ipv6_has_no_broadcast_address() -> None:
    """The last address of an IPv6 subnet is offered, as by the reference plugin."""
    assert offered({"subnet": "fd00::/126"}) == ["fd00::2", "fd00::3"]


def test_a_gateway_of_one_range_is_withheld_from_all() -> None:
    """A gateway is nobody's address, whichever range or set names it."""
    one = {"subnet": "10.0.0.0/24", "rangeStart": "10.0.0.4", "rangeEnd": "10.0.0.6"}
    two = one | {"rangeStart": "10.0.0.7", "rangeEnd": "10.0.0.9", "gateway": "10.0.0.5"}
    assert offered(one, two) == [f"10.0.0.{n}" for n in (4, 6, 7, 8, 9)]
    first, second = parse([one], [two])
    assert [str(a) for a in first.candidates()] == ["10.0.0.4", "10.0.0.6"]
    assert len(list(second.candidates())) == 3


def test_a_gateway_may_be_outside_of_the_subnet() -> None:
    """As the reference plugin allows it."""
    (found,) = parse([{"subnet": "10.0.0.0/24", "gateway": "192.0.2.1"}])
    assert str(found.describe(ip_address("10.0.0.1")).gateway) == "192.0.2.1"


def test_large_ranges_are_not_listed() -> None:
    """An IPv6 /64 is walked through lazily, from anywhere."""
    (found,) = parse([{"subnet": "fd00::/64"}])
    middle = parse_address("fd00::8000:0:0:0")
    assert [str(a) for a in islice(found.candidates(middle), 2)] == [
        "fd00::8000:0:0:1",
        "fd00::8000:0:0:2",
    ]


def test_a_start_that_is_in_no_range_means_the_beginning() -> None:
    """last_reserved_ip may be of another configuration."""
    range_ = {"subnet": "10.0.0.0/24", "rangeStart": "10.0.0.5", "rangeEnd": "10.0.0.7"}
    assert offered(range_, after="10.0.0.9") == ["10.0.0.5", "10.0.0.6", "10.0.0.7"]
    assert offered(range_, after="fd00::1") == ["10.0.0.5", "10.0.0.6", "10.0.0.7"]
    assert offered(range_, after="10.0.0.6") == ["10.0.0.7", "10.0.0.5", "10.0.0.6"]


def test_the_runtimes_ranges_come_first_then_the_old_style_one() -> None:
    """The order of range sets is runtimeConfig.ipRanges, ipam.subnet, ipam.ranges."""
    config = {
        "ipam": {"subnet": "10.2.0.0/24", "ranges": [[{"subnet": "10.3.0.0/24"}]]},
        "runtimeConfig": {"ipRanges": [[{"subnet": "10.1.0.0/24"}]]},
    }
    found = parse_range_sets(config, "1.0.0")
    assert [str(r.ranges[0].subnet) for r in found] == ["10.1.0.0/24", "10.2.0.0/24", "10.3.0.0/24"]
    assert [r.number for r in found] == [0, 1, 2]


def test_without_a_subnet_the_old_style_keys_say_nothing() -> None:
    """A lone ipam.gateway beside ranges is ignored, as by the reference plugin."""
    config = {"ipam": {"gateway": "10.9.9.9", "ranges": [[{"subnet": "10.1.0.0/24"}]]}}
    (found,) = parse_range_sets(config, "1.0.0")
    assert str(found.ranges[0].gateway) == "10.1.0.1"


V4 = {"subnet": "10.0.0.0/24"}
V6 = {"subnet": "fd00::/64"}


@pytest.mark.parametrize(
    ("ranges", "key", "value"),
    [
        ({"subnet": "10.0.0.0/31"}, "[0][0].subnet", "10.0.0.0/31"),
        ({"subnet": "10.0.0.1/32"}, "[0][0].subnet", "10.0.0.1/32"),
        ({"subnet": "fd00::/127"}, "[0][0].subnet", "fd00::/127"),
        ({"subnet": "fd00::1/128"}, "[0][0].subnet", "fd00::1/128"),
        ({"subnet": "10.0.0.1/24"}, "[0][0].subnet", "10.0.0.1/24"),
        ({"subnet": "::ffff:10.0.0.0/120"}, "[0][0].subnet", "::ffff:10.0.0.0/120"),
        (V4 | {"rangeStart": "10.0.1.1"}, "[0][0].rangeStart", "10.0.1.1"),
        (V4 | {"rangeEnd": "10.0.1.1"}, "[0][0].rangeEnd", "10.0.1.1"),
        (V4 | {"rangeEnd": "fd00::1"}, "[0][0].rangeEnd", "fd00::1"),
        (V4 | {"gateway": "fd00::1"}, "[0][0].gateway", "fd00::1"),
        (V4 | {"rangeStart": "10.0.0.9", "rangeEnd": "10.0.0.8"}, "[0][0].rangeEnd", "10.0.0.8"),
        (V4 | {"rangeStart": "10.0.0.255"}, "[0][0].rangeStart", "10.0.0.255"),
    ],
)
def test_a_range_that_makes_no_sense_is_named(ranges: Document, key: str, value: str) -> None:
    """The error names the key's path, the value, and what is wrong with it."""
    with pytest.raises(InvalidConfig) as caught:
        parse([ranges])
    assert caught.value.message == f"ipam.ranges{key}: {value} is not allowed"
    assert caught.value.details


@pytest.mark.parametrize(
    ("sets", "key"),
    [
        ([[V4, V6]], "[0][1].subnet"),
        ([[V4, V4]], "[0][1]"),
        ([[V4], [V6], [V4]], "[2][0]"),
        ([[V4 | {"rangeStart": "10.0.0.9", "rangeEnd": "10.0.0.10"}], [V4]], "[1][0]"),
        ([[{"subnet": "10.0.0.0/8"}], [V4]], "[1][0]"),
        ([[V4 | {"rangeEnd": "10.0.0.9"}, V4 | {"rangeStart": "10.0.0.9"}]], "[0][1]"),
    ],
)
def test_ranges_that_do_not_fit_together_are_named(sets: list[list[Document]], key: str) -> None:
    """Mixed families in a set, and any overlap within or between sets, containment included."""
    with pytest.raises(InvalidConfig) as caught:
        parse(*sets)
    assert caught.value.message.startswith(f"ipam.ranges{key}: ")
    assert "ipam.ranges[0][0]" in caught.value.details


def test_no_ranges_at_all_is_an_error() -> None:
    """The error says which keys could be used."""
    with pytest.raises(InvalidConfig, match=r"ipam\.ranges: missing"):
        parse()


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0"])
def test_old_versions_have_room_for_one_address_a_family(version: str) -> None:
    """Below 0.3.0 two sets of a family are refused, one of each is not."""
    assert len(parse([V4], [V6], version=version)) == 2
    with pytest.raises(InvalidConfig, match="one address a family"):
        parse([V4], [V6], [{"subnet": "10.1.0.0/24"}], version=version)
