"""A node goes over from the reference plugins to ours, and back, while its pods keep running."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.network import DUAL, wait_until
from tests.support.node import ROOT, Answer, Node, Outside
from tests.support.ports import port

DEBIANS = Path("/usr/lib/cni")
LATEST = ROOT / ".cache/reference-v1.9.1"


class Reference(NamedTuple):
    """Reference plugins, with a backend that the configuration names; `tools` are its iptables."""

    path: Path
    backend: str | None
    tools: str = "nft"

    @property
    def conflist(self) -> dict[str, Any]:
        if self.backend is None:
            return conflist({}, {})
        return conflist({"ipMasqBackend": self.backend}, {"backend": self.backend})


# Their default is iptables, and Debian's know nothing else.
OLD = Reference(DEBIANS, None)
IPTABLES = Reference(LATEST, None)
NFTABLES = Reference(LATEST, "nftables")
LEGACY = Reference(LATEST, None, "legacy")
NAMED = Reference(LATEST, "iptables")

NAMES = {
    OLD: "v1.1.1",
    IPTABLES: "default",
    NFTABLES: "nftables",
    LEGACY: "legacy",
    NAMED: "iptables",
}
BACKENDS = [IPTABLES, NFTABLES, NAMED]

each_reference = pytest.mark.parametrize("reference", NAMES, ids=NAMES.get)
each_backend = pytest.mark.parametrize("reference", BACKENDS, ids=NAMES.get)

PORTS = [port(8080, 80), port(8080, 80, "udp"), port(8081, 81, hostIP="192.0.2.1")]


def conflist(bridge: dict[str, Any], portmap: dict[str, Any]) -> dict[str, Any]:
    plugins: list[dict[str, Any]] = [
        {"type": "bridge", "bridge": "br0", "isDefaultGateway": True, "ipMasq": True, "ipam": DUAL},
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ]
    added = [plugin | keys for plugin, keys in zip(plugins, (bridge, portmap), strict=True)]
    return {"cniVersion": "1.0.0", "name": "net", "plugins": added}


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    """A test that was skipped looks like one that passed."""
    for directory in (DEBIANS, LATEST):
        if not (directory / "portmap").is_file():
            pytest.fail(f"no reference plugins in {directory}: run scripts/environment")
    if shutil.which("iptables-legacy") is None:
        pytest.fail("no iptables-legacy: install iptables")


class Swap:
    """A node with pods, on which now these plugins run and then those."""

    def __init__(self, node: Node, reference: Reference, scratch: Path) -> None:
        self.node, self.reference = node, reference
        tools = scratch / "tools"
        tools.mkdir()
        for name in ("iptables", "ip6tables"):
            (tools / name).symlink_to(shutil.which(f"{name}-{reference.tools}") or "missing")
        # The order of search is all that tells iptables-legacy from iptables-nft.
        self._path = f"{tools}:/usr/sbin:/usr/bin:/sbin:/bin"

    def theirs(self, verb: str, name: str = "a", *ports: dict[str, Any]) -> Answer:
        """Have the reference plugins carry out a verb for a pod, whose namespace is made."""
        netns = self._netns(name)
        request = (verb, self.reference.conflist, netns, ports or PORTS)
        return self.node.cnitool(*request, path=self.reference.path, PATH=self._path)

    def ours(self, verb: str, name: str = "a", *ports: dict[str, Any]) -> Answer:
        """Have ours do so."""
        netns = self._netns(name)
        return self.node.cnitool(verb, self.reference.conflist, netns, ports or PORTS)

    def _netns(self, name: str) -> str:
        if self.node.run("test", "-e", f"/run/netns/{name}", check=False).returncode:
            self.node.add_netns(name)
        return f"/run/netns/{name}"


@pytest.fixture
def swap(node: Node, reference: Reference, tmp_path: Path) -> Swap:
    return Swap(node, reference, tmp_path)


# What iptables-nft keeps in nftables, in words that nft does not know.
_OF_IPTABLES = {
    f"{family} {table}"
    for family in ("ip", "ip6")
    for table in ("filter", "mangle", "nat", "raw", "security")
}


def rules(node: Node) -> list[str]:
    """All rules and chains, whoever made them and by whatever they are to be seen."""
    found = [
        f"{tool} {line}"
        for kind in ("nft", "legacy")
        for tool in (f"iptables-{kind}-save", f"ip6tables-{kind}-save")
        for line in node.run(tool).stdout.splitlines()
        if line.startswith("-A") or (line.startswith(":") and line.split()[1] == "-")
    ]
    for item in node.json("nft", "-j", "list", "ruleset")["nftables"]:
        ((kind, fields),) = item.items()
        place = f"{fields.get('family')} {fields.get('table')}"
        if kind in ("chain", "rule", "map", "set") and place not in _OF_IPTABLES:
            found.append(str({key: fields[key] for key in fields if key != "handle"}))
    return found


def pairs(node: Node) -> list[str]:
    return [link["ifname"] for link in node.json("ip", "-j", "link", "show", "type", "veth")]


def leases(node: Node) -> list[str]:
    names = node.run("ls", "/var/lib/cni/networks/net").stdout.split()
    return [name for name in names if name[0] in "1f"]


def answering(node: Node, outside: Outside, host_port: int = 8080) -> set[str | None]:
    """Who answers at a port of the node, asked from outside and from the node itself."""
    # The address that the reference gives a bridge is on probation for a while.
    wait_until(lambda: not node.run("ip", "-6", "address", "show", "tentative").stdout)
    ways = [
        (outside.node_ipv4, outside.netns),
        (outside.node_ipv6, outside.netns),
        ("127.0.0.1", None),
        (outside.node_ipv4, None),
    ]
    asked = [node.ask("tcp", address, host_port, netns) for address, netns in ways]
    return {answer and answer.split()[0] for answer in asked}


def container_id(name: str) -> str:
    """What cnitool makes of a namespace's path."""
    return f"cnitool-{hashlib.sha512(f'/run/netns/{name}'.encode()).hexdigest()[:20]}"


