"""IP and MAC addresses as text: strict parsers around the standard library's types.

CNI documents write addresses as Go's net package does. Python's ipaddress is more liberal (zone
suffixes, netmasks behind the slash, bare addresses as networks), so what it takes beyond that is
refused here. All parsers raise ValueError with a message that quotes the text.

Source: RFC 4291, sections 2.2 and 2.5.5.2; IEEE 802, section 8.2; ParseIP and ParseCIDR of Go.
"""

from __future__ import annotations

import os
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
)

IPAddress = IPv4Address | IPv6Address
IPInterface = IPv4Interface | IPv6Interface
IPNetwork = IPv4Network | IPv6Network

# `re` takes longer to import than all that is parsed here.
_HEXADECIMAL = frozenset("0123456789ABCDEFabcdef")
_OF_ADDRESSES = _HEXADECIMAL | set(".:")
_DECIMAL = frozenset("0123456789")


def parse_address(text: str) -> IPAddress:
    """`10.1.2.3` or `fd00::1`; an IPv4-mapped IPv6 address is the IPv4 address that it maps."""
    if "%" in text:
        raise ValueError(f"{text!r} has a zone")
    address = ip_address(text)
    mapped = address.ipv4_mapped if address.version == 6 else None
    return mapped or address


def parse_prefixed(text: str) -> IPInterface:
    """`10.1.2.3/16` or `fd00::1/64`: an address together with its subnet's prefix length."""
    address, _, length = text.partition("/")
    written = address and length and _OF_ADDRESSES.issuperset(address)
    if not written or not _DECIMAL.issuperset(length) or len(length) > 3:
        raise ValueError(f"{text!r} is not of the form ADDRESS/PREFIX-LENGTH")
    return ip_interface(text)


def parse_mac(text: str) -> str:
    """`0a:58:0a:16:00:05` in lower case. Group addresses belong to no interface and are refused."""
    pairs = text.split("-" if "-" in text else ":")
    if [len(pair) for pair in pairs] != [2] * 6 or not _HEXADECIMAL.issuperset("".join(pairs)):
        raise ValueError(f"{text!r} is not six pairs of hexadecimal digits")
    mac = ":".join(pairs).lower()
    if int(mac[:2], 16) & 1:
        raise ValueError(f"{text!r} is a group address")
    if mac == "00:00:00:00:00:00":
        raise ValueError(f"{text!r} is no address")
    return mac


def random_mac() -> str:
    """A unicast, locally administered MAC address (IEEE 802, section 8.2), as the kernel makes."""
    octets = bytearray(os.urandom(6))
    octets[0] = (octets[0] & 0xFE) | 0x02
    return octets.hex(":")
