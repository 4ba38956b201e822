"""GC: what attachments own that the runtime does not know any more, and what stays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.network import IPV4, Network, link, remains, without_firewalls, write_plugin
from tests.support.node import Answer, Node
from tests.support.pod import Pod
from tests.support.ports import add_pod, port, publish
from tests.support.ports import remains as remains_of_ports
from tests.support.rulesets import masqueraded, published

VALID = "cni.dev/valid-attachments"
PLUGINS = ("bridge", "host-local", "portmap", "loopback")
REFERENCE = Path("/usr/lib/cni")
NOBODY = dict.fromkeys(("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"))

# An IPAM plugin that keeps what it is called with.
_RECORDER = """
cd {directory}
cat > stdin
env > env
{script}
"""


@pytest.fixture
def network(node: Node) -> Network:
    return Network(node)


def attachments(*names: str, ifname: str = "eth0") -> list[dict[str, str]]:
    return [{"containerID": name, "ifname": ifname} for name in names]


def gc(network: Network, *valid: str, plugin: str = "bridge", **environ: str) -> Answer:
    """GC with containers of these names as valid, and without a word about any attachment."""
    config = network.config | {VALID: attachments(*valid)}
    variables: dict[str, Any] = NOBODY | environ
    return network.node.cni("GC", plugin, config, **variables)


def is_silent(answer: Answer) -> bool:
    return (answer.code, answer.document) == (0, None)


def leases(node: Node, network: str = "net") -> list[str]:
    names = node.run("ls", f"/var/lib/cni/networks/{network}").stdout.split()
    return sorted(name for name in names if name[0].isdigit())


def write_lease(node: Node, address: str, content: str) -> None:
    directory = "/var/lib/cni/networks/net"
    node.run("mkdir", "-p", directory)
    node.run("tee", f"{directory}/{address}", stdin=content)


def killed_add(network: Network, tmp_path: Path, script: str) -> None:
    """An ADD for the container `a` that is killed while its IPAM plugin runs the script."""
    write_plugin(tmp_path / "bin", "host-local", f"{script}\nkill -9 $PPID")
    network.node.add_netns("a")
    process = network.start("ADD", "a", CNI_PATH=str(tmp_path / "bin"))
    assert process.wait() == -9


# What goes


def test_nobody_is_valid(network: Network, node: Node) -> None:
    """An empty list clears all that the network's attachments own, and nothing is printed."""
    for name in "ab":
        network.attach(name)
    assert is_silent(gc(network))
    assert remains(node) == []


def test_null(network: Network, node: Node) -> None:
    """So does null, which is what CRI-O sends for a network without pods."""
    network.attach()
    assert is_silent(node.cni("GC", "bridge", network.config | {VALID: None}))
    assert remains(node) == []


def test_only_the_stale(network: Network, node: Node) -> None:
    """Valid attachments stay whole, whatever is removed of others."""
    stays, _ = network.attach("a"), network.attach("b")
    assert is_silent(gc(network, "a", "unknown"))
    assert network.check(stays).ok
    assert set(masqueraded(node)) == {stays.ipv4, stays.ipv6}
    assert leases(node) == ["10.22.0.2"]
    assert "/run/cni/pycni/attachments/net/b" not in remains(node)


def test_interfaces_are_told_apart(network: Network, node: Node) -> None:
    """Of a valid container's interfaces one may be stale."""
    stays = network.attach("a", ifname="eth0")
    network.attach("a", stays.netns, ifname="eth1")
    assert is_silent(gc(network, "a"))
    names = [found["ifname"] for found in node.json("ip", "-j", "link", netns=stays.netns)]
    assert names == ["lo", "eth0"]
    assert network.check(stays).ok


def test_after_the_namespace(network: Network, node: Node) -> None:
    """What is left of pods whose namespace went away without a DEL is removed."""
    pod = network.attach()
    node.run("ip", "netns", "delete", pod.name)
    assert is_silent(gc(network))
    assert remains(node) == []


def test_gc_twice(network: Network, node: Node) -> None:
    """A repeated GC finds nothing, and so does one before any ADD, which makes nothing."""
    assert is_silent(gc(network))
    assert node.run("ls", "/run/cni", "/var/lib/cni").stdout.split() == [
        *("/run/cni:", "/var/lib/cni:")
    ]
    network.attach()
    assert [is_silent(gc(network)) for _ in range(2)] == [True, True]


