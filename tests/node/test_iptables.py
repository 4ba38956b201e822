"""The iptables backend: what becomes of its rules and sets, and which backend is used."""

from __future__ import annotations

import json
import signal
import sys
import time
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from tests.support.network import IPV4, Network, damage_record, without_firewalls, write_plugin
from tests.support.network import remains as network_remains
from tests.support.node import Node, Outside
from tests.support.pod import Pod
from tests.support.ports import (
    add_pod,
    fails,
    port,
    portmap,
    publish,
    remains,
    route_localnet,
    withdraw,
)
from tests.support.rulesets import masqueraded, published, saved

PYCNI = Path(sys.executable).with_name("pycni")
BOTH = {"ip tcp 8080": "10.77.0.2 80", "ip6 tcp 8080": "fd00:77::2 80"}
OTHERS = {"ip tcp 9000": "10.77.0.3 80", "ip6 tcp 9000": "fd00:77::3 80"}
FLAVOURS = ["iptables-nft", "iptables-legacy"]

flavours = pytest.mark.parametrize("backend", FLAVOURS, indirect=True)


@pytest.fixture(params=["iptables-nft"])
def backend(request: pytest.FixtureRequest, node: Node) -> str:
    name = str(request.param)
    node.use_backend(name)
    return name


pytestmark = pytest.mark.usefixtures("backend")


@pytest.fixture
def pod(node: Node) -> Pod:
    """A pod with a server at port 80."""
    pod = add_pod(node)
    node.serve("tcp", 80, pod.netns, name="web")
    return pod


@pytest.fixture
def other(node: Node) -> Pod:
    """Another pod, which has port 9000."""
    other = add_pod(node, 3)
    publish(node, other, port(9000))
    return other


def iptables(node: Node, words: str) -> None:
    program, _, arguments = words.partition(" ")
    node.run(program, *arguments.split())


# Both flavours


@flavours
def test_traffic(node: Node, outside: Outside, pod: Pod) -> None:
    """A port is reached from outside, the node, 127.0.0.1 and the pod itself."""
    switch = "for f in /proc/sys/net/bridge/bridge-nf-call-*; do echo 0 > $f; done"
    node.run("sh", "-c", switch)
    publish(node, pod, port())
    for address, source in ((outside.node_ipv4, "192.0.2.2"), (outside.node_ipv6, "2001:db8::2")):
        assert node.ask("tcp", address, 8080, outside.netns) == f"web {source}"
        gateway = "10.77.0.1" if "." in address else "fd00:77::1"
        assert node.ask("tcp", address, 8080, pod.netns) == f"web {gateway}"
    assert node.ask("tcp", outside.node_ipv4, 8080) == "web 192.0.2.1"
    assert node.ask("tcp", "127.0.0.1", 8080) == "web 10.77.0.1"
    node.serve("tcp", 8080, outside.netns, name="outside")
    assert node.ask("tcp", outside.ipv4, 8080) == "outside 192.0.2.1"


@flavours
def test_masquerade(node: Node, outside: Outside) -> None:
    """What leaves the network has the node's address; CHECK passes, DEL leaves nothing."""
    network = Network(node)
    pod = network.attach()
    node.serve("tcp", 80, outside.netns)
    assert node.ask("tcp", outside.ipv4, 80, pod.netns) == outside.node_ipv4
    assert node.ask("tcp", outside.ipv6, 80, pod.netns) == outside.node_ipv6
    assert network.check(pod).ok
    assert network.delete().ok
    assert network_remains(node) == []


@flavours
def test_lifecycle(node: Node, pod: Pod, other: Pod) -> None:
    """CHECK passes, silently; a DEL leaves other pods' ports, the last one nothing."""
    ports = (port(), port(8081, 81, "udp", hostIP="192.0.2.1"), port(8082, 80, "sctp"))
    publish(node, pod, *ports)
    answer = portmap(node, "CHECK", pod, *ports)
    assert (answer.code, answer.document, answer.stderr) == (0, None, "")
    withdraw(node, pod)
    assert published(node) == OTHERS
    withdraw(node, other)
    assert not remains(node)
    assert route_localnet(node) == "0"


