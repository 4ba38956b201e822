"""How the reference plugins name their rules, as v1.1.1 and v1.9.1 do, and how we read them."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest

from cni.net.netlink.attributes import attribute, nested, string
from cni.request import Attachment
from pycni.migrate import reference, rules
from pycni.migrate.legacy import LegacyRule
from pycni.migrate.rules import Chain, Rule

ID = "cnitool-9539caf00070aeae0bd6"
OWNER = Attachment("net", ID, "eth0")
NAT = Chain("ip", "nat", "POSTROUTING")


@pytest.mark.parametrize(
    ("prefix", "name"),
    [("CNI-", "CNI-b43ec2a61a17548fbc332147"), ("CNI-DN-", "CNI-DN-b43ec2a61a17548fbc332")],
)
def test_chain(prefix: str, name: str) -> None:
    """An attachment's chains are named by a hash of its network and its container."""
    assert reference._chain(prefix, "ip", "net", ID) == ("ip", "nat", name)


def test_comment() -> None:
    """The comments of its masquerade rules begin with hashes of its network, and of the rest."""
    comment = f"a4861f4ae9f7d238-807f3e8ec4906fd4, net: net, if: eth0, id: {ID}"
    rule = Rule(NAT, b"", None, comment, b"")
    assert reference._mark(rule) == reference._instance(OWNER)


@pytest.mark.parametrize(
    ("text", "address", "is_mentioned"),
    [
        ("-s 10.22.0.2/32 -j CNI-0", "10.22.0.2", True),
        ("-s 10.22.0.2/32 -j CNI-0", "10.22.0.20", False),
        ("-s 10.22.0.20/32 -j CNI-0", "10.22.0.2", False),
        ("-s 110.22.0.2/32 -j CNI-0", "10.22.0.2", False),
        ("-p tcp -j DNAT --to-destination 10.22.0.2:80", "10.22.0.2", True),
        ("-p tcp -j DNAT --to-destination [fd00::2]:80", "fd00::2", True),
        ("-p tcp -j DNAT --to-destination [fd00::2:1]:80", "fd00::2", False),
        ("-s fd00::2/128 -j CNI-0", "fd00::2", True),
        ("-s fd00::/64 -j CNI-0", "fd00::2", False),
    ],
)
def test_legacy_address(text: str, address: str, is_mentioned: bool) -> None:
    """An address is told from those that only look like it."""
    assert LegacyRule(NAT, text).mentions(ip_address(address)) == is_mentioned


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("-s 10.22.0.2/32 -j CNI-0", "CNI-0"),
        ('-m comment --comment "to -j CNI-1" -j CNI-0', "CNI-0"),
        ("-g CNI-0", "CNI-0"),
        ("-s 10.22.0.2/32", None),
    ],
)
def test_legacy_target(text: str, target: str | None) -> None:
    """Where a rule leads is told by its last jump: a comment may hold one as well."""
    assert LegacyRule(NAT, text).target == target


def _expression(name: str, *data: bytes) -> bytes:
    return nested(1, string(1, name), nested(2, *data))


def test_target() -> None:
    """Where a rule of nftables leads is told by its verdict."""
    verdict = nested(2, nested(2, attribute(1, struct.pack("!i", -3)), string(2, "CNI-0")))
    counter = _expression("counter", attribute(1, bytes(8)))
    assert rules._find_target(counter + _expression("immediate", verdict)) == "CNI-0"
    assert rules._find_target(counter) is None


def test_userdata() -> None:
    """A comment is found among what else a rule's userdata holds."""
    assert rules._find_comment(b"\x07\x02ab\x00\x04pod\0") == "pod"
    assert rules._find_comment(b"\x07\x02ab") == ""
    assert rules._find_comment(b"") == ""
