"""Mappings that lead nowhere: nothing is published, and that is said."""

from __future__ import annotations

from tests.support.node import Node
from tests.support.ports import add_pod, port, portmap
from tests.support.rulesets import published


def test_no_address_of_the_interface(node: Node) -> None:
    """If no address in prevResult is of CNI_IFNAME, ADD goes well and warns."""
    answer = portmap(node, "ADD", add_pod(node), port(), ifname="eth7")
    assert answer.ok
    assert "no port is published" in answer.stderr
    assert "eth7" in answer.stderr
    assert not published(node)


def test_no_mappings(node: Node) -> None:
    """Without mappings nothing is warned of."""
    answer = portmap(node, "ADD", add_pod(node), ifname="eth7")
    assert (answer.ok, answer.stderr) == (True, "")


def test_addresses_of_an_old_version(node: Node) -> None:
    """A prevResult with addresses as of 0.2.0 is refused in a later version, by the key."""
    pod = add_pod(node)
    result = {"cniVersion": "1.0.0", "ip4": {"ip": f"{pod.ipv4}/24"}}
    answer = portmap(node, "ADD", pod, port(), prevResult=result)
    assert answer.document["code"] == 7
    assert "prevResult.ip4" in answer.document["msg"]
