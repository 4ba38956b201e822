"""Rules that somebody damaged, and plugins that died: what is noticed, and what is left."""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.support.network import DAMAGE, damage_record, without_firewalls
from tests.support.node import Node, Outside
from tests.support.pod import Pod
from tests.support.ports import (
    BOTH,
    OTHERS,
    fails,
    port,
    portmap,
    publish,
    remains,
    route_localnet,
    rules,
    withdraw,
)
from tests.support.rulesets import published

PYCNI = Path(sys.executable).with_name("pycni")
TABLE = "inet pycni"


def nft(node: Node, words: str) -> None:
    node.run("nft", *words.split())


# Damage


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        ("flush ruleset", "chain hostports"),
        (f"flush chain {TABLE} hostports", "chain hostports"),
        (f"flush chain {TABLE} prerouting", "chain prerouting"),
        (f"flush chain {TABLE} output", "chain output"),
        (f"flush chain {TABLE} postrouting", "chain postrouting"),
        (f"flush chain {TABLE} localnet-guard", "chain localnet-guard"),
        (f"flush chain {TABLE} hairpin-net", "chain hairpin-net"),
        (f"flush chain {TABLE} hairpins", "chain hairpins"),
        (f"flush set {TABLE} localnet", "set localnet"),
        (f"delete element {TABLE} hostports-ip {{ tcp . 8080 }}", "0.0.0.0:8080/tcp"),
        (f"flush map {TABLE} hostports-ip6", "[::]:8080/tcp"),
        (f"flush set {TABLE} sourcenat-ip", "source NAT for 10.77.0.2 port 80/tcp"),
    ],
)
@pytest.mark.usefixtures("other")
def test_damage(node: Node, pod: Pod, damage: str, named: str) -> None:
    """CHECK names what is missing; DEL and another ADD of the pod bring everything back."""
    publish(node, pod, port())
    intact = rules(node), published(node)
    nft(node, damage)
    assert fails(portmap(node, "CHECK", pod, port()), named)
    withdraw(node, pod)
    publish(node, pod, port())
    assert (rules(node), published(node)) == intact


@pytest.mark.parametrize(
    "chain", ["hostports", "postrouting", "localnet-guard", "hairpins", "hairpin-net"]
)
@pytest.mark.usefixtures("other")
def test_next_add_repairs_chains(node: Node, pod: Pod, chain: str) -> None:
    """An ADD finds that rules are missing, and brings them back for all pods."""
    intact = rules(node)
    nft(node, f"flush chain {TABLE} {chain}")
    publish(node, pod, port())
    assert rules(node) == intact
    assert published(node) == BOTH | OTHERS


def test_next_add_after_a_flush(node: Node, outside: Outside, pod: Pod, other: Pod) -> None:
    """After a flush of the ruleset, an ADD brings back the ports of all pods."""
    node.serve("tcp", 80, other.netns, name="other")
    nft(node, "flush ruleset")
    publish(node, pod, port())
    assert published(node) == BOTH | OTHERS
    assert node.ask("tcp", outside.node_ipv4, 9000, outside.netns) == "other 192.0.2.2"


def test_repair(node: Node, pod: Pod, other: Pod) -> None:
    """`pycni repair` brings back the ports of all live pods, and of no dead ones."""
    publish(node, pod, port())
    node.run("ip", "netns", "delete", pod.name)
    nft(node, "flush ruleset")
    node.run(PYCNI, "repair")
    assert published(node) == OTHERS
    assert portmap(node, "CHECK", other, port(9000)).ok


def test_changed_element(node: Node, pod: Pod) -> None:
    """CHECK fails for a port that somebody has lead elsewhere; a repeated ADD puts it right."""
    publish(node, pod, port())
    nft(node, f"delete element {TABLE} hostports-ip {{ tcp . 8080 }}")
    nft(node, f"add element {TABLE} hostports-ip {{ tcp . 8080 : 10.77.0.99 . 80 }}")
    assert fails(portmap(node, "CHECK", pod, port()), "0.0.0.0:8080/tcp to 10.77.0.2:80")
    publish(node, pod, port())
    assert published(node) == BOTH


