"""Whom a published port must not concern: traffic in transit, 127.0.0.1, other people's rules."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.node import Node, Outside
from tests.support.pod import Pod
from tests.support.ports import add_pod, port, portmap, publish, route_localnet, withdraw

pytestmark = pytest.mark.usefixtures("backend")

GUARD = {
    "nftables": ("nft", "flush", "chain", "inet", "pycni", "localnet-guard"),
    "iptables-nft": ("iptables", "-t", "raw", "-F", "PYCNI-LOCALNET"),
}

COUNTER = """
add table inet count
add chain inet count input { type filter hook input priority 0; }
add rule inet count input ip saddr 127.0.0.7 udp dport 9000 counter
"""

FOREIGN_RULES = """
table inet foreign {
    set addresses { type ipv4_addr; elements = { 10.77.0.2 } }
    chain prerouting {
        type nat hook prerouting priority dstnat; policy accept;
        tcp dport 8081 dnat ip to 10.77.0.9
    }
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        ip saddr @addresses counter masquerade
    }
    chain forward { type filter hook forward priority filter; policy accept; counter; }
}
"""


@pytest.fixture
def pod(node: Node) -> Pod:
    """A pod with a server at port 80, and no need of hairpin mode on the node."""
    switch = "for f in /proc/sys/net/bridge/bridge-nf-call-*; do echo 0 > $f; done"
    node.run("sh", "-c", switch)
    pod = add_pod(node)
    node.serve("tcp", 80, pod.netns, name="web")
    return pod


def load(node: Node, rules: str) -> None:
    node.run("nft", "-f", "-", stdin=rules)


# Traffic in transit


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_from_a_pod_to_outside(node: Node, outside: Outside, pod: Pod, family: str) -> None:
    """A pod that connects to another host's port 8080 gets there, though the node has it, too."""
    route = ("route", "add", "10.77.0.0/24", "via", outside.node_ipv4)
    node.run("ip", *route, netns=outside.netns)
    node.run("ip", "route", "add", "fd00:77::/64", "via", outside.node_ipv6, netns=outside.netns)
    node.serve("tcp", 8080, outside.netns, name="outside")
    publish(node, pod, port())
    answer = node.ask("tcp", getattr(outside, family), 8080, pod.netns)
    assert answer == f"outside {getattr(pod, family)}"


def test_from_the_node_to_outside(node: Node, outside: Outside, pod: Pod) -> None:
    """So does the node itself."""
    node.serve("tcp", 8080, outside.netns, name="outside")
    publish(node, pod, port())
    assert node.ask("tcp", outside.ipv4, 8080) == f"outside {outside.node_ipv4}"


def test_from_outside_to_beyond(node: Node, outside: Outside, pod: Pod) -> None:
    """What the node forwards from one host to another's port 8080 passes it by."""
    beyond = node.add_netns("beyond")
    script = f"""
        ip link add far type veth peer name eth0 netns beyond
        ip address add 198.51.100.1/24 dev far
        ip link set far up
        ip -n beyond address add 198.51.100.2/24 dev eth0
        ip -n beyond link set eth0 up
        ip -n beyond route add default via 198.51.100.1
        ip -n outside route add 198.51.100.0/24 via {outside.node_ipv4}
    """
    node.run("sh", "-ec", script)
    node.serve("tcp", 8080, beyond, name="beyond")
    publish(node, pod, port(), masqAll=True)
    assert node.ask("tcp", "198.51.100.2", 8080, outside.netns) == "beyond 192.0.2.2"


# The node's 127.0.0.1


def route_loopback_away(node: Node, netns: str, gateway: str) -> None:
    """Have a machine send what is for 127.0.0.1 to the node instead."""
    script = f"""
        echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet
        ip link set lo up
        ip address delete 127.0.0.1/8 dev lo
        ip route add 127.0.0.0/8 via {gateway}
    """
    node.run("sh", "-ec", script, netns=netns)


def test_neighbours_do_not_reach_localhost(node: Node, pod: Pod, backend: str) -> None:
    """A server at the node's 127.0.0.1 is out of a pod's reach, also without loopback filters."""
    neighbour = add_pod(node, 3)
    node.serve("tcp", 9000, address="127.0.0.1", name="private")
    route_loopback_away(node, neighbour.netns, "10.77.0.1")
    publish(node, pod, port())
    assert route_localnet(node) == "1"
    node.run("tc", "qdisc", "delete", "dev", "port3", "clsact")
    assert node.ask("tcp", "127.0.0.1", 9000, neighbour.netns, timeout=0.3) is None
    node.run(*GUARD[backend])
    assert node.ask("tcp", "127.0.0.1", 9000, neighbour.netns) == f"private {neighbour.ipv4}"


def test_nobody_poses_as_localhost(node: Node, pod: Pod, backend: str) -> None:
    """A pod cannot send from 127.0.0.1, either."""
    neighbour = add_pod(node, 3)
    pose = """
        echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet
        ip address add 127.0.0.7/32 dev lo
        ip route replace 10.77.0.1 dev eth0 src 127.0.0.7
    """
    node.run("sh", "-ec", pose, netns=neighbour.netns)
    node.serve("udp", 9000, name="private")
    publish(node, pod, port())
    load(node, COUNTER)
    node.run("tc", "qdisc", "delete", "dev", "port3", "clsact")
    for expected in (0, 1):
        node.ask("udp", "10.77.0.1", 9000, neighbour.netns, timeout=0.1)
        assert counted(node) == expected
        node.run(*GUARD[backend])


