"""A node whose firewall library was removed, with rules in force."""

from __future__ import annotations

import pytest

from tests.support.network import Network, remains, without_firewalls
from tests.support.node import Node
from tests.support.rulesets import masqueraded


@pytest.mark.parametrize("keys", [{"ipMasq": True}, {"ipMasq": False, "macspoofchk": True}])
def test_last_delete(node: Node, keys: dict[str, bool]) -> None:
    """The last DEL needs no library: it leaves no rules and nothing else."""
    network = Network(node, **keys)
    network.attach()
    with without_firewalls(node):
        assert network.delete().ok
    assert remains(node) == []


def test_last_of_a_network(node: Node) -> None:
    """Nor does the last DEL of a network, whose empty chains stay until the library is back."""
    other = Network(
        node, name="other", bridge="br1", ipam={"type": "host-local", "subnet": "10.23.0.0/24"}
    )
    stays = other.attach("stays")
    network = Network(node)
    network.attach()
    with without_firewalls(node):
        assert network.delete().ok
    assert set(masqueraded(node)) == {stays.ipv4}
    assert other.delete("stays").ok
    assert remains(node) == []