def delete_by_hand(node: Node, netns: str | None, **keys: Any) -> None:
    """Delete pod a with ours as a runtime does that has lost some of what it knew."""
    bridge, portmap = conflist({}, {})["plugins"]
    bridge |= keys | {"cniVersion": "1.0.0", "name": "net"}
    portmap |= keys | {"cniVersion": "1.0.0", "name": "net"}
    portmap["runtimeConfig"] = {"portMappings": PORTS}
    answers = [
        node.cni("DEL", "portmap", portmap, container_id("a"), netns),
        node.cni("DEL", "bridge", bridge, container_id("a"), netns),
    ]
    assert [(answer.code, answer.stderr) for answer in answers] == [(0, "")] * 2


def collect(node: Node, *valid: str) -> None:
    """Have our plugins do a GC, with these pods as the valid ones."""
    owners = [{"containerID": container_id(name), "ifname": "eth0"} for name in valid]
    for plugin in conflist({}, {})["plugins"]:
        keys = {"cniVersion": "1.1.0", "name": "net", "cni.dev/valid-attachments": owners}
        answer = node.cni("GC", plugin["type"], plugin | keys)
        assert answer.ok, answer


# To ours


@each_reference
def test_traffic(swap: Swap, node: Node, outside: Outside) -> None:
    """A pod of theirs passes our CHECK, is reached at its port and leaves with our address."""
    assert swap.theirs("add").ok
    answer = swap.ours("check")
    assert answer.ok, answer
    node.serve("tcp", 80, "/run/netns/a", name="a")
    assert answering(node, outside) == {"a"}
    node.serve("tcp", 9000, outside.netns)
    assert node.ask("tcp", outside.ipv4, 9000, "/run/netns/a") == outside.node_ipv4


@each_reference
def test_delete(swap: Swap, node: Node) -> None:
    """Our DEL of their pod leaves what theirs leaves; it may be repeated."""
    assert swap.theirs("add").ok
    assert swap.theirs("del").ok
    left = rules(node)
    assert swap.theirs("add").ok
    assert rules(node) != left
    for _ in range(2):
        answer = swap.ours("del")
        assert (answer.ok, answer.stderr) == (True, "")
        assert (rules(node), pairs(node), leases(node)) == (left, [], [])


