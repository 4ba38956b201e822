"""Results: a result in the format of each version."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni.errors import InvalidConfig
from cni.net.addresses import IPAddress, IPInterface, parse_address
from cni.result import DNS, Interface, IPConfig, Result, Route, parse_dns, parse_result
from cni.versions import SUPPORTED, at_least

Document = dict[str, Any]

RESULT = Result(
    interfaces=(
        Interface("cni0", "0a:00:00:00:00:01"),
        Interface(
            "eth0", "0a:00:00:00:00:02", "/run/netns/pod", 1450, "/run/vhost", "0000:00:1f.6"
        ),
    ),
    ips=(
        IPConfig(ip_interface("10.1.0.5/16"), ip_address("10.1.0.1"), 1),
        IPConfig(ip_interface("10.2.0.5/16")),
        IPConfig(ip_interface("fd00::5/64"), ip_address("fd00::1"), 0),
    ),
    routes=(
        Route(ip_network("0.0.0.0/0"), ip_address("10.1.0.1"), 1400, 1360, 10, 0, 253),
        Route(ip_network("::/0")),
    ),
    dns=DNS(("10.1.0.53",), "local", ("cluster.local", "local"), ("ndots:5",)),
)

# The same in every format, as the specification's chapter on results has it.
DNS_DOCUMENT = {
    "nameservers": ["10.1.0.53"],
    "domain": "local",
    "search": ["cluster.local", "local"],
    "options": ["ndots:5"],
}
BY_FAMILY = {
    "ip4": {
        "ip": "10.1.0.5/16",
        "gateway": "10.1.0.1",
        "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}],
    },
    "ip6": {"ip": "fd00::5/64", "gateway": "fd00::1", "routes": [{"dst": "::/0"}]},
    "dns": DNS_DOCUMENT,
}
WITHOUT_MTU = {
    "interfaces": [
        {"name": "cni0", "mac": "0a:00:00:00:00:01"},
        {"name": "eth0", "mac": "0a:00:00:00:00:02", "sandbox": "/run/netns/pod"},
    ],
    "ips": [
        {"address": "10.1.0.5/16", "gateway": "10.1.0.1", "interface": 1},
        {"address": "10.2.0.5/16"},
        {"address": "fd00::5/64", "gateway": "fd00::1", "interface": 0},
    ],
    "routes": [
        {
            "dst": "0.0.0.0/0",
            "gw": "10.1.0.1",
            "mtu": 1400,
            "advmss": 1360,
            "priority": 10,
            "table": 0,
            "scope": 253,
        },
        {"dst": "::/0"},
    ],
    "dns": DNS_DOCUMENT,
}
WITH_IP_VERSIONS = WITHOUT_MTU | {
    "ips": [
        {"version": "4", "address": "10.1.0.5/16", "gateway": "10.1.0.1", "interface": 1},
        {"version": "4", "address": "10.2.0.5/16"},
        {"version": "6", "address": "fd00::5/64", "gateway": "fd00::1", "interface": 0},
    ],
}
COMPLETE = WITHOUT_MTU | {
    "interfaces": [
        {"name": "cni0", "mac": "0a:00:00:00:00:01"},
        {
            "name": "eth0",
            "mac": "0a:00:00:00:00:02",
            "sandbox": "/run/netns/pod",
            "mtu": 1450,
            "socketPath": "/run/vhost",
            "pciID": "0000:00:1f.6",
        },
    ],
}
FORMATS = {
    "0.1.0": BY_FAMILY,
    "0.2.0": BY_FAMILY,
    "0.3.0": WITH_IP_VERSIONS,
    "0.3.1": WITH_IP_VERSIONS,
    "0.4.0": WITH_IP_VERSIONS,
    "1.0.0": WITHOUT_MTU,
    "1.1.0": COMPLETE,
}
each_version = pytest.mark.parametrize("version", SUPPORTED)


@each_version
def test_every_format_is_written(version: str) -> None:
    """A result is written as the specification of its version says."""
    assert RESULT.to_document(version) == {"cniVersion": version, **FORMATS[version]}


@each_version
def test_every_format_is_read(version: str) -> None:
    """What is written in a version's format means the same as what was read."""
    document = {"cniVersion": version, **FORMATS[version]}
    assert parse_result(document, version).to_document(version) == document