def test_closed_localhost(node: Node, pod: Pod) -> None:
    """CHECK fails if route_localnet was switched off; the next ADD switches it on."""
    name = "/proc/sys/net/ipv4/conf/br0/route_localnet"
    publish(node, pod, port())
    node.run("sh", "-c", f"echo 0 > {name}")
    assert fails(portmap(node, "CHECK", pod, port()), "net.ipv4.conf.br0.route_localnet")
    publish(node, pod, port())
    assert portmap(node, "CHECK", pod, port()).ok


@pytest.mark.parametrize("damage", ["flush ruleset", f"flush map {TABLE} hostports-ip"])
def test_delete_after_damage(node: Node, pod: Pod, other: Pod, damage: str) -> None:
    """DEL succeeds with its rules gone, and brings back what other pods lost with them."""
    publish(node, pod, port())
    nft(node, damage)
    withdraw(node, pod)
    assert published(node) == OTHERS
    withdraw(node, other)
    assert not remains(node)


def test_delete_the_last_after_a_flush(node: Node, pod: Pod) -> None:
    """DEL of the last pod after a flush leaves nothing."""
    publish(node, pod, port())
    nft(node, "flush ruleset")
    withdraw(node, pod)
    assert not remains(node)


def test_add_without_nftables(node: Node, pod: Pod) -> None:
    """ADD without libnftables fails, says what is missing, and leaves nothing."""
    with without_firewalls(node):
        answer = portmap(node, "ADD", pod, port())
    assert "libnftables" in answer.document["details"]
    assert not remains(node)


def test_delete_without_nftables(node: Node, pod: Pod) -> None:
    """DEL without libnftables, after a flush, succeeds and forgets the attachment."""
    publish(node, pod, port())
    nft(node, "flush ruleset")
    with without_firewalls(node):
        answer = portmap(node, "DEL", pod)
    assert answer.ok
    assert node.run("find", "/run/cni/pycni", "-type", "l").stdout == ""


# Damaged files


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_damaged_static(node: Node, pod: Pod, other: Pod, text: str) -> None:
    """With a damaged file about the table, the next ADD works, and DELs leave nothing."""
    node.run("tee", "/run/cni/pycni/nftables.json", stdin=text)
    publish(node, pod, port())
    assert published(node) == BOTH | OTHERS
    withdraw(node, other)
    assert published(node) == BOTH
    withdraw(node, pod)
    assert not remains(node)
    assert route_localnet(node) == "0"


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_delete_with_a_damaged_static(node: Node, pod: Pod, text: str) -> None:
    """The DEL of the last pod then also closes the node's loopback addresses again."""
    publish(node, pod, port())
    node.run("tee", "/run/cni/pycni/nftables.json", stdin=text)
    withdraw(node, pod)
    assert not remains(node)
    assert route_localnet(node) == "0"


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_record(node: Node, pod: Pod, other: Pod, damage: str) -> None:
    """DEL of an attachment whose record is damaged warns, and leaves nothing but other pods'."""
    before = sorted(remains(node))
    publish(node, pod, port())
    damage_record(node, "net/pod2/eth0/portmap.json", damage)
    answer = portmap(node, "DEL", pod)
    assert answer.ok
    assert "cannot be read" in answer.stderr
    assert published(node) == OTHERS
    assert sorted(remains(node)) == before
    withdraw(node, other)
    assert not remains(node)


@pytest.mark.parametrize("damage", DAMAGE)
def test_delete_of_the_last_damaged_record(node: Node, pod: Pod, damage: str) -> None:
    """DEL of the last attachment leaves nothing if its record is damaged."""
    publish(node, pod, port())
    damage_record(node, "net/pod2/eth0/portmap.json", damage)
    withdraw(node, pod)
    assert not remains(node)
    assert route_localnet(node) == "0"


