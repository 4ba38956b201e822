"""Addresses, gateways and routes, on the bridge and in the container."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.network import (
    DUAL,
    IPV4,
    IPV6,
    Network,
    SlowIpam,
    addresses,
    link,
    remains,
    routes,
    write_plugin,
)
from tests.support.node import Node
from tests.support.pod import Pod

V4_DEFAULT = ("default", "10.22.0.1")
V6_DEFAULT = ("default", "fd00:22::1")


def ways(node: Node, family: str, netns: str) -> list[tuple[str, str | None]]:
    """Routes of a container, each as destination and gateway."""
    return [(route["dst"], route.get("gateway")) for route in routes(node, family, netns)]


# The bridge plugin, when others add and address the bridge between its looking and its doing. The
# addresses that it has seen are its arguments.
_TOO_LATE = """
import sys
from ipaddress import ip_interface
from cni.net.netlink.route import Address, Netlink
from cni_plugins.bridge.main import main

find_link, seen = Netlink.find_link, set()

def find_link_too_late(netlink, name):
    is_first = name not in seen
    seen.add(name)
    return None if name == "br0" and is_first else find_link(netlink, name)

Netlink.find_link = find_link_too_late
Netlink.addresses = lambda *_: [Address(ip_interface(a), False, False) for a in sys.argv[1:]]
main()
"""


def attach_at_once(network: Network, names: str, directory: Path) -> list[Pod]:
    """Attach pods that have all got their addresses before the first goes on."""
    ipam = SlowIpam(network.node, directory, "ADD")
    with ThreadPoolExecutor(len(names)) as pool:
        pods = [pool.submit(network.attach, name, **ipam.environ) for name in names]
        try:
            ipam.wait(len(names))
        finally:
            ipam.go()
        return [pod.result() for pod in pods]


def flags(node: Node, netns: str) -> set[str]:
    """The flags of eth0's global IPv6 addresses."""
    (eth0,) = node.json("ip", "-j", "-6", "address", "show", "dev", "eth0", netns=netns)
    infos = [info for info in eth0["addr_info"] if info["scope"] == "global"]
    return {name for info in infos for name, value in info.items() if value is True}


# Families


@pytest.mark.parametrize(
    ("ipam", "inside", "gateways", "defaults"),
    [
        (IPV4, ["10.22.0.2/24"], ["10.22.0.1/24"], [V4_DEFAULT]),
        (IPV6, ["fd00:22::2/64"], ["fd00:22::1/64"], [V6_DEFAULT]),
        (
            DUAL,
            ["10.22.0.2/24", "fd00:22::2/64"],
            ["10.22.0.1/24", "fd00:22::1/64"],
            [V4_DEFAULT, V6_DEFAULT],
        ),
    ],
)
def test_families(node: Node, ipam: Any, inside: Any, gateways: Any, defaults: Any) -> None:
    """IPv4, IPv6 or both: the container has the addresses, the bridge is its default gateway."""
    network = Network(node, ipam=ipam)
    pod = network.attach()
    assert addresses(node, "eth0", pod.netns) == inside
    assert addresses(node, "br0") == gateways
    assert [way for family in ("-4", "-6") for way in ways(node, family, pod.netns)] == defaults
    assert network.check(pod).ok
    for gateway in gateways:
        node.run("ping", "-c1", "-W2", gateway.split("/")[0], netns=pod.netns)


def test_no_wait_for_duplicates(node: Node) -> None:
    """IPv6 addresses can be used as soon as ADD is over."""
    pod = Network(node).attach()
    assert flags(node, pod.netns) == {"nodad"}


def test_duplicate_address_detection(node: Node) -> None:
    """With enabledad, ADD ends when the address has passed duplicate address detection."""
    pod = Network(node, enabledad=True).attach()
    assert flags(node, pod.netns) == set()


def test_duplicate_address(node: Node) -> None:
    """With enabledad, an address that a neighbour has makes ADD fail, and nothing is left."""
    network = Network(node, enabledad=True, ipam=IPV6)
    neighbour = Network(node, name="other", ipam={}).attach("b")
    before = remains(node)
    duplicate = ("address", "add", "fd00:22::2/64", "dev", "eth0", "nodad")
    node.run("ip", *duplicate, netns=neighbour.netns)
    answer = network.add()
    assert answer.code == 1
    assert "fd00:22::2 is in use" in answer.document["msg"]
    assert remains(node) == before


# Gateways


def test_gateway_without_default_route(node: Node) -> None:
    """isGateway addresses the bridge and adds no route."""
    network = Network(node, isDefaultGateway=False, isGateway=True, ipMasq=False)
    pod = network.attach()
    assert addresses(node, "br0") == ["10.22.0.1/24", "fd00:22::1/64"]
    assert ways(node, "-4", pod.netns) + ways(node, "-6", pod.netns) == []
    assert [ip["gateway"] for ip in pod.result["ips"]] == ["10.22.0.1", "fd00:22::1"]


