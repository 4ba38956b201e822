"""VLANs of a bridge, seen by packets. They need a kernel that can filter: scripts/test-kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.kernel import VLAN_FILTERING
from tests.support.network import IPV4, Network, addresses, link, remains
from tests.support.node import Node
from tests.support.pod import Pod

pytestmark = pytest.mark.kernel(VLAN_FILTERING)


@pytest.fixture
def network(node: Node) -> Network:
    return vlan(node)


def vlan(node: Node, **keys: Any) -> Network:
    """A network in VLAN 100, with a gateway there."""
    defaults = {"vlan": 100, "ipMasq": False, "ipam": IPV4}
    return Network(node, **(defaults | keys))


def layer_2(node: Node, **keys: Any) -> Network:
    """A network without addresses."""
    return vlan(node, ipam={}, isDefaultGateway=False, **keys)


def can_reach(node: Node, pod: Pod, address: str, count: int = 2) -> bool:
    """Whether it answers; the first echo request may be lost to a neighbour that is slow."""
    command = ("ping", "-c", str(count), "-i0.2", "-W2", address)
    return node.run(*command, netns=pod.netns, check=False).returncode == 0


def vlans(node: Node, name: str) -> dict[int, list[str]]:
    """The VLANs of a port, and the flags of each."""
    found = node.json("bridge", "-j", "vlan", "show", "dev", name)
    return {item["vlan"]: item.get("flags", []) for port in found for item in port["vlans"]}


def tag(node: Node, pod: Pod, vid: int, address: str) -> None:
    """Have the container send and take frames of a VLAN with tags."""
    name = f"eth0.{vid}"
    script = f"""
    ip link add link eth0 name {name} type vlan id {vid}
    ip link set {name} up
    ip address add {address}/24 dev {name}
    """
    node.run("sh", "-ec", script, netns=pod.netns)


NATIVE = ["PVID", "Egress Untagged"]


# Packets


def test_isolation(network: Network, node: Node) -> None:
    """Containers of one VLAN reach each other; one of another VLAN on the same bridge does not."""
    first, second = network.attach("a"), network.attach("b")
    other = vlan(node, vlan=200, isDefaultGateway=False).attach("c")
    assert can_reach(node, first, second.ipv4)
    assert not can_reach(node, other, second.ipv4)
    assert not can_reach(node, other, first.ipv4)
    assert vlans(node, first.host_ifname) == {100: NATIVE}
    assert vlans(node, other.host_ifname) == {200: NATIVE}


def test_beside_a_network_without(network: Network, node: Node) -> None:
    """Nor does one without a VLAN, whose gateway is the bridge itself; that one it does reach."""
    pod = network.attach("a")
    ipam = {"type": "host-local", "subnet": "10.33.0.0/24"}
    plain = Network(node, name="plain", ipMasq=False, ipam=ipam).attach("b")
    node.run("ip", "address", "add", "10.22.0.99/24", "dev", "eth0", netns=plain.netns)
    assert can_reach(node, plain, "10.33.0.1")
    assert not can_reach(node, plain, pod.ipv4)


def test_gateway(network: Network, node: Node) -> None:
    """The node is a gateway in the VLAN by an interface of its own, which the result names."""
    pod = network.attach()
    assert can_reach(node, pod, "10.22.0.1")
    assert addresses(node, "br0.100") == ["10.22.0.1/24"]
    assert addresses(node, "br0") == []
    gateway = {"name": "br0.100", "mac": link(node, "br0.100")["address"]}
    assert pod.result["interfaces"][3] == gateway
    assert [ip["interface"] for ip in pod.result["ips"]] == [2]


def test_gateways_of_two_vlans(network: Network, node: Node) -> None:
    """Each VLAN has a gateway of its own, and the node routes between them."""
    first = network.attach("a")
    ipam = {"type": "host-local", "ranges": [[{"subnet": "10.33.0.0/24"}]]}
    second = vlan(node, name="other", vlan=200, ipam=ipam, mtu=1400).attach("b")
    assert can_reach(node, first, second.ipv4)
    assert addresses(node, "br0.200") == ["10.33.0.1/24"]
    assert link(node, "eth0", second.netns)["mtu"] == 1400


def test_trunk(node: Node) -> None:
    """A trunk's container sends and gets frames of its VLANs with tags, and those of no other."""
    trunk = layer_2(node, vlan=0, vlanTrunk=[{"id": 100}, {"minID": 200, "maxID": 205}]).attach("t")
    pods = {
        vid: vlan(node, vlan=vid, isDefaultGateway=False).attach(f"p{vid}") for vid in (100, 300)
    }
    tag(node, trunk, 100, "10.22.0.100")
    assert can_reach(node, trunk, pods[100].ipv4)
    tag(node, trunk, 300, "10.22.0.103")
    node.run("ip", "link", "set", "eth0.100", "down", netns=trunk.netns)
    assert not can_reach(node, trunk, pods[300].ipv4)
    found = vlans(node, trunk.host_ifname)
    assert found == {1: NATIVE} | {vid: [] for vid in (100, *range(200, 206))}


