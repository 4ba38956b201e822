"""The loopback filter: the node's 127.0.0.1 stays closed, whatever becomes of firewall rules."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support import frames
from tests.support.network import Network
from tests.support.node import AGENT, Node
from tests.support.pod import Pod
from tests.support.ports import (
    add_pod,
    fails,
    port,
    portmap,
    publish,
    route_localnet,
    wired,
    withdraw,
)

pytestmark = pytest.mark.usefixtures("backend")

PYCNI = Path(AGENT).with_name("pycni")

FLUSHES = {
    "ruleset": "nft flush ruleset",
    "tables": "nft list tables | while read line; do nft delete $line; done",
    "iptables": """
        for program in iptables ip6tables; do
            for table in raw mangle nat filter; do
                $program -t $table -F
                $program -t $table -X
            done
        done
        nft delete table inet pycni || true
    """,
}

each_flush = pytest.mark.parametrize("flush", FLUSHES)

# Counts packets of the frames' port that come in, by whatever address.
COUNTER = """
add table inet count
add chain inet count input { type filter hook input priority 0; }
add rule inet count input udp dport 9000 counter
"""


def private_server(node: Node) -> None:
    """A server at the node's 127.0.0.1, and neighbours that send 127.0.0.0/8 to the node."""
    for protocol in ("tcp", "udp"):
        node.serve(protocol, 9000, address="127.0.0.1", name="private")


def route_loopback_away(node: Node, netns: str, gateway: str = "10.77.0.1") -> None:
    script = f"""
        echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet
        ip link set lo up
        ip address delete 127.0.0.1/8 dev lo
        ip route add 127.0.0.0/8 via {gateway}
    """
    node.run("sh", "-ec", script, netns=netns)


def reaches_localhost(node: Node, netns: str) -> list[str | None]:
    """What a server at the node's 127.0.0.1 answers in a namespace, over TCP and over UDP."""
    return [node.ask(each, "127.0.0.1", 9000, netns, timeout=0.3) for each in ("tcp", "udp")]


def send_frame(node: Node, netns: str, kind: str, source: str, destination: str) -> None:
    (link,) = node.json("ip", "-j", "link", "show", "dev", "br0")
    command = (sys.executable, "-IS", frames.__file__, kind, link["address"])
    node.run(*command, source, destination, "9000", netns=netns)


def counted(node: Node) -> int:
    found = node.json("nft", "-j", "list", "chain", "inet", "count", "input")["nftables"]
    (rule,) = [item["rule"] for item in found if "rule" in item]
    return sum(int(part["counter"]["packets"]) for part in rule["expr"] if "counter" in part)


def filters(node: Node, name: str) -> list[str]:
    """The handles of pycni's filters at an interface's ingress: four letters."""
    listed = node.json("tc", "-j", "filter", "show", "dev", name, "ingress")
    handles = (item.get("options", {}).get("handle", "") for item in listed)
    return [handle for handle in handles if handle.startswith("0x707963")]


def take_filter(node: Node, name: str) -> None:
    node.run("tc", "qdisc", "delete", "dev", name, "clsact")


@each_flush
def test_flush(node: Node, pod: Pod, flush: str) -> None:
    """After a flush of all rules a neighbour does not reach the node's 127.0.0.1."""
    neighbour = add_pod(node, 3)
    private_server(node)
    route_loopback_away(node, neighbour.netns)
    publish(node, pod, port())
    node.run("sh", "-ec", FLUSHES[flush])
    assert route_localnet(node) == "1"
    assert reaches_localhost(node, neighbour.netns) == [None, None]
    take_filter(node, "port3")
    assert reaches_localhost(node, neighbour.netns) == [f"private {neighbour.ipv4}"] * 2


def test_the_pod_itself(node: Node, pod: Pod) -> None:
    """Nor does the pod whose port is published, which was attached before the first ADD."""
    private_server(node)
    publish(node, pod, port())
    route_loopback_away(node, pod.netns)
    node.run("nft", "flush", "ruleset")
    assert reaches_localhost(node, pod.netns) == [None, None]


def test_a_pod_of_another_plugin(node: Node, pod: Pod) -> None:
    """Nor does one that was attached by another plugin, and then published, after the flush."""
    private_server(node)
    publish(node, pod, port())
    late = add_pod(node, 3)
    publish(node, late, port(8081))
    node.run("nft", "flush", "ruleset")
    route_loopback_away(node, late.netns)
    assert reaches_localhost(node, late.netns) == [None, None]