def test_gateway_of_ipam(node: Node) -> None:
    """A gateway that IPAM names is the bridge's address and the default route's."""
    pod = Network(node, ipam=IPV4 | {"gateway": "10.22.0.99"}).attach()
    assert addresses(node, "br0") == ["10.22.0.99/24"]
    assert ways(node, "-4", pod.netns) == [("default", "10.22.0.99")]


def test_default_route_of_ipam(node: Node) -> None:
    """A default route with a gateway of its own stays the only one of its family."""
    ipam = DUAL | {"routes": [{"dst": "0.0.0.0/0", "gw": "10.22.0.254"}]}
    pod = Network(node, ipam=ipam).attach()
    assert ways(node, "-4", pod.netns) == [("default", "10.22.0.254")]
    assert ways(node, "-6", pod.netns) == [V6_DEFAULT]


def test_two_subnets_of_a_family(node: Node) -> None:
    """The bridge gets a gateway in each subnet; the first is the default route's."""
    ranges = [[{"subnet": "10.22.0.0/24"}], [{"subnet": "10.23.0.0/24"}]]
    network = Network(node, ipam={"type": "host-local", "ranges": ranges})
    pods = [network.attach(name) for name in "ab"]
    assert addresses(node, "br0") == ["10.22.0.1/24", "10.23.0.1/24"]
    assert addresses(node, "eth0", pods[1].netns) == ["10.22.0.3/24", "10.23.0.3/24"]
    assert ways(node, "-4", pods[1].netns) == [V4_DEFAULT]
    assert all(network.check(pod).ok for pod in pods)


def test_conflicting_address(node: Node) -> None:
    """A bridge with another IPv4 address is refused with what to do, and nothing is left."""
    node.run("ip", "link", "add", "br0", "type", "bridge")
    node.run("ip", "address", "add", "192.168.7.1/24", "dev", "br0")
    answer = Network(node).add()
    said = f"{answer.document['msg']} {answer.document['details']}"
    assert "already has an IP address different from" in said
    assert "ip address delete 192.168.7.1/24 dev br0" in said
    assert "forceAddress" in said
    assert addresses(node, "br0") == ["192.168.7.1/24"]
    assert remains(node) == []


@pytest.mark.parametrize("present", ["192.168.7.1/24", "10.22.0.9/24", "10.22.0.1/16"])
def test_force_address(node: Node, present: str) -> None:
    """forceAddress replaces another IPv4 address of the bridge."""
    node.run("ip", "link", "add", "br0", "type", "bridge")
    node.run("ip", "address", "add", present, "dev", "br0")
    Network(node, ipam=IPV4, forceAddress=True).attach()
    assert addresses(node, "br0") == ["10.22.0.1/24"]


@pytest.mark.parametrize(
    ("present", "fits"), [("fd00:99::1/64", True), ("fd00:22::99/64", False), ("fd00::1/16", False)]
)
def test_ipv6_address_beside_others(node: Node, present: str, *, fits: bool) -> None:
    """A bridge may have IPv6 addresses of several subnets that do not overlap."""
    node.run("ip", "link", "add", "br0", "type", "bridge")
    node.run("ip", "address", "add", present, "dev", "br0", "nodad")
    answer = Network(node, ipam=IPV6).add()
    assert answer.ok == fits
    assert ("fd00:22::1/64" in addresses(node, "br0")) == fits


def test_ip_address_of_a_bridge_that_is_no_gateway(node: Node) -> None:
    """Without isGateway the bridge's addresses are left alone."""
    node.run("ip", "link", "add", "br0", "type", "bridge")
    node.run("ip", "address", "add", "192.168.7.1/24", "dev", "br0")
    Network(node, isDefaultGateway=False, ipMasq=False, forceAddress=True).attach()
    assert addresses(node, "br0") == ["192.168.7.1/24"]


def test_parallel_first_adds(node: Node, tmp_path: Path) -> None:
    """Of ten ADDs at once on a fresh node all succeed, on one bridge, with their own addresses."""
    network = Network(node)
    pods = attach_at_once(network, "abcdefghij", tmp_path / "bin")
    assert len({pod.ipv4 for pod in pods} | {pod.ipv6 for pod in pods}) == 20
    assert {pod.result["interfaces"][0]["mac"] for pod in pods} == {link(node, "br0")["address"]}
    assert {link(node, pod.host_ifname)["master"] for pod in pods} == {"br0"}
    assert addresses(node, "br0") == ["10.22.0.1/24", "fd00:22::1/64"]
    assert all(network.check(pod).ok for pod in pods)


@pytest.mark.parametrize("seen", ["", "10.22.0.9/24"])
def test_first_add_that_is_too_late(node: Node, tmp_path: Path, seen: str) -> None:
    """An ADD goes on if others make or address the bridge, or free it of an address, just then."""
    network = Network(node, forceAddress=True)
    first = network.attach("a")
    write_plugin(tmp_path / "bin", "bridge", f"exec {sys.executable} -Ic '{_TOO_LATE}' {seen}")
    netns, environ = node.add_netns("b"), {"CNI_PATH": str(node.bin_dir)}
    answer = node.cni("ADD", "bridge", network.config, "b", netns, path=tmp_path / "bin", **environ)
    assert answer.ok, answer
    assert answer.document["interfaces"][0] == first.result["interfaces"][0]
    assert addresses(node, "br0") == ["10.22.0.1/24", "fd00:22::1/64"]


