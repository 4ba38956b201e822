"""Traffic: who reaches whom, and from which address."""

from __future__ import annotations

import sys

import pytest

from tests.support.network import IPV4, Network, addresses, remains, routes, sysctl, wait_until
from tests.support.node import ROOT, Node, Outside
from tests.support.rulesets import has_network_chain, masqueraded, network_rules

pytestmark = pytest.mark.usefixtures("backend")

_NETWORK_RULES = {
    "nftables": [
        "ip daddr 10.22.0.0/24 accept",
        "ip6 daddr fd00:22::/64 accept",
        "ip daddr 224.0.0.0/4 accept",
        "ip6 daddr ff00::/8 accept",
        "masquerade",
    ],
    "iptables-nft": [
        "-d 10.22.0.0/24 -j RETURN",
        "-d 224.0.0.0/4 -j RETURN",
        "-j MASQUERADE",
        "-d fd00:22::/64 -j RETURN",
        "-d ff00::/8 -j RETURN",
        "-j MASQUERADE",
    ],
}

_ROUTER = ROOT / "tests/support/router.py"


# Masquerading


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_masquerade(node: Node, outside: Outside, protocol: str) -> None:
    """With ipMasq, what leaves for another network has the node's address."""
    pod = Network(node).attach()
    node.serve(protocol, 80, outside.netns)
    assert node.ask(protocol, outside.ipv4, 80, pod.netns) == outside.node_ipv4
    assert node.ask(protocol, outside.ipv6, 80, pod.netns) == outside.node_ipv6


def test_no_masquerade(node: Node, outside: Outside) -> None:
    """Without ipMasq, a pod is seen with its own address."""
    pod = Network(node, ipMasq=False).attach()
    for subnet, gateway in (("10.22.0.0/24", "192.0.2.1"), ("fd00:22::/64", "2001:db8::1")):
        node.run("ip", "route", "add", subnet, "via", gateway, netns=outside.netns)
    node.serve("tcp", 80, outside.netns)
    assert node.ask("tcp", outside.ipv4, 80, pod.netns) == pod.ipv4
    assert node.ask("tcp", outside.ipv6, 80, pod.netns) == pod.ipv6
    assert node.json("nft", "-j", "list", "tables")["nftables"][1:] == []


def test_masquerade_is_each_pods_own(node: Node, outside: Outside) -> None:
    """A pod without ipMasq keeps its address beside one with it."""
    ipam = {"type": "host-local", "subnet": "10.33.0.0/24"}
    masked = Network(node).attach("a")
    plain = Network(node, name="plain", bridge="br1", ipMasq=False, ipam=ipam).attach("b")
    node.run("ip", "route", "add", "10.33.0.0/24", "via", outside.node_ipv4, netns=outside.netns)
    node.serve("tcp", 80, outside.netns)
    assert node.ask("tcp", outside.ipv4, 80, plain.netns) == plain.ipv4
    assert node.ask("tcp", outside.ipv4, 80, masked.netns) == outside.node_ipv4


def test_pods_of_a_network(node: Node) -> None:
    """Pods, and the node, reach a pod with their own addresses."""
    network = Network(node)
    client, server = network.attach("a"), network.attach("b")
    node.serve("tcp", 80, server.netns)
    assert node.ask("tcp", server.ipv4, 80, client.netns) == client.ipv4
    assert node.ask("tcp", server.ipv6, 80, client.netns) == client.ipv6
    assert node.ask("tcp", server.ipv4, 80) == "10.22.0.1"
    assert node.ask("tcp", server.ipv6, 80) == "fd00:22::1"


def test_subnets_of_a_network(node: Node) -> None:
    """Between subnets of one network nothing is masqueraded, although the node routes it."""
    ranges = [[{"subnet": "10.22.0.0/24"}, {"subnet": "10.23.0.0/24"}]]
    network = Network(node, ipam={"type": "host-local", "ranges": ranges})
    client = network.attach("a", args="IgnoreUnknown=1;IP=10.22.0.5")
    node.run("ip", "address", "add", "10.23.0.1/24", "dev", "br0")
    network.config["isDefaultGateway"] = False
    network.config["ipam"]["routes"] = [{"dst": "0.0.0.0/0", "gw": "10.23.0.1"}]
    server = network.attach("b", args="IgnoreUnknown=1;IP=10.23.0.5")
    node.serve("tcp", 80, server.netns)
    assert node.ask("tcp", server.ipv4, 80, client.netns) == client.ipv4


def test_multicast_is_not_masqueraded(node: Node, backend: str) -> None:
    """A network's chain leaves alone its own subnets and multicast, and masquerades the rest."""
    Network(node).attach()
    assert network_rules(node, "net") == _NETWORK_RULES[backend]


