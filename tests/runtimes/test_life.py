"""From a container's start to its removal, by each runtime."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType

import pytest

from tests.runtimes.client import Client, Container, Port
from tests.runtimes.runtimes import NO_NAMESPACE, Kind, every

PORTS = (Port(8080), Port(8080, protocol="udp"))


def each(fails: Mapping[Kind, str] = MappingProxyType({})) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("client", every(fails=fails), indirect=True)


def run_once(client: Client, *ports: Port) -> None:
    """Run and remove a container, for the chains of the reference that stay, but lead nowhere."""
    client.run("first", *ports)
    client.remove("first")


def answers(client: Client, container: Container, port: int = 8080) -> bool:
    """Whether a container that begins to serve is reached at its published port."""
    machine = client.machine
    machine.serve("tcp", 80, container.netns, name=container.name)
    address, outside = machine.outside.node_ipv4, machine.outside
    answer = machine.ask("tcp", address, port, outside.netns, timeout=5)
    return answer == f"{container.name} {outside.ipv4}"


@each(NO_NAMESPACE)
def test_removal(client: Client) -> None:
    """Nothing is left of a container that is removed: link, namespace, lease, records, rules."""
    run_once(client, *PORTS)
    before = client.machine.holdings()
    client.run("web", *PORTS)
    assert client.machine.changes(before) != []
    client.remove("web")
    assert client.machine.changes(before) == []


# Networks of nerdctl also have a plugin that is none of ours.
@pytest.mark.parametrize(
    "client", every("ctr", "cri", "podman", "cri2", plugins=["pycni"]), indirect=True
)
def test_removal_of_the_first(client: Client) -> None:
    """Nothing is left of the node's first and only container, no chain either."""
    before = client.machine.holdings()
    run_once(client, *PORTS)
    assert client.machine.changes(before) == []


@each(NO_NAMESPACE)
def test_removal_beside_another(client: Client) -> None:
    """A container keeps its port when another one is removed."""
    run_once(client, *PORTS)
    kept = client.run("kept", Port(8080))
    before = client.machine.holdings()
    client.run("web", Port(8081))
    client.remove("web")
    assert client.machine.changes(before) == []
    assert answers(client, kept)


@each()
def test_port_of_a_removed_container(client: Client) -> None:
    """A port can be published again as soon as the container that had it is removed."""
    run_once(client, *PORTS)
    assert answers(client, client.run("web", *PORTS))


@each(NO_NAMESPACE)
def test_ten_at_once(client: Client) -> None:
    """Ten containers that start at once get an address each, and nothing of them is left."""
    run_once(client)
    before = client.machine.holdings()
    names = [f"pod{number}" for number in range(10)]
    with ThreadPoolExecutor(len(names)) as pool:
        containers = list(pool.map(client.run, names))
        assert len({container.ipv4 for container in containers}) == len(names)
        list(pool.map(client.remove, names))
    assert client.machine.changes(before) == []


@each()
def test_port_at_one_address(client: Client) -> None:
    """A port that is published at one address of the node is closed at the others."""
    machine = client.machine
    web = client.run("web", Port(8080, address=machine.outside.node_ipv4))
    assert answers(client, web)
    assert machine.ask("tcp", "127.0.0.1", 8080) is None