@flavours
@pytest.mark.parametrize(
    ("damage", "named"),
    [
        ("iptables -t nat -F", "10.77.0.2 port 80/tcp"),
        ("iptables -t nat -F PREROUTING", "PYCNI-HOSTPORTS"),
        ("iptables -t nat -F POSTROUTING", "PYCNI-SOURCENAT"),
        ("iptables -t nat -F PYCNI-SOURCENAT", "source NAT by mark 0x2000"),
        ("iptables -t raw -F", "the guard of br0"),
        ("ip6tables -t nat -F PYCNI-HOSTPORTS", "PYCNI-HP-"),
    ],
)
@pytest.mark.usefixtures("other")
def test_damage(node: Node, pod: Pod, damage: str, named: str) -> None:
    """CHECK names what is missing; DEL and another ADD of the pod bring everything back."""
    publish(node, pod, port())
    intact = everything(node)
    iptables(node, damage)
    assert fails(portmap(node, "CHECK", pod, port()), named)
    withdraw(node, pod)
    publish(node, pod, port())
    assert everything(node) == intact


def everything(node: Node) -> set[str]:
    """The rules that there are; the order of attachments does not matter."""
    tables = (("ip", "nat"), ("ip", "raw"), ("ip6", "nat"))
    return {line for table in tables for line in saved(node, *table) if line.startswith("-A")}


# Damage


def test_next_add_after_a_flush(node: Node, pod: Pod, other: Pod) -> None:
    """After a flush, the next ADD brings back the ports of all pods."""
    iptables(node, "iptables -t nat -F")
    iptables(node, "ip6tables -t nat -F")
    publish(node, pod, port())
    assert published(node) == BOTH | OTHERS
    assert portmap(node, "CHECK", other, port(9000)).ok


@pytest.mark.parametrize(
    "flush",
    [
        "iptables -t nat -F",
        "nft flush ruleset",
    ],
)
def test_delete_after_a_flush(node: Node, pod: Pod, other: Pod, flush: str) -> None:
    """DEL succeeds with its rules gone, and brings back what other pods lost with them."""
    publish(node, pod, port())
    iptables(node, flush)
    withdraw(node, pod)
    assert published(node) == OTHERS
    iptables(node, flush)
    withdraw(node, other)
    assert not remains(node)


def test_flushed_set(node: Node, outside: Outside) -> None:
    """CHECK fails for an address that is not in its set; `pycni repair` adds it again."""
    network = Network(node)
    pod = network.attach()
    iptables(node, "ipset flush")
    assert fails(network.check(pod), "pycni-net-4", pod.ipv4)
    assert node.run(PYCNI, "repair").stdout == "2 entries are in force\n"
    assert network.check(pod).ok
    node.serve("tcp", 80, outside.netns)
    assert node.ask("tcp", outside.ipv4, 80, pod.netns) == outside.node_ipv4


def test_delete_after_a_flushed_set(node: Node) -> None:
    """DEL succeeds without its sets, and others' addresses come back."""
    network = Network(node)
    network.attach("a")
    other = network.attach("b")
    iptables(node, "ipset flush")
    assert network.delete("a").ok
    assert set(masqueraded(node)) == {other.ipv4, other.ipv6}
    assert network.delete("b").ok
    assert network_remains(node) == []


def test_repair(node: Node, pod: Pod, other: Pod) -> None:
    """`pycni repair` brings back the ports of live pods, and of no dead ones."""
    publish(node, pod, port())
    node.run("ip", "netns", "delete", pod.name)
    iptables(node, "iptables -t nat -F")
    node.run(PYCNI, "repair")
    assert published(node) == OTHERS
    assert portmap(node, "CHECK", other, port(9000)).ok


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_damaged_static(node: Node, pod: Pod, other: Pod, text: str) -> None:
    """With a damaged file about the rules, the next ADD works, and DELs leave nothing."""
    node.run("tee", "/run/cni/pycni/iptables.json", stdin=text)
    publish(node, pod, port())
    assert published(node) == BOTH | OTHERS
    node.run("tee", "/run/cni/pycni/iptables.json", stdin=text)
    withdraw(node, other)
    withdraw(node, pod)
    assert not remains(node)
    assert route_localnet(node) == "0"


def test_damaged_record(node: Node, pod: Pod, other: Pod) -> None:
    """DEL of an attachment whose record is damaged leaves nothing but other pods'."""
    publish(node, pod, port())
    damage_record(node, "net/pod2/eth0/portmap.json", "half")
    withdraw(node, pod)
    assert published(node) == OTHERS
    assert portmap(node, "CHECK", other, port(9000)).ok


