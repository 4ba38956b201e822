"""Nodes whose firewall drops what it is not told to forward: own traffic passes, nothing else."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.firewalls import DOCKER, load_iptables, saved
from tests.support.network import Network, remains
from tests.support.node import Node, Outside
from tests.support.pod import Pod
from tests.support.ports import port

PYCNI = Path(sys.executable).with_name("pycni")
JUMP = "-A FORWARD -j PYCNI-FORWARD"
BOTH = ["ipv4", "ipv6"]


@pytest.fixture(params=["nft", "legacy"])
def variant(request: pytest.FixtureRequest) -> str:
    """Of iptables."""
    return str(request.param)


@pytest.fixture
def dropping(node: Node, variant: str) -> Node:
    """A node where FORWARD has the policy DROP."""
    drop(node, variant)
    return node


@pytest.fixture
def network(node: Node) -> Network:
    return Network(node)


@pytest.fixture
def outside(node: Node) -> Outside:
    """A machine beside the node, and its default router."""
    outside = node.add_outside()
    node.route_by_outside()
    return outside


def drop(node: Node, variant: str) -> None:
    for program in ("iptables", "ip6tables"):
        node.run(f"{program}-{variant}", "-P", "FORWARD", "DROP")


def publish(network: Network, pod: Pod, *ports: dict[str, Any]) -> None:
    config = {"cniVersion": "1.1.0", "name": "net", "prevResult": pod.result}
    config |= {"runtimeConfig": {"portMappings": ports}}
    assert network.node.cni("ADD", "portmap", config, pod.name, pod.netns).ok


def route_to_pods(node: Node, outside: Outside) -> None:
    """Have the machine outside know the way to pods' addresses."""
    for subnet, gateway in (
        ("10.22.0.0/24", outside.node_ipv4),
        ("fd00:22::/64", outside.node_ipv6),
    ):
        node.run("ip", "route", "add", subnet, "via", gateway, netns=outside.netns)


# What passes


@pytest.mark.parametrize("family", BOTH)
def test_from_a_pod_to_outside(
    dropping: Node, outside: Outside, network: Network, family: str
) -> None:
    """A pod reaches other machines, and is answered."""
    dropping.serve("tcp", 80, outside.netns)
    pod = network.attach()
    source = getattr(outside, f"node_{family}")
    assert dropping.ask("tcp", getattr(outside, family), 80, pod.netns) == source


@pytest.mark.parametrize("family", BOTH)
def test_to_a_published_port(
    dropping: Node, outside: Outside, network: Network, family: str
) -> None:
    """Other machines reach a published port."""
    pod = network.attach()
    dropping.serve("tcp", 80, pod.netns, name="web")
    publish(network, pod, port())
    answer = dropping.ask("tcp", getattr(outside, f"node_{family}"), 8080, outside.netns)
    assert answer == f"web {getattr(outside, family)}"


@pytest.mark.parametrize("keys", [{}, {"isDefaultGateway": False, "ipMasq": False}])
@pytest.mark.parametrize("family", BOTH)
def test_to_a_neighbour(dropping: Node, family: str, keys: dict[str, bool]) -> None:
    """Pods of a bridge reach each other though netfilter sees it, also where nothing is routed."""
    script = "for file in /proc/sys/net/bridge/bridge-nf-call-ip*; do echo 1 > $file; done"
    dropping.run("sh", "-ec", script)
    network = Network(dropping, **keys)
    first, second = network.attach("a"), network.attach("b")
    dropping.serve("tcp", 80, first.netns)
    answer = dropping.ask("tcp", getattr(first, family), 80, second.netns)
    assert answer == getattr(second, family)


def test_a_second_bridge(dropping: Node, outside: Outside, network: Network) -> None:
    """A bridge that comes later is let pass, too, and the first one still is."""
    ipam = {"type": "host-local", "subnet": "10.33.0.0/24"}
    pods = [network.attach("a"), Network(dropping, name="two", bridge="br1", ipam=ipam).attach("b")]
    dropping.serve("tcp", 80, outside.netns)
    assert all(dropping.ask("tcp", outside.ipv4, 80, pod.netns) for pod in pods)


# What does not


@pytest.mark.parametrize("family", BOTH)
def test_straight_to_a_pod(dropping: Node, outside: Outside, network: Network, family: str) -> None:
    """Nobody outside opens a connection straight to a pod's address."""
    route_to_pods(dropping, outside)
    pod = network.attach()
    dropping.serve("tcp", 80, pod.netns)
    assert dropping.ask("tcp", getattr(pod, family), 80, outside.netns, timeout=0.3) is None
    for program in ("iptables-nft", "ip6tables-nft", "iptables-legacy", "ip6tables-legacy"):
        dropping.run(program, "-P", "FORWARD", "ACCEPT")
    assert dropping.ask("tcp", getattr(pod, family), 80, outside.netns)


