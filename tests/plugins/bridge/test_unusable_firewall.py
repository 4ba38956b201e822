"""A firewall that cannot be used for a while, with rules in force."""

from __future__ import annotations

import pytest

from tests.support.network import Network, remains, without_firewalls
from tests.support.node import Node


@pytest.mark.parametrize("keys", [{"ipMasq": True}, {"ipMasq": False, "macspoofchk": True}])
def test_delete_while_rules_are_in_force(node: Node, keys: dict[str, bool]) -> None:
    """A DEL that cannot remove rules which are in force fails, and leaves nothing when repeated."""
    network = Network(node, **keys)
    network.attach()
    with without_firewalls(node):
        answer = network.delete()
    assert "libnftables" in answer.document["msg"]
    assert network.delete().ok
    assert remains(node) == []
