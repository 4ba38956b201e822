"""An ADD that fails leaves nothing."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.network import IPV4, Network, addresses, link, remains, without_firewalls
from tests.support.node import Node
from tests.support.rulesets import masqueraded


@pytest.fixture
def network(node: Node) -> Network:
    return Network(node)


# What is there already


def test_present_interface(network: Network, node: Node) -> None:
    """An interface named CNI_IFNAME is an error and left whole; nothing else is touched."""
    netns = node.add_netns("a")
    node.run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "far", netns=netns)
    node.run("ip", "address", "add", "192.0.2.7/24", "dev", "eth0", netns=netns)
    answer = network.add("a", netns)
    assert (answer.code, answer.document["code"]) == (1, 101)
    assert "CNI_IFNAME: eth0 exists" in answer.document["msg"]
    assert addresses(node, "eth0", netns) == ["192.0.2.7/24"]
    assert remains(node) == []


def test_second_add(network: Network, node: Node) -> None:
    """A second ADD of a live attachment is an error, and leaves what the first built whole."""
    pod = network.attach()
    before = remains(node)
    answer = network.add("a", pod.netns)
    assert (answer.code, answer.document["code"]) == (1, 101)
    assert remains(node) == before
    assert network.check(pod).ok


def test_second_add_elsewhere(network: Network, node: Node) -> None:
    """So is one into another namespace, where it leaves nothing."""
    pod = network.attach()
    before = remains(node)
    other = node.add_netns("b")
    answer = network.add("a", other)
    assert (answer.code, answer.document["code"]) == (1, 101)
    assert "net/a/eth0 is attached already" in answer.document["msg"]
    assert remains(node) == before
    assert network.check(pod).ok
    assert [found["ifname"] for found in node.json("ip", "-j", "link", netns=other)] == ["lo"]


def test_add_after_delete(network: Network) -> None:
    """After its DEL, an attachment can be added again in the same namespace."""
    pod = network.attach()
    network.delete()
    again = network.attach("a", pod.netns)
    assert network.check(again).ok


def test_no_bridge(network: Network, node: Node) -> None:
    """A device that has the bridge's name and is none is an error, and left whole."""
    node.run("ip", "link", "add", "br0", "type", "veth", "peer", "name", "far")
    answer = network.add()
    assert (answer.code, answer.document["code"]) == (1, 101)
    assert "br0" in answer.document["msg"]
    assert link(node, "br0")["linkinfo"]["info_kind"] == "veth"
    assert remains(node) == []


def test_present_bridge(network: Network, node: Node) -> None:
    """A bridge that somebody else made is used as it is, and set up."""
    node.run("ip", "link", "add", "br0", "address", "0a:00:00:00:00:09", "type", "bridge")
    pod = network.attach()
    assert pod.result["interfaces"][0] == {"name": "br0", "mac": "0a:00:00:00:00:09"}
    assert network.check(pod).ok


# What goes wrong


def test_no_address_left(network: Network, node: Node) -> None:
    """An IPAM plugin's error is passed on, and nothing of the attachment is left."""
    network.config["ipam"] = {"type": "host-local", "subnet": "10.22.0.0/30"}
    network.attach("a")
    before = remains(node)
    answer = network.add("b")
    assert (answer.code, answer.document["code"]) == (1, 102)
    assert remains(node) == before
    assert [found["ifname"] for found in node.json("ip", "-j", "link", netns="/run/netns/b")] == [
        "lo"
    ]


def test_conflicting_gateway(network: Network, node: Node) -> None:
    """A gateway that the bridge cannot have beside another pod's leaves that pod alone."""
    pod = network.attach("a")
    before = remains(node)
    ipam = {"type": "host-local", "subnet": "10.99.0.0/24"}
    answer = Network(node, name="other", ipam=ipam).add("b")
    assert (answer.code, answer.document["code"]) == (1, 101)
    assert remains(node) == before
    assert network.check(pod).ok


def test_no_firewall(network: Network, node: Node) -> None:
    """ipMasq without nftables is an error that says so, and nothing is left."""
    with without_firewalls(node):
        answer = network.add()
    assert answer.code == 1
    assert "libnftables" in answer.document["details"]
    assert remains(node) == []


