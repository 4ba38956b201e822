"""portmap's configuration, and the entries of the firewall that follow from it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cni.errors import InvalidConfig
from cni.net.addresses import IPInterface, parse_address, parse_prefixed
from cni.request import Add, parse_request
from cni.result import Interface, IPConfig, Result
from cni_plugins.portmap.config import PortmapConfig, PortMapping, parse_config
from cni_plugins.portmap.rules import container_addresses, entries
from pycni.firewall import HostPort, SourceNat, Translation

POD4, POD6 = parse_prefixed("10.1.0.5/16"), parse_prefixed("fd00::5/64")
OTHER4 = parse_prefixed("10.2.0.5/16")
CNI0 = Interface("cni0")
ETH0, ETH1 = (Interface(name, sandbox="/run/netns/pod") for name in ("eth0", "eth1"))


def config(*mappings: dict[str, Any], **keys: object) -> PortmapConfig:
    environ = {"CNI_CONTAINERID": "pod", "CNI_NETNS": "/run/netns/pod", "CNI_IFNAME": "eth0"}
    document = {"name": "net", "runtimeConfig": {"portMappings": list(mappings)}, **keys}
    request = parse_request({**environ, "CNI_COMMAND": "ADD"}, document)
    assert isinstance(request, Add)
    return parse_config(request)


def port(host: int = 8080, container: int = 80, **keys: str) -> dict[str, Any]:
    return {"hostPort": host, "containerPort": container, **keys}


# Addresses


@pytest.mark.parametrize(
    ("ips", "expected"),
    [
        ([], []),
        ([IPConfig(POD4, interface=1)], [POD4]),
        ([IPConfig(POD6, interface=1), IPConfig(POD4, interface=1)], [POD6, POD4]),
        ([IPConfig(POD4, interface=1), IPConfig(OTHER4, interface=1)], [POD4]),
        ([IPConfig(OTHER4, interface=2), IPConfig(POD4, interface=1)], [POD4]),
        ([IPConfig(OTHER4, interface=0), IPConfig(POD4, interface=1)], [POD4]),
        ([IPConfig(OTHER4, interface=3), IPConfig(POD4, interface=1)], [POD4]),
        ([IPConfig(POD4)], [POD4]),
    ],
    ids=["none", "one", "both", "first", "another", "bridge", "same name on the host", "anywhere"],
)
def test_addresses(ips: list[IPConfig], expected: list[IPInterface]) -> None:
    """Published are the first address of each family that CNI_IFNAME has in the container."""
    result = Result((CNI0, ETH0, ETH1, Interface("eth0")), tuple(ips))
    assert container_addresses(result, "eth0") == expected


# Configurations


def test_defaults() -> None:
    """A mapping is TCP on all addresses; the node's address is put in where it has to be."""
    assert config(port()) == PortmapConfig(
        (PortMapping("tcp", None, 8080, 80),),
        source_nat=True,
        masquerade_everyone=False,
        conditions={4: (), 6: ()},
    )


def test_no_mappings() -> None:
    """Without runtimeConfig there is nothing to publish."""
    assert config().mappings == ()


@pytest.mark.parametrize(("protocol", "parsed"), [("UDP", "udp"), ("", "tcp"), ("sctp", "sctp")])
def test_protocols(protocol: str, parsed: str) -> None:
    """A protocol is meant in either case; left empty it is TCP."""
    assert config(port(protocol=protocol)).mappings[0].protocol == parsed


@pytest.mark.parametrize(
    ("host_ip", "parsed"), [("", None), ("192.0.2.1", parse_address("192.0.2.1"))]
)
def test_host_addresses(host_ip: str, parsed: object) -> None:
    """An empty hostIP is none, as containerd sends it."""
    assert config(port(hostIP=host_ip)).mappings[0].host_address == parsed


def test_ambiguous_mappings() -> None:
    """A host port that leads to two container ports is refused, and named."""
    with pytest.raises(InvalidConfig, match=r"portMappings\[1\]\.hostPort: 8080") as caught:
        config(port(), port(container=81))
    assert "container port 80 already" in caught.value.details


def test_unambiguous_mappings() -> None:
    """The same port of another protocol or address is another port; and saying it twice is fine."""
    same = [port(), port()]
    others = [port(container=81, protocol="udp"), port(container=82, hostIP="192.0.2.1")]
    assert len(config(*same, *others).mappings) == 4


@pytest.mark.parametrize("key", ["conditionsV4", "conditionsV6"])
@pytest.mark.parametrize(
    "word",
    [
        "ip saddr 1.2.3.4\nflush ruleset",
        "tcp dport 1; drop",
        'iifname "eth0"',
        "tcp dport 1 # no more",
        "$everybody",
        "accept",
        "tcp dport 80drop",
        "ip saddr vmap { 1.2.3.4 : accept }",
        "meta mark set 1",
        "{drop}",
    ],
)
def test_no_conditions(key: str, word: str) -> None:
    """Words that could end a rule, decide or change something are refused, by key and value."""
    with pytest.raises(InvalidConfig, match=rf"^{key}\[0\]: ") as caught:
        config(port(), **{key: [word]})
    assert json.dumps(word) in caught.value.message
    assert caught.value.details.startswith("allowed: ")


