"""Elements of the firewall's maps: what the kernel is told is what nft would tell it."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from cni.net.addresses import parse_address, parse_prefixed
from pycni.firewall.entries import HostPort, Masquerade, SourceNat, Translation, entry_to_record
from pycni.firewall.nftables import ruleset
from tests.support.node import Node

POD4, POD6 = parse_prefixed("10.1.0.5/16"), parse_prefixed("fd00::5/64")
ENTRIES: list[Translation] = [
    Masquerade(POD4),
    Masquerade(POD6),
    HostPort("tcp", None, 8080, POD4.ip, 80),
    HostPort("udp", None, 53, POD6.ip, 5353),
    HostPort("sctp", parse_address("192.0.2.1"), 8080, POD4.ip, 80),
    HostPort("tcp", parse_address("2001:db8::1"), 65535, POD6.ip, 1),
    SourceNat("tcp", POD4, 80),
    SourceNat("udp", POD6, 80, everyone=True),
]
ELEMENTS = [ruleset.element(entry) for entry in ENTRIES]
BASE = ruleset.base() + ruleset.network_chains("net", ruleset.subnets(ENTRIES))

CHANGE = """
import json, sys
from pycni.firewall.entries import entry_from_record
from pycni.firewall.nftables import elements, ruleset
from cni.net.netlink.socket import NetlinkError
deleted, added = (
    [ruleset.element(entry_from_record(fields)) for fields in argument]
    for argument in json.loads(sys.argv[1])
)
try:
    elements.change("pycni", deleted, added)
except NetlinkError as error:
    print(error.errno)
"""


def change(node: Node, deleted: list[Translation], added: list[Translation]) -> str:
    """Delete and add; the error's number, if any."""
    records = [[entry_to_record(entry) for entry in entries] for entries in (deleted, added)]
    return node.run(sys.executable, "-c", CHANGE, json.dumps(records)).stdout.strip()


def load(node: Node, text: str) -> None:
    node.run("nft", "-f", "-", stdin=text)


def listed(node: Node) -> Any:
    found = node.json("nft", "-j", "list", "ruleset")["nftables"]
    for item in found:
        for kind in item.values():
            kind.pop("handle", None)
            kind.get("elem", []).sort(key=repr)
    return found


def test_added(node: Node) -> None:
    """Adding each kind of element leaves what `nft add element` leaves."""
    load(node, BASE + ruleset.add(ELEMENTS))
    expected = listed(node)
    load(node, BASE)
    assert listed(node) != expected
    assert change(node, [], ENTRIES) == ""
    assert listed(node) == expected


def test_added_again(node: Node) -> None:
    """An element that is there is no error."""
    load(node, BASE + ruleset.add(ELEMENTS))
    expected = listed(node)
    assert change(node, [], ENTRIES) == ""
    assert listed(node) == expected


def test_deleted(node: Node) -> None:
    """Deleting each kind of element leaves none of them, and nothing else undone."""
    load(node, BASE)
    expected = listed(node)
    load(node, ruleset.add(ELEMENTS))
    assert change(node, ENTRIES, []) == ""
    assert listed(node) == expected


def test_replaced(node: Node) -> None:
    """A key leads somewhere else if what it led to is deleted in the same transaction."""
    other = HostPort("tcp", None, 8080, POD4.ip, 81)
    load(node, BASE + ruleset.add([ruleset.element(other)]))
    expected = listed(node)
    load(node, BASE + ruleset.add([ELEMENTS[2]]))
    assert change(node, [ENTRIES[2]], [other]) == ""
    assert listed(node) == expected


REFUSED = {
    "missing": ([ENTRIES[0]], []),
    "missing last": ([ENTRIES[2], ENTRIES[0]], []),
    "taken": ([], [ENTRIES[0], HostPort("tcp", None, 8080, POD4.ip, 81)]),
    "taken first": ([], [HostPort("tcp", None, 8080, POD4.ip, 81), ENTRIES[0]]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_all_or_none(node: Node, name: str) -> None:
    """If one element is refused, the error is told, and nothing has changed."""
    load(node, BASE + ruleset.add([ELEMENTS[2]]))
    expected = listed(node)
    assert change(node, *REFUSED[name]) != ""
    assert listed(node) == expected


def test_no_table(node: Node) -> None:
    """Without the table, that is the error."""
    assert change(node, [], ENTRIES) == "2"  # ENOENT