def test_to_another_bridge(dropping: Node, network: Network) -> None:
    """Nor does a pod to one of another bridge; a published port it does reach."""
    ipam = {"type": "host-local", "subnet": "10.33.0.0/24"}
    first = network.attach("a")
    second = Network(dropping, name="two", bridge="br1", ipam=ipam).attach("b")
    dropping.serve("tcp", 80, first.netns, name="web")
    publish(network, first, port())
    assert dropping.ask("tcp", first.ipv4, 80, second.netns, timeout=0.3) is None
    assert dropping.ask("tcp", "10.33.0.1", 8080, second.netns) == "web 10.22.0.1"


def test_a_bridge_that_does_not_route(dropping: Node, outside: Outside) -> None:
    """From a bridge whose containers just reach each other, nothing goes out."""
    network = Network(dropping, isDefaultGateway=False, ipMasq=False)
    pod = network.attach()
    script = f"""
        ip address add 10.22.0.1/24 dev br0
        echo 1 > /proc/sys/net/ipv4/ip_forward
        ip -n a route add default via 10.22.0.1
        ip -n outside route add 10.22.0.0/24 via {outside.node_ipv4}
    """
    dropping.run("sh", "-ec", script)
    dropping.serve("tcp", 80, outside.netns)
    assert dropping.ask("tcp", outside.ipv4, 80, pod.netns, timeout=0.3) is None


# Others' rules


def test_docker(node: Node, variant: str, outside: Outside, network: Network) -> None:
    """Beside Docker pods reach outside; its rules stay, in their order, and are asked first."""
    load_iptables(node, variant, DOCKER)
    before = saved(node, variant)
    pod = network.attach()
    node.serve("tcp", 80, outside.netns)
    assert node.ask("tcp", outside.ipv4, 80, pod.netns) == outside.node_ipv4
    during = saved(node, variant)
    assert [line for line in during if "PYCNI-" not in line] == before
    assert [line for line in during if line.startswith("-A FORWARD")][-1] == JUMP
    assert network.check(pod).ok
    assert network.delete().ok
    assert saved(node, variant) == before


def test_rules_of_a_user(node: Node, variant: str, outside: Outside, network: Network) -> None:
    """What a user of Docker forbids in DOCKER-USER stays forbidden to pods."""
    load_iptables(node, variant, DOCKER.replace("203.0.113.0/24", f"{outside.ipv4}/32"))
    pod = network.attach()
    node.serve("tcp", 80, outside.netns)
    assert node.ask("tcp", outside.ipv4, 80, pod.netns, timeout=0.3) is None


def test_the_last_one_leaves(dropping: Node, variant: str, network: Network) -> None:
    """Only the node's last attachment takes our rules away; then nothing is left."""
    before = saved(dropping, variant)
    network.attach("a")
    network.attach("b")
    network.delete("a")
    assert JUMP in saved(dropping, variant)
    network.delete("b")
    assert saved(dropping, variant) == before
    assert not [line for line in remains(dropping) if "/run" in line or "pycni" in line]


@pytest.mark.parametrize("unused", ["nft", "legacy"])
def test_policy_accept(node: Node, network: Network, unused: str) -> None:
    """Where the policy is ACCEPT no rule is added."""
    node.run(f"iptables-{unused}", "-P", "INPUT", "DROP")
    node.run(f"iptables-{unused}", "-P", "FORWARD", "ACCEPT")
    before = saved(node, unused)
    pod = network.attach()
    assert network.check(pod).ok
    assert saved(node, unused) == before


def test_no_iptables(node: Node, network: Network) -> None:
    """Where iptables was never used, it is not afterwards."""
    network.attach()
    assert node.run("nft", "list", "tables").stdout == "table inet pycni\n"
    assert node.run("cat", "/proc/net/ip_tables_names").stdout == ""


def test_once(dropping: Node, variant: str, network: Network) -> None:
    """The rules are written once, not with every ADD."""
    network.attach("a")
    counted = ("-A", "FORWARD", "-s", "198.51.100.1")
    dropping.run(f"iptables-{variant}", *counted)
    network.attach("b")
    rules = saved(dropping, variant)
    assert rules.count(JUMP) == 2  # one for each IP version
    assert rules.index(JUMP) < rules.index("-A FORWARD -s 198.51.100.1/32")


# Damage, and firewalls that come later


