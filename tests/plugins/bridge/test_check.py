"""CHECK: what it notices, and what it does not look at."""

from __future__ import annotations

import pytest

from tests.support.network import IPV4, Network
from tests.support.node import Node
from tests.support.pod import Pod

# What happens to a pod `a`, and the words by which CHECK tells. {mac} is the pod's MAC, {port} its
# port of the bridge.
DAMAGES = [
    ("ip -n a link delete eth0", "eth0 is missing in /run/netns/a"),
    ("ip -n a link set eth0 down name eth9", "eth0 is missing in /run/netns/a"),
    ("ip -n a link set eth0 down", "eth0 is down in /run/netns/a"),
    ("ip -n a link set eth0 address 02:00:00:00:00:01", "eth0 has the MAC 02:00:00:00:00:01"),
    (
        "ip -n a link set eth0 down name old; ip -n a link add eth0 type bridge",
        "eth0 is missing in /run/netns/a",
    ),
    (
        "ip -n a link set eth0 down name old; ip -n a link add eth0 up address {mac} type veth",
        "the peer of eth0 is missing on the host",
    ),
    ("ip link set {port} down", "{port} is down"),
    ("ip link set {port} nomaster", "{port} is not a port of the bridge br0"),
    (
        "ip link add br9 type bridge; ip link set br9 up; ip link set {port} master br9",
        "{port} is not a port of the bridge br0",
    ),
    ("ip link delete br0", "the bridge br0 is missing"),
    ("ip link set br0 down name br8; ip link add br0 type bridge", "not a port of the bridge br0"),
    ("ip link set br0 down", "br0 is down"),
    ("ip address delete 10.22.0.1/24 dev br0", "br0 lacks the address 10.22.0.1/24"),
    ("ip address delete fd00:22::1/64 dev br0", "br0 lacks the address fd00:22::1/64"),
    ("ip -n a address delete 10.22.0.2/24 dev eth0", "eth0 does not have the address 10.22.0.2/24"),
    (
        "ip -n a address add 10.22.0.2/16 dev eth0; ip -n a address delete 10.22.0.2/24 dev eth0",
        "eth0 does not have the address 10.22.0.2/24",
    ),
    ("ip -n a address delete fd00:22::2/64 dev eth0", "the address fd00:22::2/64"),
    ("ip -n a route delete default", "the route 0.0.0.0/0 via 10.22.0.1 is missing"),
    ("ip -n a route replace default via 10.22.0.9", "the route 0.0.0.0/0 via 10.22.0.1 is missing"),
    ("ip -n a -6 route delete default", "the route ::/0 via fd00:22::1 is missing"),
    ("nft delete element inet pycni masquerade-ip {{ 10.22.0.2 }}", "masquerade for 10.22.0.2"),
    ("nft delete element inet pycni masquerade-ip6 {{ fd00:22::2 }}", "masquerade for fd00:22::2"),
    ("nft flush set inet pycni masquerade-ip", "masquerade for 10.22.0.2"),
    ("nft flush chain inet pycni network-net", "chain network-net of table inet pycni"),
    ("nft flush chain inet pycni networks", "chain networks of table inet pycni"),
    ("nft flush chain inet pycni postrouting", "chain postrouting of table inet pycni"),
    ("nft delete table inet pycni", "table inet pycni"),
    ("nft flush ruleset", "table inet pycni"),
    ("rm /run/cni/pycni/claims/masquerade-10.22.0.2", "masquerade for 10.22.0.2"),
    ("rm /var/lib/cni/networks/net/10.22.0.2", "10.22.0.2 is not leased to net/a/eth0"),
    ("rm -r /var/lib/cni/networks/net", "net/a/eth0 has no lease"),
]

