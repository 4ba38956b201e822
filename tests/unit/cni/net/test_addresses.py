"""Addresses: which an interface may have, and what is said of others."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni.net.addresses import parse_address, parse_mac, parse_prefixed, random_mac


@given(st.ip_addresses())
def test_addresses(address: IPv4Address | IPv6Address) -> None:
    """An address is what its text says; one that maps an IPv4 address is that one."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    assert parse_address(str(address)) == (mapped or address)


def test_mapped_addresses() -> None:
    """::ffff:10.1.2.3 is 10.1.2.3."""
    assert parse_address("::ffff:10.1.2.3") == IPv4Address("10.1.2.3")


@pytest.mark.parametrize(
    "text",
    [
        *("", "10.1.2", "10.1.2.3/16", "10.1.2.256", "010.1.2.3", " 10.1.2.3", "10.1.2.3\n"),
        *("fe80::1%eth0", "::1%1", "localhost", "16909060", "1::2::3", "[::1]", "\uff11.2.3.4"),
    ],
)
def test_no_addresses(text: str) -> None:
    """Anything that is not just an address is refused: zones, prefix lengths, names, spaces."""
    with pytest.raises(ValueError, match=r"."):
        parse_address(text)


@pytest.mark.parametrize("text", ["10.1.2.3/16", "0.0.0.0/0", "10.1.2.3/32", "fd00::1/64"])
def test_prefixed(text: str) -> None:
    """An address keeps its host bits and its prefix length."""
    assert str(parse_prefixed(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        *("", "10.1.2.3", "10.1.2.3/", "/16", "10.1.2.3/33", "fd00::1/129", "10.1.2.3/255.255.0.0"),
        *(
            "10.1.2.3/-1",
            "10.1.2.3/+1",
            "10.1.2.3/16/16",
            "10.1.2.3/16\n",
            "fe80::1%eth0/64",
            "a/8",
        ),
    ],
)
def test_not_prefixed(text: str) -> None:
    """Netmasks, zones and bare addresses are refused."""
    with pytest.raises(ValueError, match=r"."):
        parse_prefixed(text)


@pytest.mark.parametrize(
    ("text", "mac"),
    [
        ("0a:58:0A:16:00:05", "0a:58:0a:16:00:05"),
        ("0A-58-0a-16-00-05", "0a:58:0a:16:00:05"),
    ],
)
def test_macs(text: str, mac: str) -> None:
    """A MAC address is written with colons or dashes, in either case."""
    assert parse_mac(text) == mac


@pytest.mark.parametrize(
    "text",
    [
        *("", "0a:58:0a:16:00", "0a:58:0a:16:00:05:06", "0a580a160005", "0a:58-0a:16:00:05"),
        *("0a:58:0a:16:00:0g", "0a:58:0a:16:00:05\n", "0:5:a:1:0:5", "00:00:00:00:00:00"),
        *("01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff"),
    ],
)
def test_no_macs(text: str) -> None:
    """What is no address of one interface is refused: groups, zero, other lengths."""
    with pytest.raises(ValueError, match=r"."):
        parse_mac(text)


def test_random_macs() -> None:
    """A random MAC is a locally administered address of one interface, and another each time."""
    macs = {random_mac() for _ in range(100)}
    assert len(macs) == 100
    for mac in macs:
        assert parse_mac(mac) == mac
        assert int(mac[:2], 16) & 0b11 == 0b10
