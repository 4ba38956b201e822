"""Routers that advertise themselves: the node keeps its own, and a pod on layer 2 finds one."""

from __future__ import annotations

import sys

from tests.support.network import DUAL, Network, wait_until
from tests.support.node import ROOT, Node

_ROUTER = ROOT / "tests/support/router.py"


def has_router(node: Node, netns: str | None = None) -> bool:
    """Whether a default route has come by an advertisement, by eth0."""
    routes = node.json("ip", "-6", "-j", "route", "show", "default", "dev", "eth0", netns=netns)
    return any(route["protocol"] == "ra" for route in routes)


def advertise_outside(node: Node) -> None:
    """Have the machine outside advertise itself until the node has it as its router."""
    outside = node.add_outside()
    node.start(sys.executable, "-IS", _ROUTER, "2001:db8:1::", "0.1", netns=outside.netns)
    wait_until(lambda: has_router(node))


def test_the_nodes_router(node: Node) -> None:
    """The first ADD that has the node forward IPv6 does not cost it its router, and says how."""
    advertise_outside(node)
    answer = Network(node).add()
    assert answer.ok
    assert "net.ipv6.conf.eth0.accept_ra" in answer.stderr
    assert has_router(node)
    node.run("ip", "-6", "route", "del", "default", "dev", "eth0")
    wait_until(lambda: has_router(node))
    assert "eth0:accept_ra" in node.run("ls", "/run/cni/pycni/parameters").stdout
    assert Network(node).delete().ok
    assert has_router(node)


def test_interfaces_without_a_router(node: Node) -> None:
    """Other interfaces take no advertisements that they would not have taken."""
    node.add_outside()
    Network(node).attach()
    assert node.run("cat", "/proc/sys/net/ipv6/conf/eth0/accept_ra").stdout == "1\n"


def test_a_router_of_layer_2(node: Node) -> None:
    """A pod on layer 2 gets address and route from a router on its link."""
    network = Network(node, isDefaultGateway=False, ipMasq=False, ipam={})
    router = Network(node, name="router", isDefaultGateway=False, ipMasq=False, ipam=DUAL)
    sender = router.attach("router")
    pod = network.attach("pod")
    node.start(sys.executable, "-IS", _ROUTER, "2001:db8:1::", "0.1", netns=sender.netns)
    wait_until(lambda: has_router(node, pod.netns))
    assert "2001:db8:1:" in node.run("ip", "address", netns=pod.netns).stdout


def test_a_link_local_gateway(node: Node) -> None:
    """A gateway may be a link-local address, beside the one that the kernel gives the bridge."""
    node.add_outside()
    ranges = [[{"subnet": "fd00:22::/64", "gateway": "fe80::1"}]]
    for force in (False, True):
        network = Network(node, ipam={"type": "host-local", "ranges": ranges}, forceAddress=force)
        pod = network.attach(f"pod{force:d}")
        assert network.check(pod).ok
        (info,) = node.json("ip", "-j", "address", "show", "dev", "br0")
        local = {a["local"] for a in info["addr_info"] if a.get("scope") == "link"}
        assert len(local) == 2
        assert "fe80::1" in local
        assert node.run("ping", "-c1", "-W2", "2001:db8::1", netns=pod.netns)
