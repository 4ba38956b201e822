"""What needs no kernel that can filter VLANs: refusals, and what is said where it cannot."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.kernel import can_filter_vlans
from tests.support.network import Network, remains
from tests.support.node import Node

NOBODY: dict[str, Any] = dict.fromkeys(("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"))


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"vlan": -1}, ["vlan: -1 is not allowed", "0 to 4094"]),
        ({"vlan": 4095}, ["vlan: 4095 is not allowed", "0 to 4094"]),
        ({"vlan": "100"}, ['vlan: "100" is not allowed', "0 to 4094"]),
        ({"vlanTrunk": {"id": 1}}, ["vlanTrunk: ", "a list"]),
        ({"vlanTrunk": [100]}, ["vlanTrunk[0]: 100 is not allowed", "an object"]),
        ({"vlanTrunk": [{"id": 0}]}, ["vlanTrunk[0].id: 0 is not allowed", "1 to 4094"]),
        ({"vlanTrunk": [{"minID": 1, "maxID": 4095}]}, ["vlanTrunk[0].maxID: 4095", "1 to 4094"]),
        ({"vlanTrunk": [{"id": 1}, {"minID": 3}]}, ["vlanTrunk[1].maxID: missing"]),
        ({"vlanTrunk": [{"minID": 3, "maxID": 2}]}, ["vlanTrunk[0].minID: 3", "1 to 2"]),
        ({"preserveDefaultVlan": 1}, ["preserveDefaultVlan: 1", "true or false"]),
        ({"macspoofchk": "yes"}, ['macspoofchk: "yes"', "true or false"]),
        ({"vlan": 4094, "bridge": "elevenbytes"}, ['bridge: "elevenbytes"', "a shorter name"]),
    ],
)
@pytest.mark.parametrize("verb", ["ADD", "STATUS"])
def test_invalid_configuration(node: Node, verb: str, keys: Any, words: list[str]) -> None:
    """A wrong value is refused with code 7, its key's path and what is allowed."""
    network = Network(node, **keys)
    answer = network.add() if verb == "ADD" else node.cni(verb, "bridge", network.config, **NOBODY)
    assert (answer.code, answer.document["code"]) == (1, 7)
    said = f"{answer.document['msg']} {answer.document['details']}"
    assert all(word in said for word in words), said
    assert remains(node) == []


@pytest.mark.parametrize(
    ("keys", "key"),
    [({"vlan": 100}, "vlan: 100"), ({"vlanTrunk": [{"id": 7}]}, "vlanTrunk")],
)
def test_what_the_kernel_can(node: Node, keys: Any, key: str) -> None:
    """If the kernel cannot filter VLANs, STATUS has code 50, and ADD fails and leaves nothing."""
    network = Network(node, **keys)
    status = node.cni("STATUS", "bridge", network.config, **NOBODY)
    assert [item["ifname"] for item in node.json("ip", "-j", "link")] == ["lo"]
    added = network.add()
    if can_filter_vlans():
        assert (status.document, added.ok) == (None, True)
        return
    assert (status.document["code"], added.code) == (50, 1)
    for answer in (status, added):
        assert answer.document["msg"] == f"{key} is not possible on this node"
        assert "cannot filter VLANs" in answer.document["details"]
    assert [item["ifname"] for item in node.json("ip", "-j", "link")] == ["lo"]
    assert remains(node) == []


def test_status_beside_a_bridge(node: Node) -> None:
    """STATUS knows it as well where there is the bridge, and leaves that as it is."""
    node.run("ip", "link", "add", "br0", "type", "bridge")
    before = node.json("ip", "-j", "-d", "link")
    answer = node.cni("STATUS", "bridge", Network(node, vlan=100).config, **NOBODY)
    assert answer.ok == can_filter_vlans()
    assert node.json("ip", "-j", "-d", "link") == before


@pytest.mark.parametrize("keys", [{"vlan": 0}, {"vlanTrunk": None}, {"preserveDefaultVlan": True}])
def test_nothing_asked_for(node: Node, keys: Any) -> None:
    """What asks for no VLAN works on any kernel."""
    network = Network(node, **keys)
    assert network.check(network.attach()).ok
