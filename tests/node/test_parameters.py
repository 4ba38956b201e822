"""Kernel parameters that an ADD sets: seen by CHECK, set again by `pycni repair`, given back."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.network import Network, remains, sysctl
from tests.support.node import Node
from tests.support.ports import add_pod, fails, port, portmap, publish, route_localnet, withdraw

PYCNI = Path(sys.executable).with_name("pycni")

FORWARDING = ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"]
OF_BRIDGE = ["net/ipv6/conf/br0/accept_ra", "net/ipv6/conf/br0/autoconf"]

NOBODY: dict[str, Any] = dict.fromkeys(("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"))


@pytest.fixture
def network(node: Node) -> Network:
    return Network(node)


def change(node: Node, name: str, value: str) -> None:
    node.run("sh", "-c", f"echo {value} > /proc/sys/{name}")


def make_bridge(node: Node) -> None:
    """A bridge of somebody's, up, which takes router advertisements."""
    node.run("ip", "link", "add", "br0", "up", "type", "bridge")
    for name in OF_BRIDGE:
        change(node, name, "1")


@pytest.mark.parametrize("name", FORWARDING)
def test_forwarding(network: Network, node: Node, name: str) -> None:
    """CHECK names forwarding that somebody has switched off; `pycni repair` switches it on."""
    pod = network.attach()
    change(node, name, "0")
    assert fails(network.check(pod), name.replace("/", "."))
    assert f"{name.replace('/', '.')} is not 1" in node.run(PYCNI, "list").stdout
    done = node.run(PYCNI, "repair")
    assert f"{name.replace('/', '.')} is 1 again" in done.stdout
    assert network.check(pod).ok


@pytest.mark.parametrize("name", FORWARDING)
def test_forwarding_that_was_on(network: Network, node: Node, name: str) -> None:
    """So if it was on before the first pod."""
    change(node, name, "1")
    pod = network.attach()
    change(node, name, "0")
    assert fails(network.check(pod), name.replace("/", "."))
    node.run(PYCNI, "repair")
    assert network.check(pod).ok


@pytest.mark.parametrize("name", OF_BRIDGE)
def test_router_advertisements(network: Network, node: Node, name: str) -> None:
    """So with what keeps a bridge from router advertisements."""
    pod = network.attach()
    change(node, name, "1")
    assert fails(network.check(pod), name.replace("/", "."))
    node.run(PYCNI, "repair")
    assert network.check(pod).ok


@pytest.mark.usefixtures("backend")
def test_route_localnet(node: Node) -> None:
    """So with what lets the node's processes reach a host port at 127.0.0.1."""
    pod = add_pod(node)
    publish(node, pod, port())
    change(node, "net/ipv4/conf/br0/route_localnet", "0")
    assert fails(portmap(node, "CHECK", pod, port()), "net.ipv4.conf.br0.route_localnet")
    node.run(PYCNI, "repair")
    assert portmap(node, "CHECK", pod, port()).ok


@pytest.mark.parametrize(
    ("keys", "damage", "words"),
    [
        ({"hairpinMode": True}, "ip link set {port} type bridge_slave hairpin off", "hairpinMode"),
        (
            {"portIsolation": True},
            "ip link set {port} type bridge_slave isolated off",
            "portIsolation",
        ),
        ({"promiscMode": True}, "ip link set br0 promisc off", "promiscMode"),
    ],
)
def test_settings(node: Node, keys: dict[str, Any], damage: str, words: str) -> None:
    """CHECK names a setting of the port or the bridge that is not as it was configured."""
    network = Network(node, **keys)
    pod = network.attach()
    assert network.check(pod).ok
    node.run("sh", "-ec", damage.format(port=pod.host_ifname))
    assert fails(network.check(pod), words)


# What was before


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("before", ["0", "1"])
def test_route_localnet_comes_back(node: Node, before: str) -> None:
    """route_localnet is, after the last DEL, what it was before the first ADD."""
    pods = [add_pod(node, number) for number in (2, 3)]
    change(node, "net/ipv4/conf/br0/route_localnet", before)
    for number, pod in enumerate(pods):
        publish(node, pod, port(8080 + number))
    assert route_localnet(node) == "1"
    for pod in pods:
        withdraw(node, pod)
    assert route_localnet(node) == before


def test_parameters_of_a_bridge_come_back(network: Network, node: Node) -> None:
    """So are those of a bridge that somebody else made; what is the whole node's stays."""
    make_bridge(node)
    for name in "ab":
        network.attach(name)
    assert [sysctl(node, name) for name in OF_BRIDGE] == ["0", "0"]
    for name in "ab":
        assert network.delete(name).ok
    assert [sysctl(node, name) for name in OF_BRIDGE] == ["1", "1"]
    assert [sysctl(node, name) for name in FORWARDING] == ["1", "1"]
    assert remains(node) == []


