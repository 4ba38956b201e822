"""Who reaches a published port, and from which address: bridge, host-local and portmap in a chain.

Once on a node whose firewall sees bridged packets, as Kubernetes wants it, and once on one where
it does not; there no port of the bridge needs hairpin mode.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.kernel import knows_protocol
from tests.support.node import ROOT, Node, Outside
from tests.support.ports import port

_SCTP = ROOT / "tests/support/sctp.py"

# Where the kernel has no SCTP sockets, test_sctp is what can be tested of SCTP.
PROTOCOLS = ("tcp", "udp", "sctp") if knows_protocol("sctp") else ("tcp", "udp")


class World(NamedTuple):
    """`web` has port 8080 published. All but outside are on the node."""

    node: Node
    outside: Outside
    web: str
    neighbour: str
    other_network: str


def conflist(name: str, bridge: str, number: int, *, hairpin: bool) -> dict[str, Any]:
    ranges = [[{"subnet": f"10.{number}.0.0/24"}], [{"subnet": f"fd00:{number}::/64"}]]
    interface = {
        "type": "bridge",
        "bridge": bridge,
        "isDefaultGateway": True,
        "ipMasq": True,
        "hairpinMode": hairpin,
        "ipam": {"type": "host-local", "ranges": ranges},
    }
    plugins = [interface, {"type": "portmap", "capabilities": {"portMappings": True}}]
    return {"cniVersion": "1.0.0", "name": name, "plugins": plugins}


@pytest.fixture(scope="module", params=[True, False], ids=["bridge-nf", "no-bridge-nf"])
def world(
    request: pytest.FixtureRequest, bin_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    with Node(bin_dir, tmp_path_factory.mktemp("node")) as node:
        for name in ("iptables", "ip6tables"):
            switch = f"echo {request.param:d} > /proc/sys/net/bridge/bridge-nf-call-{name}"
            node.run("sh", "-c", switch)
        pods = (node.add_netns("web"), node.add_netns("neighbour"), node.add_netns("other"))
        world = World(node, node.add_outside(), *pods)
        network = conflist("net", "cni0", 22, hairpin=request.param)
        other_network = conflist("other", "cni1", 33, hairpin=request.param)
        ports = [port(8080, 80, protocol) for protocol in ("tcp", "udp", "sctp")]
        assert node.cnitool("add", network, world.web, ports).ok
        assert node.cnitool("add", network, world.neighbour).ok
        assert node.cnitool("add", other_network, world.other_network).ok
        for protocol in PROTOCOLS:
            node.serve(protocol, 80, world.web, name="web")
        yield world


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_at_once(node: Node, outside: Outside, family: str) -> None:
    """The first packet behind an ADD, on a fresh node, reaches the pod: nobody sends it again."""
    pod = node.add_netns("pod")
    node.serve("udp", 80, pod, name="web")
    ports = [port(8080, 80, "udp")]
    assert node.cnitool("add", conflist("net", "cni0", 22, hairpin=False), pod, ports).ok
    answer = node.ask("udp", getattr(outside, f"node_{family}"), 8080, outside.netns)
    assert answer == f"web {getattr(outside, family)}"


@pytest.mark.parametrize(
    ("address", "source"), [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")]
)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_from_outside(world: World, protocol: str, address: str, source: str) -> None:
    """Another host reaches the port at the node's address, and keeps its own address."""
    answer = world.node.ask(protocol, address, 8080, world.outside.netns)
    assert answer == f"web {source}"


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("10.22.0.1", "10.22.0.1"),
        ("127.0.0.1", "10.22.0.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("fd00:22::1", "fd00:22::1"),
    ],
)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_from_the_node(world: World, protocol: str, address: str, source: str) -> None:
    """The node reaches the port at each of its own addresses, in IPv4 at 127.0.0.1 as well."""
    assert world.node.ask(protocol, address, 8080) == f"web {source}"


@pytest.mark.parametrize("address", ["192.0.2.1", "10.22.0.1", "2001:db8::1", "fd00:22::1"])
@pytest.mark.parametrize("who", ["web", "neighbour"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_from_the_network(world: World, protocol: str, who: str, address: str) -> None:
    """The pod itself and its neighbours reach the port by way of the node, with its address."""
    sender = {"web": world.web, "neighbour": world.neighbour}[who]
    gateway = "fd00:22::1" if ":" in address else "10.22.0.1"
    assert world.node.ask(protocol, address, 8080, sender) == f"web {gateway}"


@pytest.mark.parametrize(
    ("address", "source"), [("192.0.2.1", "10.22.0.1"), ("2001:db8::1", "fd00:22::1")]
)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_from_another_network(world: World, protocol: str, address: str, source: str) -> None:
    """A pod behind another bridge reaches the port; its own network masquerades it."""
    answer = world.node.ask(protocol, address, 8080, world.other_network)
    assert answer == f"web {source}"


@pytest.mark.parametrize(
    ("family", "address", "source"),
    [("4", "192.0.2.1", "192.0.2.2"), ("6", "2001:db8::1", "2001:db8::2")],
)
def test_sctp(world: World, family: str, address: str, source: str) -> None:
    """An SCTP association's first packet reaches the pod's port, from its sender's address."""
    script = (sys.executable, "-IS", _SCTP)
    receiver = world.node.start(*script, "receive", family, "80", netns=world.web)
    assert receiver.stdout
    assert receiver.stdout.readline() == "ready\n"
    world.node.run(*script, "send", address, "8080", netns=world.outside.netns)
    assert receiver.stdout.readline() == f"INIT {source}\n"
