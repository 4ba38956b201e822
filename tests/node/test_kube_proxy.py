"""kube-proxy on the same node: its services, our published ports, and nobody's rules changed."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.firewalls import (
    KUBE_PROXY_IPTABLES,
    KUBE_PROXY_NFTABLES,
    load_iptables,
    load_nft,
    others,
    saved,
)
from tests.support.network import Network
from tests.support.node import Node, Outside
from tests.support.pod import Pod
from tests.support.ports import port

NODE_PORT = 30080
CONFIG = {"cniVersion": "1.1.0", "name": "net"}


@pytest.fixture(params=["nftables", "iptables-nft", "iptables-legacy"])
def mode(request: pytest.FixtureRequest) -> str:
    """Of kube-proxy."""
    return str(request.param)


@pytest.fixture
def network(node: Node) -> Network:
    return Network(node)


@pytest.fixture
def service(node: Node, network: Network, mode: str) -> Pod:
    """The pod behind kube-proxy's service."""
    pod = network.attach("service")
    node.serve("tcp", 80, pod.netns, name="service")
    if mode == "nftables":
        load_nft(node, KUBE_PROXY_NFTABLES.format(endpoint=pod.ipv4))
    else:
        text = KUBE_PROXY_IPTABLES.format(endpoint=pod.ipv4)
        load_iptables(node, mode.removeprefix("iptables-"), text)
    return pod


def portmap(network: Network, verb: str, pod: Pod, *ports: dict[str, Any]) -> None:
    config = CONFIG | {"prevResult": pod.result, "runtimeConfig": {"portMappings": ports}}
    answer = network.node.cni(verb, "portmap", config, pod.name, pod.netns)
    assert answer.ok, answer


@pytest.mark.usefixtures("service", "outside")
def test_a_node_port_wins(node: Node, network: Network) -> None:
    """A host port does not take a NodePort of the same number away (CVE-2019-9946)."""
    pod = network.attach("a")
    node.serve("tcp", 80, pod.netns, name="web")
    portmap(network, "ADD", pod, port(NODE_PORT))
    for sender in ("/run/netns/outside", None):
        answer = node.ask("tcp", "192.0.2.1", NODE_PORT, sender) or ""
        assert answer.startswith("service ")


@pytest.mark.usefixtures("outside")
def test_a_host_port(node: Node, service: Pod, network: Network) -> None:
    """Another host port works beside it, and other machines' addresses are kept."""
    pod = network.attach("a")
    node.serve("tcp", 80, pod.netns, name="web")
    portmap(network, "ADD", pod, port())
    assert node.ask("tcp", "192.0.2.1", 8080, "/run/netns/outside") == "web 192.0.2.2"
    assert node.ask("tcp", "127.0.0.1", 8080) == "web 10.22.0.1"
    assert node.ask("tcp", "10.22.0.1", 8080, service.netns) == "web 10.22.0.1"


@pytest.mark.usefixtures("service")
def test_from_pods(node: Node, outside: Outside, network: Network) -> None:
    """Pods reach other machines, and the service at its own address."""
    node.serve("tcp", 80, outside.netns)
    pod = network.attach("a")
    assert node.ask("tcp", outside.ipv4, 80, pod.netns) == outside.node_ipv4
    assert node.ask("tcp", "10.96.0.10", 80, pod.netns) == f"service {pod.ipv4}"


@pytest.mark.usefixtures("service")
def test_its_rules_stay(node: Node, network: Network, mode: str) -> None:
    """ADD, CHECK and DEL leave kube-proxy's rules exactly as they are."""
    before = rules(node, mode)
    pod = network.attach("a")
    portmap(network, "ADD", pod, port(), port(NODE_PORT))
    assert rules(node, mode) == before
    assert network.check(pod).ok
    portmap(network, "CHECK", pod, port(), port(NODE_PORT))
    assert rules(node, mode) == before
    portmap(network, "DEL", pod)
    for name in ("a", "service"):
        assert network.delete(name).ok
    assert rules(node, mode) == before


def rules(node: Node, mode: str) -> str:
    legacy = saved(node, "legacy") if mode == "iptables-legacy" else []
    return others(node) + "\n".join(legacy)


@pytest.mark.usefixtures("service")
def test_together_with_policy_drop(
    node: Node, outside: Outside, network: Network, mode: str
) -> None:
    """With policy DROP for FORWARD as well, pods reach outside, and the NodePort works."""
    variant = "legacy" if mode == "iptables-legacy" else "nft"
    node.route_by_outside()
    node.run(f"iptables-{variant}", "-P", "FORWARD", "DROP")
    node.serve("tcp", 80, outside.netns)
    pod = network.attach("a")
    assert node.ask("tcp", outside.ipv4, 80, pod.netns) == outside.node_ipv4
    answer = node.ask("tcp", "192.0.2.1", NODE_PORT, outside.netns) or ""
    assert answer.startswith("service ")
