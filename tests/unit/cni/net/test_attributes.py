"""Netlink attributes: how they are written and read."""

from __future__ import annotations

import sys

from hypothesis import given
from hypothesis import strategies as st

from cni.net.netlink.attributes import NESTED, attribute, nested, parse, string

_ORDER = sys.byteorder

KINDS = st.integers(0, 0x3FFF)
PAYLOADS = st.dictionaries(KINDS, st.binary(max_size=20), max_size=5)


@given(PAYLOADS)
def test_round_trip(payloads: dict[int, bytes]) -> None:
    """Attributes one after the other are read as they were written."""
    data = b"".join(attribute(kind, payload) for kind, payload in payloads.items())
    assert parse(data) == payloads


@given(KINDS, PAYLOADS)
def test_nested_round_trip(kind: int, payloads: dict[int, bytes]) -> None:
    """Attributes in an attribute are its payload, and its kind does not show that."""
    data = nested(kind, *(attribute(inner, payload) for inner, payload in payloads.items()))
    assert parse(parse(data)[kind]) == payloads
    assert int.from_bytes(data[2:4], _ORDER) == kind | NESTED


@given(KINDS, st.binary(max_size=20))
def test_alignment(kind: int, payload: bytes) -> None:
    """An attribute takes up a multiple of four bytes, padded with zeros."""
    data = attribute(kind, payload)
    assert len(data) % 4 == 0
    assert data[4 + len(payload) :].strip(b"\0") == b""


def test_as_the_kernel_has_it() -> None:
    """An attribute is its length without padding, its kind, its payload, in the host's order."""
    length, kind = (7).to_bytes(2, _ORDER), (2).to_bytes(2, _ORDER)
    assert string(2, "lo") == length + kind + b"lo\0" + b"\0"


@given(st.binary(max_size=40))
def test_any_bytes(data: bytes) -> None:
    """Bytes that are no attributes are read to their end, whatever comes out."""
    assert all(len(payload) < len(data) for payload in parse(data).values())