# The port's VLANs


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"preserveDefaultVlan": True}, {1: ["Egress Untagged"], 100: NATIVE}),
        ({"vlanTrunk": [{"minID": 99, "maxID": 101}]}, {99: [], 100: NATIVE, 101: []}),
        ({"vlan": 4094, "vlanTrunk": [{"id": 1}]}, {1: [], 4094: NATIVE}),
        ({"vlan": 0, "vlanTrunk": []}, {1: NATIVE}),
    ],
)
def test_port(node: Node, keys: Any, expected: Any) -> None:
    """The port's native VLAN is `vlan`; the default one goes unless it is kept."""
    network = layer_2(node, **keys)
    pod = network.attach()
    assert vlans(node, pod.host_ifname) == expected
    assert link(node, "br0")["linkinfo"]["info_data"]["vlan_filtering"] == 1
    assert network.check(pod).ok


def test_many(node: Node) -> None:
    """Every VLAN at once, and as many ranges as there can be."""
    everything = [{"minID": 1, "maxID": 4094}]
    even = [{"id": vid} for vid in range(2, 4095, 2)]
    for name, trunk, number in (("a", everything, 4094), ("b", even, 2048)):
        network = layer_2(node, vlan=0, vlanTrunk=trunk)
        pod = network.attach(name)
        assert len(vlans(node, pod.host_ifname)) == number
        assert network.check(pod).ok


def test_bridge_that_was_there(network: Network, node: Node) -> None:
    """A bridge that did not filter does so from then on, and its ports are in its default VLAN."""
    ipam = {"type": "host-local", "subnet": "10.33.0.0/24"}
    plain = Network(node, name="plain", ipMasq=False, ipam=ipam)
    first, second = plain.attach("a"), plain.attach("b")
    network.attach("c")
    assert link(node, "br0")["linkinfo"]["info_data"]["vlan_filtering"] == 1
    assert can_reach(node, first, second.ipv4)
    assert plain.check(first).ok


# The other verbs


# Each damage, how it is undone, and what CHECK says in between.
DAMAGES = [
    (
        "bridge vlan delete vid 100 dev {port}",
        "bridge vlan add vid 100 dev {port} pvid untagged",
        "{port} is not in the native VLAN 100",
    ),
    (
        "bridge vlan add vid 100 dev {port}",
        "bridge vlan add vid 100 dev {port} pvid untagged",
        "{port} is not in the native VLAN 100",
    ),
    (
        "bridge vlan delete vid 205 dev {port}",
        "bridge vlan add vid 205 dev {port}",
        "{port} is not in the VLAN 205, tagged",
    ),
    (
        "ip link set br0 type bridge vlan_filtering 0",
        "ip link set br0 type bridge vlan_filtering 1",
        "br0 does not filter VLANs",
    ),
    (
        "ip link set br0.100 down",
        "ip link set br0.100 up",
        "the gateway br0.100 is down",
    ),
    (
        "ip address delete 10.22.0.1/24 dev br0.100",
        "ip address add 10.22.0.1/24 dev br0.100",
        "br0.100 lacks the address 10.22.0.1/24",
    ),
    (
        "ip link set br0.100 down; ip link set br0.100 name gone",
        "ip link set gone name br0.100; ip link set br0.100 up",
        "the gateway br0.100 is missing",
    ),
]


