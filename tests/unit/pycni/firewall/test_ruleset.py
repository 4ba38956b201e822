from __future__ import annotations

import json
import re
from ipaddress import ip_network
from itertools import pairwise, permutations
from typing import TypeVar

import pytest

from cni.net.addresses import IPNetwork, parse_address, parse_prefixed
from pycni.firewall.entries import (
    Entry,
    HostPort,
    MacGuard,
    Masquerade,
    SourceNat,
    Translation,
    entry_from_record,
    entry_to_record,
)
from pycni.firewall.nftables import ruleset

_Item = TypeVar("_Item")

POD4, POD6 = parse_prefixed("10.1.0.5/16"), parse_prefixed("fd00::5/64")
NODE4, NODE6 = parse_address("192.0.2.1"), parse_address("2001:db8::1")

# Every kind of entry, the map that its element is in, and the element.
ELEMENTS: list[tuple[Translation, str, str]] = [
    (Masquerade(POD4), "masquerade-ip", "10.1.0.5"),
    (Masquerade(POD6), "masquerade-ip6", "fd00::5"),
    (
        HostPort("tcp", None, 8080, POD4.ip, 80),
        "hostports-ip",
        "tcp . 8080 : 10.1.0.5 . 80",
    ),
    (
        HostPort("udp", None, 53, POD6.ip, 5353),
        "hostports-ip6",
        "udp . 53 : fd00::5 . 5353",
    ),
    (
        HostPort("sctp", NODE4, 8080, POD4.ip, 80),
        "bound-hostports-ip",
        "192.0.2.1 . sctp . 8080 : 10.1.0.5 . 80",
    ),
    (
        HostPort("tcp", NODE6, 8080, POD6.ip, 80),
        "bound-hostports-ip6",
        "2001:db8::1 . tcp . 8080 : fd00::5 . 80",
    ),
    (
        HostPort("tcp", None, 9000, POD4.ip, 80, ("iifname eth0",)),
        "conditional-hostports-ip",
        "tcp . 9000 : jump hostport-ip-tcp-9000",
    ),
    (
        HostPort("udp", NODE6, 9000, POD6.ip, 80, ("ip6 saddr", "fd00::/8")),
        "conditional-bound-hostports-ip6",
        "2001:db8::1 . udp . 9000 : jump hostport-ip6-udp-2001_db8__1-9000",
    ),
    (SourceNat("tcp", POD4, 80), "sourcenat-ip", "10.1.0.5 . tcp . 80"),
    (
        SourceNat("tcp", POD6, 80, everyone=True),
        "everyone-ip6",
        "fd00::5 . tcp . 80",
    ),
]
TRANSLATIONS = [entry for entry, _, _ in ELEMENTS]
ENTRIES: list[Entry] = [*TRANSLATIONS, MacGuard("veth0", "0a:58:0a:01:00:05")]
each_entry = pytest.mark.parametrize("entry", ENTRIES, ids=str)


@pytest.mark.parametrize(("entry", "name", "text"), ELEMENTS)
def test_elements(entry: Translation, name: str, text: str) -> None:
    """An entry is an element of one map, in nft's own words."""
    element = ruleset.element(entry)
    assert (element.holder, str(element)) == (name, text)


@pytest.mark.parametrize(("entry", "name", "text"), ELEMENTS)
def test_commands(entry: Translation, name: str, text: str) -> None:
    """An element is added with its value, and deleted by its key."""
    element = ruleset.element(entry)
    key = text.partition(" : ")[0]
    assert ruleset.add([element]) == f"add element inet pycni {name} {{ {text} }}\n"
    assert ruleset.delete([element]) == f"delete element inet pycni {name} {{ {key} }}\n"


@pytest.mark.parametrize("name", sorted({name for _, name, _ in ELEMENTS}))
def test_all_are_made(name: str) -> None:
    """The table has all sets and maps that elements go into, and a rule that looks into each."""
    assert re.search(rf"(set|map) {name} \{{", ruleset.base())
    assert re.search(rf"@{name}\s", ruleset.base())


@each_entry
def test_records(entry: Entry) -> None:
    """An entry is kept in an attachment's record, and read as it was."""
    assert entry_from_record(entry_to_record(entry)) == entry


