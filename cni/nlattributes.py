"""Netlink attributes as bytes: what conntrack, nftables and socket queries are made of.

Source: netlink(7), include/net/netlink.h (nla_put, nla_parse).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

NESTED = 0x8000

_HEADER = struct.Struct("=HH")


def attribute(kind: int, payload: bytes) -> bytes:
    """An attribute, padded so that another one may follow."""
    return _HEADER.pack(_HEADER.size + len(payload), kind) + payload + b"\0" * (-len(payload) % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    """An attribute that holds attributes."""
    return attribute(kind | NESTED, b"".join(attributes))


def string(kind: int, text: str) -> bytes:
    """An attribute that holds a NUL-terminated string."""
    return attribute(kind, text.encode() + b"\0")


def parse(data: bytes) -> dict[int, bytes]:
    """The payloads of attributes, by kind."""
    return dict(_split(data))


def _split(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _HEADER.size:
        length, kind = _HEADER.unpack_from(data)
        yield kind & ~NESTED, data[_HEADER.size : length]
        data = data[max(_HEADER.size, (length + 3) & ~3) :]
