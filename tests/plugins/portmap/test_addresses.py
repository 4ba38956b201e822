"""Which addresses portmap publishes at, which it publishes of, and whose source it changes."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from tests.support.node import Node, Outside
from tests.support.pod import Pod
from tests.support.ports import BOTH, add_pod, port, portmap, publish, route_localnet
from tests.support.rulesets import published

pytestmark = pytest.mark.usefixtures("backend")


@pytest.fixture
def pod(node: Node) -> Pod:
    return add_pod(node)


@pytest.fixture
def web(node: Node, pod: Pod) -> Pod:
    """A pod with a server at port 80."""
    node.serve("tcp", 80, pod.netns, name="web")
    return pod


@pytest.mark.parametrize(
    ("host_ip", "expected"),
    [
        ("", BOTH),
        ("0.0.0.0", {"ip tcp 8080": "10.77.0.2 80"}),
        ("::", {"ip6 tcp 8080": "fd00:77::2 80"}),
        ("192.0.2.1", {"ip 192.0.2.1 tcp 8080": "10.77.0.2 80"}),
        ("::ffff:192.0.2.1", {"ip 192.0.2.1 tcp 8080": "10.77.0.2 80"}),
        ("2001:DB8::0:1", {"ip6 2001:db8::1 tcp 8080": "fd00:77::2 80"}),
    ],
)
def test_host_ip(node: Node, pod: Pod, host_ip: str, expected: dict[str, str]) -> None:
    """A hostIP limits a port to its family, and to itself unless it is 0.0.0.0 or ::."""
    publish(node, pod, port(hostIP=host_ip))
    assert published(node) == expected


@pytest.mark.parametrize(("host_ip", "kept"), [("192.0.2.1", 1), ("2001:db8::1", 0)])
def test_host_ip_of_the_other_family(node: Node, pod: Pod, host_ip: str, kept: int) -> None:
    """A hostIP of a family that the pod has no address of is passed over."""
    result = deepcopy(pod.result)
    result["ips"] = result["ips"][:1]
    publish(node, pod, port(hostIP=host_ip), prevResult=result)
    assert len(published(node)) == kept


def test_only_the_host_ip(node: Node, outside: Outside, web: Pod) -> None:
    """A port with a hostIP is reached at that address, not at the node's others."""
    node.run("ip", "address", "add", "192.0.2.10/24", "dev", "eth0")
    publish(node, web, port(hostIP="192.0.2.10"))
    assert node.ask("tcp", "192.0.2.10", 8080, outside.netns) == "web 192.0.2.2"
    assert node.ask("tcp", "192.0.2.10", 8080) == "web 192.0.2.1"
    assert node.ask("tcp", outside.node_ipv4, 8080, outside.netns) is None
    assert node.ask("tcp", "127.0.0.1", 8080) is None


def test_link_local(node: Node, outside: Outside, web: Pod) -> None:
    """At a link-local address of the node a port is not published: a process of the node has it."""
    node.serve("tcp", 8080, name="node")
    publish(node, web, port())
    (info,) = node.json("ip", "-j", "address", "show", "dev", "eth0")
    address = next(a["local"] for a in info["addr_info"] if a["scope"] == "link") + "%eth0"
    assert str(node.ask("tcp", address, 8080, outside.netns)).startswith("node fe80:")
    assert node.ask("tcp", outside.node_ipv6, 8080, outside.netns) == f"web {outside.ipv6}"


def test_localhost_only(node: Node, outside: Outside, web: Pod) -> None:
    """A port with hostIP 127.0.0.1 is for the node's own processes."""
    publish(node, web, port(hostIP="127.0.0.1"))
    assert node.ask("tcp", "127.0.0.1", 8080) == "web 10.77.0.1"
    assert node.ask("tcp", outside.node_ipv4, 8080, outside.netns) is None


def test_each_address_a_pod(node: Node, outside: Outside, web: Pod) -> None:
    """Two pods have the same port at different addresses of the node."""
    node.run("ip", "address", "add", "192.0.2.10/24", "dev", "eth0")
    other = add_pod(node, 3)
    node.serve("tcp", 80, other.netns, name="other")
    publish(node, web, port(hostIP="192.0.2.1"))
    publish(node, other, port(hostIP="192.0.2.10"))
    assert node.ask("tcp", "192.0.2.1", 8080, outside.netns) == "web 192.0.2.2"
    assert node.ask("tcp", "192.0.2.10", 8080, outside.netns) == "other 192.0.2.2"


def test_several_ports(node: Node, outside: Outside, web: Pod) -> None:
    """Several host ports may lead to one port of the pod."""
    publish(node, web, port(8080), port(8081))
    for host_port in (8080, 8081):
        assert node.ask("tcp", outside.node_ipv4, host_port, outside.netns) == "web 192.0.2.2"


@pytest.mark.parametrize("spelling", ["HostPort", "hostport", "HOSTPORT"])
def test_keys_in_any_case(node: Node, pod: Pod, spelling: str) -> None:
    """Keys count in any case, an empty HostIP is none, TCP is tcp: so containerd writes them."""
    mapping = {spelling: 8080, "ContainerPort": 80, "Protocol": "TCP", "HostIP": ""}
    keys: dict[str, Any] = {"runtimeConfig": None, "RuntimeConfig": {"PortMappings": [mapping]}}
    publish(node, pod, **keys)
    assert published(node) == BOTH