def test_records_with_conditions() -> None:
    """So are a host port's conditions."""
    entry = HostPort("tcp", NODE4, 8080, POD4.ip, 80, ("ip saddr 10.0.0.0/8", "iifname eth0"))
    assert entry_from_record(json.loads(json.dumps(entry_to_record(entry)))) == entry


def test_older_records() -> None:
    """A record that was written before there were conditions is read, too."""
    entry = HostPort("tcp", None, 8080, POD4.ip, 80)
    assert entry_from_record(["HostPort", "tcp", None, 8080, "10.1.0.5", 80]) == entry


@pytest.mark.parametrize("conditions", ["drop", [7], None])
def test_records_with_damaged_conditions(conditions: object) -> None:
    """Conditions that are no list of strings are damage."""
    with pytest.raises((ValueError, TypeError)):
        entry_from_record(["HostPort", "tcp", None, 8080, "10.1.0.5", 80, conditions])


def test_claims_tell_entries_apart() -> None:
    """What two attachments may have at the same time is claimed by different names."""
    claims = {entry.claim for entry in ENTRIES}
    assert len(claims) == len(ENTRIES)
    assert not any("/" in claim for claim in claims)


def test_a_claim_does_not_depend_on_the_target() -> None:
    """Two attachments that want the same host port claim the same."""
    first, second = (HostPort("tcp", None, 8080, ip, 80) for ip in (POD4.ip, NODE4))
    assert first.claim == second.claim


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        (HostPort("tcp", None, 80, POD4.ip, 8080), "host port 0.0.0.0:80/tcp to 10.1.0.5:8080"),
        (HostPort("tcp", None, 80, POD6.ip, 8080), "host port [::]:80/tcp to [fd00::5]:8080"),
        (
            HostPort("udp", NODE6, 80, POD6.ip, 8080),
            "host port [2001:db8::1]:80/udp to [fd00::5]:8080",
        ),
        (Masquerade(POD4), "masquerade for 10.1.0.5"),
        (SourceNat("tcp", POD4, 80), "source NAT for 10.1.0.5 port 80/tcp"),
        (MacGuard("veth0", "0a:58:0a:01:00:05"), "MAC check for 0a:58:0a:01:00:05 at veth0"),
    ],
)
def test_entries_in_words(entry: Entry, text: str) -> None:
    """An error and `pycni list` name an entry in words."""
    assert str(entry) == text


# Chains


def every_order(*items: _Item) -> list[tuple[_Item, ...]]:
    return list(permutations(items))


def test_subnets() -> None:
    """A network's chains know the subnets of masqueraded and published addresses, each once."""
    assert ruleset.subnets(TRANSLATIONS) == {ip_network("10.1.0.0/16"), ip_network("fd00::/64")}


def test_network_chains() -> None:
    """Traffic inside of the network's subnets and to groups keeps its source."""
    lines = ruleset.network_chains("net", {POD4.network}).splitlines()
    assert lines == [
        "add chain inet pycni hairpin-net",
        "flush chain inet pycni hairpin-net",
        "add chain inet pycni network-net",
        "flush chain inet pycni network-net",
        "add rule inet pycni hairpin-net ip saddr 10.1.0.0/16 ip daddr 10.1.0.0/16 masquerade",
        "add rule inet pycni network-net ip daddr 10.1.0.0/16 accept",
        "add rule inet pycni hairpin-net ip saddr 127.0.0.0/8 masquerade",
        "add rule inet pycni network-net ip daddr 224.0.0.0/4 accept",
        "add rule inet pycni network-net ip6 daddr ff00::/8 accept",
        "add rule inet pycni network-net masquerade",
    ]


def test_port_chains() -> None:
    """A host port with conditions has a chain, whose rule names the conditions and the target."""
    port = HostPort("udp", NODE6, 53, POD6.ip, 80, ("ip6 saddr", "fd00::/8"))
    name = "inet pycni hostport-ip6-udp-2001_db8__1-53"
    rule = "meta nfproto ipv6 meta l4proto udp ip6 saddr fd00::/8 dnat ip6 to [fd00::5]:80"
    assert ruleset.port_chains([port, HostPort("udp", None, 53, POD4.ip, 80)]).splitlines() == [
        f"add chain {name}",
        f"flush chain {name}",
        f"add rule {name} {rule}",
    ]
    assert ruleset.delete_port_chains([port]) == f"delete chain {name}\n"


