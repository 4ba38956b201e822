"""Connections that began before a port was published, or before its pod was replaced.

NAT is decided by a connection's first packet, so conntrack would keep such a connection where it
was going: to the node itself, or to a pod that is gone.
"""

from __future__ import annotations

import pytest

from tests.support.node import Node, Outside
from tests.support.pod import Pod
from tests.support.ports import add_pod, port, portmap, publish, withdraw

pytestmark = pytest.mark.usefixtures("backend")

UDP = port(8080, 80, "udp")
CLIENT = 40000

# A node tracks connections, and decides their NAT, as soon as somebody's rules want it to.
NAT = """
add table inet foreign
add chain inet foreign prerouting { type nat hook prerouting priority -100; }
add chain inet foreign postrouting { type nat hook postrouting priority 100; }
add rule inet foreign postrouting ct state established counter
"""


@pytest.fixture
def pod(node: Node) -> Pod:
    node.run("nft", "-f", "-", stdin=NAT)
    pod = add_pod(node)
    node.serve("udp", 80, pod.netns, name="first")
    return pod


def connections(node: Node, family: str, *wanted: str) -> list[str]:
    """conntrack's UDP entries to port 8080 that contain all these words."""
    argv = ("conntrack", "-L", "-f", family, "-p", "udp", "--orig-port-dst", "8080")
    lines = node.run(*argv).stdout.splitlines()
    return [line for line in lines if all(word in line.split() for word in wanted)]


@pytest.mark.parametrize(("family", "to"), [("ipv4", "192.0.2.1"), ("ipv6", "2001:db8::1")])
def test_began_before_add(node: Node, outside: Outside, pod: Pod, family: str, to: str) -> None:
    """A UDP client that nobody answered reaches the pod as soon as its port is published."""
    ask = ("udp", to, 8080, outside.netns)
    assert node.ask(*ask, source_port=CLIENT, timeout=0.2) is None
    assert connections(node, family, "[UNREPLIED]", f"src={to}")
    publish(node, pod, UDP)
    assert node.ask(*ask, source_port=CLIENT) == f"first {getattr(outside, family)}"


def test_began_at_the_node(node: Node, outside: Outside, pod: Pod) -> None:
    """So does one on the node itself."""
    ask = ("udp", outside.node_ipv4, 8080)
    assert node.ask(*ask, source_port=CLIENT, timeout=0.2) is None
    assert connections(node, "ipv4")
    publish(node, pod, UDP)
    assert node.ask(*ask, source_port=CLIENT) == "first 192.0.2.1"


@pytest.mark.parametrize(("host_ip", "forgotten"), [("192.0.2.1", True), ("192.0.2.9", False)])
def test_only_the_host_ip(
    node: Node, outside: Outside, pod: Pod, host_ip: str, forgotten: bool
) -> None:
    """With a hostIP, only what was sent to that address is forgotten."""
    node.ask("udp", "192.0.2.1", 8080, outside.netns, source_port=CLIENT, timeout=0.2)
    assert connections(node, "ipv4")
    publish(node, pod, UDP | {"hostIP": host_ip})
    assert bool(connections(node, "ipv4")) != forgotten


@pytest.mark.parametrize(("family", "to"), [("ipv4", "192.0.2.1"), ("ipv6", "2001:db8::1")])
def test_another_pod(node: Node, outside: Outside, pod: Pod, family: str, to: str) -> None:
    """A UDP client of one pod goes on with the pod that has the port after it."""
    second = add_pod(node, 3)
    node.serve("udp", 80, second.netns, name="second")
    ask = ("udp", to, 8080, outside.netns)
    publish(node, pod, UDP)
    assert node.ask(*ask, source_port=CLIENT) == f"first {getattr(outside, family)}"
    withdraw(node, pod)
    publish(node, second, UDP)
    assert node.ask(*ask, source_port=CLIENT) == f"second {getattr(outside, family)}"


