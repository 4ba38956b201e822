"""What containers of each runtime reach, and who reaches them.

Runtimes keep published ports open themselves, so a connection alone says nothing: each answer has
the name of who gave it, and the address it was asked from.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from tests.runtimes.client import Client, Container, Port
from tests.runtimes.machine import Machine
from tests.runtimes.runtimes import Start, every

PROTOCOLS = ("tcp", "udp")


class Pods(NamedTuple):
    """Two containers: `web` answers at port 80, which is published as 8080."""

    client: Client
    web: Container
    other: Container

    @property
    def machine(self) -> Machine:
        return self.client.machine

    def ask(self, protocol: str, address: str, netns: str | None = None, port: int = 8080) -> Any:
        return self.machine.ask(protocol, address, port, netns, timeout=5)

    def addresses(self, owner: object, prefix: str = "") -> list[str]:
        """An owner's address of each family that the network has."""
        return [getattr(owner, prefix + family) for family in self.client.families]


@pytest.fixture(scope="module", params=every(shared=True))
def pods(
    request: pytest.FixtureRequest, start: Start, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pods]:
    with start(request.param, tmp_path_factory.mktemp("machine")) as client:
        other = client.run("other")
        web = client.run("web", *(Port(8080, 80, protocol) for protocol in PROTOCOLS))
        for protocol in PROTOCOLS:
            client.machine.serve(protocol, 80, web.netns, name="web")
            client.machine.serve(protocol, 80, client.machine.outside.netns, name="outside")
        yield Pods(client, web, other)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_egress(pods: Pods, protocol: str) -> None:
    """A container reaches a machine outside, which sees the node's address."""
    outside = pods.machine.outside
    beyond = zip(pods.addresses(outside), pods.addresses(outside, "node_"), strict=True)
    for address, node in beyond:
        assert pods.ask(protocol, address, pods.other.netns, 80) == f"outside {node}"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_container_to_container(pods: Pods, protocol: str) -> None:
    """Containers of a network reach one another by their own addresses."""
    for address, source in zip(pods.addresses(pods.web), pods.addresses(pods.other), strict=True):
        assert pods.ask(protocol, address, pods.other.netns, 80) == f"web {source}"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_port_from_outside(pods: Pods, protocol: str) -> None:
    """A published port is reached from outside, and the container sees who asks."""
    outside = pods.machine.outside
    for node, source in zip(pods.addresses(outside, "node_"), pods.addresses(outside), strict=True):
        assert pods.ask(protocol, node, outside.netns) == f"web {source}"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_port_from_node(pods: Pods, protocol: str) -> None:
    """The node reaches a published port at its own address."""
    for node in pods.addresses(pods.machine.outside, "node_"):
        assert str(pods.ask(protocol, node)).startswith("web ")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_port_from_loopback(pods: Pods, protocol: str) -> None:
    """The node reaches a published port at 127.0.0.1."""
    assert str(pods.ask(protocol, "127.0.0.1")).startswith("web ")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_port_from_another_container(pods: Pods, protocol: str) -> None:
    """Another container of the network reaches a published port at the node's address."""
    for node in pods.addresses(pods.machine.outside, "node_"):
        assert str(pods.ask(protocol, node, pods.other.netns)).startswith("web ")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_port_from_its_own_container(pods: Pods, protocol: str) -> None:
    """A container reaches its own published port at the node's address."""
    for node in pods.addresses(pods.machine.outside, "node_"):
        assert str(pods.ask(protocol, node, pods.web.netns)).startswith("web ")


def test_unpublished_port(pods: Pods) -> None:
    """A port that no container publishes is closed."""
    assert pods.ask("tcp", pods.machine.outside.node_ipv4, pods.machine.outside.netns, 8081) is None