def test_bridge_stays(network: Network, node: Node) -> None:
    """The bridge stays, as after a DEL, and the next ADD works."""
    network.attach()
    gc(network)
    assert link(node, "br0")["linkinfo"]["info_kind"] == "bridge"
    assert network.check(network.attach("b")).ok


def test_del_after_gc(network: Network, node: Node) -> None:
    """A DEL that comes after the GC finds nothing left to do."""
    network.attach()
    gc(network)
    assert network.delete().ok
    assert remains(node) == []


# What stays


def test_other_networks(network: Network, node: Node) -> None:
    """Another network's attachments stay, those of the same containers included."""
    ipam = {"type": "host-local", "subnet": "10.33.0.0/24"}
    other = Network(node, name="other", bridge="br1", isDefaultGateway=False, ipam=ipam)
    pod = network.attach("a")
    stays = other.attach("a", pod.netns, ifname="eth1")
    assert is_silent(gc(network))
    assert set(masqueraded(node)) == {stays.ipv4}
    assert leases(node, "other") == [stays.ipv4]
    assert link(node, stays.host_ifname)["operstate"] == "UP"


@pytest.mark.parametrize("plugin", ["bridge", "host-local", "portmap"])
def test_nobody_knows(network: Network, node: Node, plugin: str) -> None:
    """Where the list is missing nothing is removed, and code 7 names the key."""
    pod = network.attach()
    answer = node.cni("GC", plugin, network.config)
    assert (answer.code, answer.document["code"]) == (1, 7)
    assert answer.document["msg"] == f"{VALID}: missing"
    assert network.check(pod).ok


@pytest.mark.parametrize("plugin", PLUGINS)
def test_old_version(network: Network, plugin: str) -> None:
    """Below 1.1.0 there is no GC: code 1, and nothing is removed."""
    pod = network.attach()
    network.config["cniVersion"] = "1.0.0"
    assert gc(network, plugin=plugin).document["code"] == 1
    assert network.check(pod).ok


def test_loopback(network: Network) -> None:
    """loopback owns nothing, and so has nothing to remove."""
    assert is_silent(gc(network, plugin="loopback"))


# What a killed ADD left


def test_killed_before_its_record(network: Network, node: Node, tmp_path: Path) -> None:
    """An attachment that has no record yet is removed, its lease included."""
    killed_add(network, tmp_path, f"{node.bin_dir}/host-local > /dev/null")
    assert "/run/cni/pycni/attachments/net/a/eth0" in remains(node)
    assert leases(node) != []
    assert is_silent(gc(network))
    assert remains(node) == []


def test_pair_without_a_record(network: Network, node: Node) -> None:
    """The veth pair is found by its name, which comes from the attachment."""
    pod = network.attach()
    record = "/run/cni/pycni/attachments/net/a/eth0/bridge.json"
    node.run("mv", record, f"{record}.new")
    assert is_silent(gc(network))
    assert pod.host_ifname not in remains(node)
    assert "/run/cni/pycni/attachments/net/a" not in remains(node)


def test_damaged_record(network: Network, node: Node) -> None:
    """A record that cannot be read does not keep its attachment."""
    stays, _ = network.attach("a"), network.attach("b")
    node.run("tee", "/run/cni/pycni/attachments/net/b/eth0/bridge.json", stdin="{")
    assert is_silent(gc(network, "a"))
    assert set(masqueraded(node)) == {stays.ipv4, stays.ipv6}
    claims = node.run("ls", "/run/cni/pycni/claims").stdout.split()
    assert {claim.rpartition("-")[2] for claim in claims} == {stays.ipv4, stays.ipv6}


# What is broken


@pytest.mark.parametrize(
    "keys",
    [
        {"mtu": "large"},
        {"hairpinMode": True, "promiscMode": True},
        {"ipam": {"type": "host-local", "ranges": "none"}},
        {"ipam": {"type": "host-local", "subnet": "10.99.0.0/24"}},
        {"prevResult": "text"},
    ],
)
def test_broken_configuration(network: Network, node: Node, keys: dict[str, Any]) -> None:
    """A configuration that was changed, or is wrong by now, does not keep anything."""
    network.attach()
    network.config |= keys
    assert is_silent(gc(network))
    assert remains(node) == []