def test_the_order_of_subnets_does_not_matter() -> None:
    """The same subnets make the same text, in whatever order they come."""
    subnets: list[IPNetwork] = [
        ip_network(text) for text in ("10.2.0.0/16", "10.10.0.0/16", "fd00::/64", "10.2.0.0/24")
    ]
    assert len({ruleset.network_chains("net", order) for order in every_order(*subnets)}) == 1


@pytest.mark.parametrize("number", [0, 1, 3])
def test_rules_are_counted(number: int) -> None:
    """CHECK knows how many rules a network's chains have."""
    subnets = {ip_network(f"10.{n}.0.0/16") for n in range(number)}
    text = ruleset.network_chains("net", subnets)
    counted = [
        text.count(f"add rule inet pycni {name} ") for name in ("hairpin-net", "network-net")
    ]
    assert ruleset.network_chain_rules(subnets) == tuple(counted)


def test_dispatch() -> None:
    """Traffic of each subnet is led to its network's chains, and to no others."""
    subnets = {"b": {POD6.network, POD4.network}, "a": {ip_network("10.2.0.0/16")}}
    text = ruleset.dispatch(subnets)
    assert text.splitlines() == [
        "flush chain inet pycni hairpins",
        "flush chain inet pycni networks",
        "add rule inet pycni hairpins ip daddr 10.2.0.0/16 jump hairpin-a",
        "add rule inet pycni networks ip saddr 10.2.0.0/16 goto network-a",
        "add rule inet pycni hairpins ip daddr 10.1.0.0/16 jump hairpin-b",
        "add rule inet pycni networks ip saddr 10.1.0.0/16 goto network-b",
        "add rule inet pycni hairpins ip6 daddr fd00::/64 jump hairpin-b",
        "add rule inet pycni networks ip6 saddr fd00::/64 goto network-b",
    ]
    for chain, number in ruleset.dispatch_rules(subnets).items():
        assert text.count(f"add rule inet pycni {chain} ") == number


@pytest.mark.parametrize("chain", ruleset.STATIC_RULES)
def test_static_rules_are_counted(chain: str) -> None:
    """... and how many the chains have that are always there."""
    body = ruleset.base().partition(f"chain {chain} {{\n")[2].partition("}")[0]
    rules = [line for line in body.splitlines() if line.strip() and " hook " not in line]
    assert len(rules) == ruleset.STATIC_RULES[chain]


def test_no_chain_is_forgotten() -> None:
    """CHECK looks at every chain of the table."""
    words = ruleset.base().split()
    chains = {name for word, name in pairwise(words) if word == "chain"}
    assert chains == {*ruleset.STATIC_RULES, *ruleset.dispatch_rules({})}


def test_chains_are_deleted() -> None:
    """Both chains of a network go together; that they are not there is no error."""
    assert ruleset.delete_network_chains("net").splitlines() == [
        f"{verb} chain inet pycni {name}-net"
        for name in ("hairpin", "network")
        for verb in ("add", "delete")
    ]


@pytest.mark.parametrize("name", ["n" * 101, "n" * 200, "n" * 100 + "x"])
def test_long_names_are_cut(name: str) -> None:
    """A network's name that the kernel would refuse in a chain's is cut, and stays its own."""
    other = name[:-1] + "y"
    for chain in (ruleset.network_chain, ruleset.hairpin_chain):
        assert len(chain(name)) < 128
        assert chain(name) != chain(other)
        assert chain(name) == chain(name)


def test_short_names_are_kept() -> None:
    """A name of usual length can be read in the chain's."""
    assert ruleset.network_chain("n" * 100) == "network-" + "n" * 100


def test_guard() -> None:
    """An interface is guarded by its quoted name."""
    assert ruleset.guard(["cni0", "eth0.5"]) == (
        'add element inet pycni localnet { "cni0" }\nadd element inet pycni localnet { "eth0.5" }\n'
    )


def test_making_the_table_anew() -> None:
    """Whether there was a table or none, there is an empty one afterwards."""
    assert ruleset.base().startswith("add table inet pycni\ndelete table inet pycni\n")
    assert "element" not in ruleset.base()
    assert ruleset.delete_table() == "add table inet pycni\ndelete table inet pycni\n"