@each_reference
def test_others_stay(swap: Swap, node: Node, outside: Outside) -> None:
    """Our DEL of one of their pods leaves the others as they are."""
    assert swap.theirs("add", "a", port(7000)).ok
    assert swap.theirs("add", "b").ok
    assert swap.ours("del", "a", port(7000)).ok
    answer = swap.ours("check", "b")
    assert answer.ok, answer
    node.serve("tcp", 80, "/run/netns/b", name="b")
    assert answering(node, outside) == {"b"}
    assert leases(node) == ["10.22.0.3", "fd00:22::3"]


@each_backend
def test_new_pods(swap: Swap, node: Node, outside: Outside) -> None:
    """Our pods get the next addresses, and neither they nor their DEL are in the way of theirs."""
    assert swap.theirs("add").ok
    added = swap.ours("add", "b", port(7000))
    given = [ip["address"] for ip in added.document["ips"]]
    assert given == ["10.22.0.3/24", "fd00:22::3/64"]
    for name in "ab":
        node.serve("tcp", 80, f"/run/netns/{name}", name=name)
    assert answering(node, outside) == {"a"}
    assert answering(node, outside, 7000) == {"b"}
    assert swap.ours("del", "b", port(7000)).ok
    assert answering(node, outside) == {"a"}


# What the kernel may have lost, by backend, and what our CHECK has to say.
_TO_BREAK = [
    (IPTABLES, "iptables -t nat -F", "masquerade for 10.22.0.2"),
    (IPTABLES, "ip6tables -t nat -F POSTROUTING", "table ip6 nat"),
    (IPTABLES, "iptables -t nat -F CNI-HOSTPORT-DNAT", "CNI-HOSTPORT-DNAT"),
    (IPTABLES, "iptables -t nat -F PREROUTING", "PREROUTING"),
    (IPTABLES, "iptables -t nat -D $(iptables -t nat -S | grep 8081.*:81 | cut -c4-)", "CNI-DN-"),
    (NFTABLES, "nft flush ruleset", "masquerade for 10.22.0.2"),
    (NFTABLES, "nft flush chain inet cni_plugins_masquerade masq_checks", "masq_checks"),
    (NFTABLES, "nft flush chain ip6 cni_hostport hostports", "table ip6 cni_hostport"),
    (NFTABLES, "nft flush chain ip cni_hostport output", "output"),
    (NFTABLES, "nft flush chain ip cni_hostport masquerading", "masquerading"),
    (LEGACY, "iptables-legacy -t nat -F CNI-HOSTPORT-DNAT", "CNI-HOSTPORT-DNAT"),
]


@pytest.mark.parametrize(("reference", "damage", "said"), _TO_BREAK)
def test_check_fails(swap: Swap, node: Node, damage: str, said: str) -> None:
    """CHECK names what is missing of their rules."""
    assert swap.theirs("add").ok
    node.run("sh", "-ec", damage)
    answer = swap.ours("check")
    assert answer.code == 1
    assert said in answer.stderr


@each_backend
def test_unknown_namespace(swap: Swap, node: Node) -> None:
    """A DEL without CNI_NETNS finds the pair by prevResult, as containerd gives it."""
    added = swap.theirs("add").document
    assert pairs(node)
    delete_by_hand(node, None, prevResult=added)
    assert (pairs(node), leases(node)) == ([], [])


@each_backend
def test_unknown_result(swap: Swap, node: Node) -> None:
    """A DEL without prevResult finds the pair by the address, which is leased to the pod."""
    assert swap.theirs("add").ok
    delete_by_hand(node, "/run/netns/a")
    assert (pairs(node), leases(node)) == ([], [])


@each_backend
def test_nothing_known(swap: Swap, node: Node) -> None:
    """A DEL with neither leaves the pair to the end of the namespace, and nothing else."""
    assert swap.theirs("add").ok
    assert swap.theirs("del").ok
    left = rules(node)
    assert swap.theirs("add").ok
    delete_by_hand(node, "/run/netns/gone")
    assert (rules(node), leases(node)) == (left, [])
    node.run("ip", "netns", "delete", "a")
    wait_until(lambda: not pairs(node))


