from __future__ import annotations

import shlex
from ipaddress import ip_address, ip_interface, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni.request import Attachment
from pycni.firewall.entries import HostPort, Masquerade, SourceNat, Translation
from pycni.firewall.iptables import chains, transaction
from pycni.firewall.iptables.arguments import parse_argument
from pycni.firewall.static import Static
from pycni.firewall.vocabulary import EntryUpdate, PluginEntries

POD = Attachment("net", "pod", "eth0")
POD4, POD6 = ip_interface("10.1.0.5/24"), ip_interface("fd00:1::5/64")
NODE4 = ip_address("192.0.2.1")
WEB = HostPort("tcp", None, 8080, POD4.ip, 80)
WEB6 = HostPort("tcp", None, 8080, POD6.ip, 80)
BOUND = HostPort("udp", NODE4, 53, POD4.ip, 5353)
SOURCE = SourceNat("tcp", POD4, 80)
CHAIN = chains.attachment_chain(POD, "portmap")


def jumps(*entries: Translation, version: int = 4) -> list[str]:
    rules = chains.attachment_jumps(POD, "portmap", entries, version)
    return [rule.put.replace(CHAIN, "CHAIN") for rule in rules]


def rules(*entries: Translation, version: int = 4) -> list[str]:
    found = chains.attachment_rules(POD, "portmap", entries, version)
    return [str(rule).replace(f"{CHAIN} ", "") for rule in found]


# Attachments


def test_jump() -> None:
    """A packet to a published port gets into the chain of its attachment, which is named."""
    where = "-A PYCNI-HOSTPORTS -p tcp -m multiport --dports 8080"
    assert jumps(WEB) == [f'{where} -m comment --comment "net/pod/eth0" -j CHAIN']


def test_jump_of_an_address() -> None:
    """A port at one address of the node goes in front of those at all of them."""
    (jump,) = jumps(BOUND)
    assert jump.startswith("-I PYCNI-HOSTPORTS -p udp -d 192.0.2.1 -m multiport --dports 53 ")


def test_jumps_of_many() -> None:
    """A rule has up to 15 ports, as many as multiport takes."""
    ports = [WEB._replace(host_port=number) for number in range(1, 32)]
    listed = [shlex.split(jump)[7].split(",") for jump in jumps(*ports)]
    assert [len(numbers) for numbers in listed] == [15, 15, 1]
    assert sorted(int(number) for numbers in listed for number in numbers) == list(range(1, 32))


def test_chains_of_many() -> None:
    """However many ports there are, each rule leads to a chain of its own, of those ports."""
    ports = [WEB._replace(host_port=number) for number in range(1, 32)]
    led = {jump.split()[-1]: shlex.split(jump)[7].split(",") for jump in jumps(*ports)}
    found: dict[str, list[str]] = {}
    for rule in chains.attachment_rules(POD, "portmap", ports, 4):
        found.setdefault(rule.chain.replace(CHAIN, "CHAIN"), []).append(rule.match.split()[3])
    assert found == led


def test_jump_with_conditions() -> None:
    """Conditions are arguments of the jump; they may say -d, which a rule can have only once."""
    (jump,) = jumps(BOUND._replace(conditions=("!", "-d", "192.0.2.9")))
    assert " -d " not in jump
    assert (
        '-m conntrack --ctorigdst 192.0.2.1 -m multiport --dports 53 "!" "-d" "192.0.2.9"' in jump
    )


def test_rules() -> None:
    """What needs source NAT is marked before its destination is translated."""
    assert rules(WEB, SOURCE) == [
        "-p tcp --dport 8080 -s 10.1.0.0/24 -j MARK --set-xmark 0x2000/0x2000",
        "-p tcp --dport 8080 -s 127.0.0.0/8 -j MARK --set-xmark 0x2000/0x2000",
        "-p tcp --dport 8080 -j DNAT --to-destination 10.1.0.5:80",
    ]


def test_rules_for_everyone() -> None:
    """With masqAll everybody's packets are marked; another chain may be asked to do it."""
    assert rules(WEB, SOURCE._replace(everyone=True, mark="KUBE-MARK-MASQ")) == [
        "-p tcp --dport 8080 -j KUBE-MARK-MASQ",
        "-p tcp --dport 8080 -j DNAT --to-destination 10.1.0.5:80",
    ]


def test_rules_of_ipv6() -> None:
    """IPv6 has no loopback traffic to mark, and each version has its own rules only."""
    assert rules(WEB, WEB6, SourceNat("tcp", POD6, 80), version=6) == [
        "-p tcp --dport 8080 -s fd00:1::/64 -j MARK --set-xmark 0x2000/0x2000",
        "-p tcp --dport 8080 -j DNAT --to-destination [fd00:1::5]:80",
    ]


def test_bound_rules_come_first() -> None:
    """In a chain, too, a port at one address goes before the same one at all of them."""
    everywhere = BOUND._replace(host_address=None, port=1)
    assert [rule.split()[-1] for rule in rules(everywhere, BOUND)] == [
        "10.1.0.5:5353",
        "10.1.0.5:1",
    ]


# Names


@given(st.text("abcXYZ019_.-", min_size=1, max_size=200), st.sampled_from([4, 6]))
def test_lengths(network: str, version: int) -> None:
    """Chains have at most 28 characters, ipsets 31, however long a network's name is."""
    assert len(chains.network_chain(network)) <= 28
    assert len(chains.address_set(network, version)) <= 31
    assert len(chains.attachment_chain(POD._replace(network=network), "portmap")) <= 28


