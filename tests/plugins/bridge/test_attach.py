"""ADD: the interface, the bridge and the result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.network import (
    DUAL,
    IPV4,
    IPV6,
    Network,
    addresses,
    link,
    remains,
    sysctl,
    write_plugin,
)
from tests.support.node import Node

MACS = {
    "in_args": "0a:00:00:00:00:01",
    "in_config": "0a:00:00:00:00:02",
    "from_runtime": "0a:00:00:00:00:03",
}


# What ADD returns


def test_result(node: Node) -> None:
    """ADD reports the bridge, the host's veth, the container's, and addresses on the third."""
    pod = Network(node).attach()
    assert pod.result == {
        "cniVersion": "1.1.0",
        "interfaces": [
            {"name": "br0", "mac": link(node, "br0")["address"]},
            {"name": pod.host_ifname, "mac": link(node, pod.host_ifname)["address"]},
            {"name": "eth0", "mac": link(node, "eth0", pod.netns)["address"], "sandbox": pod.netns},
        ],
        "ips": [
            {"interface": 2, "address": "10.22.0.2/24", "gateway": "10.22.0.1"},
            {"interface": 2, "address": "fd00:22::2/64", "gateway": "fd00:22::1"},
        ],
        "routes": [{"dst": "0.0.0.0/0", "gw": "10.22.0.1"}, {"dst": "::/0", "gw": "fd00:22::1"}],
    }


@pytest.mark.parametrize("version", ["0.3.0", "0.3.1", "0.4.0"])
def test_result_before_1_0_0(node: Node, version: str) -> None:
    """From 0.3.0 to 0.4.0 an address tells its family, and dns is always there."""
    pod = Network(node, cniVersion=version).attach()
    assert pod.result["cniVersion"] == version
    assert [ip["version"] for ip in pod.result["ips"]] == ["4", "6"]
    assert pod.result["dns"] == {}
    assert len(pod.result["interfaces"]) == 3


def test_result_in_1_0_0(node: Node) -> None:
    """From 1.0.0 on an address does not tell its family, and empty dns is left out."""
    pod = Network(node, cniVersion="1.0.0", ipam=IPV4).attach()
    assert pod.result["cniVersion"] == "1.0.0"
    assert pod.result["ips"] == [
        {"interface": 2, "address": "10.22.0.2/24", "gateway": "10.22.0.1"}
    ]
    assert "dns" not in pod.result


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0", ""])
def test_result_before_0_3_0(node: Node, version: str) -> None:
    """0.1.0, also meant by an empty version, and 0.2.0 know one address of each family."""
    pod = Network(node, cniVersion=version).attach()
    route = {"dst": "0.0.0.0/0", "gw": "10.22.0.1"}
    ipv4 = {"ip": "10.22.0.2/24", "gateway": "10.22.0.1", "routes": [route]}
    assert pod.result["cniVersion"] == (version or "0.1.0")
    assert pod.result["ip4"] == ipv4
    assert pod.result["ip6"]["ip"] == "fd00:22::2/64"
    assert not pod.result.keys() & {"interfaces", "ips"}


@pytest.mark.parametrize(
    ("dns", "expected"),
    [
        ({}, {"nameservers": ["192.0.2.53"], "search": ["of.ipam"]}),
        ({"nameservers": ["192.0.2.1"]}, {"nameservers": ["192.0.2.1"]}),
    ],
)
def test_dns(node: Node, tmp_path: Path, dns: Any, expected: Any) -> None:
    """The result's dns is IPAM's, unless the configuration has one."""
    (tmp_path / "resolv.conf").write_text("nameserver 192.0.2.53\nsearch of.ipam\n")
    ipam = IPV4 | {"resolvConf": str(tmp_path / "resolv.conf")}
    assert Network(node, ipam=ipam, dns=dns).attach().result["dns"] == expected


# The interfaces


def test_peers(node: Node) -> None:
    """The container's interface and the bridge's port are up, and each other's peer."""
    pod = Network(node).attach()
    inside, port = link(node, "eth0", pod.netns), link(node, pod.host_ifname)
    assert (inside["link_index"], port["link_index"]) == (port["ifindex"], inside["ifindex"])
    assert port["master"] == "br0"
    assert [inside["operstate"], port["operstate"]] == ["UP", "UP"]
    assert link(node, "br0")["operstate"] == "UP"