@each_backend
def test_recycled_namespace(swap: Swap, node: Node) -> None:
    """A path that leads to another pod's namespace by now does that pod no harm."""
    for name in "ab":
        assert swap.theirs("add", name, port(ord(name))).ok
    node.run("mount", "--bind", "/run/netns/b", "/run/netns/a")
    delete_by_hand(node, "/run/netns/a")
    answer = swap.ours("check", "b", port(ord("b")))
    assert answer.ok, answer


def test_mac_check(node: Node, tmp_path: Path) -> None:
    """CHECK looks for what their macspoofchk made; DEL removes it, and leaves other pods'."""
    swap = Swap(node, IPTABLES, tmp_path)
    checked = conflist(bridge={"macspoofchk": True}, portmap={})
    for name in "ab":
        netns = node.add_netns(name)
        assert node.cnitool("add", checked, netns, path=LATEST).ok
    assert node.cnitool("check", checked, "/run/netns/b").ok
    assert swap.ours("del", "a").ok
    left = [line for line in rules(node) if "cni-br-iface" in line]
    assert len(left) == 6
    node.run("nft", "flush", "chain", "bridge", "nat", "PREROUTING")
    assert "cni-br-iface" in node.cnitool("check", checked, "/run/netns/b").stderr


@each_backend
def test_gc(swap: Swap, node: Node) -> None:
    """Our GC removes what can be told to be a stale pod's of theirs, and leaves the others'."""
    assert swap.theirs("add", "b").ok
    left = [line for line in rules(node) if "cni_hostport" not in line]
    assert swap.theirs("add", "a", port(7000)).ok
    collect(node, "b")
    assert [line for line in rules(node) if "cni_hostport" not in line] == left
    assert leases(node) == ["10.22.0.2", "fd00:22::2"]
    assert swap.ours("check", "b").ok


# Back to theirs


@each_reference
def test_delete_by_theirs(swap: Swap, node: Node) -> None:
    """Their DEL of our pod frees its addresses and removes its pair, and may be repeated."""
    assert swap.ours("add").ok
    answer = swap.theirs("del")
    # v1.1.1 misses, at the end, a chain of its own, and only once: its next DEL passes.
    assert answer.ok or swap.reference == OLD
    assert (pairs(node), leases(node)) == ([], [])
    assert swap.theirs("del").ok


@each_backend
def test_repair_after_theirs(swap: Swap, node: Node) -> None:
    """What our pods had in the firewall when theirs deleted them, `pycni repair` removes."""
    assert swap.ours("add").ok
    assert swap.theirs("del").ok
    assert [line for line in rules(node) if "pycni" in line.lower()]
    node.run("ip", "netns", "delete", "a")
    node.run(ROOT / ".venv/bin/pycni", "repair")
    assert not [line for line in rules(node) if "pycni" in line.lower()]


@each_backend
def test_new_pods_of_theirs(swap: Swap, node: Node, outside: Outside) -> None:
    """Their pods get the next addresses, and ours go on beside them."""
    assert swap.ours("add").ok
    added = swap.theirs("add", "b", port(7000))
    given = [ip["address"] for ip in added.document["ips"]]
    assert given == ["10.22.0.3/24", "fd00:22::3/64"]
    for name in "ab":
        node.serve("tcp", 80, f"/run/netns/{name}", name=name)
    assert answering(node, outside) == {"a"}
    assert answering(node, outside, 7000) == {"b"}


@each_backend
def test_port_of_a_dead_pod(swap: Swap, node: Node, outside: Outside) -> None:
    """A host port of a pod of ours that theirs deleted goes to our next pod that wants it."""
    assert swap.ours("add").ok
    assert swap.theirs("del").ok
    node.run("ip", "netns", "delete", "a")
    assert swap.ours("add", "b").ok
    node.serve("tcp", 80, "/run/netns/b", name="b")
    assert answering(node, outside) == {"b"}