def test_no_firewall_needed(network: Network, node: Node) -> None:
    """Without ipMasq, no firewall is needed for anything."""
    network.config["ipMasq"] = False
    with without_firewalls(node):
        pod = network.attach()
        assert network.check(pod).ok
        assert network.delete().ok
    assert remains(node) == []


def test_firewall_that_breaks(network: Network, node: Node) -> None:
    """A pod that cannot be masqueraded any more leaves those that are alone."""
    pod = network.attach("a")
    before = remains(node)
    node.run("nft", "flush", "chain", "inet", "pycni", "networks")
    with without_firewalls(node):
        assert not network.add("b").ok
    assert remains(node) == before
    assert set(masqueraded(node)) == {pod.ipv4, pod.ipv6}


@pytest.mark.parametrize("directory", ["/run/cni", "/var/lib/cni"])
def test_read_only_files(network: Network, node: Node, directory: str) -> None:
    """Where records or leases cannot be written, ADD fails with code 5 and leaves nothing."""
    node.run("mount", "-t", "tmpfs", "-o", "ro", "tmpfs", directory)
    answer = network.add()
    assert (answer.code, answer.document["code"]) == (1, 5)
    assert remains(node) == []


@pytest.mark.parametrize(
    "keys",
    [
        {"ipam": IPV4 | {"routes": [{"dst": "192.0.2.0/24", "gw": "172.16.0.1"}]}},
        {"ipam": {"type": "nobody"}},
        {"ipam": {"type": "host-local", "subnet": "nonsense"}},
        {"runtimeConfig": {"ips": ["172.16.0.1"]}},
    ],
)
def test_failure_and_then_success(network: Network, node: Node, keys: Any) -> None:
    """What failed for its configuration works with another, without a DEL in between."""
    good = dict(network.config)
    network.config |= keys
    netns = node.add_netns("a")
    assert not network.add("a", netns).ok
    assert remains(node) == []
    network.config = good
    assert network.check(network.attach("a", netns)).ok


def _with_gateway_nobody_reaches() -> dict[str, Any]:
    route = {"dst": "198.51.100.0/24", "gw": "203.0.113.1"}
    return {**IPV4, "routes": [route]}


def test_new_bridge(network: Network, node: Node) -> None:
    """An ADD that fails late takes the bridge that it made away again."""
    network.config["ipam"] = _with_gateway_nobody_reaches()
    answer = network.add()
    assert answer.code == 1
    assert "198.51.100.0/24" in answer.document["msg"]
    assert remains(node) == []
    assert "br0" not in [found["ifname"] for found in node.json("ip", "-j", "link")]


def test_bridge_that_was_there(network: Network, node: Node) -> None:
    """An ADD that fails late leaves a bridge that was there before."""
    node.run("ip", "link", "add", "br0", "type", "bridge")
    network.config["ipam"] = _with_gateway_nobody_reaches()
    assert not network.add().ok
    assert "br0" in [found["ifname"] for found in node.json("ip", "-j", "link")]


def test_failure_after_the_rules(network: Network, node: Node) -> None:
    """An ADD that fails when its rules are in force takes them away, and all else that it made."""
    obstacle = "/run/cni/pycni/nftables.json.new"
    node.run("mkdir", "-p", obstacle)
    netns = node.add_netns("a")
    answer = network.add("a", netns)
    assert (answer.code, answer.document["code"]) == (1, 5)
    assert remains(node) == []
    assert network.check(network.attach("a", netns)).ok


def test_failure_after_the_rules_beside_another(network: Network, node: Node) -> None:
    """So does one on a network of its own beside another pod, which it leaves alone."""
    pod = network.attach("a")
    node.run("mkdir", "/run/cni/pycni/nftables.json.new")
    before = sorted(remains(node)), node.run("nft", "list", "ruleset").stdout
    ipam = {"type": "host-local", "subnet": "10.33.0.0/24"}
    assert not Network(node, name="other", bridge="br1", ipam=ipam).add("b").ok
    assert (sorted(remains(node)), node.run("nft", "list", "ruleset").stdout) == before
    assert network.check(pod).ok
