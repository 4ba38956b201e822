"""Whose an address is when leases are lost, or their holders gone."""

from __future__ import annotations

import pytest

from tests.support.network import IPV4, Network, remains, wait_until
from tests.support.node import Node

LEASES = "/var/lib/cni/networks"
STATIC = "IgnoreUnknown=1;IP=10.22.0.9"


@pytest.fixture(params=[True, False])
def network(request: pytest.FixtureRequest, node: Node) -> Network:
    """A network whose addresses are masqueraded, and one whose are not."""
    return Network(node, ipam=IPV4, ipMasq=request.param)


@pytest.mark.parametrize("lost", [f"{LEASES}/net/10.*", LEASES])
def test_lost_leases(network: Network, node: Node, lost: str) -> None:
    """Where leases were removed by hand, nobody gets a live pod's address; DELs leave nothing."""
    first = network.attach("a")
    node.run("sh", "-c", f"rm -r {lost}")
    second = network.attach("b")
    assert second.ipv4 != first.ipv4
    assert network.add("c", args=f"IgnoreUnknown=1;IP={first.ipv4}").document["code"] == 101
    assert [network.delete(name).code for name in "abc"] == [0, 0, 0]
    # The index of a directory that is gone only ever says where to look for its leases.
    assert [path for path in remains(node) if "pycni/leases" not in path] == []
    assert node.run("ls", "/run/cni/pycni/claims").stdout == ""


def test_static_address_of_a_dead_pod(network: Network, node: Node) -> None:
    """An address that is asked for is taken over if its holder's namespace is gone, without DEL."""
    network.attach("a", args=STATIC)
    node.run("ip", "netns", "delete", "a")
    second = network.attach("b", args=STATIC)
    assert second.ipv4 == "10.22.0.9"
    assert network.delete("a").ok
    assert network.check(second).ok
    assert network.delete("b").ok
    assert remains(node) == []


def test_static_address_of_a_live_pod(network: Network) -> None:
    """It stays with a holder that lives."""
    first = network.attach("a", args=STATIC)
    assert network.add("b", args=STATIC).document["code"] == 101
    assert network.check(first).ok


def test_static_address_without_a_record(network: Network, node: Node) -> None:
    """It stays with a holder of whom nothing is known, such as the reference plugins'."""
    node.run("sh", "-c", f"mkdir -p {LEASES}/net; printf 'x\\r\\neth0' > {LEASES}/net/10.22.0.9")
    assert network.add("b", args=STATIC).document["code"] == 101


def test_used_up_range_of_dead_pods(network: Network, node: Node) -> None:
    """Where no address is left, those of pods whose namespaces are gone are taken over."""
    network.config["ipam"] = {"type": "host-local", "subnet": "10.22.0.0/30"}
    network.attach("a")
    assert network.add("b").document["code"] == 102
    node.run("ip", "netns", "delete", "a")
    assert network.check(network.attach("b", "/run/netns/b")).ok


def test_same_pod_again(network: Network, node: Node) -> None:
    """A pod that died with its namespace is added again without a DEL."""
    network.attach("a")
    node.run("ip", "netns", "delete", "a")
    # The kernel takes the pair along a little later.
    wait_until(lambda: "veth" not in node.run("ls", "/sys/class/net").stdout)
    assert network.check(network.attach("a")).ok
    assert network.delete("a").ok
    assert remains(node) == []