@pytest.mark.parametrize("damage", DAMAGE)
def test_add_beside_a_damaged_record(node: Node, pod: Pod, other: Pod, damage: str) -> None:
    """An ADD that makes all rules anew leaves a damaged record out, and names it."""
    damage_record(node, "net/pod3/eth0/portmap.json", damage)
    nft(node, "flush ruleset")
    answer = portmap(node, "ADD", pod, port())
    assert answer.ok
    assert f"net/{other.name}/eth0 is left out" in answer.stderr
    assert published(node) == BOTH


# Death


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("verb", ["ADD", "DEL"])
def test_killed(node: Node, pod: Pod, verb: str, number: signal.Signals) -> None:
    """A plugin killed at any moment of ADD or DEL leaves nothing that a DEL does not find."""
    fastest = min(seconds_of_a_delete(node, pod) for _ in range(5))
    codes = []
    for part in range(12):
        if verb == "DEL":
            publish(node, pod, port())
        codes.append(kill_after(node, verb, pod, fastest * (0.1 + part * 0.08), number))
        withdraw(node, pod)
        assert not remains(node)
        assert route_localnet(node) == "0"
    assert codes.count(-number) >= 3


def seconds_of_a_delete(node: Node, pod: Pod) -> float:
    publish(node, pod, port())
    began = time.monotonic()
    portmap(node, "DEL", pod)
    return time.monotonic() - began


def kill_after(node: Node, verb: str, pod: Pod, seconds: float, number: signal.Signals) -> int:
    """Start portmap, and kill it. Returns its exit code."""
    config = {"cniVersion": "1.0.0", "name": "net", "prevResult": pod.result}
    config["runtimeConfig"] = {"portMappings": [port()]}
    environ = {"CNI_COMMAND": verb, "CNI_CONTAINERID": pod.name, "CNI_NETNS": pod.netns}
    process = node.start(node.bin_dir / "portmap", env={**environ, "CNI_IFNAME": "eth0"})
    assert process.stdin
    process.stdin.write(json.dumps(config))
    process.stdin.close()
    time.sleep(seconds)
    process.send_signal(number)
    return process.wait()


def test_failure_after_the_rules(node: Node, pod: Pod) -> None:
    """An ADD that fails when its rules are in force takes them away; the next one works."""
    obstacle = "/run/cni/pycni/nftables.json.new"
    node.run("mkdir", "-p", obstacle)
    answer = portmap(node, "ADD", pod, port())
    assert (answer.code, answer.document["code"]) == (1, 5)
    assert remains(node) == []
    publish(node, pod, port())
    assert published(node) == BOTH


@pytest.mark.parametrize("lost", ["nftables.json", "claims"])
def test_killed_in_between(node: Node, pod: Pod, lost: str) -> None:
    """DEL finds the rules of an ADD that died before it had written all that it writes."""
    publish(node, pod, port())
    node.run("rm", "-r", f"/run/cni/pycni/{lost}")
    withdraw(node, pod)
    assert not remains(node)


def test_killed_before_its_claims(node: Node, pod: Pod, other: Pod) -> None:
    """So it does if other pods have rules as well."""
    publish(node, pod, port())
    claims = "find /run/cni/pycni/claims -lname '*/pod2/eth0' -delete"
    node.run("sh", "-c", claims)
    withdraw(node, pod)
    assert published(node) == OTHERS
    withdraw(node, other)
    assert not remains(node)


def test_dead_and_forgotten(node: Node, pod: Pod, other: Pod) -> None:
    """An ADD that died before it did anything is no obstacle: not to the last DEL, either."""
    node.run("mkdir", "-p", f"/run/cni/pycni/attachments/net/{pod.name}/eth0")
    withdraw(node, other)
    assert not published(node)
    assert node.json("nft", "-j", "list", "tables")["nftables"][1:] == []
