"""DEL: what it needs, what it removes and what it leaves alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.network import (
    IPV4,
    Network,
    addresses,
    link,
    remains,
    without_firewalls,
    write_plugin,
)
from tests.support.node import Node, Outside
from tests.support.rulesets import masqueraded


@pytest.fixture
def network(node: Node) -> Network:
    return Network(node)


# Nothing is left


def test_delete(network: Network, node: Node) -> None:
    """DEL prints nothing and leaves nothing but the bridge."""
    pod = network.attach()
    answer = network.delete("a", pod.netns)
    assert answer.ok
    assert (answer.document, answer.stderr) == (None, "")
    assert remains(node) == []
    assert link(node, "br0")["operstate"] == "DOWN"
    assert [found["ifname"] for found in node.json("ip", "-j", "link", netns="/run/netns/a")] == [
        "lo"
    ]


@pytest.mark.parametrize("times", [2, 3])
def test_again(network: Network, node: Node, times: int) -> None:
    """DEL may be repeated."""
    pod = network.attach()
    assert [network.delete("a", pod.netns).code for _ in range(times)] == [0] * times
    assert remains(node) == []


def test_before_any_add(network: Network, node: Node) -> None:
    """DEL of what was never added succeeds and makes nothing."""
    assert network.delete().ok
    assert remains(node) == []
    assert [found["ifname"] for found in node.json("ip", "-j", "link")] == ["lo"]


def test_after_a_failed_add(network: Network, node: Node) -> None:
    """DEL after an ADD that failed succeeds."""
    network.config["ipam"] = IPV4 | {"routes": [{"dst": "192.0.2.0/24", "gw": "172.16.0.1"}]}
    assert not network.add().ok
    assert network.delete("a", "/run/netns/a").ok
    assert remains(node) == []


def test_others_stay(network: Network, node: Node) -> None:
    """DEL of one pod leaves another alone."""
    network.attach("a")
    other = network.attach("b")
    assert network.delete("a").ok
    assert network.check(other).ok
    assert set(masqueraded(node)) == {other.ipv4, other.ipv6}


def test_one_of_two_interfaces(network: Network, node: Node) -> None:
    """DEL of one of a pod's interfaces on a network leaves the other alone."""
    pod = network.attach()
    second = network.attach("a", pod.netns, ifname="eth1")
    assert network.delete("a", ifname="eth1").ok
    assert network.check(pod).ok
    assert second.ipv4 not in masqueraded(node)


# What the runtime says of the namespace


@pytest.mark.parametrize("netns", [None, "", "/run/netns/gone", "/etc/hostname", "/run/netns/a"])
def test_namespace(network: Network, node: Node, netns: str | None) -> None:
    """CNI_NETNS may be unset, empty, gone, a regular file or what it should be."""
    network.attach()
    assert network.delete("a", netns).ok
    assert remains(node) == []


def test_deleted_namespace(network: Network, node: Node) -> None:
    """A namespace that is gone took its pair along; the rest is cleaned up."""
    network.attach()
    node.run("ip", "netns", "delete", "a")
    assert network.delete("a", "/run/netns/a").ok
    assert remains(node) == []


def test_recycled_namespace(network: Network, node: Node) -> None:
    """A path that leads to another pod's namespace by now does that pod no harm."""
    network.attach("a")
    other = network.attach("b")
    node.run("mount", "--bind", "/run/netns/b", "/run/netns/a")
    assert network.delete("a", "/run/netns/a").ok
    assert network.check(other).ok


def test_nodes_own_namespace(network: Network, node: Node) -> None:
    """A path that leads to the node's own namespace does the node no harm."""
    node.run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "peer0")
    network.attach()
    assert network.delete("a", "/proc/self/ns/net").ok
    assert link(node, "eth0")["ifname"] == "eth0"
    assert remains(node) == []


# What the runtime says of the configuration


@pytest.mark.parametrize(
    "keys",
    [
        {"prevResult": None},
        {"prevResult": "nonsense"},
        {"prevResult": {"cniVersion": "9.9.9", "ips": 5}},
        {"prevResult": {"interfaces": [{"name": "eth0", "sandbox": "/run/netns/b"}]}},
        {"bridge": 5, "mtu": "much", "isGateway": "yes", "dns": [], "args": 1, "runtimeConfig": 1},
        {"hairpinMode": True, "promiscMode": True},
        {"ipMasq": False, "bridge": "elsewhere"},
        {"ipam": {"type": "host-local"}},
        {"ipam": {"type": "host-local", "subnet": "172.16.0.0/16"}},
        {"ipam": {"type": "host-local", "subnet": "nonsense", "ranges": 7, "routes": "none"}},
        {"cniVersion": "0.3.1"},
        {"cniVersion": ""},
    ],
)
def test_configuration(network: Network, node: Node, keys: Any) -> None:
    """DEL needs no prevResult, and no more of the configuration than its name and IPAM's type."""
    network.attach()
    network.config |= keys
    answer = network.delete("a", "/run/netns/a")
    assert answer.ok, answer
    assert remains(node) == []


def test_args_that_ask_for_something(network: Network, node: Node) -> None:
    """DEL ignores CNI_ARGS."""
    network.attach()
    assert network.delete(args="MAC=nonsense;UNKNOWN").ok
    assert remains(node) == []