def test_rules_end_with_the_last_pod(node: Node) -> None:
    """A network's chains go with its last attachment, everything with the node's last."""
    ipam = {"type": "host-local", "subnet": "10.33.0.0/24"}
    first, second = Network(node), Network(node, name="second", bridge="br1", ipam=ipam)
    for network, name in ((first, "a"), (first, "b"), (second, "c")):
        network.attach(name)
    assert first.delete("a").ok
    assert set(masqueraded(node)) == {"10.22.0.3", "fd00:22::3", "10.33.0.2"}
    assert first.delete("b").ok
    assert set(masqueraded(node)) == {"10.33.0.2"}
    assert not has_network_chain(node, "net")
    assert has_network_chain(node, "second")
    assert second.delete("c").ok
    assert remains(node) == []


def test_other_tables_are_left_alone(node: Node) -> None:
    """Rules of others, in tables of others, stay as they are."""
    rules = "table inet mine { chain input { type filter hook input priority 0; }; }"
    node.run("nft", "-f", "-", stdin=rules)
    before = node.run("nft", "list", "table", "inet", "mine").stdout
    network = Network(node)
    network.attach()
    assert network.delete().ok
    assert node.run("nft", "list", "tables", "inet").stdout == "table inet mine\n"
    assert node.run("nft", "list", "table", "inet", "mine").stdout == before


# Neighbours


def test_isolation(node: Node) -> None:
    """Isolated pods do not reach one another, and reach the gateway and what is not isolated."""
    isolated = Network(node, portIsolation=True)
    first, second = isolated.attach("a"), isolated.attach("b")
    free = Network(node).attach("c")
    for netns in (None, second.netns, free.netns):
        node.serve("tcp", 80, netns, name="ok")
    assert node.ask("tcp", "10.22.0.1", 80, first.netns) == f"ok {first.ipv4}"
    assert node.ask("tcp", free.ipv4, 80, first.netns) == f"ok {first.ipv4}"
    assert node.ask("tcp", second.ipv4, 80, first.netns, timeout=0.5) is None
    assert node.ask("tcp", second.ipv6, 80, first.netns, timeout=0.5) is None


@pytest.mark.parametrize("ipam", ["10.22.0.0/24", "fd00:22::/64"])
def test_reused_address(node: Node, ipam: str) -> None:
    """Pods and the node reach the next pod that has an address, at once."""
    network = Network(node, ipam={"type": "host-local", "subnet": ipam})
    neighbour, former = network.attach("neighbour"), network.attach("former")
    address = former.result["ips"][0]["address"].split("/")[0]
    ping = ("ping", "-c1", "-W1", address)
    for netns in (neighbour.netns, None):
        node.run(*ping, netns=netns)
    network.delete("former")
    network.attach("next", args=f"IgnoreUnknown=1;IP={address}")
    for netns in (neighbour.netns, None):
        node.run(*ping, netns=netns)


def test_router_advertisement(node: Node) -> None:
    """An advertisement by a pod gives no other pod, nor the node, an address or a route."""
    network = Network(node, ipam=IPV4)
    router, pod, trusting = (network.attach(name) for name in ("router", "pod", "trusting"))
    for parameter in ("accept_ra", "autoconf"):
        enable = f"echo 1 > /proc/sys/net/ipv6/conf/eth0/{parameter}"
        node.run("sh", "-c", enable, netns=trusting.netns)
    assert sysctl(node, "net/ipv6/conf/all/forwarding") == "0"
    wait_until(lambda: "tentative" not in str(node.json("ip", "-j", "a", netns=router.netns)))
    node.run(sys.executable, "-IS", _ROUTER, "fd00:bad::", netns=router.netns)
    wait_until(lambda: len(addresses(node, "eth0", trusting.netns)) == 2)
    assert routes(node, "-6", trusting.netns) != []
    for netns, ifname in ((pod.netns, "eth0"), (None, "br0"), (None, pod.host_ifname)):
        assert "fd00:bad" not in "".join(addresses(node, ifname, netns))
        assert routes(node, "-6", netns) == []


def test_router_advertisements_during_add(node: Node) -> None:
    """Nor does one that comes while a pod is added: they are refused before its links are up."""
    network = Network(node, ipam=IPV4)
    router = network.attach("router")
    wait_until(lambda: "tentative" not in str(node.json("ip", "-j", "a", netns=router.netns)))
    node.start(sys.executable, "-IS", _ROUTER, "fd00:bad::", "0.001", netns=router.netns)
    for name in "abc":
        pod = network.attach(name)
        for netns, ifname in ((pod.netns, "eth0"), (None, "br0"), (None, pod.host_ifname)):
            assert "fd00:bad" not in "".join(addresses(node, ifname, netns))
            assert routes(node, "-6", netns) == []


def test_first_pod_is_reachable(node: Node, outside: Outside) -> None:
    """Other hosts reach a fresh bridge's first pod as soon as ADD is over."""
    route = ("fd00:22::/64", "via", outside.node_ipv6)
    node.run("ip", "route", "add", *route, netns=outside.netns)
    pod = Network(node, ipMasq=False).attach()
    node.run("ping", "-c1", "-W1", pod.ipv6, netns=outside.netns)