def test_the_newest_format_holds_everything() -> None:
    """Nothing of a result is lost in the newest format."""
    assert parse_result(COMPLETE, "1.1.0") == RESULT


@pytest.mark.parametrize(
    ("version", "document"),
    [
        ("0.1.0", {"dns": {}}),
        ("0.2.0", {"dns": {}}),
        ("0.3.0", {"dns": {}}),
        ("0.3.1", {"dns": {}}),
        ("0.4.0", {"dns": {}}),
        ("1.0.0", {}),
        ("1.1.0", {}),
    ],
)
def test_an_empty_result(version: str, document: Document) -> None:
    """What holds nothing is left out, but for `dns` before 1.0.0."""
    assert Result().to_document(version) == {"cniVersion": version, **document}


@each_version
def test_unknown_keys_are_kept(version: str) -> None:
    """Keys that a version does not know are handed on from where they stood."""
    document = {"cniVersion": version, **json.loads(json.dumps(FORMATS[version]))}
    for number, place in enumerate(_objects(document)):
        place["example.com/color"] = number
    assert parse_result(document, version).to_document(version) == document


def _objects(value: Any) -> list[Document]:
    """All objects in a JSON value."""
    if isinstance(value, list):
        return [place for item in value for place in _objects(item)]
    if not isinstance(value, dict):
        return []
    return [value, *(place for item in value.values() for place in _objects(item))]


def test_keys_of_a_later_version_are_unknown_keys() -> None:
    """An MTU in a 1.0.0 result is handed on as it came, though 1.0.0 does not know it."""
    document = {"cniVersion": "1.0.0", "interfaces": [{"name": "eth0", "mtu": "odd"}]}
    assert parse_result(document, "1.0.0").to_document("1.0.0") == document


def test_null_and_empty_are_absent() -> None:
    """Go writes what is not set as null or as an empty string."""
    document = {
        "interfaces": [{"name": "eth0", "mac": "", "sandbox": None}],
        "ips": [{"address": "10.1.0.5/16", "gateway": "", "interface": None}],
        "routes": None,
        "dns": None,
    }
    eth0, ip = Interface("eth0"), IPConfig(ip_interface("10.1.0.5/16"))
    assert parse_result(document, "1.0.0") == Result((eth0,), (ip,))


@pytest.mark.parametrize(
    ("version", "document", "key"),
    [
        ("1.0.0", [], "prevResult"),
        ("1.0.0", {"cniVersion": 1}, "prevResult.cniVersion"),
        ("1.0.0", {"interfaces": {}}, "prevResult.interfaces"),
        ("1.0.0", {"interfaces": ["eth0"]}, "prevResult.interfaces[0]"),
        ("1.0.0", {"interfaces": [{"name": "a"}, {}]}, "prevResult.interfaces[1].name"),
        ("1.1.0", {"interfaces": [{"name": "a", "mtu": 1.5}]}, "prevResult.interfaces[0].mtu"),
        ("1.0.0", {"ips": [{"address": "10.1.0.5"}]}, "prevResult.ips[0].address"),
        ("1.0.0", {"ips": [{"address": "10.1.0.5/33"}]}, "prevResult.ips[0].address"),
        (
            "1.0.0",
            {"ips": [{"address": "10.1.0.5/8", "gateway": "x"}]},
            "prevResult.ips[0].gateway",
        ),
        (
            "1.0.0",
            {"ips": [{"address": "10.1.0.5/8", "interface": True}]},
            "prevResult.ips[0].interface",
        ),
        (
            "1.0.0",
            {"ips": [{"address": "10.1.0.5/8", "interface": -1}]},
            "prevResult.ips[0].interface",
        ),
        ("1.0.0", {"routes": [{"gw": "10.1.0.1"}]}, "prevResult.routes[0].dst"),
        (
            "1.1.0",
            {"routes": [{"dst": "::/0", "table": "main"}]},
            "prevResult.routes[0].table",
        ),
        ("1.0.0", {"dns": {"nameservers": [53]}}, "prevResult.dns.nameservers"),
        ("0.2.0", {"ip4": {}}, "prevResult.ip4.ip"),
        ("0.2.0", {"ip6": {"ip": "fd00::5/64", "routes": [{}]}}, "prevResult.ip6.routes[0].dst"),
    ],
)
def test_a_wrong_value_is_named(version: str, document: object, key: str) -> None:
    """An error says where the wrong or missing key stands."""
    with pytest.raises(InvalidConfig) as caught:
        parse_result(document, version)
    assert caught.value.message.partition(": ")[0] == key


