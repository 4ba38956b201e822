"""kube-proxy in IPVS mode: the addresses of Services are the node's, and not taken for its own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.node import Node, Outside
from tests.support.pod import Pod
from tests.support.ports import add_pod, port, portmap, publish

PYCNI = Path(sys.executable).with_name("pycni")
SERVICES = {"ipv4": "10.96.0.10", "ipv6": "fd00:96::10"}

# The device, which is down, and the rules in nat that let pass what is sent to a Service.
_IPVS = """
ip link add kube-ipvs0 type dummy 2>/dev/null || ip link add kube-ipvs0 type bridge
ipset create KUBE-CLUSTER-IP hash:ip,port
ipset create KUBE-6-CLUSTER-IP hash:ip,port family inet6
for program in iptables ip6tables; do
    $program -t nat -N KUBE-SERVICES
    $program -t nat -I PREROUTING -j KUBE-SERVICES
    $program -t nat -I OUTPUT -j KUBE-SERVICES
done
iptables -t nat -A KUBE-SERVICES -m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT
ip6tables -t nat -A KUBE-SERVICES -m set --match-set KUBE-6-CLUSTER-IP dst,dst -j ACCEPT
"""
_SERVICE = f"""
ip address add {SERVICES["ipv4"]}/32 dev kube-ipvs0
ip address add {SERVICES["ipv6"]}/128 dev kube-ipvs0 nodad
ipset add KUBE-CLUSTER-IP {SERVICES["ipv4"]},tcp:443
ipset add KUBE-6-CLUSTER-IP {SERVICES["ipv6"]},tcp:443
"""


def add_service(node: Node) -> None:
    """A Service whose backend is a server of the node's.

    Without IPVS in the kernel that answers at the Service's address itself, at the same point of a
    packet's way. Debian's kernel has it: `scripts/test-kernel`.
    """
    node.run("sh", "-ec", _SERVICE)
    has_ipvs = node.run("test", "-e", "/proc/net/ip_vs", check=False).returncode == 0
    for address, backend in zip(SERVICES.values(), ("192.0.2.1", "2001:db8::1"), strict=True):
        if not has_ipvs:
            node.serve("tcp", 443, address=address, name="service")
            continue
        service = f"[{address}]:443" if ":" in address else f"{address}:443"
        target = f"[{backend}]:8443" if ":" in backend else f"{backend}:8443"
        node.run("ipvsadm", "-A", "-t", service, "-s", "rr")
        node.run("ipvsadm", "-a", "-t", service, "-r", target, "-m")
        node.serve("tcp", 8443, address=backend, name="service")


pytestmark = pytest.mark.usefixtures("backend", "outside")


@pytest.fixture
def pod(node: Node) -> Pod:
    """A pod with a server at port 80, on a node with kube-proxy in IPVS mode."""
    node.run("sh", "-ec", _IPVS)
    pod = add_pod(node)
    node.serve("tcp", 80, pod.netns, name="web")
    return pod


@pytest.mark.parametrize("comes", ["before", "later"])
@pytest.mark.parametrize("family", SERVICES)
def test_the_service_answers(node: Node, pod: Pod, family: str, comes: str) -> None:
    """At its address a Service answers, from a pod and from the node, and not a host port."""
    client = add_pod(node, 3)
    if comes == "before":
        add_service(node)
    publish(node, pod, port(443))
    if comes == "later":
        add_service(node)
    for sender in (client.netns, pod.netns, None):
        answer = node.ask("tcp", SERVICES[family], 443, sender) or ""
        assert answer.startswith("service ")


@pytest.mark.parametrize("family", SERVICES)
def test_the_host_port(node: Node, outside: Outside, pod: Pod, family: str) -> None:
    """At the node's own addresses the host port is reached from everywhere."""
    add_service(node)
    client = add_pod(node, 3)
    publish(node, pod, port(443))
    gateway = "10.77.0.1" if family == "ipv4" else "fd00:77::1"
    own = getattr(outside, f"node_{family}")
    assert portmap(node, "CHECK", pod, port(443)).ok
    for address, sender in (
        (own, outside.netns),
        (own, client.netns),
        (own, None),
        (gateway, client.netns),
        (gateway, None),
    ):
        assert (node.ask("tcp", address, 443, sender) or "").startswith("web ")


def test_at_loopback(node: Node, pod: Pod) -> None:
    """The node reaches the host port at 127.0.0.1."""
    publish(node, pod, port(443))
    assert node.ask("tcp", "127.0.0.1", 443) == "web 10.77.0.1"


def test_an_address_that_comes_later(node: Node, outside: Outside, pod: Pod) -> None:
    """At an address that comes later the host port is reached from outside at once."""
    add_service(node)
    publish(node, pod, port(443))
    node.run("ip", "address", "add", "192.0.2.10/24", "dev", "eth0")
    assert node.ask("tcp", "192.0.2.10", 443, outside.netns) == "web 192.0.2.2"
    node.run(PYCNI, "repair")
    assert portmap(node, "CHECK", pod, port(443)).ok
    assert node.ask("tcp", "192.0.2.10", 443) is not None


def test_kube_proxy_that_comes_later(node: Node, backend: str) -> None:
    """If kube-proxy comes after the host port, the next ADD leaves Services alone."""
    pod, other = add_pod(node), add_pod(node, 3)
    node.serve("tcp", 80, pod.netns, name="web")
    publish(node, pod, port(443))
    node.run("sh", "-ec", _IPVS)
    add_service(node)
    if backend == "nftables":
        assert portmap(node, "CHECK", pod, port(443)).document["code"] == 100
    publish(node, other, port(9000))
    assert portmap(node, "CHECK", pod, port(443)).ok
    for address in SERVICES.values():
        assert (node.ask("tcp", address, 443) or "").startswith("service ")
