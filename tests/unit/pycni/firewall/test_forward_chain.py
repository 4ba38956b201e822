from __future__ import annotations

import pytest

from cni.errors import CniError
from pycni.firewall.foreign.forward_chain import ALL, rules


def test_tools() -> None:
    """Every chain has a tool of its own, whose name is that of Debian and others."""
    assert [chain.tool for chain in ALL] == [
        "iptables-nft",
        "iptables-legacy",
        "ip6tables-nft",
        "ip6tables-legacy",
    ]


def test_rules() -> None:
    """A bridge that does not route has a rule, for what stays inside; others come after it."""
    assert rules({"br1": True, "br0": False}) == [
        "-A PYCNI-FORWARD -i br0 -o br0 -j ACCEPT",
        "-A PYCNI-FORWARD -i br1 -o br1 -j ACCEPT",
        "-A PYCNI-FORWARD -o br1 -m conntrack --ctstate RELATED,ESTABLISHED,DNAT -j ACCEPT",
        "-A PYCNI-FORWARD -o br1 -j RETURN",
        "-A PYCNI-FORWARD -i br1 -j ACCEPT",
    ]


@pytest.mark.parametrize("name", ["br+", "-br", "!br", "br'0", "br;0", "br$0"])
def test_names(name: str) -> None:
    """A bridge's name that would mean something else to iptables is refused, not written."""
    with pytest.raises(CniError, match="is no name that iptables can be told"):
        rules({name: True})
