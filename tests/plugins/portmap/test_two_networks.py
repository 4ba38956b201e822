"""A container whose runtime publishes its ports by each of its networks, as podman does."""

from __future__ import annotations

import pytest

from tests.support.node import Node, Outside
from tests.support.pod import Pod
from tests.support.ports import fails, port, portmap, publish, remains, wired

pytestmark = pytest.mark.usefixtures("backend")

PORT = port(8080)


@pytest.fixture
def twice(node: Node, pod: Pod) -> Pod:
    """A container that has a port by network `net`, and asks for it by network `more`, too."""
    publish(node, pod, PORT)
    second = wired(pod.name, pod.netns, 102)
    for address in ("10.77.0.102/24", "fd00:77::102/64"):
        more = ("nodad",) if ":" in address else ()
        node.run("ip", "address", "add", address, "dev", "eth0", *more, netns=pod.netns)
    publish(node, second, PORT, network="more", ifname="eth0")
    node.serve("tcp", 80, pod.netns, name="pod")
    return second


def reached(node: Node, outside: Outside) -> list[str | None]:
    """Who answers a machine outside, by IPv4 and IPv6."""
    addresses = (outside.node_ipv4, outside.node_ipv6)
    return [node.ask("tcp", address, 8080, outside.netns) for address in addresses]


def withdraw(node: Node, pod: Pod, network: str) -> None:
    answer = portmap(node, "DEL", pod, PORT, network=network)
    assert answer.ok, answer


def test_port_of_both(node: Node, outside: Outside, pod: Pod, twice: Pod) -> None:
    """A port that a container has by two networks is published, and CHECK passes for both."""
    assert all(answer and answer.startswith("pod") for answer in reached(node, outside))
    assert portmap(node, "CHECK", pod, PORT).ok
    assert portmap(node, "CHECK", twice, PORT, network="more").ok


@pytest.mark.parametrize("first", ["net", "more"])
def test_one_network_goes(node: Node, outside: Outside, pod: Pod, twice: Pod, first: str) -> None:
    """When the container leaves one of the networks, its port is published by the other one."""
    withdraw(node, pod, first)
    assert all(answer and answer.startswith("pod") for answer in reached(node, outside))
    left, network = (twice, "more") if first == "net" else (pod, "net")
    assert portmap(node, "CHECK", left, PORT, network=network).ok


def test_both_go(node: Node, outside: Outside, pod: Pod, twice: Pod) -> None:
    """When it has left both, nothing is published and nothing is left."""
    withdraw(node, pod, "net")
    withdraw(node, twice, "more")
    assert reached(node, outside) == [None, None]
    assert remains(node) == []


def test_another_container(node: Node, twice: Pod, other: Pod) -> None:
    """Another container is refused the port still, after either network has gone."""
    withdraw(node, twice, "net")
    assert portmap(node, "ADD", other, PORT).document["code"] == 101


@pytest.mark.usefixtures("twice")
def test_flushed(node: Node, pod: Pod) -> None:
    """CHECK of the network that has the port fails after a flush."""
    node.run("nft", "flush", "ruleset")
    assert fails(portmap(node, "CHECK", pod, PORT))
