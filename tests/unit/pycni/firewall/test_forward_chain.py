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


@pytest.mark.parametrize("name", ["br+", "-br", "!br", "br'0", "br;0", "br$0"])
def test_names(name: str) -> None:
    """A bridge's name that would mean something else to iptables is refused, not written."""
    with pytest.raises(CniError, match="is no name that iptables can be told"):
        rules({name: True})
