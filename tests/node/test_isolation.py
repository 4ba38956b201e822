"""Where FORWARD has the policy DROP, other networks of the node stay closed to pods."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.firewalls import DOCKER, load_iptables
from tests.support.network import Network
from tests.support.node import Node, Outside
from tests.support.ports import port

PYCNI = Path(sys.executable).with_name("pycni")
FAMILIES = {"ipv4": "172.17.0.2", "ipv6": "fd00:17::2"}

# A container of another program, on a bridge of its own.
_CONTAINER = """
ip netns add container
ip link add docker0 type bridge
ip link add port0 master docker0 type veth peer name eth0 netns container
ip address add 172.17.0.1/16 dev docker0
ip address add fd00:17::1/64 dev docker0 nodad
ip link set port0 up
ip link set docker0 up
ip -n container address add 172.17.0.2/16 dev eth0
ip -n container address add fd00:17::2/64 dev eth0 nodad
ip -n container link set eth0 up
ip -n container route add default via 172.17.0.1
ip -n container route add default via fd00:17::1
"""


@pytest.fixture(params=["nft", "legacy"])
def dropping(request: pytest.FixtureRequest, node: Node) -> Node:
    """A node with a default router, where FORWARD has the policy DROP."""
    node.add_outside()
    node.route_by_outside()
    for program in ("iptables", "ip6tables"):
        node.run(f"{program}-{request.param}", "-P", "FORWARD", "DROP")
    return node


@pytest.fixture
def network(dropping: Node) -> Network:
    return Network(dropping)


def add_container(node: Node) -> str:
    """Make the container, which serves at port 80. Returns its namespace."""
    node.run("sh", "-ec", _CONTAINER)
    node.serve("tcp", 80, "/run/netns/container", name="container")
    return "/run/netns/container"


@pytest.mark.parametrize("comes", ["before", "later"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_container_of_another_program(
    dropping: Node, network: Network, family: str, comes: str
) -> None:
    """A pod reaches no unpublished port of a container on another program's bridge."""
    if comes == "before":
        add_container(dropping)
    pod = network.attach()
    if comes == "later":
        add_container(dropping)
    assert network.check(pod).ok
    assert dropping.ask("tcp", FAMILIES[family], 80, pod.netns, timeout=0.3) is None
    assert dropping.ask("tcp", FAMILIES[family], 80) is not None


@pytest.mark.parametrize("variant", ["nft", "legacy"])
def test_a_port_that_docker_publishes(node: Node, outside: Outside, variant: str) -> None:
    """What Docker publishes, pods reach, and what it does not, they do not."""
    load_iptables(node, variant, DOCKER.replace("-A DOCKER ! -i docker0 -o docker0 -j DROP\n", ""))
    add_container(node)
    node.serve("tcp", 81, "/run/netns/container")
    pod = Network(node).attach()
    assert node.ask("tcp", outside.node_ipv4, 8000, pod.netns) == "container 172.17.0.1"
    assert node.ask("tcp", "172.17.0.2", 81, pod.netns, timeout=0.3) is None


def test_answers(dropping: Node, network: Network) -> None:
    """A container on another bridge that may send to a pod's published port is answered."""
    container = add_container(dropping)
    pod = network.attach()
    dropping.serve("tcp", 80, pod.netns, name="pod")
    config = {"cniVersion": "1.1.0", "name": "net", "prevResult": pod.result}
    config |= {"runtimeConfig": {"portMappings": [port()]}}
    assert dropping.cni("ADD", "portmap", config, pod.name, pod.netns).ok
    assert dropping.ask("tcp", "172.17.0.1", 8080, container) == "pod 172.17.0.2"


@pytest.mark.parametrize("cure", ["repair", "add"])
def test_an_uplink_that_comes_later(dropping: Node, network: Network, cure: str) -> None:
    """CHECK sees that an uplink is not accepted yet; `pycni repair` or any ADD has it accepted."""
    pod = network.attach("a")
    script = "ip tuntap add vpn0 mode tun; ip address add 10.99.0.1/24 dev vpn0"
    dropping.run("sh", "-ec", script)
    assert network.check(pod).document["code"] == 100
    if cure == "repair":
        dropping.run(PYCNI, "repair")
    else:
        network.attach("b")
    assert network.check(pod).ok


def test_an_uplink_that_is_a_bridge(node: Node, outside: Outside) -> None:
    """A bridge by which the default route leads is an uplink, as on a hypervisor."""
    node.run("iptables-nft", "-P", "FORWARD", "DROP")
    script = """
        ip link add uplink type bridge
        ip link set uplink up
        ip address flush dev eth0
        ip link set eth0 master uplink
        ip address add 192.0.2.1/24 dev uplink
        ip route add default via 192.0.2.2
    """
    node.run("sh", "-ec", script)
    node.serve("tcp", 80, outside.netns)
    pod = Network(node, ipam={"type": "host-local", "subnet": "10.22.0.0/24"}).attach()
    assert node.ask("tcp", outside.ipv4, 80, pod.netns) == outside.node_ipv4