# What became of the node


def test_without_libnftables(network: Network, node: Node) -> None:
    """After a flush, and without the firewall's library, DEL succeeds and leaves nothing."""
    network.attach()
    node.run("nft", "flush", "ruleset")
    with without_firewalls(node):
        answer = network.delete()
    assert answer.ok
    assert remains(node) == []


@pytest.mark.parametrize("others", ["", "b"])
def test_after_a_flush(network: Network, node: Node, others: str) -> None:
    """A flushed ruleset is no error, be it the last pod or not; others' rules come back."""
    for name in ["a", *others]:
        network.attach(name)
    node.run("nft", "flush", "ruleset")
    assert network.delete().ok
    assert len(masqueraded(node)) == 2 * len(others)


@pytest.mark.parametrize(
    "damage",
    [
        "nft flush set inet pycni masquerade-ip",
        "nft 'flush set inet pycni masquerade-ip; delete set inet pycni masquerade-ip' || true",
        "nft delete table inet pycni",
        "ip link delete br0",
        "ip -n a link delete eth0",
        "rm -r /var/lib/cni/networks",
        "rm -r /run/cni/pycni/claims",
    ],
)
def test_what_is_gone_already(network: Network, node: Node, damage: str) -> None:
    """Whatever was removed by somebody else is no error, and the rest is cleaned."""
    network.attach()
    node.run("sh", "-c", damage)
    answer = network.delete()
    assert answer.ok, answer
    assert without_index(remains(node)) == []


def without_index(paths: list[str]) -> list[str]:
    """Without host-local's index, which only ever says where to look for leases."""
    return [path for path in paths if not path.startswith("/run/cni/pycni/leases")]


def test_missing_ipam(network: Network, node: Node) -> None:
    """A missing IPAM plugin is an error; a DEL that finds it goes on from there."""
    network.attach()
    answer = network.delete(CNI_PATH="/nowhere")
    assert answer.code == 1
    assert "host-local" in answer.document["msg"]
    assert [path.split("/")[-1] for path in sorted(without_index(remains(node)))] == [
        "10.22.0.2",
        "fd00:22::2",
    ]
    assert network.delete().ok
    assert remains(node) == []


def test_failing_ipam(network: Network, node: Node, tmp_path: Path) -> None:
    """An IPAM plugin's error is passed on with its code, and the rest is cleaned."""
    network.attach()
    failure = '{"code": 11, "msg": "not now", "details": "really"}'
    write_plugin(tmp_path / "bin", "host-local", f"echo '{failure}'; exit 1")
    answer = network.delete(CNI_PATH=str(tmp_path / "bin"))
    document = {"cniVersion": "1.1.0", "code": 11, "msg": "not now", "details": "really"}
    assert (answer.code, answer.document) == (1, document)
    assert not [line for line in without_index(remains(node)) if "lib/cni" not in line]


# Where the firewall writes down what it changed; what is mounted there makes that fail.
_IN_THE_WAY = "/run/cni/pycni/nftables.json.new"
_MOUNT = f"mkdir {_IN_THE_WAY}; mount -t tmpfs tmpfs {_IN_THE_WAY}"


def test_failing_firewall(network: Network, node: Node) -> None:
    """Rules that cannot be removed are an error, and the rest is cleaned."""
    network.attach()
    node.run("sh", "-ec", _MOUNT)
    answer = network.delete()
    assert (answer.code, answer.document["code"]) == (1, 5)
    assert _IN_THE_WAY in answer.document["msg"]
    left = remains(node)
    assert not [line for line in left if "veth" in line or "/var/lib/cni" in line]


def test_several_failures(network: Network, node: Node) -> None:
    """All that failed is reported at once."""
    network.attach()
    node.run("sh", "-ec", _MOUNT)
    answer = network.delete(CNI_PATH="/nowhere")
    said = answer.document["msg"] + answer.document.get("details", "")
    assert _IN_THE_WAY in said
    assert "host-local" in said


# What others have got since


def test_late_delete(network: Network, node: Node, outside: Outside) -> None:
    """A late DEL leaves the masquerade of the pod that has got the address since alone."""
    first = network.attach("a")
    node.run("ip", "netns", "delete", "a")
    asked = f"IgnoreUnknown=1;IP={first.ipv4}"
    second = network.attach("b", args=asked)
    assert second.ipv4 == first.ipv4
    assert network.delete("a").ok
    assert network.check(second).ok
    node.serve("tcp", 80, outside.netns)
    assert node.ask("tcp", outside.ipv4, 80, second.netns) == outside.node_ipv4


def test_late_delete_between_networks(network: Network, node: Node) -> None:
    """The same holds if the address is another network's by now, which has its own chain."""
    network.config["ipam"] = IPV4
    first = network.attach("a")
    other = Network(node, name="other", ipam=IPV4)
    second = other.attach("b")
    assert second.ipv4 == first.ipv4
    assert network.delete("a").ok
    assert masqueraded(node) == {second.ipv4: "network-other"}
    assert other.check(second).ok
    assert addresses(node, "eth0", second.netns) == ["10.22.0.2/24"]