def test_check(network: Network, node: Node) -> None:
    """CHECK names what is wrong with the VLANs, and passes while nothing is."""
    network.config["vlanTrunk"] = [{"minID": 200, "maxID": 210}]
    pod = network.attach()
    assert network.check(pod).ok
    for damage, repair, words in DAMAGES:
        node.run("sh", "-ec", damage.format(port=pod.host_ifname))
        answer = network.check(pod)
        assert answer.document["code"] == 100
        assert words.format(port=pod.host_ifname) in answer.document["msg"]
        node.run("sh", "-ec", repair.format(port=pod.host_ifname))
    assert network.check(pod).ok


def test_delete(network: Network, node: Node) -> None:
    """DEL takes a port with its VLANs along; the gateway stays, as the bridge does."""
    network.attach("a")
    pod = network.attach("b")
    assert [network.delete("a").ok, network.delete("a").ok] == [True, True]
    assert network.check(pod).ok
    assert network.delete("b").ok
    ports = {item["ifname"]: list(vlans(node, item["ifname"])) for item in ports_of(node)}
    assert list(ports.values()) == [[100]]
    again = network.attach("c")
    assert can_reach(node, again, "10.22.0.1")
    assert len(ports_of(node)) == 2


def ports_of(node: Node) -> Any:
    return node.json("ip", "-j", "link", "show", "master", "br0")


def test_parallel_first_adds(network: Network, node: Node) -> None:
    """Of parallel first ADDs all go well, and share bridge and gateway."""
    for name in "abc":
        node.add_netns(name)
    processes = [network.start("ADD", name) for name in "abc"]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert len(ports_of(node)) == 4


def test_gateway_that_was_left_unfinished(network: Network, node: Node) -> None:
    """What a killed ADD left of a gateway, the next one completes."""
    network.attach("a")
    port = next(item["ifname"] for item in ports_of(node) if item.get("link") == "br0.100")
    node.run("sh", "-ec", f"bridge vlan delete vid 100 dev {port}; ip link set br0.100 down")
    assert can_reach(node, network.attach("b"), "10.22.0.1")


def _fail_late(network: Network) -> Callable[[], None]:
    before = network.config["ipam"]
    route = {"dst": "198.51.100.0/24", "gw": "203.0.113.1"}
    network.config["ipam"] = {**IPV4, "routes": [route]}
    return lambda: network.config.update(ipam=before)


def test_rollback(network: Network, node: Node) -> None:
    """An ADD that fails late takes gateway and bridge away again if it made them."""
    restore = _fail_late(network)
    assert not network.add("a").ok
    assert [item["ifname"] for item in node.json("ip", "-j", "link")] == ["lo"]
    assert remains(node) == []
    restore()
    assert can_reach(node, network.attach("b"), "10.22.0.1")


def test_rollback_beside_another(network: Network, node: Node) -> None:
    """It leaves them if they were there, or if there is only another VLAN's."""
    pod = network.attach("a")
    _fail_late(network)
    assert not network.add("b").ok
    assert can_reach(node, pod, "10.22.0.1")
    network.config["vlan"] = 200
    assert not network.add("c").ok
    names = {item["ifname"] for item in node.json("ip", "-j", "link")}
    assert ("br0.100" in names, "br0.200" in names) == (True, False)


def test_macspoofchk(network: Network, node: Node) -> None:
    """MACs are checked in a VLAN as well."""
    network.config["macspoofchk"] = True
    pod = network.attach("a")
    assert can_reach(node, pod, "10.22.0.1")
    node.run("ip", "link", "set", "eth0", "address", "02:00:00:00:00:99", netns=pod.netns)
    assert not can_reach(node, pod, "10.22.0.1")


def test_status(network: Network, node: Node) -> None:
    """STATUS says yes, also on a node that never had a bridge, and leaves nothing."""
    nobody: dict[str, Any] = dict.fromkeys(("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"))
    answer = node.cni("STATUS", "bridge", network.config, **nobody)
    assert (answer.code, answer.document) == (0, None)
    assert [item["ifname"] for item in node.json("ip", "-j", "link")] == ["lo"]