# What is no business of CHECK's for pod `a`, beside a pod `b` of the same network.
OTHER_CHANGES = [
    "ip -n a address add 172.16.0.1/24 dev eth0",
    "ip -n a route add 192.0.2.0/24 via 10.22.0.9",
    "ip -n a link add net1 type veth peer name far",
    "ip -n a link set eth0 mtu 1400; ip link set {port} mtu 1400",
    "ip link set {port} alias 'somebody else'",
    "ip address add 172.16.0.1/24 dev br0",
    "ip link add br9 type bridge",
    "ip link set br0 promisc on",
    "ip -n b link set eth0 down",
    "ip netns delete b",
    "nft delete element inet pycni masquerade-ip {{ 10.22.0.3 }}",
    "rm /var/lib/cni/networks/net/10.22.0.3",
    "nft add table inet other",
    "nft add chain inet pycni more",
]


@pytest.mark.parametrize(("damage", "words"), DAMAGES)
def test_damage(node: Node, damage: str, words: str) -> None:
    """CHECK fails, with code 100, and names what an ADD built and is no longer as it was."""
    network = Network(node)
    pod = network.attach()
    node.run("sh", "-ec", damage.format(mac=pod.mac, port=pod.host_ifname))
    answer = network.check(pod)
    assert (answer.code, answer.document["code"]) == (1, 100)
    assert words.format(port=pod.host_ifname) in answer.document["msg"]


def test_other_changes(node: Node) -> None:
    """CHECK passes, printing nothing, whatever happens to what the ADD did not build."""
    network = Network(node)
    pod, _ = network.attach("a"), network.attach("b")
    for change in OTHER_CHANGES:
        node.run("sh", "-ec", change.format(port=pod.host_ifname))
    answer = network.check(pod)
    assert answer.ok, answer
    assert answer.document is None


def test_after_each_add(node: Node) -> None:
    """CHECK of every pod passes right after the first ADD and after the second."""
    network = Network(node)
    pods: list[Pod] = []
    for name in "ab":
        pods.append(network.attach(name))
        assert [network.check(pod).ok for pod in pods] == [True] * len(pods)


def test_after_another_is_deleted(node: Node) -> None:
    """CHECK passes when other pods have left."""
    network = Network(node)
    first, second = network.attach("a"), network.attach("b")
    network.delete("a")
    assert network.check(second).ok
    assert not network.check(first).ok


@pytest.mark.parametrize("version", ["0.4.0", "1.0.0", "1.1.0"])
def test_versions(node: Node, version: str) -> None:
    """CHECK reads prevResult in the configuration's version."""
    network = Network(node, cniVersion=version)
    assert network.check(network.attach()).ok


def test_without_masquerade(node: Node) -> None:
    """Without ipMasq, CHECK asks for no rules."""
    network = Network(node, ipMasq=False)
    pod = network.attach()
    node.run("nft", "flush", "ruleset")
    assert network.check(pod).ok


def test_other_interfaces_in_the_result(node: Node) -> None:
    """Interfaces, addresses and routes that other plugins added to prevResult are theirs."""
    network = Network(node)
    pod = network.attach()
    node.run("ip", "link", "add", "net1", "type", "veth", "peer", "name", "far", netns=pod.netns)
    node.run("ip", "link", "set", "net1", "up", netns=pod.netns)
    node.run("ip", "route", "add", "192.0.2.0/24", "dev", "net1", netns=pod.netns)
    pod.result["interfaces"].append({"name": "net1", "sandbox": pod.netns})
    pod.result["ips"].append({"interface": 3, "address": "172.16.0.1/24", "gateway": "172.16.0.9"})
    pod.result["routes"].append({"dst": "192.0.2.0/24", "scope": 253})
    answer = network.check(pod)
    assert answer.ok, answer


def test_addresses_without_interface(node: Node) -> None:
    """An address that prevResult gives to no interface is taken for CNI_IFNAME's."""
    network = Network(node, ipam=IPV4)
    pod = network.attach()
    del pod.result["ips"][0]["interface"]
    assert network.check(pod).ok
    pod.result["ips"][0]["address"] = "10.22.0.9/24"
    assert "10.22.0.9" in network.check(pod).document["msg"]


def test_namespace_that_is_gone(node: Node) -> None:
    """CHECK names the namespace that it cannot open."""
    network = Network(node)
    pod = network.attach()
    node.run("ip", "netns", "delete", "a")
    answer = network.check(pod)
    assert answer.code == 1
    assert "/run/netns/a" in answer.document["msg"]