def test_parameters_come_back_after_a_failed_add(network: Network, node: Node) -> None:
    """So they are after an ADD that fails."""
    make_bridge(node)
    node.run("ip", "address", "add", "10.99.0.1/24", "dev", "br0")
    assert not network.add().ok
    assert [sysctl(node, name) for name in OF_BRIDGE] == ["1", "1"]
    assert remains(node) == []


def test_what_others_set_since_stays(network: Network, node: Node) -> None:
    """A parameter that somebody has set to a third value meanwhile keeps that."""
    make_bridge(node)
    network.attach()
    change(node, OF_BRIDGE[0], "2")
    assert network.delete().ok
    assert [sysctl(node, name) for name in OF_BRIDGE] == ["2", "1"]


def test_a_bridge_of_the_same_name(network: Network, node: Node) -> None:
    """A bridge that takes the place of one that was deleted is not given what that one had."""
    make_bridge(node)
    network.attach()
    node.run("ip", "link", "delete", "br0")
    node.run("ip", "link", "add", "br0", "type", "bridge")
    change(node, OF_BRIDGE[0], "0")
    assert network.delete().ok
    assert sysctl(node, OF_BRIDGE[0]) == "0"


@pytest.mark.parametrize("target", ["", "nonsense", "7", "x 1 0", "7 1", "../../../etc/passwd"])
def test_damaged_memory(network: Network, node: Node, target: str) -> None:
    """What cannot be read of it keeps no DEL from removing everything."""
    network.attach()
    directory = "/run/cni/pycni/parameters"
    name = "net:ipv6:conf:br0:accept_ra"
    node.run("sh", "-c", f"ln -sfn '{target or ' '}' {directory}/{name}; touch {directory}/x")
    assert network.delete().ok
    assert remains(node) == []


# STATUS


def status(network: Network, plugin: str = "bridge") -> Any:
    return network.node.cni("STATUS", plugin, network.config, **NOBODY)


@pytest.mark.parametrize("where", ["default", "br0"])
def test_ipv6_that_is_off(network: Network, node: Node, where: str) -> None:
    """STATUS has code 50 where a gateway cannot have an IPv6 address, and names the parameter."""
    if where == "br0":
        make_bridge(node)
    change(node, f"net/ipv6/conf/{where}/disable_ipv6", "1")
    document = status(network).document
    assert document["code"] == 50
    assert f"net.ipv6.conf.{where}.disable_ipv6" in document["msg"]
    assert not network.add().ok


@pytest.mark.parametrize(
    "keys",
    [
        {"isDefaultGateway": False, "ipMasq": False},
        {"ipam": {"type": "host-local", "subnet": "10.22.0.0/24"}},
    ],
)
def test_ipv6_that_is_off_and_not_needed(node: Node, keys: dict[str, Any]) -> None:
    """It has not where no gateway has an IPv6 address."""
    change(node, "net/ipv6/conf/default/disable_ipv6", "1")
    network = Network(node, **keys)
    assert status(network).ok
    network.attach()


def test_forwarding_that_cannot_be_switched_on(network: Network, node: Node) -> None:
    """STATUS has code 50 where forwarding is off and the parameter is read-only."""
    node.run("mount", "--bind", "/proc/sys", "/proc/sys")
    node.run("mount", "-o", "remount,ro,bind", "/proc/sys")
    document = status(network).document
    assert document["code"] == 50
    assert "net.ipv4.ip_forward" in document["msg"]
    assert not network.add().ok


def test_status_of_what_was_changed(network: Network, node: Node) -> None:
    """STATUS warns of a parameter that is not as pods need it: the next ADD sets it."""
    network.attach("a")
    change(node, FORWARDING[0], "0")
    answer = status(network)
    assert answer.ok
    assert "net.ipv4.ip_forward" in answer.stderr
    network.attach("b")
    assert status(network).stderr == ""


@pytest.mark.usefixtures("backend")
def test_status_after_a_flush(network: Network, node: Node) -> None:
    """STATUS of portmap warns after a flush that rules are missing, and what restores them."""
    pod = add_pod(node)
    publish(node, pod, port())
    network.config["backend"] = node.backend
    assert status(network, "portmap").stderr == ""
    node.run("nft", "flush", "ruleset")
    answer = status(network, "portmap")
    assert answer.ok
    assert "pycni repair" in answer.stderr


def test_bridges_that_are_gone(node: Node) -> None:
    """What is noted of a bridge that is gone is forgotten when another one is made."""
    ipam = {"type": "host-local", "subnet": "10.23.0.0/24"}
    Network(node, name="first", bridge="br8", ipam=ipam).attach("a")
    node.run("ip", "link", "delete", "br8")
    Network(node, name="second", bridge="br9", ipam=ipam | {"subnet": "10.24.0.0/24"}).attach("b")
    noted = node.run("ls", "/run/cni/pycni/parameters").stdout
    assert "br9" in noted
    assert "br8" not in noted
