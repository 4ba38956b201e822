"""A node with firewalld, which rejects what it is not told to forward."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.firewalls import FIREWALLD, load_nft, others
from tests.support.network import Network
from tests.support.node import Node, Outside
from tests.support.ports import port

# Does to the rules what the real one has firewalld do, and keeps its arguments.
_FIREWALL_CMD = """#!/bin/sh
echo "$@" >> {log}
chain="inet firewalld filter_FORWARD_ZONES"
case "$*" in
"--zone=trusted --add-interface="*)
    exec nft insert rule $chain iifname "${{2#*=}}" goto filter_FWD_trusted ;;
"--zone=trusted --remove-interface="*)
    handle=$(nft -a list chain $chain | sed -n "s/.*\\"${{2#*=}}\\".*trusted # handle //p")
    exec nft delete rule $chain handle $handle ;;
esac
echo "Error: UNKNOWN" >&2
exit 2
"""


@pytest.fixture
def network(node: Node) -> Network:
    """A network on a node where firewalld is in force."""
    load_nft(node, FIREWALLD)
    return Network(node)


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A PATH with a firewall-cmd."""
    program = tmp_path / "bin/firewall-cmd"
    program.parent.mkdir()
    program.write_text(_FIREWALL_CMD.format(log=tmp_path / "log"))
    program.chmod(0o755)
    return f"{program.parent}:/usr/sbin:/usr/bin:/sbin:/bin"


def test_from_a_pod_to_outside(node: Node, outside: Outside, network: Network, path: str) -> None:
    """A pod reaches other machines; the bridge is an interface of the zone `trusted`."""
    node.serve("tcp", 80, outside.netns)
    pod = network.attach(PATH=path)
    assert node.ask("tcp", outside.ipv4, 80, pod.netns) == outside.node_ipv4
    assert network.check(pod).ok


def test_published_ports(node: Node, outside: Outside, network: Network, path: str) -> None:
    """Other machines reach a published port, and not the pod itself."""
    pod = network.attach(PATH=path)
    node.serve("tcp", 80, pod.netns, name="web")
    config = {"cniVersion": "1.1.0", "name": "net", "prevResult": pod.result}
    config |= {"runtimeConfig": {"portMappings": [port()]}}
    assert node.cni("ADD", "portmap", config, pod.name, pod.netns).ok
    node.run("ip", "route", "add", "10.22.0.0/24", "via", "192.0.2.1", netns=outside.netns)
    assert node.ask("tcp", "192.0.2.1", 8080, outside.netns) == "web 192.0.2.2"
    assert node.ask("tcp", pod.ipv4, 80, outside.netns, timeout=0.3) is None


def test_once(network: Network, node: Node, path: str, tmp_path: Path) -> None:
    """firewalld is told with the first ADD and after the last DEL, and has its rules back."""
    before = others(node)
    for name in "ab":
        network.attach(name, PATH=path)
    for name in "ab":
        answer = network.delete(name, PATH=path)
        assert (answer.ok, answer.stderr) == (True, "")
    assert (tmp_path / "log").read_text().splitlines() == [
        "--zone=trusted --add-interface=br0",
        "--zone=trusted --remove-interface=br0",
    ]
    assert others(node) == before


def test_a_restart(network: Network, node: Node, path: str) -> None:
    """CHECK sees that firewalld has forgotten the bridge; the next ADD tells it again."""
    pod = network.attach("a", PATH=path)
    node.run("nft", "delete", "table", "inet", "firewalld")
    load_nft(node, FIREWALLD)
    document = network.check(pod).document
    assert document["code"] == 100
    assert "firewalld drops what br0 forwards" in document["msg"]
    network.attach("b", PATH=path)
    assert network.check(pod).ok


def test_a_zone_of_somebody_else(network: Network, node: Node, path: str, tmp_path: Path) -> None:
    """A bridge that is in a zone already stays there."""
    chain = ("inet", "firewalld", "filter_FORWARD_ZONES")
    node.run("nft", "insert", "rule", *chain, "iifname", "br0", "goto", "filter_FWD_public")
    pod = network.attach(PATH=path)
    assert network.check(pod).ok
    assert network.delete(PATH=path).ok
    assert not (tmp_path / "log").exists()


def test_without_firewall_cmd(network: Network, node: Node) -> None:
    """Without firewall-cmd STATUS says no and what to install; ADD warns."""
    hide = "for file in $(type -P firewall-cmd); do mount --bind /dev/null $file; done"
    node.run("bash", "-ec", hide)
    document = node.cni("STATUS", "bridge", network.config).document
    assert document["code"] == 50
    assert "firewall-cmd" in document["details"]
    answer = network.add()
    assert answer.ok
    assert "firewall-cmd is not installed" in answer.stderr