@each_flush
def test_a_pod_after_the_flush(node: Node, pod: Pod, flush: str) -> None:
    """Nor does a pod that the bridge plugin attaches after the flush."""
    private_server(node)
    publish(node, pod, port())
    node.run("sh", "-ec", FLUSHES[flush])
    ipam = {"type": "host-local", "subnet": "10.77.0.0/24", "rangeStart": "10.77.0.9"}
    late = Network(node, ipMasq=False, ipam=ipam).attach("late")
    route_loopback_away(node, late.netns)
    assert reaches_localhost(node, late.netns) == [None, None]
    take_filter(node, late.host_ifname)
    assert reaches_localhost(node, late.netns) == [f"private {late.ipv4}"] * 2


@pytest.mark.parametrize("kind", frames.KINDS)
@pytest.mark.parametrize(
    ("source", "destination"), [("10.77.0.3", "127.0.0.1"), ("127.0.0.5", "10.77.0.1")]
)
def test_frames(node: Node, pod: Pod, kind: str, source: str, destination: str) -> None:
    """A frame from or to 127.0.0.0/8 does not come in, whatever is in front of its IP header."""
    neighbour = add_pod(node, 3)
    publish(node, pod, port())
    node.run("nft", "flush", "ruleset")
    node.run("nft", "-f", "-", stdin=COUNTER)
    send_frame(node, neighbour.netns, kind, source, destination)
    assert counted(node) == 0
    take_filter(node, "port3")
    send_frame(node, neighbour.netns, kind, source, destination)
    assert counted(node) == 1


@pytest.mark.parametrize("kind", ["plain", "options", "ring", "tag", "service tag", "two tags"])
def test_other_frames(node: Node, pod: Pod, kind: str) -> None:
    """Frames to the node's other addresses come in as before."""
    publish(node, pod, port())
    node.run("nft", "-f", "-", stdin=COUNTER)
    send_frame(node, pod.netns, kind, pod.ipv4, "10.77.0.1")
    assert counted(node) == 1


@pytest.mark.parametrize("seen_by_iptables", ["0", "1"])
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_localhost_of_the_node(node: Node, pod: Pod, protocol: str, seen_by_iptables: str) -> None:
    """The node's processes reach a host port at 127.0.0.1, before a flush and after the repair."""
    switch = (
        f"for f in /proc/sys/net/bridge/bridge-nf-call-*; do echo {seen_by_iptables} > $f; done"
    )
    node.run("sh", "-c", switch)
    node.serve(protocol, 80, pod.netns, name="web")
    publish(node, pod, port(protocol=protocol))
    assert node.ask(protocol, "127.0.0.1", 8080) == "web 10.77.0.1"
    node.run("nft", "flush", "ruleset")
    assert node.ask(protocol, "127.0.0.1", 8080, timeout=0.3) is None
    node.run(PYCNI, "repair")
    assert node.ask(protocol, "127.0.0.1", 8080) == "web 10.77.0.1"


# Whose filter


def test_last_delete(node: Node, pod: Pod) -> None:
    """The last DEL takes the filter from ports that others made; somebody else's filter stays."""
    add_pod(node, 3)
    foreign = ("protocol", "ip", "pref", "7", "bpf", "da", "bytecode", "1,6 0 0 4294967295")
    node.run("tc", "qdisc", "add", "dev", "port3", "clsact")
    node.run("tc", "filter", "add", "dev", "port3", "ingress", *foreign)
    before = node.run("tc", "filter", "show", "dev", "port3", "ingress").stdout
    publish(node, pod, port())
    assert len(filters(node, "port3")) == 1
    withdraw(node, pod)
    assert node.run("tc", "filter", "show", "dev", "port3", "ingress").stdout == before
    assert filters(node, "port2") == []


def test_last_delete_beside_a_pod_of_ours(node: Node, pod: Pod) -> None:
    """A port that the bridge plugin made keeps its filter for as long as it is there."""
    attached = Network(node, ipMasq=False, isDefaultGateway=False, ipam={}).attach()
    publish(node, pod, port())
    withdraw(node, pod)
    assert len(filters(node, attached.host_ifname)) == 1


