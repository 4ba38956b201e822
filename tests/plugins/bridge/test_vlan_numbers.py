"""Which VLANs a configuration puts a port into."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni.errors import InvalidConfig
from cni.net.netlink.bridge_vlan import PortVlans, ranges
from cni.request import Add, parse_request
from cni_plugins.bridge.config import BridgeConfig, parse_config
from cni_plugins.bridge.vlan import port_vlans

IDS = st.integers(min_value=1, max_value=4094)


def config(**keys: Any) -> BridgeConfig:
    environ = {"CNI_CONTAINERID": "pod", "CNI_NETNS": "/run/netns/pod", "CNI_IFNAME": "eth0"}
    request = parse_request({**environ, "CNI_COMMAND": "ADD"}, {"name": "net", **keys})
    assert isinstance(request, Add)
    return parse_config(request)


@pytest.mark.parametrize("keys", [{}, {"vlan": 0}, {"preserveDefaultVlan": True}])
def test_no_vlan(keys: Any) -> None:
    """Without VLANs the bridge need not filter."""
    assert not config(**keys).filters_vlans
    assert port_vlans(config(**keys)) == PortVlans()


def test_empty_trunk() -> None:
    """An empty trunk asks for a bridge that filters, and leaves the port in the default VLAN."""
    assert config(vlanTrunk=[]).filters_vlans
    assert port_vlans(config(vlanTrunk=[{}])) == PortVlans()


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"vlan": 100}, PortVlans(100)),
        ({"vlanTrunk": [{"id": 7}]}, PortVlans(1, (range(7, 8),))),
        ({"vlanTrunk": [{"minID": 1, "maxID": 3}]}, PortVlans(1, (range(2, 4),))),
        (
            {"vlan": 5, "vlanTrunk": [{"id": 9, "minID": 4, "maxID": 6}]},
            PortVlans(5, (range(4, 5), range(6, 7), range(9, 10))),
        ),
    ],
)
def test_vlans(keys: Any, expected: PortVlans) -> None:
    """`vlan` is native, for a trunk without one it is 1; a trunk's others are tagged."""
    assert port_vlans(config(**keys)) == expected


@given(st.lists(st.one_of(IDS.map(lambda vid: (vid, vid)), st.tuples(IDS, IDS))), IDS)
def test_every_id_once(pairs: list[tuple[int, int]], vlan: int) -> None:
    """Each VLAN of a trunk is there just once, whatever overlaps; what is not asked for is not."""
    trunk = [{"minID": min(pair), "maxID": max(pair)} for pair in pairs]
    found = port_vlans(config(vlan=vlan, vlanTrunk=trunk))
    ids = [vid for tagged in found.tagged for vid in tagged]
    wanted = {vid for item in trunk for vid in range(item["minID"], item["maxID"] + 1)}
    assert found.native == vlan
    assert ids == sorted(wanted - {vlan})


@given(st.frozensets(IDS))
def test_ranges(ids: frozenset[int]) -> None:
    """Ranges are as few as there can be: between two of them there is a gap."""
    found = ranges(ids)
    assert [vid for each in found for vid in each] == sorted(ids)
    assert all(low.stop < high.start for low, high in pairwise(found))


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ({"minID": 5}, ["vlanTrunk[1].maxID: missing", "vlanTrunk[1].minID"]),
        ({"maxID": 5, "id": 1}, ["vlanTrunk[1].minID: missing"]),
        ({"minID": 5, "maxID": 4}, ["vlanTrunk[1].minID: 5 is not allowed", "from 1 to 4"]),
    ],
)
def test_contradictions(item: Any, words: list[str]) -> None:
    """Half a range, or an empty one, is refused by its key."""
    with pytest.raises(InvalidConfig) as caught:
        config(vlanTrunk=[{"id": 1}, item])
    assert all(word in str(caught.value) for word in words)


def test_longest_name() -> None:
    """A bridge is refused whose gateway would have too long a name for the kernel."""
    names = {"ipam": {"type": "host-local"}, "isGateway": True, "vlan": 100}
    assert config(bridge="b" * 11, **names).vlan_gateway == "b" * 11 + ".100"
    with pytest.raises(InvalidConfig, match="a shorter name"):
        config(bridge="b" * 12, **names)
    for key, value in (("isGateway", False), ("ipam", {})):
        assert config(bridge="b" * 12, **(names | {key: value})).vlan == 100
