"""Messages to rtnetlink: that they say what they shall, by pyroute2's understanding of them."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from cni.net.netlink.route import Address, KernelRoute, Link, Netlink
from cni.net.netlink.socket import HEADER

CLASSES = {16: ifinfmsg, 17: ifinfmsg, 18: ifinfmsg, 20: ifaddrmsg, 21: ifaddrmsg, 22: ifaddrmsg}
CLASSES |= {24: rtmsg, 26: rtmsg}

MAC = "0a:58:0a:16:00:05"
LO = Link(7, "eth0", None, MAC, 1500, True, True, False, None, None)

V4 = st.ip_addresses(v=4)
V6 = st.ip_addresses(v=6)
INTERFACES = st.builds(lambda a, n: ipaddress.ip_interface((a, n)), V4, st.integers(1, 32)) | (
    st.builds(lambda a, n: ipaddress.ip_interface((a, n)), V6, st.integers(1, 128))
)


class Kernel(Netlink):
    """Takes a message instead of the kernel, and answers as it is told."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)

    def ask(self, kind: int, flags: int, payload: bytes, what: str) -> list[bytes]:
        assert what
        self.kind, self.flags = kind, flags
        self.message = CLASSES[kind](header(payload) + payload)
        self.message.decode()
        return self.answers


def header(payload: bytes) -> bytes:
    return HEADER.pack(HEADER.size + len(payload), 0, 0, 0, 0)


def encoded(message: Any, attributes: list[Any], **fields: Any) -> bytes:
    """A message's body as pyroute2 has it."""
    for name, value in fields.items():
        message[name] = value
    message["attrs"] = attributes
    message.encode()
    return bytes(message.data[HEADER.size :])


def text(address: Any) -> str:
    """An address as pyroute2 writes it: ipaddress writes those that map IPv4 another way."""
    return socket.inet_ntop(
        {4: socket.AF_INET, 6: socket.AF_INET6}[address.version], address.packed
    )


def attributes(message: Any) -> dict[str, Any]:
    return {name: dict_of(value) for name, value in message["attrs"]}


def dict_of(value: Any) -> Any:
    return attributes(value) if isinstance(value, dict) and "attrs" in value else value


# Links


def test_veth() -> None:
    """Both ends, with names, MACs, MTU, the bridge and the other namespace, in one message."""
    kernel = Kernel()
    wanted = {"peer_netns": 5, "mac": MAC, "peer_mac": MAC[:-1] + "6", "mtu": 1400, "master": 9}
    kernel.add_veth("veth1", "eth0", **wanted)  # type: ignore[arg-type]
    assert (kernel.kind, kernel.flags) == (16, 0x600)  # RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL
    found = attributes(kernel.message)
    peer = found["IFLA_LINKINFO"]["IFLA_INFO_DATA"].pop("VETH_INFO_PEER")
    assert peer == {
        "IFLA_IFNAME": "eth0",
        "IFLA_ADDRESS": MAC[:-1] + "6",
        "IFLA_MTU": 1400,
        "IFLA_NET_NS_FD": 5,
    }
    assert found.pop("IFLA_LINKINFO") == {"IFLA_INFO_KIND": "veth", "IFLA_INFO_DATA": {}}
    assert found == {
        "IFLA_IFNAME": "veth1",
        "IFLA_ADDRESS": MAC,
        "IFLA_MTU": 1400,
        "IFLA_MASTER": 9,
    }


@pytest.mark.parametrize("mtu", [None, 9000])
def test_bridge(mtu: int | None) -> None:
    """A bridge has a name, a MAC, and an MTU only if one is wanted."""
    kernel = Kernel()
    kernel.add_bridge("br0", mac=MAC, mtu=mtu)
    expected = {"IFLA_IFNAME": "br0", "IFLA_ADDRESS": MAC}
    expected |= {"IFLA_LINKINFO": {"IFLA_INFO_KIND": "bridge"}}  # type: ignore[dict-item]
    assert attributes(kernel.message) == expected | ({"IFLA_MTU": mtu} if mtu else {})


@pytest.mark.parametrize(
    ("wanted", "change", "flags"),
    [
        ({"up": True}, 1, 1),
        ({"up": False}, 1, 0),
        ({"promiscuous": True}, 0x100, 0x100),
        ({}, 0, 0),
    ],
)
def test_flags(wanted: dict[str, bool], change: int, flags: int) -> None:
    """Of an interface's flags only those change that are given."""
    kernel = Kernel()
    kernel.set_link(LO, **wanted)  # type: ignore[arg-type]
    message = kernel.message
    assert (message["index"], message["change"], message["flags"]) == (7, change, flags)
    assert attributes(message) == {}


def test_port() -> None:
    """MAC, alias, and what is a bridge port's own."""
    kernel = Kernel()
    kernel.set_link(LO, mac=MAC, alias="pycni: é", hairpin=True, isolated=False)
    data = {"IFLA_BRPORT_MODE": 1, "IFLA_BRPORT_ISOLATED": 0}
    slave = {"IFLA_INFO_SLAVE_KIND": "bridge", "IFLA_INFO_SLAVE_DATA": data}
    expected = {"IFLA_ADDRESS": MAC, "IFLA_IFALIAS": "pycni: é", "IFLA_LINKINFO": slave}
    assert attributes(kernel.message) == expected