@pytest.mark.parametrize(
    "words",
    [
        ["ip", "saddr", "1.2.3.4"],
        ["ip saddr { 10.0.0.0/8, 192.0.2.0-192.0.2.9 }", "meta mark & 0xff == 1"],
        ["ip6 saddr != fd00:add::/64"],
        ["iifname eth0.set", "ct state new"],
    ],
)
def test_conditions(words: list[str]) -> None:
    """What compares is taken, a word or several in each string."""
    assert config(port(), conditionsV6=words).conditions == {4: (), 6: tuple(words)}


@pytest.mark.parametrize(
    ("keys", "backend"),
    [
        ({}, None),
        ({"backend": ""}, None),
        ({"backend": "iptables"}, "iptables"),
        ({"backend": "nftables", "markMasqBit": 5}, "nftables"),
        ({"conditionsV4": ["!", "-s", "10.0.0.0/8"]}, "iptables"),
        ({"conditionsV6": ["", "ip6 saddr fd00::1"]}, "nftables"),
        ({"externalSetMarkChain": "KUBE-MARK-MASQ", "conditionsV4": ["-i", "eth0"]}, "iptables"),
    ],
)
def test_backend(keys: dict[str, Any], backend: str | None) -> None:
    """The backend is the one that is asked for, or that another key needs."""
    assert config(port(), **keys).backend == backend


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"backend": "nftables", "conditionsV4": ["-i", "eth0"]}, ("conditionsV4", "backend")),
        ({"backend": "iptables", "conditionsV6": ["iif 1"]}, ("conditionsV6", "backend")),
        (
            {"backend": "nftables", "externalSetMarkChain": "X"},
            ("externalSetMarkChain", "backend"),
        ),
        ({"conditionsV4": ["-i", "eth0"], "conditionsV6": ["iif 1"]}, ("V6", "V4")),
        ({"markMasqBit": 3, "externalSetMarkChain": "X"}, ("markMasqBit", "externalSetMarkChain")),
    ],
)
def test_contradictions(keys: dict[str, Any], named: tuple[str, str]) -> None:
    """Keys that need different backends, or exclude one another, are refused, both by name."""
    with pytest.raises(InvalidConfig) as caught:
        config(port(), **keys)
    assert all(name in str(caught.value) for name in named)


@pytest.mark.parametrize("keys", [{"markMasqBit": 3}, {"externalSetMarkChain": "KUBE-MARK-MASQ"}])
def test_marks(keys: dict[str, Any]) -> None:
    """Source NAT is asked for by the bit or the chain that is configured, or else by bit 13."""
    (wanted,) = keys.values()
    assert config(port()).mark == 13
    sources = [entry for entry in entries_of(port(), **keys) if isinstance(entry, SourceNat)]
    assert {source.mark for source in sources} == {wanted}


def test_empty_conditions() -> None:
    """Empty words are none."""
    assert config(port(), conditionsV4=["", "udp sport 5"]).conditions[4] == ("udp sport 5",)


# Entries


def entries_of(*mappings: dict[str, Any], **keys: object) -> list[Translation]:
    return entries(config(*mappings, **keys), [POD4, POD6])


def test_entries() -> None:
    """A mapping is a host port, and source NAT for its target, for each address."""
    assert entries_of(port()) == [
        HostPort("tcp", None, 8080, POD4.ip, 80),
        SourceNat("tcp", POD4, 80),
        HostPort("tcp", None, 8080, POD6.ip, 80),
        SourceNat("tcp", POD6, 80),
    ]


@pytest.mark.parametrize("host_ip", ["0.0.0.0", "192.0.2.1"])
def test_one_family(host_ip: str) -> None:
    """A hostIP publishes on addresses of its own family only."""
    assert {entry.address.version for entry in entries_of(port(hostIP=host_ip))} == {4}


@pytest.mark.parametrize(("host_ip", "address"), [("0.0.0.0", POD4), ("::", POD6)])
def test_an_unspecified_host_address(host_ip: str, address: IPInterface) -> None:
    """0.0.0.0 and :: stand for all addresses of their family."""
    assert entries_of(port(hostIP=host_ip))[0] == HostPort("tcp", None, 8080, address.ip, 80)


def test_a_host_address() -> None:
    """A hostIP publishes on that address alone."""
    node = parse_address("2001:db8::1")
    assert entries_of(port(hostIP="2001:db8::1"))[0] == HostPort("tcp", node, 8080, POD6.ip, 80)


def test_conditional_entries() -> None:
    """Conditions are those of a host port of their family."""
    wanted = entries_of(port(), conditionsV4=["iifname eth0"], snat=False)
    assert [
        (entry.address, entry.conditions) for entry in wanted if isinstance(entry, HostPort)
    ] == [
        (POD4.ip, ("iifname eth0",)),
        (POD6.ip, ()),
    ]


def test_no_source_nat() -> None:
    """With snat false, no source is changed."""
    assert {type(entry) for entry in entries_of(port(), snat=False)} == {HostPort}


@pytest.mark.parametrize(("snat", "everyone"), [(True, [True, True]), (False, [])])
def test_source_nat_for_everyone(snat: bool, everyone: list[bool]) -> None:
    """With masqAll, every source is changed, unless snat is false."""
    found = [e for e in entries_of(port(), snat=snat, masqAll=True) if isinstance(e, SourceNat)]
    assert [entry.everyone for entry in found] == everyone


def test_each_entry_once() -> None:
    """Two host ports to the same container port share their source NAT."""
    wanted = entries_of(port(8080), port(8081), port(8080))
    assert len(wanted) == len(set(wanted)) == 6