def test_killed_add(node: Node, pod: Pod) -> None:
    """An ADD that is killed while iptables runs leaves what DEL removes, without a word."""
    slow = "#!/bin/sh\nsleep 5\n"
    node.run("sh", "-c", "mkdir /run/slow; cat > /run/slow/iptables-restore", stdin=slow)
    node.run("chmod", "+x", "/run/slow/iptables-restore")
    path = node.run("printenv", "PATH").stdout.strip()
    config: dict[str, Any] = {"cniVersion": "1.0.0", "name": "net", "backend": "iptables"}
    config |= {"prevResult": pod.result, "runtimeConfig": {"portMappings": [port()]}}
    variables = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": pod.name, "CNI_NETNS": pod.netns}
    variables |= {"CNI_IFNAME": "eth0", "CNI_PATH": "/", "PATH": f"/run/slow:{path}"}
    process = node.start(node.bin_dir / "portmap", env=variables)
    assert process.stdin
    process.stdin.write(json.dumps(config))
    process.stdin.close()
    time.sleep(1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    withdraw(node, pod)
    assert not remains(node)


# Who has a port


def test_taken_by_a_dead_attachment(node: Node, outside: Outside, pod: Pod, other: Pod) -> None:
    """A dead pod's port goes to who asks for it, and its late DEL takes nothing away."""
    publish(node, other, port(9000), port(9001))
    node.run("ip", "netns", "delete", other.name)
    publish(node, pod, port(9000))
    assert node.ask("tcp", outside.node_ipv4, 9000, outside.netns) == "web 192.0.2.2"
    withdraw(node, other)
    assert node.ask("tcp", outside.node_ipv4, 9000, outside.netns) == "web 192.0.2.2"
    assert published(node) == {"ip tcp 9000": "10.77.0.2 80", "ip6 tcp 9000": "fd00:77::2 80"}


def test_conflict(node: Node, pod: Pod, other: Pod) -> None:
    """A live pod's port is refused; nothing is changed."""
    before = everything(node)
    answer = portmap(node, "ADD", pod, port(), port(9000))
    assert answer.document["code"] == 101
    assert f"net/{other.name}/eth0" in answer.document["msg"]
    assert everything(node) == before


def test_bound_ports_win(node: Node, outside: Outside, pod: Pod) -> None:
    """A port at one address goes before another pod's at all of them, whichever came first."""
    second, third = add_pod(node, 3), add_pod(node, 4)
    for each in (second, third):
        node.serve("tcp", 80, each.netns, name=each.name)
    node.run("ip", "address", "add", "192.0.2.10/24", "dev", "eth0")
    publish(node, second, port(hostIP="192.0.2.1"))
    publish(node, pod, port())
    publish(node, third, port(hostIP="192.0.2.10"))
    assert node.ask("tcp", "192.0.2.1", 8080, outside.netns) == "pod3 192.0.2.2"
    assert node.ask("tcp", "192.0.2.10", 8080, outside.netns) == "pod4 192.0.2.2"
    assert node.ask("tcp", "2001:db8::1", 8080, outside.netns) == "web 2001:db8::2"


def test_gc(node: Node) -> None:
    """GC removes rules and set members of attachments that are not valid any more."""
    network = Network(node)
    network.attach("a")
    kept = network.attach("b")
    valid = [{"containerID": "b", "ifname": "eth0"}]
    answer = node.cni("GC", "bridge", network.config | {"cni.dev/valid-attachments": valid})
    assert answer.ok, answer
    assert set(masqueraded(node)) == {kept.ipv4, kept.ipv6}


# Two backends on one node


def test_two_backends(node: Node, outside: Outside, pod: Pod, other: Pod) -> None:
    """Pods on different backends do not concern each other, and each one's last DEL cleans up."""
    publish(node, pod, port(), backend="nftables")
    assert node.ask("tcp", outside.node_ipv4, 8080, outside.netns) == "web 192.0.2.2"
    assert portmap(node, "CHECK", other, port(9000)).ok
    withdraw(node, other)
    assert route_localnet(node) == "1"
    assert not any("PYCNI" in line for line in saved(node))
    assert node.ask("tcp", "127.0.0.1", 8080) == "web 10.77.0.1"
    assert portmap(node, "CHECK", pod, port(), backend="iptables").ok
    withdraw(node, pod)
    assert not remains(node)


def test_a_port_changes_backends(node: Node, outside: Outside, pod: Pod, other: Pod) -> None:
    """A dead pod's port is taken over from the backend that it is on."""
    node.run("ip", "netns", "delete", other.name)
    publish(node, pod, port(9000), backend="nftables")
    assert published(node) == {}
    assert node.ask("tcp", outside.node_ipv4, 9000, outside.netns) == "web 192.0.2.2"
    withdraw(node, other)
    assert portmap(node, "CHECK", pod, port(9000)).ok


def test_mac_check_beside_iptables(node: Node) -> None:
    """A pod's MAC is checked by nftables also where iptables masquerades; DEL ends both."""
    network = Network(node, macspoofchk=True)
    pods = [network.attach(name) for name in "ab"]
    iptables(node, "nft flush ruleset")
    assert not network.check(pods[0]).ok
    assert node.run(PYCNI, "repair").stdout == "6 entries are in force\n"
    assert [network.check(pod).ok for pod in pods] == [True, True]
    assert used(node) == ["iptables.json"]
    assert network.delete("a").ok
    assert set(masqueraded(node)) == {pods[1].ipv4, pods[1].ipv6}
    assert network.delete("b").ok
    assert network_remains(node) == []


def test_a_second_add_moves_an_attachment(node: Node, pod: Pod) -> None:
    """A second ADD with another backend takes the rules of the first one along."""
    publish(node, pod, port())
    publish(node, pod, port(), backend="nftables")
    assert not any("PYCNI" in line for line in saved(node))
    assert portmap(node, "CHECK", pod, port()).ok
    withdraw(node, pod)
    assert not remains(node)


def test_repair_of_two_backends(node: Node, pod: Pod, other: Pod) -> None:
    """`pycni repair` brings back the rules of both."""
    publish(node, pod, port(), backend="nftables")
    node.run("nft", "flush", "ruleset")
    node.run(PYCNI, "repair")
    assert portmap(node, "CHECK", pod, port()).ok
    assert portmap(node, "CHECK", other, port(9000)).ok


# Marks


def test_mark_bit(node: Node, pod: Pod, other: Pod) -> None:
    """Networks may use different bits; each is masqueraded by."""
    publish(node, pod, port(), markMasqBit=20)
    rules = [line for line in saved(node) if line.startswith("-A PYCNI-SOURCENAT")]
    assert [line.split()[5] for line in rules] == ["0x2000/0x2000", "0x100000/0x100000"]
    assert node.ask("tcp", "127.0.0.1", 8080) == "web 10.77.0.1"
    assert portmap(node, "CHECK", other, port(9000)).ok


def test_external_mark_chain(node: Node, pod: Pod) -> None:
    """With externalSetMarkChain, that chain is asked, and its owner masquerades."""
    for program in ("iptables", "ip6tables"):
        iptables(node, f"{program} -t nat -N KUBE-MARK-MASQ")
        iptables(node, f"{program} -t nat -A KUBE-MARK-MASQ -j MARK --or-mark 0x4000")
    keys = {"externalSetMarkChain": "KUBE-MARK-MASQ"}
    assert portmap(node, "ADD", pod, port(), **keys).ok
    assert node.ask("tcp", "127.0.0.1", 8080, timeout=0.3) is None
    iptables(node, "iptables -t nat -A POSTROUTING -m mark --mark 0x4000/0x4000 -j MASQUERADE")
    assert node.ask("tcp", "127.0.0.1", 8080) == "web 10.77.0.1"
    withdraw(node, pod)
    assert not remains(node)


def test_no_external_mark_chain(node: Node, pod: Pod) -> None:
    """A chain that is not there is named, and nothing is left."""
    answer = portmap(node, "ADD", pod, port(), externalSetMarkChain="KUBE-MARK-MASQ")
    assert not answer.ok
    assert "externalSetMarkChain: iptables has no chain KUBE-MARK-MASQ" in answer.document["msg"]
    assert not remains(node)


# Conditions


def test_conditions(node: Node, outside: Outside, pod: Pod) -> None:
    """Only who meets the conditions reaches the port; those of IPv4 do not concern IPv6."""
    publish(node, pod, port(), conditionsV4=["!", "-s", "192.0.2.2"])
    assert node.ask("tcp", outside.node_ipv4, 8080, outside.netns, timeout=0.3) is None
    assert node.ask("tcp", outside.node_ipv4, 8080) == "web 192.0.2.1"
    assert node.ask("tcp", outside.node_ipv6, 8080, outside.netns) == "web 2001:db8::2"
    assert portmap(node, "CHECK", pod, port(), conditionsV4=["!", "-s", "192.0.2.2"]).ok
    withdraw(node, pod)
    assert not remains(node)


@pytest.mark.parametrize(
    "words", [["-s", "nonsense/99"], ["-m", "no-such-match"], ["-m", "mark"], ["--no-such-option"]]
)
def test_wrong_conditions(node: Node, pod: Pod, words: list[str]) -> None:
    """What iptables does not take is refused, by key and value; nothing is left."""
    answer = portmap(node, "ADD", pod, port(), conditionsV4=words)
    assert answer.document["code"] == 7
    assert answer.document["msg"] == f"conditionsV4: {json.dumps(words)} is not allowed"
    assert not remains(node)


# Which backend


def used(node: Node) -> list[str]:
    """The files that tell of a backend's rules."""
    return node.run(
        "sh", "-c", "cd /run/cni/pycni; ls iptables.json nftables.json", check=False
    ).stdout.split()


@pytest.mark.parametrize(
    ("keys", "wanted"),
    [
        ({}, "nftables.json"),
        ({"backend": "nftables", "markMasqBit": 5}, "nftables.json"),
        ({"conditionsV4": ["-i", "eth0"]}, "iptables.json"),
    ],
)
def test_backend(node: Node, pod: Pod, keys: dict[str, Any], wanted: str) -> None:
    """nftables is the default; other keys may need iptables."""
    publish(node, pod, port(), **({"backend": None} | keys))
    assert used(node) == [wanted]


def test_without_nftables(node: Node, pod: Pod) -> None:
    """Without nftables, iptables is used; DEL finds it whatever is there by then."""
    with without_firewalls(node, "libnftables"):
        publish(node, pod, port(), backend=None)
        network = Network(node, name="other", bridge="br9", ipMasqBackend="", ipam=IPV4)
        network.attach()
    assert used(node) == ["iptables.json"]
    assert network.delete().ok
    withdraw(node, pod)
    assert not remains(node)


@pytest.mark.parametrize("verb", ["ADD", "STATUS"])
def test_without_iptables(node: Node, pod: Pod, verb: str) -> None:
    """A backend that is asked for and not there is named; no other one is used."""
    with without_firewalls(node, "iptables"):
        answer = portmap(node, verb, pod, port(), cniVersion="1.1.0")
    assert answer.document["code"] == (50 if verb == "STATUS" else 999)
    assert "iptables-restore" in json.dumps(answer.document)
    assert not remains(node)


def test_status(node: Node, pod: Pod) -> None:
    """STATUS says nothing while iptables can be used."""
    answer = portmap(node, "STATUS", pod, cniVersion="1.1.0")
    assert (answer.code, answer.document) == (0, None)
    assert node.cni("STATUS", "bridge", Network(node, ipam={}).config).ok


def test_delete_without_iptables(node: Node, pod: Pod) -> None:
    """DEL without iptables succeeds, warns, and forgets the attachment."""
    publish(node, pod, port())
    with without_firewalls(node, "iptables"):
        answer = portmap(node, "DEL", pod)
    assert answer.ok
    assert "iptables-restore" in answer.stderr or "iptables-save" in answer.stderr
    files = node.run("find", "/run/cni/pycni", "-name", "portmap.json")
    assert files.stdout == ""


def forget_ipv6(programs: Path) -> None:
    """Have ip6tables say what it says on a kernel without IPv6 tables."""
    for name in ("ip6tables-restore", "ip6tables-save"):
        (programs / name).unlink()
        write_plugin(
            programs, name, f"echo {name}: unable to initialize table \\'nat\\' >&2; exit 1"
        )


def test_without_ipv6(node: Node, pod: Pod, tmp_path: Path, backend: str) -> None:
    """What is IPv4 alone does not need ip6tables; what is IPv6 says that it does."""
    forget_ipv6(tmp_path / backend)
    result = deepcopy(pod.result)
    result["ips"] = result["ips"][:1]
    publish(node, pod, port(), prevResult=result)
    assert portmap(node, "CHECK", pod, port(), prevResult=result).ok
    withdraw(node, pod)
    assert not any("PYCNI" in line for line in saved(node))
    answer = portmap(node, "ADD", pod, port())
    assert "ip6tables" in json.dumps(answer.document)
    assert not any("PYCNI" in line for line in saved(node))


def test_delete_when_ipv6_is_gone(node: Node, pod: Pod, tmp_path: Path, backend: str) -> None:
    """DEL of an attachment with IPv6 rules removes those of IPv4, and warns about the others."""
    publish(node, pod, port())
    forget_ipv6(tmp_path / backend)
    answer = portmap(node, "DEL", pod)
    assert answer.ok
    assert "there are no IPv6 rules" in answer.stderr
    assert not any("PYCNI" in line for line in saved(node))


def test_list(node: Node, pod: Pod) -> None:
    """`pycni list` tells of what is in iptables, too."""
    publish(node, pod, port(hostIP="192.0.2.1"))
    listed = node.run(PYCNI, "list").stdout.splitlines()
    assert listed == [
        "net/pod2/eth0  portmap",
        "    host port 192.0.2.1:8080/tcp to 10.77.0.2:80",
        "    source NAT for 10.77.0.2 port 80/tcp",
    ]
