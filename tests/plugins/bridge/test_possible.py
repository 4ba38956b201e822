"""What the kernel would refuse is refused before anything is touched, by the key, and by STATUS."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.network import DUAL, IPV4, IPV6, Network, write_plugin
from tests.support.node import Answer, Node

NOBODY = dict.fromkeys(("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"))

# By configuration: the key, the value, and a word of why.
IMPOSSIBLE: dict[str, tuple[dict[str, Any], str, str]] = {
    "dual stack": ({"mtu": 1230, "ipam": DUAL}, "mtu: 1230", "1280"),
    "IPv6": ({"mtu": 1279, "ipam": IPV6}, "mtu: 1279", "1280"),
    "IPv6 for this pod": (
        {"mtu": 1230, "runtimeConfig": {"ipRanges": [[{"subnet": "fd00:33::/64"}]]}},
        "mtu: 1230",
        "1280",
    ),
    "static IPv6": (
        {"mtu": 1230, "ipam": {"type": "static", "addresses": [{"address": "fd00::5/64"}]}},
        "mtu: 1230",
        "1280",
    ),
    "mtu 67": ({"mtu": 67}, "mtu: 67", "68 to 65535"),
    "bridge all": ({"bridge": "all"}, 'bridge: "all"', "allowed"),
    "bridge default": ({"bridge": "default"}, 'bridge: "default"', "allowed"),
    "multicast": ({"ipam": IPV4 | {"subnet": "224.0.0.0/24"}}, "ipam.subnet: 224.0.0.0/24", "no"),
    "zero": ({"ipam": IPV4 | {"subnet": "0.0.0.0/24"}}, "ipam.subnet: 0.0.0.0/24", "no"),
    "IPv6 multicast": ({"ipam": IPV6 | {"subnet": "ff02::/64"}}, "ipam.subnet: ff02::/64", "no"),
    "::1": ({"ipam": IPV6 | {"subnet": "::/120"}}, "ipam.subnet: ::/120", "no"),
    "priority": (
        {"ipam": IPV4 | {"routes": [{"dst": "192.0.2.0/24", "priority": 5000000000}]}},
        "ipam.routes[0].priority: 5000000000",
        "4294967295",
    ),
}


def assert_refused(answer: Answer, named: str, why: str) -> None:
    document = answer.document
    assert (answer.code, document["code"]) == (1, 7), answer
    assert document["msg"] == f"{named} is not allowed"
    assert why in document["details"]
    assert answer.stderr == ""


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_impossible(node: Node, name: str) -> None:
    """ADD and STATUS name the key, the value and what is allowed; nothing is touched."""
    keys, named, why = IMPOSSIBLE[name]
    network = Network(node, **keys)
    before = node.run("sh", "-c", "ip -j link; find /run/cni /var/lib/cni ! -type d").stdout
    netns = node.add_netns("a")
    assert_refused(network.add("a", netns), named, why)
    environ: dict[str, Any] = dict(NOBODY)
    assert_refused(node.cni("STATUS", "bridge", network.config, **environ), named, why)
    assert node.run("sh", "-c", "ip -j link; find /run/cni /var/lib/cni ! -type d").stdout == before


@pytest.mark.parametrize("mtu", [68, 1279])
def test_small_mtu(node: Node, mtu: int) -> None:
    """Without IPv6, an MTU that only IPv4 can have is used."""
    pod = Network(node, mtu=mtu, ipam=IPV4).attach()
    (link,) = node.json("ip", "-j", "link", "show", "dev", "eth0", netns=pod.netns)
    assert link["mtu"] == mtu


@pytest.mark.parametrize("name", ["all", "default"])
def test_names_of_the_kernel(node: Node, name: str) -> None:
    """CNI_IFNAME is not one that the kernel refuses."""
    answer = Network(node).add(ifname=name)
    assert (answer.code, answer.document["code"]) == (1, 4)
    assert "CNI_IFNAME" in answer.document["msg"]


def test_unforeseen_ipv6(node: Node, tmp_path: Any) -> None:
    """An IPAM plugin that gives IPv6 addresses unasked has them back, and the key is named."""
    answer = '{"cniVersion": "1.1.0", "ips": [{"address": "fd00::5/64"}]}'
    write_plugin(tmp_path, "odd", f"echo $CNI_COMMAND >> {tmp_path}/log; echo '{answer}'")
    network = Network(node, mtu=1230, ipam={"type": "odd"})
    assert_refused(network.add(CNI_PATH=str(tmp_path)), "mtu: 1230", "1280")
    assert (tmp_path / "log").read_text().split() == ["ADD", "DEL"]
    assert "br0" not in node.run("ip", "link").stdout
