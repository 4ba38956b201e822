"""nerdctl's networks: its default one, its own, two at once, addresses that are asked for."""

from __future__ import annotations

import pytest

from tests.runtimes.client import Container, Port
from tests.runtimes.nerdctl import Nerdctl
from tests.runtimes.runtimes import NO_NAMESPACE, every

MAC = "0a:58:0a:4d:00:07"

each = pytest.mark.parametrize("client", every("nerdctl"), indirect=True)


def serve(client: Nerdctl, container: Container) -> None:
    client.machine.serve("tcp", 80, container.netns, name=container.name)
    client.machine.serve("tcp", 80, client.machine.outside.netns, name="outside")


def ask_outside(client: Nerdctl, container: Container) -> str | None:
    """What a machine outside sees of a container."""
    return client.machine.ask("tcp", client.machine.outside.ipv4, 80, container.netns)


@each
@pytest.mark.parametrize("network", ["bridge", "pods"])
def test_networks(client: Nerdctl, network: str) -> None:
    """Containers on the default network, or a created one, reach out, and one another."""
    options = (f"--network={network}",)
    web, other = (client.run(name, options=options) for name in ("web", "other"))
    serve(client, web)
    assert ask_outside(client, web) == f"outside {client.machine.outside.node_ipv4}"
    assert client.machine.ask("tcp", web.ipv4, 80, other.netns) == f"web {other.ipv4}"


@pytest.mark.parametrize("client", every("nerdctl", fails=NO_NAMESPACE), indirect=True)
def test_two_networks(client: Nerdctl) -> None:
    """A container on two networks has an interface on each, and leaves nothing."""
    client("network", "create", "own", "--subnet", "10.77.0.0/24")
    options = ("--network=pods", "--network=own")
    client.run("first", options=options)
    client.remove("first")
    before = client.machine.holdings()
    client.run("web", options=options)
    found = {client.inspect("web", f"eth{number}").ipv4.rpartition(".")[0] for number in (0, 1)}
    assert found == {"10.66.0", "10.77.0"}
    client.remove("web")
    assert client.machine.changes(before) == []


@each
def test_address_and_mac(client: Nerdctl) -> None:
    """A container gets the address and the MAC that it asks for."""
    asked = ("--network=pods", "--ip=10.66.0.7", f"--mac-address={MAC}")
    web = client.run("web", options=asked)
    (link,) = client.machine.json("ip", "-j", "link", "show", "dev", "eth0", netns=web.netns)
    assert (web.ipv4, link["address"]) == ("10.66.0.7", MAC)


@each
def test_restart(client: Nerdctl) -> None:
    """A container that is restarted has its port again."""
    outside = client.machine.outside
    client.run("web", Port(8080))
    client("restart", "--time=2", "web")
    serve(client, client.inspect("web"))
    assert (
        client.machine.ask("tcp", outside.node_ipv4, 8080, outside.netns) == f"web {outside.ipv4}"
    )


@each
def test_removal_of_a_network(client: Nerdctl) -> None:
    """A network is removed once no container is on it."""
    client.run("web")
    client.remove("web")
    client("network", "rm", "pods")
    assert "pods" not in client("network", "ls")