def test_alias(node: Node) -> None:
    """The host's veth says in its alias whose it is."""
    pod = Network(node).attach("web", ifname="net1")
    assert link(node, pod.host_ifname)["ifalias"] == "pycni: net/web/net1"


@pytest.mark.parametrize("keys", [{"ipam": {}}, {"ipam": None}, {"ipam": {"type": ""}}])
def test_layer_2_only(node: Node, keys: Any) -> None:
    """Without an IPAM plugin ADD, CHECK and DEL call none, and the link is up."""
    network = Network(node, **keys)
    pod = network.attach(CNI_PATH=None)
    assert not pod.result.keys() & {"ips", "routes"}
    assert link(node, "eth0", pod.netns)["operstate"] == "UP"
    assert addresses(node, "br0") == []
    assert network.check(pod).ok
    assert network.delete(CNI_PATH=None).ok
    assert remains(node) == []


def test_interface_that_stays_down(node: Node) -> None:
    """disableContainerInterface leaves the container's interface down; CHECK wants no more."""
    network = Network(node, ipam={}, disableContainerInterface=True)
    pod = network.attach()
    assert "UP" not in link(node, "eth0", pod.netns)["flags"]
    assert network.check(pod).ok


def test_mtu(node: Node) -> None:
    """The bridge and both ends of the pair get the MTU."""
    pod = Network(node, mtu=1400).attach()
    assert link(node, "br0")["mtu"] == 1400
    assert link(node, pod.host_ifname)["mtu"] == 1400
    assert link(node, "eth0", pod.netns)["mtu"] == 1400


@pytest.mark.parametrize("wanted", [True, False])
def test_port_flags(node: Node, *, wanted: bool) -> None:
    """hairpinMode and portIsolation are the port's, and off if not asked for."""
    keys = {"hairpinMode": True, "portIsolation": True} if wanted else {}
    port = link(node, Network(node, **keys).attach().host_ifname)["linkinfo"]["info_slave_data"]
    assert (port["hairpin"], port["isolated"]) == (wanted, wanted)


@pytest.mark.parametrize("wanted", [True, False])
def test_promiscuous(node: Node, *, wanted: bool) -> None:
    """promiscMode sets the bridge's flag, also on a bridge that is there already."""
    Network(node, promiscMode=False).attach("a")
    Network(node, promiscMode=wanted).attach("b")
    assert ("PROMISC" in link(node, "br0")["flags"]) == wanted


@pytest.mark.parametrize(
    ("given", "winner"),
    [
        (["in_args"], "in_args"),
        (["in_args", "in_config"], "in_config"),
        (["in_args", "in_config", "from_runtime"], "from_runtime"),
    ],
)
def test_mac(node: Node, given: list[str], winner: str) -> None:
    """A MAC comes from CNI_ARGS, args.cni or runtimeConfig, and the last of these counts."""
    macs = {source: MACS[source] for source in given}
    network = Network(
        node,
        args={"cni": {"mac": macs.get("in_config", "")}},
        runtimeConfig={"mac": macs.get("from_runtime", "")},
    )
    pod = network.attach(args=f"IgnoreUnknown=1;MAC={macs['in_args']}")
    assert pod.mac == MACS[winner]
    assert link(node, "eth0", pod.netns)["address"] == MACS[winner]


def test_macs_of_their_own(node: Node) -> None:
    """Without one that is asked for, each interface has its own local unicast MAC."""
    network = Network(node)
    documents = [network.attach(name).result["interfaces"] for name in "ab"]
    macs = {interface["mac"] for interfaces in documents for interface in interfaces}
    assert len(macs) == 5
    assert {int(mac[:2], 16) & 3 for mac in macs} == {2}


def test_bridges_mac_is_fixed(node: Node) -> None:
    """The bridge keeps its MAC as ports come and go."""
    network = Network(node)
    mac = network.attach("a").result["interfaces"][0]["mac"]
    network.config["runtimeConfig"] = {"mac": "02:00:00:00:00:01"}
    network.attach("b")
    node.run("ip", "link", "add", "low", "address", "02:00:00:00:00:02", "type", "veth")
    node.run("ip", "link", "set", "low", "master", "br0")
    network.delete("a")
    network.delete("b")
    assert link(node, "br0")["address"] == mac


# Bridges that somebody else made, whose MAC nobody has set.
_BRIDGES = {
    "without ports": "ip link add br0 type bridge",
    "with an uplink": """
        ip link add br0 type bridge
        ip link add uplink address fe:ff:ff:ff:ff:01 master br0 type veth peer name far
        ip link set uplink up; ip link set far up; ip link set br0 up
    """,
}


