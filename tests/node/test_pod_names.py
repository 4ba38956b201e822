"""Who an error names: the pod, where CNI_ARGS had its name and namespace."""

from __future__ import annotations

import sys

import pytest

from tests.support.network import IPV4, Network
from tests.support.node import Node
from tests.support.ports import add_pod, port, portmap

CONTAINER = "0123456789abcdef" * 4
ARGS = (
    "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;"
    f"K8S_POD_INFRA_CONTAINER_ID={CONTAINER};K8S_POD_UID=1-2"
)
WHO = "pod default/web (network net, container 0123456789ab, eth0)"


@pytest.fixture
def network(node: Node) -> Network:
    """A network that a pod of Kubernetes is attached to."""
    network = Network(node, ipam=IPV4)
    network.attach(CONTAINER, node.add_netns("web"), args=ARGS)
    return network


def test_host_port(node: Node, backend: str) -> None:
    """The holder of a host port is named by its pod, and its whole container ID is there."""
    assert backend
    web = add_pod(node)._replace(name=CONTAINER)
    assert portmap(node, "ADD", web, port(8080), args=ARGS).ok
    document = portmap(node, "ADD", add_pod(node, 3), port(8080)).document
    assert document["msg"] == f"host port 0.0.0.0:8080/tcp is taken by {WHO}"
    assert CONTAINER in document["details"]


def test_address(network: Network) -> None:
    """So is the holder of an address."""
    network.config["runtimeConfig"] = {"ips": ["10.22.0.2"]}
    document = network.add("b").document
    assert (document["code"], document["msg"]) == (101, "10.22.0.2 is leased already")
    assert WHO in document["details"]
    assert CONTAINER in document["details"]


def test_attached_already(network: Network, node: Node) -> None:
    """So is an attachment that is there already."""
    answer = network.add(CONTAINER, node.add_netns("again"), args=ARGS)
    assert answer.document["msg"] == f"{WHO} is attached already"
    assert CONTAINER in answer.document["details"]


def test_without_a_pod(node: Node) -> None:
    """Where no pod was told, the network, the container's first digits and the interface are."""
    web = add_pod(node)._replace(name=CONTAINER)
    assert portmap(node, "ADD", web, port(8080)).ok
    document = portmap(node, "ADD", add_pod(node, 3), port(8080)).document
    assert document["msg"] == "host port 0.0.0.0:8080/tcp is taken by net/0123456789ab/eth0"


@pytest.mark.usefixtures("network")
def test_list(node: Node) -> None:
    """`pycni list` names the pod beside the attachment."""
    listed = node.run(f"{sys.prefix}/bin/pycni", "list").stdout
    assert f"net/{CONTAINER}/eth0  bridge  pod default/web\n" in listed


@pytest.mark.parametrize("verb", ["ADD", "CHECK", "DEL"])
@pytest.mark.parametrize("args", ["K", "IgnoreUnknown", "=;K8S_POD_NAME=a\tb"])
def test_args_without_a_use(node: Node, verb: str, args: str) -> None:
    """portmap has no use for CNI_ARGS, and refuses none."""
    pod = add_pod(node)
    if verb != "ADD":
        assert portmap(node, "ADD", pod, port(8080)).ok
    assert portmap(node, verb, pod, port(8080), args=args).ok
