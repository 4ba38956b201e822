"""macspoofchk: what a container sends with another MAC address than its own is dropped."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.network import Network, link, remains, without_firewalls
from tests.support.node import Node
from tests.support.pod import Pod

PYCNI = Path(sys.executable).with_name("pycni")
SPOOFED = "02:00:00:00:00:99"


@pytest.fixture
def network(node: Node) -> Network:
    return Network(node, macspoofchk=True)


def set_mac(node: Node, pod: Pod, mac: str) -> None:
    node.run("ip", "link", "set", "eth0", "address", mac, netns=pod.netns)


def can_reach(node: Node, pod: Pod, *addresses: str) -> bool:
    """Whether each of the addresses, at least one, answers."""
    pings = [
        node.run("ping", "-c1", "-W1", address, netns=pod.netns, check=False).returncode
        for address in addresses
    ]
    assert pings
    return not any(pings)


def guards(node: Node) -> dict[str, list[Any]]:
    """The elements of the sets of table `bridge pycni`."""
    found = node.json("nft", "-j", "list", "ruleset", "bridge")["nftables"]
    return {item["set"]["name"]: item["set"].get("elem", []) for item in found if "set" in item}


def test_own_mac(network: Network, node: Node) -> None:
    """With its own MAC a container reaches the node and other containers, by IPv4 and IPv6."""
    first, second = network.attach("a"), network.attach("b")
    assert can_reach(node, first, "10.22.0.1", second.ipv4, "fd00:22::1", second.ipv6)


def test_spoofed_mac(network: Network, node: Node) -> None:
    """With another MAC it reaches neither, and with its own again it does."""
    first, second = network.attach("a"), network.attach("b")
    set_mac(node, first, SPOOFED)
    assert not can_reach(node, first, "10.22.0.1")
    assert not can_reach(node, first, second.ipv4)
    assert not can_reach(node, first, second.ipv6)
    set_mac(node, first, first.mac)
    assert can_reach(node, first, "10.22.0.1", second.ipv4)


def test_neighbours_mac(network: Network, node: Node) -> None:
    """Another container's MAC is no better."""
    first, second = network.attach("a"), network.attach("b")
    set_mac(node, first, second.mac)
    assert not can_reach(node, first, "10.22.0.1")


def test_only_whom_it_is_for(network: Network, node: Node) -> None:
    """A container of a network without macspoofchk may send with any MAC."""
    network.attach("a")
    network.config["macspoofchk"] = False
    other = network.attach("b")
    set_mac(node, other, SPOOFED)
    assert can_reach(node, other, "10.22.0.1")


def test_not_asked_for(node: Node) -> None:
    """Without macspoofchk there is no table of family bridge."""
    Network(node).attach()
    assert "bridge" not in node.run("nft", "list", "tables").stdout


def test_requested_mac(network: Network, node: Node) -> None:
    """A MAC that a runtime asked for is the container's own."""
    network.config["runtimeConfig"] = {"mac": "0A:00:00:00:00:03"}
    pod = network.attach()
    assert can_reach(node, pod, "10.22.0.1")
    assert guards(node) == {
        "guarded": [pod.host_ifname],
        "macs": [{"concat": [pod.host_ifname, "0a:00:00:00:00:03"]}],
    }


def test_layer_2_only(network: Network, node: Node) -> None:
    """It works without addresses and masquerading, and needs no table for those."""
    network.config |= {"ipam": {}, "isDefaultGateway": False, "ipMasq": False}
    pod = network.attach()
    assert guards(node)["guarded"] == [pod.host_ifname]
    assert "inet" not in node.run("nft", "list", "tables").stdout
    assert network.check(pod).ok
    assert network.delete().ok
    assert remains(node) == []


# CHECK, DEL, GC, repair


