"""The command `pycni`, and what becomes of rules that somebody flushed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.network import DAMAGE, Network, damage_record, remains, without_firewalls
from tests.support.node import Node, Outside
from tests.support.rulesets import masqueraded

PYCNI = Path(sys.executable).with_name("pycni")


@pytest.fixture
def network(node: Node) -> Network:
    return Network(node)


def test_check_after_a_flush(network: Network, node: Node) -> None:
    """CHECK fails and says what to do; after that it passes."""
    pod = network.attach()
    node.run("nft", "flush", "ruleset")
    answer = network.check(pod)
    assert answer.document["code"] == 100
    assert "pycni repair" in answer.document["details"]
    node.run(PYCNI, "repair")
    assert network.check(pod).ok


def test_add_after_a_flush(network: Network, node: Node, outside: Outside) -> None:
    """The next ADD works, and brings the others' rules back."""
    other = Network(node, name="other", ipam={"type": "host-local", "subnet": "fd00:33::/64"})
    first, second = network.attach("a"), other.attach("b")
    node.run("nft", "flush", "ruleset")
    third = network.attach("c")
    assert [network.check(pod).ok for pod in (first, third)] == [True, True]
    assert other.check(second).ok
    node.serve("tcp", 80, outside.netns)
    assert node.ask("tcp", outside.ipv4, 80, first.netns) == outside.node_ipv4


def test_repair(network: Network, node: Node) -> None:
    """`pycni repair` puts every live attachment's rules in force, and says how many there are."""
    pods = [network.attach(name) for name in "abc"]
    node.run("nft", "flush", "ruleset")
    node.run("ip", "netns", "delete", "c")
    assert node.run(PYCNI, "repair").stdout == "4 entries are in force\n"
    assert set(masqueraded(node)) == {pod.ipv4 for pod in pods[:2]} | {pod.ipv6 for pod in pods[:2]}
    assert [network.check(pod).ok for pod in pods[:2]] == [True, True]
    assert [network.delete(name).ok for name in "cab"] == [True] * 3
    assert remains(node) == []


def test_repair_of_what_is_whole(network: Network, node: Node) -> None:
    """Where all is as it should be, `pycni repair` changes nothing."""
    network.attach()
    before = node.run("nft", "-s", "list", "ruleset").stdout
    node.run(PYCNI, "repair")
    assert node.run("nft", "-s", "list", "ruleset").stdout == before


def test_repair_of_nothing(node: Node) -> None:
    """On a node without attachments `pycni repair` leaves nothing."""
    assert node.run(PYCNI, "repair").stdout == "0 entries are in force\n"
    assert remains(node) == []


def test_repair_of_leftovers(network: Network, node: Node) -> None:
    """With only dead attachments, nothing is in force, and their DELs leave nothing."""
    network.attach()
    node.run("ip", "netns", "delete", "a")
    node.run(PYCNI, "repair")
    assert masqueraded(node) == {}
    assert network.delete().ok
    assert remains(node) == []


# Damaged files


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_damaged_static(network: Network, node: Node, text: str) -> None:
    """With a damaged file about the table, the next ADD works, and DELs leave nothing."""
    first = network.attach("a")
    node.run("tee", "/run/cni/pycni/nftables.json", stdin=text)
    second = network.attach("b")
    assert [network.check(pod).ok for pod in (first, second)] == [True, True]
    assert [network.delete(name).ok for name in "ab"] == [True, True]
    assert remains(node) == []


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_delete_with_a_damaged_static(network: Network, node: Node, text: str) -> None:
    """So does a DEL that comes before any other ADD."""
    network.attach()
    node.run("tee", "/run/cni/pycni/nftables.json", stdin=text)
    assert network.delete().ok
    assert remains(node) == []


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_record(network: Network, node: Node, damage: str) -> None:
    """DEL of an attachment whose record is damaged warns, and leaves nothing but other pods'."""
    other = network.attach("b")
    before = sorted(remains(node))
    network.attach("a")
    damage_record(node, "net/a/eth0/bridge.json", damage)
    answer = network.delete("a")
    assert answer.ok
    assert "cannot be read" in answer.stderr
    assert sorted(remains(node)) == before
    assert set(masqueraded(node)) == {other.ipv4, other.ipv6}
    assert network.check(other).ok


@pytest.mark.parametrize("damage", DAMAGE)
def test_repair_beside_a_damaged_record(network: Network, node: Node, damage: str) -> None:
    """`pycni repair` leaves a damaged record out, and names it."""
    network.attach("a")
    network.attach("b")
    damage_record(node, "net/a/eth0/bridge.json", damage)
    node.run("nft", "flush", "ruleset")
    done = node.run(PYCNI, "repair")
    assert done.stdout == "2 entries are in force\n"
    assert "net/a/eth0 is left out" in done.stderr


@pytest.mark.parametrize("damage", DAMAGE)
def test_list_beside_a_damaged_record(network: Network, node: Node, damage: str) -> None:
    """So does `pycni list`."""
    network.attach("a")
    network.attach("b")
    damage_record(node, "net/a/eth0/bridge.json", damage)
    done = node.run(PYCNI, "list")
    assert "net/b/eth0  bridge\n" in done.stdout
    assert "net/a/eth0 is left out" in done.stderr


def test_list(network: Network, node: Node) -> None:
    """`pycni list` prints every attachment, what it owns, and whether it is dead."""
    network.attach("a")
    network.attach("b")
    node.run("ip", "netns", "delete", "b")
    lines = node.run(PYCNI, "list").stdout.splitlines()
    entries = [lines[at : at + 5] for at in (0, 5)]
    assert sorted(entries) == [
        ["net/a/eth0  bridge", *_owned("10.22.0.2", "fd00:22::2")],
        ["net/b/eth0  bridge  (its namespace is gone)", *_owned("10.22.0.3", "fd00:22::3")],
    ]


def _owned(*addresses: str) -> list[str]:
    kinds = ("masquerade for", "address")
    return [f"    {kind} {address}" for kind in kinds for address in addresses]


def test_list_of_nothing(node: Node) -> None:
    """On a node without attachments `pycni list` prints nothing."""
    assert node.run(PYCNI, "list").stdout == ""


def test_no_firewall(network: Network, node: Node) -> None:
    """Without nftables `pycni repair` fails and says why."""
    network.attach()
    with without_firewalls(node):
        done = node.run(PYCNI, "repair", check=False)
    assert done.returncode == 1
    assert "libnftables" in done.stderr


@pytest.mark.parametrize("arguments", [[], ["mend"], ["list", "all"]])
def test_usage(node: Node, arguments: list[str]) -> None:
    """Anything else is answered with how `pycni` is used."""
    done = node.run(PYCNI, *arguments, check=False)
    assert done.returncode == 2
    assert "pycni repair" in done.stderr