LINKS = st.builds(
    Link,
    ifindex=st.integers(1, 2**31 - 1),
    name=st.from_regex(r"[a-z]{1,15}", fullmatch=True),
    kind=st.sampled_from([None, "veth", "bridge"]),
    mac=st.just(MAC),
    mtu=st.integers(68, 65535),
    is_up=st.booleans(),
    is_running=st.booleans(),
    is_promiscuous=st.booleans(),
    peer=st.none() | st.integers(1, 2**31 - 1),
    master=st.none() | st.integers(1, 2**31 - 1),
)


@given(LINKS)
def test_reading_links(link: Link) -> None:
    """An interface that pyroute2 writes down is read as it is."""
    optional = [("IFLA_LINK", link.peer), ("IFLA_MASTER", link.master)]
    optional.append(("IFLA_LINK_NETNSID", None if link.is_peer_here else 3))
    if link.kind:
        optional.append(("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", link.kind)]}))  # type: ignore[arg-type]
    body = encoded(
        ifinfmsg(),
        [
            ("IFLA_IFNAME", link.name),
            ("IFLA_ADDRESS", link.mac),
            ("IFLA_MTU", link.mtu),
            ("IFLA_OPERSTATE", "UP" if link.is_running else "LOWERLAYERDOWN"),
            *((name, value) for name, value in optional if value is not None),
        ],
        index=link.ifindex,
        ifi_type=1 if link.is_ethernet else 0xFFFE,
        flags=(0x1 if link.is_up else 0) | (0x100 if link.is_promiscuous else 0),
    )
    assert Kernel(body).find_link(link.name) == link


def test_removal() -> None:
    """An interface is deleted by its name."""
    kernel = Kernel()
    assert kernel.remove_link("veth1")
    assert kernel.kind == 17  # RTM_DELLINK
    assert attributes(kernel.message) == {"IFLA_IFNAME": "veth1"}


# Addresses


@given(INTERFACES, st.booleans())
def test_addresses(address: Any, dad: bool) -> None:
    """An address with its prefix length; for IPv4 with its broadcast address, if there is one."""
    kernel = Kernel()
    kernel.add_address(LO, address, dad=dad)
    expected: dict[str, Any] = dict.fromkeys(("IFA_LOCAL", "IFA_ADDRESS"), text(address.ip))
    if address.version == 6:
        expected["IFA_FLAGS"] = 0x80 if dad else 0x82
    elif address.network.prefixlen <= 30:
        expected["IFA_BROADCAST"] = text(address.network.broadcast_address)
    message = kernel.message
    assert attributes(message) == expected
    assert (message["index"], message["prefixlen"]) == (7, address.network.prefixlen)
    assert message["family"] == {4: 2, 6: 10}[address.version]


@given(INTERFACES, st.sampled_from([0x80, 0x40, 0x08, 0x100]))
def test_reading_addresses(address: Any, flags: int) -> None:
    """An address that pyroute2 writes down is read as it is."""
    body = encoded(
        ifaddrmsg(),
        [("IFA_ADDRESS", str(address.ip)), ("IFA_FLAGS", flags)],
        family={4: 2, 6: 10}[address.version],
        prefixlen=address.network.prefixlen,
    )
    expected = Address(address, is_tentative=flags == 0x40, is_duplicate=flags == 0x08)
    assert Kernel(body).addresses(LO) == [expected]


# Routes


OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "priority": st.integers(1, 2**32 - 1),
        "table": st.integers(1, 2**32 - 1),
        "mtu": st.integers(68, 65535),
        "advmss": st.integers(1, 65535),
        "scope": st.integers(0, 255),
    },
)
NAMES = {"mtu": "RTAX_MTU", "advmss": "RTAX_ADVMSS"}


@given(INTERFACES.map(lambda address: address.network), st.booleans(), OPTIONS)
def test_routes(destination: Any, direct: bool, options: dict[str, int]) -> None:
    """All that a route can be given; without a gateway it is the link's."""
    kernel = Kernel()
    gateway = None if direct else destination[0]
    kernel.add_route(LO, destination, gateway, **options)
    expected: dict[str, Any] = {"RTA_DST": text(destination.network_address), "RTA_OIF": 7}
    expected["RTA_TABLE"] = options.get("table", 254)
    if gateway:
        expected["RTA_GATEWAY"] = text(gateway)
    if "priority" in options:
        expected["RTA_PRIORITY"] = options["priority"]
    metrics = {name: options[key] for key, name in NAMES.items() if key in options}
    assert attributes(kernel.message) == expected | ({"RTA_METRICS": metrics} if metrics else {})
    fields = [kernel.message[name] for name in ("dst_len", "proto", "type", "scope")]
    assert fields == [destination.prefixlen, 3, 1, options.get("scope", 253 if direct else 0)]


@given(INTERFACES.map(lambda address: address.network), st.booleans(), st.booleans())
def test_reading_routes(destination: Any, has_gateway: bool, is_local: bool) -> None:
    """A route that pyroute2 writes down is read as it is; a default route has no destination."""
    gateway = destination.network_address + 1 if has_gateway and destination.prefixlen else None
    found: list[tuple[str, Any]] = [("RTA_OIF", 3), ("RTA_TABLE", 1000)]
    if destination.prefixlen:
        found.append(("RTA_DST", str(destination.network_address)))
    if gateway:
        found.append(("RTA_GATEWAY", str(gateway)))
    family = {4: 2, 6: 10}[destination.version]
    fields = {"family": family, "dst_len": destination.prefixlen, "type": 2 if is_local else 1}
    body = encoded(rtmsg(), found, **fields)
    expected = KernelRoute(destination, gateway, 3, 1000, is_local=is_local)
    assert Kernel(body).routes(destination.version) == [expected]
    assert Kernel(body).find_route(destination.network_address) == expected