@pytest.mark.parametrize("gateway", [True, False])
@pytest.mark.parametrize("script", _BRIDGES.values(), ids=_BRIDGES)
def test_mac_of_a_bridge_that_was_there(node: Node, script: str, gateway: bool) -> None:
    """A bridge that somebody else made keeps its MAC, and the result has it."""
    node.run("sh", "-ec", script)
    before = link(node, "br0")["address"]
    network = Network(node, isDefaultGateway=gateway)
    assert network.attach("a").result["interfaces"][0]["mac"] == before
    network.config["runtimeConfig"] = {"mac": "02:00:00:00:00:01"}
    network.attach("b")
    network.delete("a")
    assert link(node, "br0")["address"] == before


def test_two_interfaces(node: Node) -> None:
    """A container may have an interface on each of two networks, and two on the same."""
    netns = node.add_netns("a")
    ipam = {"type": "host-local", "subnet": "10.23.0.0/24"}
    other = Network(node, name="other", bridge="br1", ipam=ipam, isDefaultGateway=False)
    for network, ifname in ((Network(node), "eth0"), (other, "eth1"), (other, "eth2")):
        network.attach(netns=netns, ifname=ifname)
    assert addresses(node, "eth2", netns) == ["10.23.0.3/24"]
    assert other.delete(ifname="eth1").ok
    names = {found["ifname"] for found in node.json("ip", "-j", "link", netns=netns)}
    assert names == {"lo", "eth0", "eth2"}


def test_default_bridge(node: Node) -> None:
    """A bridge that is not named is cni0."""
    network = Network(node)
    del network.config["bridge"]
    assert network.attach().result["interfaces"][0]["name"] == "cni0"


# The node's parameters


def test_no_router_advertisements(node: Node) -> None:
    """accept_ra and autoconf are off in the container and on the bridge."""
    pod = Network(node).attach()
    for ifname, netns in (("eth0", pod.netns), ("br0", None)):
        for parameter in ("accept_ra", "autoconf"):
            assert sysctl(node, f"net/ipv6/conf/{ifname}/{parameter}", netns) == "0"


def test_no_addresses_on_a_port(node: Node) -> None:
    """The container's port has no IPv6 address of its own, nor routes; IPv6 passes through it."""
    pod = Network(node, ipam=DUAL).attach()
    (port,) = node.json("ip", "-j", "address", "show", "dev", pod.host_ifname)
    assert port["addr_info"] == []
    assert pod.host_ifname not in str(node.json("ip", "-j", "-6", "route", "show", "table", "all"))
    node.run("ping", "-6", "-c", "1", "-W", "5", pod.ipv6)


def test_no_router_advertisements_on_a_bridge_that_was_there(node: Node) -> None:
    """They are refused as well on a bridge that somebody else made and set up."""
    node.run("sh", "-ec", "ip link add br0 type bridge; ip link set br0 up")
    Network(node).attach()
    assert sysctl(node, "net/ipv6/conf/br0/accept_ra") == "0"


@pytest.mark.parametrize(
    ("ipam", "forwarding"), [(IPV4, ("1", "0")), (IPV6, ("0", "1")), (DUAL, ("1", "1"))]
)
def test_forwarding(node: Node, ipam: Any, forwarding: tuple[str, str]) -> None:
    """A gateway forwards, and only what its networks use."""
    Network(node, ipam=ipam).attach()
    names = ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding")
    assert tuple(sysctl(node, name) for name in names) == forwarding


def test_no_forwarding(node: Node) -> None:
    """A bridge that is no gateway has no address, and the node does not forward for it."""
    Network(node, isDefaultGateway=False, ipMasq=False).attach()
    assert addresses(node, "br0") == []
    assert sysctl(node, "net/ipv4/ip_forward") == "0"
    assert sysctl(node, "net/ipv6/conf/all/forwarding") == "0"


def test_own_procfs(node: Node) -> None:
    """Parameters are not looked up at /proc, where that takes longer with each container."""
    node.run("mount", "-t", "tmpfs", "tmpfs", "/proc/sys/net")
    pod = Network(node, ipam=DUAL).attach()
    node.run("umount", "/proc/sys/net")
    assert sysctl(node, "net/ipv6/conf/eth0/accept_ra", pod.netns) == "0"
    assert sysctl(node, "net/ipv4/ip_forward") == "1"