def counted(node: Node) -> int:
    """How many packets from 127.0.0.7 have come in."""
    found = node.json("nft", "-j", "list", "chain", "inet", "count", "input")["nftables"]
    (rule,) = [item["rule"] for item in found if "rule" in item]
    (packets,) = [part["counter"]["packets"] for part in rule["expr"] if "counter" in part]
    return int(packets)


@pytest.mark.parametrize("keys", [{}, {"snat": False}, {"masqAll": True}])
def test_a_port_of_localhost_is_private(
    node: Node, outside: Outside, pod: Pod, keys: dict[str, Any]
) -> None:
    """A port published at 127.0.0.1 is out of the reach of a host that sends packets for it."""
    publish(node, pod, port(hostIP="127.0.0.1"), **keys)
    route_loopback_away(node, outside.netns, outside.node_ipv4)
    assert node.ask("tcp", "127.0.0.1", 8080, outside.netns, timeout=0.3) is None


def test_a_port_of_localhost_is_private_from_neighbours(node: Node, pod: Pod) -> None:
    """A port published at 127.0.0.1 is out of a neighbour's reach; the node itself reaches it."""
    neighbour = add_pod(node, 3)
    publish(node, pod, port(hostIP="127.0.0.1"))
    route_loopback_away(node, neighbour.netns, "10.77.0.1")
    assert node.ask("tcp", "127.0.0.1", 8080, neighbour.netns, timeout=0.3) is None
    assert node.ask("tcp", "127.0.0.1", 8080) == "web 10.77.0.1"


def test_localhost_is_closed_again(node: Node, pod: Pod) -> None:
    """route_localnet is on while somebody is attached, and off after the last one."""
    other = add_pod(node, 3)
    publish(node, pod, port())
    publish(node, other, port(8081))
    withdraw(node, pod)
    assert route_localnet(node) == "1"
    withdraw(node, other)
    assert route_localnet(node) == "0"


def test_network_of_ports_without_source_nat(node: Node, pod: Pod) -> None:
    """CHECK finds all in force for a network whose first pods need no other source."""
    publish(node, add_pod(node, 3), port(8081))
    publish(node, pod, port(), network="other", snat=False)
    answer = portmap(node, "CHECK", pod, port(), network="other", snat=False)
    assert answer.ok, answer


def test_snat_false_leaves_localhost_closed(node: Node, pod: Pod) -> None:
    """With snat false route_localnet stays off."""
    publish(node, pod, port(), snat=False)
    assert route_localnet(node) == "0"


# Other people's rules


def test_foreign_rules_stay(node: Node, pod: Pod) -> None:
    """ADD, CHECK and DEL leave other tables exactly as they are."""
    load(node, FOREIGN_RULES)
    listing = ("nft", "-s", "list", "table", "inet", "foreign")
    before = node.run(*listing).stdout
    publish(node, pod, port())
    assert portmap(node, "CHECK", pod, port()).ok
    assert node.run(*listing).stdout == before
    withdraw(node, pod)
    assert node.run(*listing).stdout == before
    assert node.run("nft", "list", "tables", "inet").stdout == "table inet foreign\n"


@pytest.mark.parametrize("hook", ["prerouting", "output"])
def test_kube_proxy_comes_first(node: Node, outside: Outside, pod: Pod, hook: str) -> None:
    """A port that a chain at the standard priority redirects is not ours (CVE-2019-9946)."""
    service = add_pod(node, 3)
    node.serve("tcp", 80, service.netns, name="service")
    publish(node, pod, port())
    rules = f"""
        add table inet kube-proxy
        add chain inet kube-proxy {hook} {{ type nat hook {hook} priority -100; }}
        add rule inet kube-proxy {hook} tcp dport 8080 dnat ip to {service.ipv4}:80
    """
    # Of chains at the same priority, the one that was made last is asked first.
    load(node, rules)
    sender = outside.netns if hook == "prerouting" else None
    answer = node.ask("tcp", outside.node_ipv4, 8080, sender)
    assert answer == f"service {outside.ipv4 if sender else outside.node_ipv4}"


@pytest.mark.parametrize("chain", ["PREROUTING", "OUTPUT"])
def test_kube_proxy_with_iptables_comes_first(
    node: Node, outside: Outside, pod: Pod, chain: str
) -> None:
    """So with a kube-proxy that has its rules in iptables, where it puts them in front."""
    service = add_pod(node, 3)
    node.serve("tcp", 80, service.netns, name="service")
    rule = ("-p", "tcp", "--dport", "8080", "-j", "DNAT", "--to", f"{service.ipv4}:80")
    node.run("iptables", "-t", "nat", "-I", chain, *rule)
    publish(node, pod, port())
    sender = outside.netns if chain == "PREROUTING" else None
    answer = node.ask("tcp", outside.node_ipv4, 8080, sender)
    assert answer == f"service {outside.ipv4 if sender else outside.node_ipv4}"
