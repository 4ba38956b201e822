"""The interface lo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.node import Node

CONFIG: dict[str, Any] = {"cniVersion": "1.0.0", "name": "loopback", "type": "loopback"}


@pytest.fixture
def pod(node: Node) -> str:
    return node.add_netns("pod")


def is_up(node: Node, netns: str) -> bool:
    (lo,) = node.json("ip", "-j", "link", "show", "dev", "lo", netns=netns)
    return "UP" in lo["flags"]


def test_add_brings_lo_up_and_reports_it(node: Node, pod: str) -> None:
    """ADD sets lo up and reports it with its addresses, whatever CNI_IFNAME says."""
    answer = node.cni("ADD", "loopback", CONFIG, netns=pod, ifname="eth7")
    assert answer.document == {
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "lo", "mac": "00:00:00:00:00:00", "sandbox": pod}],
        "ips": [{"address": "127.0.0.1/8", "interface": 0}, {"address": "::1/128", "interface": 0}],
    }
    assert is_up(node, pod)


@pytest.mark.parametrize("version", ["0.3.0", "0.3.1", "0.4.0"])
def test_older_versions_report_it_in_their_format(node: Node, pod: str, version: str) -> None:
    """From 0.3.0 to 0.4.0 an address tells its family, and dns is always there."""
    answer = node.cni("ADD", "loopback", CONFIG | {"cniVersion": version}, netns=pod)
    assert [ip["version"] for ip in answer.document["ips"]] == ["4", "6"]
    assert answer.document["cniVersion"] == version
    assert answer.document["dns"] == {}


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0"])
def test_oldest_versions_know_one_address_a_family(node: Node, pod: str, version: str) -> None:
    """0.1.0 and 0.2.0 have no interfaces."""
    answer = node.cni("ADD", "loopback", CONFIG | {"cniVersion": version}, netns=pod)
    assert answer.document["ip4"] == {"ip": "127.0.0.1/8"}
    assert answer.document["ip6"] == {"ip": "::1/128"}
    assert "interfaces" not in answer.document


def test_no_ipv6_is_no_error(node: Node, pod: str) -> None:
    """Where IPv6 is off, ADD reports the IPv4 address alone."""
    node.run("sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/lo/disable_ipv6", netns=pod)
    answer = node.cni("ADD", "loopback", CONFIG, netns=pod)
    assert [ip["address"] for ip in answer.document["ips"]] == ["127.0.0.1/8"]


def test_add_twice(node: Node, pod: str) -> None:
    """A second ADD finds lo up, and answers as the first did."""
    first, second = (node.cni("ADD", "loopback", CONFIG, netns=pod) for _ in range(2))
    assert first.ok
    assert second == first


def test_a_previous_result_is_handed_on(node: Node, pod: str) -> None:
    """In a chain, ADD sets lo up and answers with the prevResult, unknown keys included."""
    previous = {
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "eth0", "mac": "0a:58:0a:01:00:05", "sandbox": pod}],
        "ips": [{"address": "10.1.0.5/16", "gateway": "10.1.0.1", "interface": 0}],
        "routes": [{"dst": "0.0.0.0/0"}],
        "example.com/color": "blue",
    }
    answer = node.cni("ADD", "loopback", CONFIG | {"prevResult": previous}, netns=pod)
    assert answer.document == previous
    assert is_up(node, pod)


def test_check_finds_lo_down(node: Node, pod: str) -> None:
    """CHECK passes after ADD, and says what is wrong once lo is down."""
    added = node.cni("ADD", "loopback", CONFIG, netns=pod)
    config = CONFIG | {"prevResult": added.document}
    checked = node.cni("CHECK", "loopback", config, netns=pod)
    assert checked.ok
    assert checked.document is None
    node.run("ip", "link", "set", "lo", "down", netns=pod)
    failed = node.cni("CHECK", "loopback", config, netns=pod)
    assert failed.code == 1
    assert failed.document["code"] == 100
    assert "lo is down" in failed.document["msg"]


def test_delete_leaves_namespaces_alone(node: Node, pod: str) -> None:
    """DEL may be repeated and touches no lo: the path may lead to another container's by now."""
    node.cni("ADD", "loopback", CONFIG, netns=pod)
    for _ in range(2):
        answer = node.cni("DEL", "loopback", CONFIG, netns=pod)
        assert answer.ok
        assert answer.document is None
        assert is_up(node, pod)


@pytest.mark.parametrize("netns", [None, "", "/run/netns/gone"])
def test_delete_needs_no_namespace(node: Node, netns: str | None) -> None:
    """DEL succeeds with CNI_NETNS unset, empty or leading nowhere."""
    answer = node.cni("DEL", "loopback", CONFIG, netns=netns)
    assert answer.ok
    assert answer.document is None


def test_delete_passes_over_a_regular_file(node: Node, tmp_path: Path) -> None:
    """DEL succeeds if CNI_NETNS is a file that is no namespace."""
    (tmp_path / "netns").write_text("")
    answer = node.cni("DEL", "loopback", CONFIG, netns=str(tmp_path / "netns"))
    assert answer.ok


def test_delete_leaves_the_node_alone(node: Node) -> None:
    """DEL with a path that leads to the node's own namespace does not touch its lo."""
    answer = node.cni("DEL", "loopback", CONFIG, netns="/proc/self/ns/net")
    assert answer.ok
    (lo,) = node.json("ip", "-j", "link", "show", "dev", "lo")
    assert "UP" in lo["flags"]


def test_add_in_the_nodes_own_namespace(node: Node) -> None:
    """ADD refuses the namespace that it runs in, with code 8."""
    answer = node.cni("ADD", "loopback", CONFIG, netns="/proc/self/ns/net")
    assert answer.document["code"] == 8


def test_add_without_a_namespace_there(node: Node) -> None:
    """ADD names the namespace that it cannot open."""
    answer = node.cni("ADD", "loopback", CONFIG, netns="/run/netns/gone")
    assert answer.document["code"] == 4
    assert "/run/netns/gone" in answer.document["msg"]


@pytest.mark.parametrize("version", ["1.0.0", "1.1.0"])
def test_real_cnitool(node: Node, pod: str, version: str) -> None:
    """cnitool adds, checks and deletes a network of loopback alone."""
    plugins = [{"type": "loopback"}]
    conflist = {"cniVersion": version, "name": "lonely", "plugins": plugins}
    for verb in ("add", "check", "del"):
        answer = node.cnitool(verb, conflist, pod)
        assert answer.ok, answer.stderr
