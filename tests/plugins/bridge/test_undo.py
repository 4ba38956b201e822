"""What is undone, and what is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.network import IPV4, Network, SlowIpam, remains
from tests.support.node import Node
from tests.support.pod import Pod
from tests.support.ports import port


@pytest.fixture
def network(node: Node) -> Network:
    return Network(node, ipam=IPV4)


def rename(node: Node, name: str, new: str, netns: str | None = None) -> None:
    """Give an interface another name, as older kernels let nobody do while it is up."""
    for change in (("down",), ("name", new)):
        node.run("ip", "link", "set", "dev", name, *change, netns=netns)
    node.run("ip", "link", "set", "dev", new, "up", netns=netns)


def rename_both(node: Node, pod: Pod) -> None:
    rename(node, pod.host_ifname, "renamed0")
    rename(node, "eth0", "renamed1", pod.netns)


def links(node: Node, netns: str | None = None) -> list[str]:
    return [link["ifname"] for link in node.json("ip", "-j", "link", netns=netns)]


def test_second_add_of_a_renamed_pair(network: Network, node: Node) -> None:
    """An ADD of a live attachment whose pair was renamed is an error, and releases nothing."""
    pod = network.attach()
    rename_both(node, pod)
    before = remains(node)
    answer = network.add("a", pod.netns)
    assert (answer.code, answer.document["code"]) == (1, 101)
    assert "attached already" in answer.document["msg"]
    assert remains(node) == before
    assert links(node, pod.netns) == ["lo", "renamed1"]


def test_second_add_without_a_record(network: Network, node: Node) -> None:
    """So it is where the record is lost as well: the refusal of the lease releases none."""
    pod = network.attach()
    rename_both(node, pod)
    node.run("rm", "-r", "/run/cni/pycni/attachments")
    answer = network.add("a", pod.netns)
    assert answer.code == 1
    assert f"/var/lib/cni/networks/net/{pod.ipv4}" in remains(node)


@pytest.mark.parametrize("lost", ["nothing", "/run/cni/pycni/attachments"])
def test_delete_of_a_renamed_pair(network: Network, node: Node, lost: str) -> None:
    """DEL finds a pair by its alternative name whatever it is called by now, without a record."""
    pod = network.attach()
    rename_both(node, pod)
    node.run("rm", "-rf", lost)
    assert network.delete().ok
    assert links(node) == ["lo", "br0"]
    assert links(node, pod.netns) == ["lo"]


def test_delete_beside_a_renamed_pair(network: Network, node: Node) -> None:
    """Another pod's pair, renamed to what the pod's was called, stays."""
    pod, other = network.attach("a"), network.attach("b")
    rename(node, pod.host_ifname, "renamed0")
    assert network.delete("a").ok
    rename(node, other.host_ifname, "renamed0")
    assert network.delete("a").ok
    assert links(node) == ["lo", "br0", "renamed0"]
    assert links(node, other.netns) == ["lo", "eth0"]


# Answers that nobody reads


def start_unread(
    node: Node, plugin: str, config: Any, name: str, netns: str, **environ: str
) -> Any:
    """Start an ADD whose answer nobody will read."""
    variables = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": name, "CNI_NETNS": netns}
    variables |= {"CNI_IFNAME": "eth0", "CNI_PATH": str(node.bin_dir)} | environ
    process = node.start(node.bin_dir / plugin, env=variables)
    assert process.stdin
    assert process.stdout
    process.stdout.close()
    process.stdin.write(json.dumps(config))
    process.stdin.close()
    return process


def test_orphaned_add(network: Network, node: Node) -> None:
    """An ADD whose runtime is gone, be it that its DEL has been served already, leaves nothing."""
    netns = node.add_netns("a")
    assert network.delete().ok
    process = start_unread(node, "bridge", network.config, "a", netns)
    assert process.wait() == 1
    assert remains(node) == []
    assert links(node, netns) == ["lo"]
    assert network.check(network.attach("a", netns)).ok


def test_orphaned_add_of_a_live_attachment(network: Network, node: Node) -> None:
    """It leaves alone what another ADD of the attachment has built."""
    pod = network.attach()
    before = remains(node)
    process = start_unread(node, "bridge", network.config, "a", pod.netns)
    assert process.wait() == 1
    assert remains(node) == before
    assert network.check(pod).ok


def test_add_that_is_orphaned(network: Network, node: Node, tmp_path: Path) -> None:
    """So it is if the runtime goes away in the middle, and its DEL waits for the ADD."""
    ipam = SlowIpam(node, tmp_path / "bin", "ADD")
    netns = node.add_netns("a")
    adding = start_unread(node, "bridge", network.config, "a", netns, **ipam.environ)
    ipam.wait(1)
    deleting = network.start("DEL", "a", **ipam.environ)
    ipam.go()
    assert [adding.wait(), deleting.wait()] == [1, 0]
    assert remains(node) == []


def test_orphaned_portmap(node: Node, pod: Pod) -> None:
    """A port that nobody was told of is not published."""
    config: Any = {"cniVersion": "1.0.0", "name": "net", "type": "portmap"}
    config |= {"runtimeConfig": {"portMappings": [port()]}, "prevResult": pod.result}
    process = start_unread(node, "portmap", config, pod.name, pod.netns)
    assert process.wait() == 1
    assert remains(node) == []