@pytest.mark.parametrize("cure", ["repair", "add"])
def test_a_policy_that_comes_later(node: Node, variant: str, outside: Outside, cure: str) -> None:
    """CHECK sees that a policy has changed; `pycni repair`, or any ADD, has traffic pass again."""
    networks = [Network(node, ipam={"type": "host-local", "subnet": "10.22.0.0/24"})]
    ipam = {"type": "host-local", "subnet": "10.33.0.0/24"}
    networks.append(Network(node, name="two", bridge="br1", ipam=ipam))
    pods = [network.attach(name) for network, name in zip(networks, "ab", strict=True)]
    drop(node, variant)
    answers = [network.check(pod) for network, pod in zip(networks, pods, strict=True)]
    assert all("pycni repair" in answer.document["details"] for answer in answers)
    if cure == "repair":
        node.run(PYCNI, "repair")
    else:
        networks[0].attach("c")
    assert all(network.check(pod).ok for network, pod in zip(networks, pods, strict=True))
    node.serve("tcp", 80, outside.netns)
    assert all(node.ask("tcp", outside.ipv4, 80, pod.netns) for pod in pods)


@pytest.mark.parametrize(
    "damage", ["-D FORWARD -j PYCNI-FORWARD", "-F PYCNI-FORWARD", "-D PYCNI-FORWARD 1"]
)
def test_damaged_rules(dropping: Node, variant: str, network: Network, damage: str) -> None:
    """CHECK sees a rule that is missing and names the chain; `pycni repair` brings it back."""
    pod = network.attach()
    before = saved(dropping, variant)
    dropping.run(f"ip6tables-{variant}", *damage.split())
    document = network.check(pod).document
    assert document["code"] == 100
    assert f"ip6tables-{variant}" in document["msg"]
    dropping.run(PYCNI, "repair")
    assert saved(dropping, variant) == before
    assert network.check(pod).ok


@pytest.mark.parametrize("damage", ["-F", "-F PYCNI-FORWARD", "-D FORWARD -j PYCNI-FORWARD"])
def test_delete_after_damage(dropping: Node, variant: str, network: Network, damage: str) -> None:
    """DEL removes what is left of them."""
    before = saved(dropping, variant)
    network.attach()
    dropping.run(f"iptables-{variant}", *damage.split())
    answer = network.delete()
    assert (answer.ok, answer.stderr) == (True, "")
    assert saved(dropping, variant) == before


def test_delete_after_all_is_flushed(node: Node, network: Network) -> None:
    """DEL puts no table in place of one that is gone."""
    drop(node, "nft")
    network.attach()
    node.run("nft", "flush", "ruleset")
    answer = network.delete()
    assert (answer.ok, answer.stderr) == (True, "")
    assert node.run("nft", "list", "ruleset").stdout == ""


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_damaged_file(dropping: Node, variant: str, network: Network, text: str) -> None:
    """With a damaged file about it, ADD works and DEL leaves nothing."""
    before = saved(dropping, variant)
    network.attach("a")
    dropping.run("tee", "/run/cni/pycni/forwarding.json", stdin=text)
    assert network.check(network.attach("b")).ok
    dropping.run("tee", "/run/cni/pycni/forwarding.json", stdin=text)
    assert [network.delete(name).ok for name in "ab"] == [True, True]
    assert saved(dropping, variant) == before


# No iptables


@contextmanager
def without_iptables(node: Node) -> Iterator[None]:
    """As on a node where the package is not installed."""
    programs = "/usr/sbin/xtables-nft-multi /usr/sbin/xtables-legacy-multi"
    node.run("sh", "-ec", f"for file in {programs}; do mount --bind /dev/null $file; done")
    try:
        yield
    finally:
        node.run("sh", "-ec", f"umount {programs}")


def test_without_iptables(dropping: Node, variant: str, network: Network) -> None:
    """Without its tool STATUS says no and what to install, ADD warns, and DEL works."""
    assert network.node.cni("STATUS", "bridge", network.config).ok
    with without_iptables(dropping):
        document = dropping.cni("STATUS", "bridge", network.config).document
        assert document["code"] == 50
        assert f"iptables-{variant}" in document["msg"] + document["details"]
        answer = network.add("a")
        assert answer.ok
        assert f"iptables-{variant} is not installed" in answer.stderr
        assert network.delete("a").ok


def test_iptables_not_needed(node: Node, network: Network) -> None:
    """Where nothing is dropped the tool may be missing."""
    with without_iptables(node):
        assert node.cni("STATUS", "bridge", network.config).ok
        answer = network.add()
    assert (answer.ok, answer.stderr) == (True, "")


# Chains of an administrator's


@pytest.mark.parametrize(
    ("rule", "code"),
    [("", 50), ("iifname br0 accept", None), ("ct state established accept", None)],
)
def test_a_chain_without_rules(node: Node, network: Network, rule: str, code: int | None) -> None:
    """STATUS names a chain that drops all that is forwarded, unless it has rules of its own."""
    chain = "type filter hook forward priority filter; policy drop;"
    node.run("nft", f"table inet firewall {{ chain wall {{ {chain} {rule}; }}; }}")
    document = node.cni("STATUS", "bridge", network.config).document
    assert (document or {}).get("code") == code
    assert code is None or "wall of table inet firewall" in document["msg"]