def make_parameters_read_only(node: Node) -> None:
    node.run("mount", "--bind", "/proc/sys", "/proc/sys")
    node.run("mount", "-o", "remount,ro,bind", "/proc/sys")


def test_read_only_sysctls(node: Node) -> None:
    """Where kernel parameters are read-only, IPv4 does without setting any."""
    node.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
    make_parameters_read_only(node)
    pod = Network(node, ipam=IPV4).attach()
    assert addresses(node, "eth0", pod.netns) == ["10.22.0.2/24"]
    assert sysctl(node, "net/ipv6/conf/eth0/accept_ra", pod.netns) == "1"


def test_absent_ipv6(node: Node) -> None:
    """Where the kernel has no IPv6 parameters, IPv4 does without them."""
    node.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
    make_parameters_read_only(node)  # only then they are looked up where a test can hide some
    node.run("mount", "-t", "tmpfs", "tmpfs", "/proc/sys/net/ipv6")
    pod = Network(node, ipam=IPV4).attach()
    assert addresses(node, "eth0", pod.netns) == ["10.22.0.2/24"]


def test_ipv6_that_cannot_be_switched_on(node: Node) -> None:
    """An IPv6 address where IPv6 is off and cannot be switched on is an error, rolled back."""
    netns = node.add_netns("a")
    switch = "echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6"
    node.run("sh", "-c", switch, netns=netns)
    make_parameters_read_only(node)
    answer = Network(node, ipam=IPV6).add(netns=netns)
    assert answer.document["code"] == 5
    assert "/proc/sys/net/ipv6/conf/eth0/disable_ipv6" in str(answer.document)
    assert remains(node) == []


def test_ipv6_is_switched_on(node: Node) -> None:
    """Where a container starts without IPv6, ADD of an IPv6 address switches it on, also in lo."""
    netns = node.add_netns("a")
    switch = "for i in default lo; do echo 1 > /proc/sys/net/ipv6/conf/$i/disable_ipv6; done"
    node.run("sh", "-c", switch, netns=netns)
    pod = Network(node, ipam=IPV6).attach(netns=netns)
    assert addresses(node, "eth0", pod.netns) == ["fd00:22::2/64"]
    assert sysctl(node, "net/ipv6/conf/lo/disable_ipv6", netns) == "0"


def test_ipv6_addresses_stay(node: Node) -> None:
    """Setting the container's interface down and up again takes no address away."""
    pod = Network(node, ipam=DUAL).attach()
    for state in ("down", "up"):
        node.run("ip", "link", "set", "eth0", state, netns=pod.netns)
    assert addresses(node, "eth0", pod.netns) == ["10.22.0.2/24", "fd00:22::2/64"]


# The request


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"mtu": "1500"}, ['mtu: "1500" is not allowed', "68 to 65535"]),
        ({"mtu": 67}, ["mtu: 67", "68 to 65535"]),
        ({"isGateway": 1}, ["isGateway: 1", "true or false"]),
        ({"bridge": "a/b"}, ["bridge:", "without '/'"]),
        ({"ipam": {"type": "../host-local"}}, ["ipam.type:", "without '/'"]),
        ({"runtimeConfig": {"mac": "nonsense"}}, ["runtimeConfig.mac:", "a MAC address"]),
        ({"args": {"cni": {"mac": "01:00:00:00:00:01"}}}, ["args.cni.mac:", "a MAC address"]),
        ({"dns": {"nameservers": "192.0.2.1"}}, ["dns.nameservers:", "a list"]),
        ({"hairpinMode": True, "promiscMode": True}, ["hairpinMode", "promiscMode is true"]),
        ({"disableContainerInterface": True}, ["disableContainerInterface", "ipam.type"]),
        ({"name": ""}, ["name: missing"]),
    ],
)
def test_invalid_configuration(node: Node, keys: Any, words: list[str]) -> None:
    """A wrong value is refused with code 7, its key's path and what is allowed."""
    answer = Network(node, **keys).add()
    assert (answer.code, answer.document["code"]) == (1, 7)
    said = f"{answer.document['msg']} {answer.document['details']}"
    assert all(word in said for word in words), said
    assert remains(node) == []


@pytest.mark.parametrize("args", ["MAC=nonsense", "K8S_POD_NAME=web", "MAC"])
def test_invalid_args(node: Node, args: str) -> None:
    """CNI_ARGS that are malformed, or unknown without IgnoreUnknown, are refused with code 4."""
    answer = Network(node, ipam={}).add(args=args)
    assert (answer.code, answer.document["code"]) == (1, 4)
    assert args.partition("=")[0] in answer.document["msg"]