def test_protocol_is_tcp(node: Node, pod: Pod) -> None:
    """Without a protocol, it is tcp."""
    publish(node, pod, {"hostPort": 8080, "containerPort": 80})
    assert published(node) == BOTH


# Of which of the container's addresses


def test_first_address(node: Node, pod: Pod) -> None:
    """Of two addresses of a family, ports of the first are published."""
    result = pod.result
    more = [{"address": "10.77.0.9/24", "interface": 0}, {"address": "fd00:77::9/64"}]
    publish(node, pod, port(), prevResult=result | {"ips": result["ips"] + more})
    assert published(node) == BOTH


def test_other_interfaces(node: Node, pod: Pod) -> None:
    """Addresses of the container's other interfaces, and of the node's, are left alone."""
    interfaces = [{"name": "net1", "sandbox": pod.netns}, {"name": "eth0"}]
    result = deepcopy(pod.result)
    result["interfaces"] += interfaces
    others = [{"address": f"10.77.0.{8 + n}/24", "interface": n} for n in (1, 2)]
    publish(node, pod, port(), prevResult=result | {"ips": others + result["ips"]})
    assert published(node) == BOTH


def test_second_interface(node: Node, pod: Pod) -> None:
    """With CNI_IFNAME net1, the addresses of net1 are the ones that count."""
    result = deepcopy(pod.result)
    result["interfaces"].append({"name": "net1", "sandbox": pod.netns})
    result["ips"].append({"address": "10.77.0.9/24", "interface": 1})
    publish(node, pod, port(), prevResult=result, ifname="net1")
    assert published(node) == {"ip tcp 8080": "10.77.0.9 80"}


@pytest.mark.parametrize(
    ("kept", "expected"), [(0, "ip tcp 8080"), (1, "ip6 tcp 8080")], ids=["IPv4", "IPv6"]
)
def test_single_stack(node: Node, pod: Pod, kept: int, expected: str) -> None:
    """A pod with addresses of one family has its ports published for that family."""
    result = pod.result
    publish(node, pod, port(), prevResult=result | {"ips": [result["ips"][kept]]})
    assert list(published(node)) == [expected]


def test_ipv6_only(node: Node, outside: Outside, web: Pod) -> None:
    """An IPv6-only pod is reached by IPv6, from outside and by itself; IPv4 is untouched."""
    result = web.result
    publish(node, web, port(), prevResult=result | {"ips": result["ips"][1:]})
    address = outside.node_ipv6
    assert node.ask("tcp", address, 8080, outside.netns) == "web 2001:db8::2"
    assert node.ask("tcp", outside.node_ipv4, 8080, outside.netns) is None
    assert route_localnet(node) == "0"


# Whose source


@pytest.mark.parametrize(
    ("keys", "sources"),
    [
        ({"masqAll": True}, ("10.77.0.1", "fd00:77::1")),
        ({"masqAll": True, "snat": False}, ("192.0.2.2", "2001:db8::2")),
        ({"snat": False}, ("192.0.2.2", "2001:db8::2")),
    ],
)
def test_source_from_outside(
    node: Node, outside: Outside, web: Pod, keys: dict[str, Any], sources: tuple[str, str]
) -> None:
    """With masqAll a pod sees the node's address for everybody; snat false rules that out."""
    publish(node, web, port(), **keys)
    for address, source in zip((outside.node_ipv4, outside.node_ipv6), sources, strict=True):
        assert node.ask("tcp", address, 8080, outside.netns) == f"web {source}"


def test_masq_all_from_the_network(node: Node, outside: Outside, web: Pod) -> None:
    """With masqAll, the pod itself, its neighbours and 127.0.0.1 work as they do without."""
    no_bridge_nf(node)
    neighbour = add_pod(node, 3)
    publish(node, web, port(), masqAll=True)
    assert node.ask("tcp", "127.0.0.1", 8080) == "web 10.77.0.1"
    for netns in (web.netns, neighbour.netns):
        assert node.ask("tcp", outside.node_ipv4, 8080, netns) == "web 10.77.0.1"


def test_without_snat(node: Node, outside: Outside, web: Pod) -> None:
    """With snat false, no source is changed: 127.0.0.1 and the pod itself get no answer."""
    no_bridge_nf(node)
    publish(node, web, port(), snat=False)
    assert node.ask("tcp", "127.0.0.1", 8080, timeout=0.3) is None
    assert node.ask("tcp", outside.node_ipv4, 8080, web.netns, timeout=0.3) is None
    assert route_localnet(node) == "0"


def test_direct_traffic(node: Node, web: Pod) -> None:
    """What is sent to the pod itself, not to a host port, keeps its source with masqAll, too."""
    no_bridge_nf(node)
    neighbour = add_pod(node, 3)
    assert portmap(node, "ADD", web, port(), masqAll=True).ok
    assert node.ask("tcp", web.ipv4, 80, neighbour.netns) == f"web {neighbour.ipv4}"


def no_bridge_nf(node: Node) -> None:
    """Have the firewall see routed packets only, so that no port needs hairpin mode."""
    switch = "for f in /proc/sys/net/bridge/bridge-nf-call-*; do echo 0 > $f; done"
    node.run("sh", "-c", switch)
