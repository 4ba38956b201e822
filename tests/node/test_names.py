"""Names as long, or as odd, as the specification and the kernel let them be."""

from __future__ import annotations

import pytest

from tests.support.network import IPV4, Network, remains
from tests.support.node import Node
from tests.support.ports import add_pod, port, portmap


@pytest.mark.parametrize(("name", "container_id"), [(240, 1), (1, 238), (255, 255)])
def test_long_names(node: Node, backend: str, name: int, container_id: int) -> None:
    """Names of up to 255 characters do for ADD, CHECK and DEL, and nothing is left."""
    network = Network(node, name="n" * name, ipam=IPV4, macspoofchk=backend == "nftables")
    pod, netns = "c" * container_id, node.add_netns("a")
    assert network.delete(pod).ok
    assert network.check(network.attach(pod, netns)).ok
    assert [network.delete(pod).code for _ in range(2)] == [0, 0]
    assert remains(node) == []


@pytest.mark.parametrize(("name", "container_id"), [(240, 1), (1, 238), (255, 255)])
@pytest.mark.usefixtures("backend")
def test_long_names_with_ports(node: Node, name: int, container_id: int) -> None:
    """So they do for published ports."""
    pod = add_pod(node)._replace(name="c" * container_id)
    for verb in ("DEL", "ADD", "CHECK", "DEL", "DEL"):
        answer = portmap(node, verb, pod, port(), network="n" * name)
        assert answer.ok, answer
    assert remains(node) == []


@pytest.mark.parametrize("ifname", ["eth%d", "%", "all", "default"])
@pytest.mark.parametrize("verb", ["ADD", "DEL"])
def test_names_that_mean_several(node: Node, verb: str, ifname: str) -> None:
    """A CNI_IFNAME that the kernel takes for a pattern, or for all interfaces, has code 4."""
    network = Network(node, ipam=IPV4)
    answer = node.cni(verb, "bridge", network.config, "a", node.add_netns("a"), ifname=ifname)
    assert (answer.code, answer.document["code"]) == (1, 4)
    assert repr(ifname) in answer.document["details"]
    assert remains(node) == []
