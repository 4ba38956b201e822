"""Netlink attributes as bytes: what every message to the kernel is made of.

Source: netlink(7), include/net/netlink.h (nla_put, nla_parse).
"""

from __future__ import annotations

import struct

from cni import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

NESTED = 0x8000

_HEADER = struct.Struct("=HH")
_U32 = struct.Struct("=I")


def attribute(kind: int, payload: bytes) -> bytes:
    """An attribute, padded so that another one may follow."""
    return _HEADER.pack(_HEADER.size + len(payload), kind) + payload + b"\0" * (-len(payload) % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    """An attribute that holds attributes."""
    return attribute(kind | NESTED, b"".join(attributes))


def string(kind: int, text: str) -> bytes:
    """An attribute that holds a NUL-terminated string."""
    return attribute(kind, text.encode() + b"\0")


def u32(kind: int, number: int) -> bytes:
    """An attribute that holds a number, as the machine has it."""
    return attribute(kind, _U32.pack(number))


def parse(data: bytes) -> dict[int, bytes]:
    """The payloads of attributes, by kind."""
    return dict(split(data))


def parse_list(data: bytes) -> list[bytes]:
    """The payloads of attributes that are all of one kind, in their order."""
    return [payload for _, payload in split(data)]


def parse_string(payload: bytes) -> str:
    """The reverse of `string`."""
    return payload.rstrip(b"\0").decode(errors="replace")


def parse_u32(payload: bytes) -> int:
    """The reverse of `u32`."""
    return int(_U32.unpack_from(payload)[0])


def split(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind and payload of each attribute, in order; a kind may be there more than once."""
    position, end = 0, len(data)
    while end - position >= _HEADER.size:
        length, kind = _HEADER.unpack_from(data, position)
        yield kind & ~NESTED, data[position + _HEADER.size : position + length]
        position += max(_HEADER.size, (length + 3) & ~3)