@given(st.lists(st.text("ab.-", min_size=1, max_size=60), min_size=2, max_size=9, unique=True))
def test_names_differ(networks: list[str]) -> None:
    """Each network has a chain and sets of its own."""
    assert len({chains.network_chain(network) for network in networks}) == len(networks)
    names = {chains.address_set(network, version) for network in networks for version in (4, 6)}
    assert len(names) == 2 * len(networks)


def test_chains_of_plugins() -> None:
    """What two plugins publish for an attachment is in two chains."""
    assert chains.attachment_chain(POD, "portmap") != chains.attachment_chain(POD, "other")


# Transactions


KNOWN = Static({"net": frozenset({ip_network("10.1.0.0/24")})}, frozenset({"br0"}), frozenset({13}))


def test_no_change_is_expected() -> None:
    """Nothing is changed where nothing has to be, and all of it is expected."""
    change = EntryUpdate(POD, "portmap", (WEB, SOURCE), (SOURCE, WEB))
    lines = [
        *transaction.static_changes(KNOWN, KNOWN, 4),
        *transaction.network_changes(KNOWN, KNOWN, "net", 4),
        *transaction.attachment_changes(change, 4),
        *transaction.guard_changes(KNOWN, KNOWN),
    ]
    assert {line[:2] for line in lines} == {"-C"}
    assert len(lines) == 5 + 4 + 4 + 3


def test_what_comes_goes() -> None:
    """What an ADD puts in front of an attachment's chains, its DEL takes away, and the chains."""
    there = transaction.attachment_changes(EntryUpdate(POD, "portmap", (), (WEB, BOUND, SOURCE)), 4)
    gone = transaction.attachment_changes(EntryUpdate(POD, "portmap", (WEB, BOUND, SOURCE), ()), 4)
    added = {line[3:] for line in there if " PYCNI-HOSTPORTS " in line}
    assert {line[3:] for line in gone if line.startswith("-D")} == added
    made = {line.split()[0][1:] for line in there if line.startswith(":")}
    assert {line[3:] for line in gone if line.startswith("-X")} == made


def test_a_new_subnet() -> None:
    """A network's chain is made anew for another subnet, and the way to it stays."""
    subnets = {"net": KNOWN.subnets["net"] | {ip_network("10.2.0.0/24")}}
    lines = transaction.network_changes(KNOWN, KNOWN._replace(subnets=subnets), "net", 4)
    assert lines == [
        ":PYCNI-NET-net - [0:0]",
        "-A PYCNI-NET-net -d 10.1.0.0/24 -j RETURN",
        "-A PYCNI-NET-net -d 10.2.0.0/24 -j RETURN",
        "-A PYCNI-NET-net -d 224.0.0.0/4 -j RETURN",
        "-A PYCNI-NET-net -j MASQUERADE",
        "-C PYCNI-MASQUERADE -m set --match-set pycni-net-4 src -j PYCNI-NET-net",
    ]


LISTING = """\
*nat
:PREROUTING ACCEPT [0:0]
:PYCNI-HOSTPORTS - [0:0]
:PYCNI-HP-old - [0:0]
:DOCKER - [0:0]
-A PREROUTING -j DOCKER
-A PREROUTING ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j PYCNI-HOSTPORTS
-A POSTROUTING -j PYCNI-MASQUERADE
-A PYCNI-HOSTPORTS -p tcp -m multiport --dports 1 -j PYCNI-HP-old
-A DOCKER -j PYCNI-HOSTPORTS
COMMIT
"""


def test_rebuilding_leaves_others_alone() -> None:
    """What is listed of ours is replaced; others' chains, and rules in them, are not named."""
    share = PluginEntries(POD, "bridge", [Masquerade(POD4)])
    lines = transaction.rebuilt(KNOWN, [share], 4, LISTING)
    assert "-X PYCNI-HP-old" in lines
    assert "-D POSTROUTING -j PYCNI-MASQUERADE" in lines
    assert not any("DOCKER" in line for line in lines)
    assert transaction.everything_removed(LISTING) == [
        "-D PREROUTING ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j PYCNI-HOSTPORTS",
        "-D POSTROUTING -j PYCNI-MASQUERADE",
        ":PYCNI-HOSTPORTS - [0:0]",
        ":PYCNI-HP-old - [0:0]",
        "-X PYCNI-HOSTPORTS",
        "-X PYCNI-HP-old",
    ]


# Conditions


@pytest.mark.parametrize(
    "text",
    [
        *("-j", "-jDROP", "-g", "-A", "-D", "-t", "-tfilter", "-p", "-", "--", "-s10.0.0.0/8"),
        *("--jump", "--jum", "--jump=DROP", "--goto", "--table", "--append", "--modprobe=/bin/sh"),
        *("-s 10.0.0.0/8", 'a"b', "a\\b", "a\nb", "a\0b", "a\rb", "a\u2028b"),
    ],
)
def test_no_arguments(text: str) -> None:
    """What is done with a packet, and to which rule, is not a user's; nor are quotes and breaks."""
    with pytest.raises(ValueError, match=r"^allowed: "):
        parse_argument(text)


@pytest.mark.parametrize(
    "text",
    ["!", "-s", "-i", "-m", "10.0.0.0/8", "--ctstate", "NEW,RELATED", "--set", "--dport", "a b"],
)
def test_arguments(text: str) -> None:
    """What matches is taken."""
    assert parse_argument(text) == text


@given(st.text(max_size=20))
def test_an_argument_stays_one(text: str) -> None:
    """Whatever is taken is one argument of one rule when iptables-restore has read it."""
    try:
        word = parse_argument(text)
    except ValueError:
        return
    line = f"-m {chains.quoted(word)} -j CHAIN"
    assert line.splitlines() == [line]
    assert shlex.split(line) == ["-m", text, "-j", "CHAIN"]
