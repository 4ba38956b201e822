"""Which gateways and routes follow from the addresses."""

from __future__ import annotations

from ipaddress import ip_interface, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni.net.addresses import IPInterface, parse_address, parse_prefixed
from cni.request import Add, parse_request
from cni.result import IPConfig, Result, Route
from cni_plugins.bridge.config import BridgeConfig, parse_config
from cni_plugins.bridge.gateway import conflicting, gateway_addresses, with_gateways

POD4, POD6 = IPConfig(parse_prefixed("10.1.0.5/16")), IPConfig(parse_prefixed("fd00::5/64"))
EVERYWHERE4, EVERYWHERE6 = ip_network("0.0.0.0/0"), ip_network("::/0")


def config(**keys: object) -> BridgeConfig:
    environ = {"CNI_CONTAINERID": "pod", "CNI_NETNS": "/run/netns/pod", "CNI_IFNAME": "eth0"}
    request = parse_request({**environ, "CNI_COMMAND": "ADD"}, {"name": "net", **keys})
    assert isinstance(request, Add)
    return parse_config(request)


def test_no_gateway() -> None:
    """A bridge that is no gateway leaves the IPAM plugin's result as it is."""
    result = Result(ips=(POD4,), routes=(Route(EVERYWHERE4),))
    assert with_gateways(result, config()) == result


@pytest.mark.parametrize("key", ["isGateway", "isDefaultGateway"])
def test_the_first_address(key: str) -> None:
    """A gateway has the first address of each subnet."""
    result = with_gateways(Result(ips=(POD4, POD6)), config(**{key: True}))
    assert [str(ip.gateway) for ip in result.ips] == ["10.1.0.1", "fd00::1"]


def test_a_named_gateway() -> None:
    """A gateway that the IPAM plugin named is kept."""
    named = POD4._replace(gateway=parse_address("10.1.255.254"))
    assert with_gateways(Result(ips=(named,)), config(isGateway=True)).ips == (named,)


def test_no_default_route() -> None:
    """isGateway alone makes no routes."""
    assert with_gateways(Result(ips=(POD4,)), config(isGateway=True)).routes == ()


def test_default_routes() -> None:
    """isDefaultGateway makes a default route by the gateway of each family."""
    result = with_gateways(Result(ips=(POD4, POD6)), config(isDefaultGateway=True))
    assert result.routes == (
        Route(EVERYWHERE4, parse_address("10.1.0.1")),
        Route(EVERYWHERE6, parse_address("fd00::1")),
    )


def test_a_default_route_that_is_there() -> None:
    """A default route with a gateway of its own is the only one of its family."""
    own = Route(EVERYWHERE4, parse_address("10.1.0.254"))
    result = with_gateways(Result(ips=(POD4,), routes=(own,)), config(isDefaultGateway=True))
    assert result.routes == (own,)


def test_one_default_route_a_family() -> None:
    """Two addresses of a family make one default route."""
    other = IPConfig(parse_prefixed("10.2.0.5/16"))
    result = with_gateways(Result(ips=(POD4, other)), config(isDefaultGateway=True))
    assert result.routes == (Route(EVERYWHERE4, parse_address("10.1.0.1")),)


def test_gateway_addresses() -> None:
    """The bridge gets each gateway's address once, with its subnet's prefix length."""
    gateway = parse_address("10.1.0.1")
    ips = [POD4._replace(gateway=gateway), POD4._replace(gateway=gateway), POD6]
    assert gateway_addresses(ips) == [parse_prefixed("10.1.0.1/16")]


# Addresses that cannot stay


@pytest.mark.parametrize(
    ("wanted", "present", "expected"),
    [
        ("10.1.0.1/16", "10.1.0.1/16", False),
        ("10.1.0.1/16", "10.1.0.2/16", True),
        ("10.1.0.1/16", "10.1.0.1/24", True),
        ("10.1.0.1/16", "192.168.0.1/24", True),
        ("10.1.0.1/16", "fd00::1/64", False),
        ("fd00::1/64", "10.1.0.1/16", False),
        ("fd00::1/64", "fe80::1/64", False),
        ("fd00::1/64", "fd00::2/64", True),
        ("fd00::1/64", "fd00::1/48", True),
        ("fd00::1/64", "fd00:1::1/64", False),
    ],
)
def test_conflicts(wanted: str, present: str, expected: bool) -> None:
    """A bridge has one IPv4 subnet, and IPv6 subnets that do not overlap."""
    found = conflicting([parse_prefixed(wanted)], [parse_prefixed(present)])
    assert found == ([parse_prefixed(present)] if expected else [])


# Few enough that they are often the same or overlap.
_IPV4 = st.tuples(st.integers(0x0A000001, 0x0A000004), st.integers(28, 31))
_IPV6 = st.tuples(st.integers(0xFD << 120, (0xFD << 120) + 3), st.integers(125, 127))
_ADDRESSES = st.lists((_IPV4 | _IPV6).map(ip_interface), max_size=4)


@given(_ADDRESSES, _ADDRESSES)
def test_what_stays(wanted: list[IPInterface], present: list[IPInterface]) -> None:
    """What conflicts was there and is not wanted; without it, nothing conflicts any more."""
    found = conflicting(wanted, present)
    assert set(found) <= set(present) - set(wanted)
    rest = [address for address in present if address not in found]
    assert conflicting(wanted, rest) == []


@given(_ADDRESSES)
def test_wanted_addresses_go_together(wanted: list[IPInterface]) -> None:
    """A second ADD of the same network finds no conflict in what the first one left."""
    assert conflicting(wanted, wanted) == []


@given(_ADDRESSES)
def test_no_gateway_no_conflict(present: list[IPInterface]) -> None:
    """Where nothing is wanted, everything may stay."""
    assert conflicting([], present) == []