@pytest.mark.parametrize(
    "damage",
    [
        "delete element bridge pycni guarded {{ {port} }}",
        "delete element bridge pycni macs {{ {port} . {mac} }}",
        "flush chain bridge pycni prerouting",
        "delete table bridge pycni",
    ],
)
def test_check(network: Network, node: Node, damage: str) -> None:
    """CHECK names what is not in force any more, and passes after `pycni repair`."""
    pod = network.attach()
    assert network.check(pod).ok
    node.run("nft", damage.format(port=pod.host_ifname, mac=pod.mac))
    answer = network.check(pod)
    assert answer.document["code"] == 100
    assert "bridge pycni" in answer.document["msg"]
    assert "pycni repair" in answer.document["details"]
    node.run(PYCNI, "repair")
    assert network.check(pod).ok


def test_add_after_a_flush(network: Network, node: Node) -> None:
    """After a flush the next ADD brings the others' guards back."""
    first = network.attach("a")
    node.run("nft", "flush", "ruleset")
    second = network.attach("b")
    assert [network.check(pod).ok for pod in (first, second)] == [True, True]
    set_mac(node, first, SPOOFED)
    assert not can_reach(node, first, second.ipv4)


def test_delete(network: Network, node: Node) -> None:
    """DEL takes away what is its own, the last one the table."""
    network.attach("a")
    other = network.attach("b")
    assert network.delete("a").ok
    assert guards(node)["guarded"] == [other.host_ifname]
    assert network.check(other).ok
    assert network.delete("b").ok
    assert remains(node) == []


def test_delete_of_the_last(network: Network, node: Node) -> None:
    """So does the DEL of the last container if that one was not guarded."""
    network.attach("a")
    network.config["macspoofchk"] = False
    network.attach("b")
    assert network.delete("a").ok
    assert network.delete("b").ok
    assert remains(node) == []


def test_delete_after_a_flush(network: Network, node: Node) -> None:
    """DEL succeeds after a flush, and brings the others' guards back."""
    network.attach("a")
    other = network.attach("b")
    node.run("nft", "flush", "ruleset")
    assert network.delete("a").ok
    assert network.check(other).ok


def test_delete_without_the_key(network: Network, node: Node) -> None:
    """DEL removes the guard whatever the configuration says by then."""
    network.attach()
    network.config["macspoofchk"] = False
    assert network.delete().ok
    assert remains(node) == []


def test_gc(network: Network, node: Node) -> None:
    """GC removes the guards of stale attachments, and no others."""
    stays = network.attach("a")
    network.attach("b")
    valid = [{"containerID": "a", "ifname": "eth0"}]
    config = network.config | {"cni.dev/valid-attachments": valid}
    nobody: dict[str, Any] = dict.fromkeys(("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"))
    assert node.cni("GC", "bridge", config, **nobody).ok
    assert guards(node)["guarded"] == [stays.host_ifname]
    assert network.check(stays).ok


def test_rollback(network: Network, node: Node) -> None:
    """An ADD that fails after its guard was put in force takes it away, and no others."""
    other = network.attach("a")
    before = sorted(remains(node)), guards(node)
    node.run("mkdir", "/run/cni/pycni/nftables.json.new")
    ipam = {"type": "host-local", "subnet": "10.33.0.0/24"}
    network.config |= {"name": "next", "bridge": "br1", "ipam": ipam}
    assert not network.add("b").ok
    node.run("rmdir", "/run/cni/pycni/nftables.json.new")
    assert (sorted(remains(node)), guards(node)) == before
    assert link(node, other.host_ifname)["operstate"] == "UP"


def test_list(network: Network, node: Node) -> None:
    """`pycni list` tells of it."""
    pod = network.attach()
    said = node.run(PYCNI, "list").stdout
    assert f"    MAC check for {pod.mac} at {pod.host_ifname}\n" in said


# STATUS and errors


def test_no_nftables(network: Network, node: Node) -> None:
    """Without nftables STATUS has code 50, and ADD fails and leaves nothing."""
    network.config |= {"ipMasq": False}
    nobody: dict[str, Any] = dict.fromkeys(("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"))
    with without_firewalls(node, "libnftables"):
        answer = node.cni("STATUS", "bridge", network.config, **nobody)
        assert not network.add().ok
    assert (answer.document["code"], remains(node)) == (50, [])
    assert "libnftables" in answer.document["details"]
    assert node.cni("STATUS", "bridge", network.config, **nobody).ok
    assert "bridge" not in node.run("nft", "list", "tables").stdout