def test_keys_in_any_case(node: Node) -> None:
    """Keys count without regard to case, the IPAM plugin's as well, and others are ignored."""
    network = Network(node, MTU=1400, HairpinMode=True, ipam={}, color="blue")
    network.config["IPAM"] = {"Type": "host-local", "SUBNET": "10.22.0.0/24"}
    del network.config["ipam"]
    pod = network.attach()
    assert pod.ipv4 == "10.22.0.2"
    assert link(node, "eth0", pod.netns)["mtu"] == 1400


def test_no_path_to_ipam(node: Node) -> None:
    """Without CNI_PATH the IPAM plugin cannot be found, which is said with code 4."""
    answer = Network(node).add(CNI_PATH=None)
    assert answer.document["code"] == 4
    assert "CNI_PATH" in answer.document["msg"]
    assert remains(node) == []


def test_unknown_ipam(node: Node) -> None:
    """An IPAM plugin that is not on CNI_PATH is named."""
    answer = Network(node, ipam={"type": "nobody"}).add()
    assert answer.document["code"] == 7
    assert "nobody" in answer.document["msg"]


@pytest.mark.parametrize("verb", ["ADD", "CHECK"])
def test_nodes_own_namespace(node: Node, verb: str) -> None:
    """The node's own namespace is refused with code 8 before anything is touched."""
    config = Network(node).config | {"prevResult": {"cniVersion": "1.1.0"}}
    answer = node.cni(verb, "bridge", config, netns="/proc/self/ns/net")
    assert answer.document["code"] == 8
    assert remains(node) == []
    assert [found["ifname"] for found in node.json("ip", "-j", "link")] == ["lo"]


@pytest.mark.parametrize("override", ["1", "true"])
def test_nodes_own_namespace_on_request(node: Node, override: str) -> None:
    """CNI_NETNS_OVERRIDE allows the node's own namespace."""
    network = Network(node, isDefaultGateway=False, ipMasq=False)
    own = "/proc/self/ns/net"
    network.attach(netns=own, ifname="own0", CNI_NETNS_OVERRIDE=override)
    assert addresses(node, "own0") == ["10.22.0.2/24", "fd00:22::2/64"]
    assert network.delete(netns=own, ifname="own0", CNI_NETNS_OVERRIDE=override).ok
    assert remains(node) == []


@pytest.mark.parametrize("netns", ["/run/netns/gone", "/etc/hostname"])
def test_no_namespace(node: Node, netns: str) -> None:
    """A path that leads to no namespace is named, and nothing is left."""
    answer = Network(node).add(netns=netns)
    assert answer.document["code"] == 4
    assert netns in answer.document["msg"]
    assert remains(node) == []


def test_check_without_a_result(node: Node) -> None:
    """CHECK without prevResult is refused with code 7."""
    answer = node.cni("CHECK", "bridge", Network(node).config, netns=node.add_netns("a"))
    assert answer.document["code"] == 7
    assert "prevResult" in answer.document["msg"]


def test_check_before_0_4_0(node: Node) -> None:
    """A version that does not have CHECK is told so with code 1."""
    network = Network(node, cniVersion="0.3.1")
    answer = network.check(network.attach())
    assert answer.document["code"] == 1
    assert "CHECK" in answer.document["msg"]


@pytest.mark.parametrize("delegation", ["in one process", "by exec"])
def test_nothing_for_others_to_write(node: Node, tmp_path: Path, delegation: str) -> None:
    """A runtime's umask of 0 makes nothing that other users may write."""
    wrapped = tmp_path / "bin"
    for name in ("bridge", "host-local", "portmap"):
        write_plugin(wrapped, name, f"umask 0\nexec {node.bin_dir}/{name}")
    path = str(wrapped if delegation == "by exec" else node.bin_dir)
    network = Network(node)
    pod = network.attach(path=wrapped, CNI_PATH=path)
    ports = {"portMappings": [{"hostPort": 8080, "containerPort": 80}]}
    config = network.config | {"runtimeConfig": ports, "prevResult": pod.result}
    assert node.cni("ADD", "portmap", config, "a", pod.netns, path=wrapped).ok
    found = node.run("find", "/run/cni", "/var/lib/cni", "-perm", "-o+w", "!", "-type", "l")
    assert found.stdout == ""