def test_dns_of_a_configuration() -> None:
    """Resolver settings are read by themselves, too; the error names their key."""
    assert parse_dns({"domain": "local"}) == DNS(domain="local")
    with pytest.raises(InvalidConfig, match=r"^dns\.domain: 5 is not allowed"):
        parse_dns({"domain": 5})


# Any result

EXTRA = st.dictionaries(
    st.text(min_size=1, max_size=3).map("x-{}".format), st.none() | st.booleans() | st.text()
)
TEXT = st.text(min_size=1, max_size=5)
NUMBER = st.none() | st.integers(1, 65535)


def _gateways() -> st.SearchStrategy[IPAddress | None]:
    # An IPv4-mapped IPv6 address is read as the IPv4 address that it is.
    return st.none() | st.ip_addresses().map(lambda address: parse_address(str(address)))


def _prefixed() -> st.SearchStrategy[IPInterface]:
    def with_prefix(address: IPAddress) -> st.SearchStrategy[IPInterface]:
        lengths = st.integers(0, address.max_prefixlen)
        return lengths.map(lambda length: ip_interface((address, length)))

    return st.ip_addresses().flatmap(with_prefix)


@st.composite
def _interfaces(draw: st.DrawFn, version: str) -> Interface:
    optional = st.none() | TEXT
    interface = Interface(draw(TEXT), draw(optional), draw(optional), extra=draw(EXTRA))
    if not at_least(version, "1.1.0"):
        return interface
    return interface._replace(mtu=draw(NUMBER), socket_path=draw(optional), pci_id=draw(optional))


@st.composite
def _routes(draw: st.DrawFn, version: str) -> Route:
    route = Route(draw(_prefixed()).network, draw(_gateways()), extra=draw(EXTRA))
    if not at_least(version, "0.3.0"):
        return route
    of_its_own = st.none() | st.integers(0, 255)
    return route._replace(
        mtu=draw(NUMBER),
        advmss=draw(NUMBER),
        priority=draw(NUMBER),
        table=draw(of_its_own),
        scope=draw(of_its_own),
    )


@st.composite
def _results(draw: st.DrawFn, version: str) -> Result:
    def some(item: st.SearchStrategy[Any]) -> tuple[Any, ...]:
        return tuple(draw(st.lists(item, max_size=3)))

    ips = st.builds(IPConfig, _prefixed(), _gateways(), st.none() | st.integers(0, 9), EXTRA)
    return Result(
        interfaces=some(_interfaces(version)),
        ips=some(ips),
        routes=some(_routes(version)),
        dns=DNS(some(TEXT), draw(st.text()), some(TEXT), some(TEXT), draw(EXTRA)),
        extra=draw(EXTRA),
    )


@given(st.data(), st.sampled_from(SUPPORTED[2:]))
def test_round_trip(data: st.DataObject, version: str) -> None:
    """From 0.3.0 on, what is written and read again is what it was."""
    result = data.draw(_results(version))
    document = json.loads(json.dumps(result.to_document(version)))
    assert parse_result(document, version) == result


@given(st.data(), st.sampled_from(SUPPORTED[:2]))
def test_round_trip_by_family(data: st.DataObject, version: str) -> None:
    """0.1.0 and 0.2.0 say the first address of each family, and its family's routes."""
    result = data.draw(_results(version))
    again = parse_result(json.loads(json.dumps(result.to_document(version))), version)
    for family in (4, 6):
        first = [ip for ip in result.ips if ip.address.version == family][:1]
        routes = [r for r in result.routes if first and r.destination.version == family]
        assert [ip for ip in again.ips if ip.address.version == family] == [
            ip._replace(interface=None) for ip in first
        ]
        assert [r for r in again.routes if r.destination.version == family] == routes
    assert (again.dns, again.extra) == (result.dns, result.extra)