def test_without_libnftables(network: Network, node: Node) -> None:
    """Without the firewall's library a GC removes rules and all else."""
    network.attach()
    with without_firewalls(node):
        assert is_silent(gc(network))
    assert remains(node) == []


def test_after_a_flush(network: Network, node: Node) -> None:
    """After a flush of the ruleset all else is removed."""
    network.attach()
    node.run("nft", "flush", "ruleset")
    assert is_silent(gc(network))
    assert remains(node) == []


def test_past_errors(network: Network, node: Node) -> None:
    """A GC goes on past what cannot be removed, and reports all of it at the end."""
    for name in "abc":
        network.attach(name)
    stuck = ["/run/cni/pycni/attachments/net/a/eth0/bridge.json", "/var/lib/cni/networks/net"]
    node.run("mount", "--bind", stuck[0], stuck[0])
    node.run("mount", "--bind", f"{stuck[1]}/10.22.0.3", f"{stuck[1]}/10.22.0.3")
    answer = gc(network)
    assert answer.code == 1
    text = f"{answer.document['msg']} {answer.document.get('details')}"
    assert stuck[0] in text
    assert f"{stuck[1]}/10.22.0.3" in text
    assert leases(node) == ["10.22.0.3"]
    assert [line for line in remains(node) if line.startswith("veth")] == []


# IPAM


@pytest.mark.parametrize("addresses", [["10.22.0.3"], []])
def test_leases_without_an_attachment(network: Network, node: Node, addresses: list[str]) -> None:
    """host-local releases leases that no plugin but it knows of, in whatever range they are."""
    write_lease(node, "172.16.0.9", "gone\r\neth0")
    write_lease(node, "10.22.0.3", "b\r\neth0")
    assert is_silent(gc(network, *("b" for _ in addresses), plugin="host-local"))
    assert leases(node) == addresses


def test_leases_of_an_old_version(network: Network, node: Node) -> None:
    """A lease that names no interface stays if its container is valid."""
    write_lease(node, "10.22.0.3", "a")
    write_lease(node, "10.22.0.4", "b")
    assert is_silent(gc(network, "a"))
    assert leases(node) == ["10.22.0.3"]


def test_what_is_no_lease(network: Network, node: Node) -> None:
    """What was leased last, the lock and strangers' files stay."""
    network.attach()
    node.run("mkdir", "/var/lib/cni/networks/net/10.22.0.9")
    assert is_silent(gc(network))
    names = node.run("ls", "/var/lib/cni/networks/net").stdout.split()
    assert names == ["10.22.0.9", "last_reserved_ip.0", "last_reserved_ip.1", "lock"]


def test_leases_of_the_reference_plugin(network: Network, node: Node) -> None:
    """Leases that the reference plugin made are released like our own."""
    if not (REFERENCE / "host-local").is_file():
        pytest.fail(f"no {REFERENCE}/host-local: install containernetworking-plugins")
    config = {"cniVersion": "1.0.0", "name": "net", "type": "bridge", "ipam": IPV4}
    for name in "ab":
        netns = node.add_netns(name)
        assert node.cni("ADD", "host-local", config, name, netns, path=REFERENCE).ok
    assert leases(node) == ["10.22.0.2", "10.22.0.3"]
    assert is_silent(gc(network, "b"))
    assert leases(node) == ["10.22.0.3"]


def test_another_ipam_plugin(network: Network, tmp_path: Path) -> None:
    """An IPAM plugin that is none of ours gets the whole configuration, the list included."""
    directory = tmp_path / "bin"
    write_plugin(directory, "pool", _RECORDER.format(directory=directory, script=""))
    network.config["ipam"] = {"type": "pool", "size": 7}
    assert is_silent(gc(network, "a", CNI_PATH=str(directory)))
    told = json.loads((directory / "stdin").read_text())
    assert told == network.config | {VALID: attachments("a")}
    assert "CNI_COMMAND=GC" in (directory / "env").read_text().splitlines()