def test_another_pod_after_a_dead_one(node: Node, outside: Outside, pod: Pod) -> None:
    """It does if the first pod is gone and no DEL has come."""
    second = add_pod(node, 3)
    node.serve("udp", 80, second.netns, name="second")
    ask = ("udp", outside.node_ipv4, 8080, outside.netns)
    publish(node, pod, UDP)
    assert node.ask(*ask, source_port=CLIENT) == "first 192.0.2.2"
    node.run("ip", "netns", "delete", pod.name)
    publish(node, second, UDP)
    assert node.ask(*ask, source_port=CLIENT) == "second 192.0.2.2"


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_forgotten_by_delete(node: Node, outside: Outside, pod: Pod, protocol: str) -> None:
    """DEL forgets the port's connections, of any protocol."""
    node.serve("tcp", 80, pod.netns, name="first")
    publish(node, pod, port(8080, 80, protocol))
    node.ask(protocol, outside.node_ipv4, 8080, outside.netns)
    listed = ("conntrack", "-L", "-p", protocol, "--orig-port-dst", "8080")
    assert f"src={pod.ipv4}" in node.run(*listed).stdout
    withdraw(node, pod)
    assert node.run(*listed).stdout == ""


def test_transit_is_left_alone(node: Node, outside: Outside, pod: Pod) -> None:
    """Neither ADD nor DEL forgets connections to the same port of other hosts."""
    neighbour = add_pod(node, 3)
    publish(node, pod, port(9000))
    node.ask("udp", outside.ipv4, 8080, neighbour.netns, source_port=CLIENT, timeout=0.2)
    (before,) = connections(node, "ipv4", f"src={neighbour.ipv4}", f"dst={outside.ipv4}")
    publish(node, neighbour, UDP)
    withdraw(node, neighbour)
    (after,) = connections(node, "ipv4", f"src={neighbour.ipv4}", f"dst={outside.ipv4}")
    assert before.split()[3:] == after.split()[3:]


def test_others_are_left_alone(node: Node, outside: Outside, pod: Pod) -> None:
    """DEL of one pod does not forget another pod's connections at its own address."""
    other = add_pod(node, 3)
    node.serve("udp", 80, other.netns, name="other")
    node.run("ip", "address", "add", "192.0.2.10/24", "dev", "eth0")
    publish(node, other, UDP | {"hostIP": "192.0.2.10"})
    publish(node, pod, UDP | {"hostIP": "192.0.2.1"})
    for address in ("192.0.2.10", "192.0.2.1"):
        node.ask("udp", address, 8080, outside.netns)
    withdraw(node, pod)
    assert connections(node, "ipv4", "dst=192.0.2.10", f"src={other.ipv4}")
    assert not connections(node, "ipv4", f"src={pod.ipv4}")


def test_direct_ones_are_left_alone(node: Node, pod: Pod) -> None:
    """DEL does not forget connections to the container that did not use the published port."""
    publish(node, pod, UDP)
    assert node.ask("udp", pod.ipv4, 80, source_port=CLIENT)
    direct = ("conntrack", "-L", "-p", "udp", "--orig-port-dst", "80", "--orig-dst", pod.ipv4)
    assert node.run(*direct).stdout
    withdraw(node, pod)
    assert node.run(*direct).stdout


def test_forgotten_before_the_attachment_is(node: Node, outside: Outside, pod: Pod) -> None:
    """A DEL that does not get to its end has forgotten connections first, as long as it knows."""
    publish(node, add_pod(node, 3), port(9000))
    publish(node, pod, UDP)
    assert node.ask("udp", outside.node_ipv4, 8080, outside.netns) == "first 192.0.2.2"
    state = "/run/cni/pycni"
    node.run("sh", "-ec", f"mount --bind {state} {state}; mount -o remount,bind,ro {state}")
    assert not portmap(node, "DEL", pod).ok
    assert not connections(node, "ipv4", f"src={pod.ipv4}")
    node.run("umount", state)
    withdraw(node, pod)
