"""Conditions on published ports: who they hold for, and how they are kept in force."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.node import Node, Outside
from tests.support.pod import Pod
from tests.support.ports import add_pod, fails, port, portmap, publish, remains, withdraw

PYCNI = Path(sys.executable).with_name("pycni")
TABLE = "inet pycni"
CHAIN = f"{TABLE} hostport-ip-tcp-8080"
MET: dict[str, Any] = {"conditionsV4": ["ip", "saddr", "{192.0.2.2,192.0.2.3}"]}
UNMET: dict[str, Any] = {"conditionsV4": ["ip saddr 198.51.100.1"]}


@pytest.fixture
def pod(node: Node) -> Pod:
    """A pod with a server at port 80."""
    pod = add_pod(node)
    node.serve("tcp", 80, pod.netns, name="web")
    return pod


def ruleset(node: Node) -> str:
    return node.run("nft", "-s", "list", "ruleset").stdout


@pytest.mark.parametrize(("keys", "answer"), [(MET, "web 192.0.2.2"), (UNMET, None)])
def test_conditions(
    node: Node, outside: Outside, pod: Pod, keys: dict[str, Any], answer: str | None
) -> None:
    """Who meets the conditions reaches the port, and nobody else does."""
    publish(node, pod, port(), **keys)
    assert node.ask("tcp", outside.node_ipv4, 8080, outside.netns, timeout=0.3) == answer


@pytest.mark.parametrize(("source", "answer"), [("2001:db8::2", "web 2001:db8::2"), ("::5", None)])
def test_conditions_of_ipv6(
    node: Node, outside: Outside, pod: Pod, source: str, answer: str | None
) -> None:
    """So for IPv6, by conditions of its own; IPv4 is not concerned."""
    publish(node, pod, port(), port(53, protocol="udp"), conditionsV6=["ip6 saddr", source])
    assert node.ask("tcp", outside.node_ipv6, 8080, outside.netns, timeout=0.3) == answer
    assert node.ask("tcp", outside.node_ipv4, 8080, outside.netns) == "web 192.0.2.2"


def test_others_are_not_concerned(node: Node, outside: Outside, pod: Pod) -> None:
    """One container's conditions do not hold for another container's ports, or another network."""
    other = add_pod(node, 3)
    node.serve("tcp", 80, other.netns, name="other")
    publish(node, other, port(9000))
    publish(node, pod, port(), **UNMET)
    assert node.ask("tcp", outside.node_ipv4, 9000, outside.netns) == "other 192.0.2.2"


@pytest.mark.parametrize(("keys", "name"), [(MET, "web"), (UNMET, "other")])
def test_of_one_address(
    node: Node, outside: Outside, pod: Pod, keys: dict[str, Any], name: str
) -> None:
    """A mapping for one address whose conditions are not met leaves it to one for all."""
    other = add_pod(node, 3)
    node.serve("tcp", 80, other.netns, name="other")
    publish(node, other, port())
    publish(node, pod, port(hostIP=outside.node_ipv4), **keys)
    assert node.ask("tcp", outside.node_ipv4, 8080, outside.netns) == f"{name} 192.0.2.2"


def test_a_bound_ipv6_port(node: Node, outside: Outside, pod: Pod) -> None:
    """The chain of a mapping for an IPv6 address has a name that nft takes."""
    publish(node, pod, port(hostIP=outside.node_ipv6), conditionsV6=["iifname eth*"])
    assert node.ask("tcp", outside.node_ipv6, 8080, outside.netns) == "web 2001:db8::2"
    withdraw(node, pod)
    assert remains(node) == []


def test_still_exclusive(node: Node, pod: Pod) -> None:
    """Whatever the conditions, two containers do not share a host port."""
    publish(node, pod, port(), **MET)
    answer = portmap(node, "ADD", add_pod(node, 3), port(), **UNMET)
    assert answer.document["code"] == 101


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("conditionsV4", ["ip saddr"]),
        ("conditionsV4", ["ip6 saddr fd00::1"]),
        ("conditionsV4", ["udp sport 5"]),
        ("conditionsV4", ["ip saddr @localnet"]),
        ("conditionsV6", ["ip6 saddr }"]),
        ("conditionsV6", ["tcp dport { 1"]),
    ],
)
def test_wrong_conditions(node: Node, pod: Pod, key: str, words: list[str]) -> None:
    """What nft does not take is refused with its own words, by the key; nothing is changed."""
    publish(node, add_pod(node, 3), port(9000))
    before = ruleset(node), remains(node)
    keys: dict[str, Any] = {key: words}
    document = portmap(node, "ADD", pod, port(), **keys).document
    assert document["code"] == 7
    assert document["msg"].startswith(f"{key}: ")
    assert "Error" in document["details"]
    assert (ruleset(node), remains(node)) == before


def test_delete(node: Node, pod: Pod) -> None:
    """DEL removes the chain, and nothing else."""
    publish(node, add_pod(node, 3), port(9000), **UNMET)
    before = ruleset(node)
    publish(node, pod, port(), port(8081, protocol="udp"), **MET)
    assert portmap(node, "CHECK", pod, port(), port(8081, protocol="udp"), **MET).ok
    withdraw(node, pod)
    assert ruleset(node) == before


def test_gc(node: Node, pod: Pod) -> None:
    """So does GC."""
    publish(node, add_pod(node, 3), port(9000), **UNMET)
    before = ruleset(node)
    publish(node, pod, port(), **MET)
    valid = [{"containerID": "pod3", "ifname": "eth0"}]
    config = {"cniVersion": "1.1.0", "name": "net", "type": "portmap"}
    assert node.cni("GC", "portmap", config | {"cni.dev/valid-attachments": valid}).ok
    assert ruleset(node) == before


@pytest.mark.parametrize(
    ("keys", "answer"), [(MET, "web 192.0.2.2"), (UNMET, None), ({}, "web 192.0.2.2")]
)
@pytest.mark.parametrize("before", [MET, {}])
def test_a_repeated_add(
    node: Node,
    pod: Pod,
    before: dict[str, Any],
    keys: dict[str, Any],
    answer: str | None,
) -> None:
    """A second ADD of the same attachment replaces the conditions, and leaves nothing of them."""
    outside = node.add_outside()
    publish(node, pod, port(), **before)
    publish(node, pod, port(), **keys)
    assert node.ask("tcp", outside.node_ipv4, 8080, outside.netns, timeout=0.3) == answer
    assert portmap(node, "CHECK", pod, port(), **keys).ok
    withdraw(node, pod)
    assert remains(node) == []


@pytest.mark.parametrize(
    "damage",
    [
        f"flush chain {CHAIN}",
        f"delete element {TABLE} conditional-hostports-ip {{ tcp . 8080 }}",
        f"delete element {TABLE} conditional-hostports-ip {{ tcp . 8080 }}; delete chain {CHAIN}",
    ],
)
def test_damage(node: Node, pod: Pod, damage: str) -> None:
    """CHECK sees what is missing and `pycni repair` brings it back; a DEL leaves nothing."""
    publish(node, pod, port(), **MET)
    before = ruleset(node)
    node.run("nft", damage)
    answer = portmap(node, "CHECK", pod, port(), **MET)
    assert fails(answer, "8080")
    assert "pycni repair" in answer.document["details"]
    node.run(PYCNI, "repair")
    assert ruleset(node) == before
    node.run("nft", damage)
    withdraw(node, pod)
    assert remains(node) == []


def test_add_after_a_flush(node: Node, outside: Outside, pod: Pod) -> None:
    """The next ADD brings others' conditions back."""
    publish(node, pod, port(), **MET)
    node.run("nft", "flush", "ruleset")
    publish(node, add_pod(node, 3), port(9000))
    assert portmap(node, "CHECK", pod, port(), **MET).ok
    assert node.ask("tcp", outside.node_ipv4, 8080, outside.netns) == "web 192.0.2.2"