def test_failing_ipam_plugin(network: Network, node: Node, tmp_path: Path) -> None:
    """Its failure is passed on after all else was removed."""
    network.attach()
    directory = tmp_path / "bin"
    script = """echo '{"code": 11, "msg": "not now"}'; exit 1"""
    write_plugin(directory, "pool", _RECORDER.format(directory=directory, script=script))
    network.config["ipam"] = {"type": "pool"}
    answer = gc(network, CNI_PATH=str(directory))
    assert (answer.document["code"], answer.document["msg"]) == (11, "not now")
    assert masqueraded(node) == {}


def test_missing_ipam_plugin(network: Network, node: Node) -> None:
    """An IPAM plugin that is not there any more does not keep anything else."""
    network.attach()
    network.config["ipam"] = {"type": "gone"}
    answer = gc(network)
    assert "gone" in answer.document["msg"]
    assert masqueraded(node) == {}


def test_no_ipam_plugin(node: Node) -> None:
    """A network without addresses needs no IPAM plugin, and no CNI_PATH."""
    network = Network(node, isDefaultGateway=False, ipMasq=False, ipam={})
    network.attach()
    config = network.config | {VALID: []}
    assert is_silent(node.cni("GC", "bridge", config, CNI_PATH=None))
    assert remains(node) == []


# portmap


def test_ports(node: Node) -> None:
    """Ports of stale attachments are withdrawn; valid ones' and other networks' stay."""
    for number, network in zip((2, 3, 4, 5), ("net", "net", "net", "other"), strict=True):
        publish(node, add_pod(node, number), port(8080 + number), network=network)
    config = {"cniVersion": "1.1.0", "name": "net", "type": "portmap"}
    assert is_silent(node.cni("GC", "portmap", config | {VALID: attachments("pod4")}))
    assert {key for key in published(node) if key.startswith("ip ")} == {
        "ip tcp 8084",
        "ip tcp 8085",
    }


def test_last_port(node: Node) -> None:
    """With the last attachment the table goes, and every claim."""
    publish(node, add_pod(node), port())
    config = {"cniVersion": "1.1.0", "name": "net", "type": "portmap"}
    assert is_silent(node.cni("GC", "portmap", config | {VALID: []}))
    assert remains_of_ports(node) == []


# A runtime


def conflist(**keys: Any) -> dict[str, Any]:
    bridge = {"type": "bridge", "bridge": "br0", "isDefaultGateway": True, "ipMasq": True}
    plugins = [bridge | {"ipam": IPV4}, {"type": "portmap", "capabilities": {"portMappings": True}}]
    return {"cniVersion": "1.1.0", "name": "net", "plugins": plugins} | keys


def test_cnitool(node: Node) -> None:
    """cnitool, which knows nobody as valid, deletes what it added and is told what GC lacks."""
    pod = node.add_netns("pod")
    assert node.cnitool("add", conflist(), pod, [port()]).ok
    answer = node.cnitool("gc", conflist(), pod)
    assert answer.code == 1
    assert f"{VALID}: missing" in answer.stderr
    assert remains(node) == []


def test_cnitool_beside_another_runtime(network: Network, node: Node) -> None:
    """What another runtime has attached to the network survives cnitool's GC."""
    stays: Pod = network.attach()
    node.cnitool("gc", conflist(), node.add_netns("pod"))
    assert network.check(stays).ok


def test_cnitool_of_an_old_version(node: Node) -> None:
    """Below 1.1.0 cnitool deletes what it added, and no plugin gets a GC."""
    pod = node.add_netns("pod")
    old = conflist(cniVersion="1.0.0")
    assert node.cnitool("add", old, pod, [port()]).ok
    answer = node.cnitool("gc", old, pod)
    assert (answer.code, answer.stderr) == (0, "")
    assert remains(node) == []


def test_disabled(node: Node) -> None:
    """A network may do without GC."""
    pod = node.add_netns("pod")
    conf = conflist(disableGC=True)
    assert node.cnitool("add", conf, pod, [port()]).ok
    assert node.cnitool("gc", conf, pod).ok
    assert node.cnitool("check", conf, pod, [port()]).ok