def test_another_filter_in_its_place(node: Node, pod: Pod) -> None:
    """Where no filter can be added, ADD warns, and the rule alone keeps a neighbour out."""
    neighbour = add_pod(node, 3)
    private_server(node)
    route_loopback_away(node, neighbour.netns)
    other = ("protocol", "all", "pref", "1", "u32", "match", "u32", "0", "0", "classid", "1:1")
    node.run("tc", "qdisc", "add", "dev", "port3", "clsact")
    node.run("tc", "filter", "add", "dev", "port3", "ingress", *other)
    answer = portmap(node, "ADD", pod, port())
    assert answer.ok
    assert "only a firewall rule keeps port3 from the node's 127.0.0.1" in answer.stderr
    assert reaches_localhost(node, neighbour.netns) == [None, None]


def test_check_and_repair(node: Node, pod: Pod) -> None:
    """CHECK names a pod's port without the filter; `pycni repair` gives it to all ports."""
    publish(node, pod, port())
    add_pod(node, 3)
    take_filter(node, "port2")
    assert fails(portmap(node, "CHECK", pod, port()), "port2", "loopback filter")
    node.run(PYCNI, "repair")
    assert portmap(node, "CHECK", pod, port()).ok
    assert [len(filters(node, name)) for name in ("port2", "port3")] == [1, 1]


def test_check_and_repair_of_a_bridge(node: Node) -> None:
    """So with a pod of the bridge plugin, which has it whether or not ports are published."""
    network = Network(node)
    pod = network.attach()
    take_filter(node, pod.host_ifname)
    assert fails(network.check(pod), pod.host_ifname, "loopback filter")
    node.run(PYCNI, "repair")
    assert network.check(pod).ok


def test_list(node: Node, pod: Pod) -> None:
    """`pycni list` names ports without it, which were added by others since."""
    publish(node, pod, port())
    add_pod(node, 3)
    lines = node.run(PYCNI, "list").stdout.splitlines()
    assert lines[-1] == "port3 has no loopback filter: only a firewall rule keeps it from 127.0.0.1"


# Other ways to wire a pod


def wire_routed(node: Node) -> Pod:
    """A pod that is routed to, by a veth that is no bridge's port."""
    script = """
        ip netns add routed
        ip link add host0 type veth peer name eth0 netns routed
        ip address add 10.77.0.1/32 dev host0
        ip link set host0 up
        ip route add 10.77.0.2 dev host0
        ip -n routed address add 10.77.0.2/24 dev eth0
        ip -n routed link set eth0 up
        ip -n routed link set lo up
        ip -n routed route add default via 10.77.0.1
    """
    node.run("sh", "-ec", script)
    return wired("routed", "/run/netns/routed", 2)


def wire_behind_a_gateway(node: Node) -> Pod:
    """A pod on a bridge whose gateway is no address of the bridge, but a veth at a port of it."""
    script = """
        ip link add br0 up type bridge
        ip link add gateway up type veth peer name gatewayport
        ip link set gatewayport up master br0
        ip address add 10.77.0.1/24 dev gateway
        ip netns add routed
        ip link add host0 up master br0 type veth peer name eth0 netns routed
        ip -n routed address add 10.77.0.2/24 dev eth0
        ip -n routed link set eth0 up
        ip -n routed link set lo up
        ip -n routed route add default via 10.77.0.1
    """
    node.run("sh", "-ec", script)
    return wired("routed", "/run/netns/routed", 2)


@pytest.mark.parametrize("wire", [wire_routed, wire_behind_a_gateway])
def test_without_a_bridge(node: Node, wire: type) -> None:
    """A pod that is wired in another way is kept out, too, and its host port at 127.0.0.1 works."""
    pod = wire(node)
    private_server(node)
    node.serve("tcp", 80, pod.netns, name="web")
    publish(node, pod, port())
    assert node.ask("tcp", "127.0.0.1", 8080) == "web 10.77.0.1"
    node.run("nft", "flush", "ruleset")
    route_loopback_away(node, pod.netns)
    assert reaches_localhost(node, pod.netns) == [None, None]
    take_filter(node, "host0")
    assert reaches_localhost(node, pod.netns) == [f"private {pod.ipv4}"] * 2