def test_parallel_force_address(node: Node, tmp_path: Path) -> None:
    """Of ten ADDs at once that all have to replace the bridge's address all succeed."""
    node.run("ip", "link", "add", "br0", "type", "bridge")
    node.run("ip", "address", "add", "10.22.0.9/24", "dev", "br0")
    network = Network(node, forceAddress=True)
    pods = attach_at_once(network, "abcdefghij", tmp_path / "bin")
    assert addresses(node, "br0") == ["10.22.0.1/24", "fd00:22::1/64"]
    assert all(network.check(pod).ok for pod in pods)


# Routes


@pytest.mark.parametrize(
    ("route", "expected"),
    [
        ({"dst": "192.0.2.0/24"}, {"dst": "192.0.2.0/24", "gateway": "10.22.0.1"}),
        (
            {"dst": "192.0.2.0/24", "gw": "10.22.0.254"},
            {"dst": "192.0.2.0/24", "gateway": "10.22.0.254"},
        ),
        (
            {"dst": "192.0.2.0/24", "mtu": 1300, "advmss": 1200},
            {"metrics": [{"mtu": 1300, "advmss": 1200}]},
        ),
        ({"dst": "192.0.2.0/24", "priority": 77}, {"metric": 77}),
        ({"dst": "192.0.2.0/24", "table": 100}, {"table": "100"}),
        ({"dst": "192.0.2.0/24", "scope": 0}, {"scope": "global", "gateway": "10.22.0.1"}),
        ({"dst": "192.0.2.0/24", "scope": 253}, {"scope": "link", "gateway": None}),
        ({"dst": "2001:db8::/32"}, {"dst": "2001:db8::/32", "gateway": "fd00:22::1"}),
        ({"dst": "2001:db8::/32", "priority": 77, "mtu": 1300}, {"metric": 77}),
    ],
)
def test_routes(node: Node, route: Any, expected: Any) -> None:
    """A route gets its own gateway or the address's, and the metrics that it asks for."""
    keys = {"isDefaultGateway": False, "isGateway": True}
    network = Network(node, ipam=DUAL | {"routes": [route]}, **keys)
    pod = network.attach()
    family = "-6" if ":" in route["dst"] else "-4"
    (found,) = routes(node, family, pod.netns)
    assert {key: found.get(key) for key in expected} == expected
    assert pod.result["routes"] == [route]
    assert network.check(pod).ok


def test_route_that_the_kernel_has(node: Node) -> None:
    """A route to the container's own subnet is no error, neither for ADD nor for CHECK."""
    network = Network(node, ipam=IPV4 | {"routes": [{"dst": "10.22.0.0/24"}]})
    assert network.check(network.attach()).ok


@pytest.mark.parametrize(
    ("destination", "gateways"),
    [("192.0.2.0/24", ["10.22.0.8", "10.22.0.9"]), ("2001:db8::/32", ["fd00:22::8", "fd00:22::9"])],
)
def test_routes_of_two_ways(node: Node, destination: str, gateways: list[str]) -> None:
    """Two routes to one destination, by different gateways, are both there."""
    wanted = [{"dst": destination, "gw": gateway} for gateway in gateways]
    network = Network(node, isDefaultGateway=False, ipam=DUAL | {"routes": [*wanted, wanted[0]]})
    pod = network.attach()
    assert network.check(pod).ok
    family = "-6" if ":" in destination else "-4"
    text = node.run("ip", family, "route", "show", destination, netns=pod.netns).stdout
    assert all(f"via {gateway} " in text for gateway in gateways)


@pytest.mark.parametrize("version", ["0.3.1", "0.4.0", "1.0.0"])
def test_fields_of_routes_in_old_versions(node: Node, version: str) -> None:
    """Metric, table and MTU count for networks of older versions, too."""
    route = {"dst": "192.0.2.0/24", "priority": 77, "table": 100, "mtu": 1300}
    network = Network(node, cniVersion=version, ipam=IPV4 | {"routes": [route]})
    pod = network.attach()
    found = [route for route in routes(node, "-4", pod.netns) if route.get("metric") == 77]
    assert [(route["table"], route["metrics"]) for route in found] == [("100", [{"mtu": 1300}])]


def test_impossible_route(node: Node) -> None:
    """A route by a gateway that cannot be reached makes ADD fail, and nothing is left."""
    routes = [{"dst": "192.0.2.0/24", "gw": "172.16.0.1"}]
    answer = Network(node, ipam=IPV4 | {"routes": routes}).add()
    assert answer.code == 1
    assert "192.0.2.0/24 via 172.16.0.1" in answer.document["msg"]
    assert remains(node) == []


def test_requested_addresses(node: Node) -> None:
    """Capability ips asks for addresses."""
    network = Network(node, runtimeConfig={"ips": ["10.22.0.77/24", "fd00:22::77"]})
    pod = network.attach()
    assert addresses(node, "eth0", pod.netns) == ["10.22.0.77/24", "fd00:22::77/64"]
