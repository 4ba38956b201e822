"""podman's networks: its default one, its own, several at once, addresses that are asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import pytest

from tests.runtimes.client import Container, Port
from tests.runtimes.image import IMAGE
from tests.runtimes.podman import Podman
from tests.runtimes.runtimes import Kind, every
from tests.support.network import wait_until

MAC = "0a:58:0a:4d:00:07"


def each(fails: Mapping[Kind, str] = MappingProxyType({})) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("client", every("podman", fails=fails), indirect=True)


def create(client: Podman, name: str = "own", subnet: str = "10.77.0.0/24") -> None:
    client("network", "create", "--subnet", subnet, name)


def serve(client: Podman, container: Container) -> None:
    client.machine.serve("tcp", 80, container.netns, name=container.name)
    client.machine.serve("tcp", 80, client.machine.outside.netns, name="outside")


def ask_port(client: Podman, port: int = 8080) -> str | None:
    """Who answers a machine outside at a published port."""
    outside = client.machine.outside
    return client.machine.ask("tcp", outside.node_ipv4, port, outside.netns)


def ask_outside(client: Podman, container: Container) -> str | None:
    """What a machine outside sees of a container."""
    return client.machine.ask("tcp", client.machine.outside.ipv4, 80, container.netns)


def run_once(client: Podman, *ports: Port, options: Sequence[str]) -> None:
    """Run and remove a container, for chains of the reference that stay, but lead nowhere."""
    client.run("first", *ports, options=options)
    client.remove("first")


@each()
@pytest.mark.parametrize("network", ["podman", "own"])
def test_networks_of_its_own(client: Podman, network: str) -> None:
    """A container on podman's default network, or a created one, reaches out and is reached."""
    client.use_default_network("podman")
    create(client)
    options = ("--network", network)
    run_once(client, Port(8080), options=options)
    before = client.machine.holdings()
    web = client.run("web", Port(8080), options=options)
    serve(client, web)
    assert ask_outside(client, web) == f"outside {client.machine.outside.node_ipv4}"
    assert ask_port(client) == f"web {client.machine.outside.ipv4}"
    client.remove("web")
    assert client.machine.changes(before) == []


@each()
def test_two_networks(client: Podman) -> None:
    """A container on two networks has an interface on each, and leaves nothing."""
    create(client)
    options = ("--network", "pods,own")
    run_once(client, options=options)
    before = client.machine.holdings()
    web = client.run("web", options=options)
    found = {client.inspect("web", f"eth{number}").ipv4.rpartition(".")[0] for number in (0, 1)}
    assert found == {"10.66.0", "10.77.0"}
    serve(client, web)
    assert ask_outside(client, web) == f"outside {client.machine.outside.node_ipv4}"
    client.remove("web")
    assert client.machine.changes(before) == []


@each()
def test_port_with_two_networks(client: Podman) -> None:
    """A container on two networks is reached at its port, and leaves nothing."""
    create(client)
    options = ("--network", "pods,own")
    run_once(client, Port(8080), options=options)
    before = client.machine.holdings()
    serve(client, client.run("web", Port(8080), options=options))
    assert ask_port(client) == f"web {client.machine.outside.ipv4}"
    client.remove("web")
    assert client.machine.changes(before) == []


@each()
def test_address_and_mac(client: Podman) -> None:
    """A container gets the address and the MAC that it asks for."""
    create(client)
    asked = ("--network", "own", "--ip", "10.77.0.7", "--mac-address", MAC)
    web = client.run("web", options=asked)
    (link,) = client.machine.json("ip", "-j", "link", "show", "dev", "eth0", netns=web.netns)
    assert (web.ipv4, link["address"]) == ("10.77.0.7", MAC)


@each()
def test_address_of_another(client: Podman) -> None:
    """An address that another container has is refused, and is free once that one is removed."""
    create(client)
    options = ("--network", "own", "--ip", "10.77.0.7")
    client.run("first", options=options)
    with pytest.raises(AssertionError, match=r"10\.77\.0\.7"):
        client.run("second", options=options)
    client.remove("first")
    assert client.run("third", options=options).ipv4 == "10.77.0.7"


@each()
def test_disconnect_and_connect(client: Podman) -> None:
    """A running container leaves a network and joins it again."""
    create(client)
    create(client, "another", "10.78.0.0/24")
    run_once(client, options=("--network", "own,another"))
    client.run("web", options=("--network", "own"))
    before = client.machine.holdings()
    client("network", "connect", "another", "web")
    assert client.inspect("web", "eth1").ipv4.startswith("10.78.0.")
    client("network", "disconnect", "another", "web")
    assert client.machine.changes(before) == []


@each()
def test_restart(client: Podman) -> None:
    """A container that is restarted has its port again."""
    client.run("web", Port(8080))
    client("restart", "--time=2", "web")
    serve(client, client.inspect("web"))
    assert ask_port(client) == f"web {client.machine.outside.ipv4}"


@each()
def test_killed(client: Podman) -> None:
    """Nothing is left of a container that is killed and not removed."""
    run_once(client, Port(8080), options=())
    before = client.machine.holdings()
    client.run("web", Port(8080))
    client("kill", "web")
    wait_until(lambda: client.machine.changes(before) == [])


@each()
def test_pod(client: Podman) -> None:
    """Containers of a podman pod share its address and its ports."""
    parent = f"--cgroup-parent=/{client.machine.cgroup}"
    client("pod", "create", "--name=pod", "--publish=8080:80", "--infra-image", IMAGE, parent)
    first = client.run("first", options=("--pod=pod",))
    second = client.run("second", options=("--pod=pod",))
    assert first.ipv4 == second.ipv4
    serve(client, first)
    assert ask_port(client) == f"first {client.machine.outside.ipv4}"
