"""ADDs and DELs that are killed, or that meet one another."""

from __future__ import annotations

import itertools
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.network import Network, SlowIpam, remains
from tests.support.node import Node
from tests.support.rulesets import masqueraded

POINTS = 16
SIGNALS = (signal.SIGKILL, signal.SIGTERM)


@pytest.fixture
def network(node: Node) -> Network:
    return Network(node)


def kill_at_many_points(network: Network, verb: str) -> Iterator[int]:
    """Kill requests after ever more of the time that they take; yields exit codes."""
    netns = network.node.add_netns("measured")
    fastest = min(seconds_of(network, verb, netns) for _ in range(5))
    for point in range(POINTS):
        process = network.start(verb, "a")
        time.sleep(fastest * (0.1 + point / POINTS))
        process.send_signal(SIGNALS[point % 2])
        yield process.wait()


def seconds_of(network: Network, verb: str, netns: str) -> float:
    began = time.monotonic()
    network.attach("measured", netns)
    added = time.monotonic()
    network.delete("measured")
    return added - began if verb == "ADD" else time.monotonic() - added


# Killed


def test_killed_add(network: Network, node: Node) -> None:
    """Wherever an ADD is killed, the DEL behind it leaves nothing, and the next ADD works."""
    node.add_netns("a")
    codes = []
    for code in kill_at_many_points(network, "ADD"):
        codes.append(code)
        assert network.delete("a", "/run/netns/a").ok
        assert remains(node) == []
    assert all(codes.count(-number) >= 3 for number in SIGNALS)
    assert network.check(network.attach("a", "/run/netns/a")).ok


def test_killed_add_beside_another(network: Network, node: Node) -> None:
    """It also leaves other pods alone."""
    other = network.attach("b")
    node.add_netns("a")
    before = remains(node)
    codes = []
    for code in kill_at_many_points(network, "ADD"):
        codes.append(code)
        assert network.delete("a", "/run/netns/a").ok
        assert sorted(remains(node)) == sorted(before)
    assert all(codes.count(-number) >= 3 for number in SIGNALS)
    assert network.check(other).ok


def test_killed_delete(network: Network, node: Node) -> None:
    """Wherever a DEL is killed, the next one leaves nothing."""
    node.add_netns("a")
    network.attach("a", "/run/netns/a")
    codes = []
    for code in kill_at_many_points(network, "DEL"):
        codes.append(code)
        assert network.delete("a", "/run/netns/a").ok
        assert remains(node) == []
        network.attach("a", "/run/netns/a")
    assert all(codes.count(-number) >= 3 for number in SIGNALS)


def test_killed_in_the_middle(network: Network, node: Node, tmp_path: Path) -> None:
    """The IPAM plugin of an ADD that was killed goes on; the DEL waits for it to end."""
    ipam = SlowIpam(node, tmp_path / "bin", "ADD")
    node.add_netns("a")
    adding = network.start("ADD", "a", **ipam.environ)
    ipam.wait(1)
    adding.kill()
    adding.wait()
    deleting = network.start("DEL", "a", **ipam.environ)
    time.sleep(0.5)
    ipam.go()
    assert deleting.wait() == 0
    assert ipam.log == ["ADD begins", "ADD ends", "DEL begins", "DEL ends"]
    assert remains(node) == []


# At the same time


def test_delete_waits_for_add(network: Network, node: Node, tmp_path: Path) -> None:
    """A DEL that comes while the ADD is in progress waits for its end, and leaves nothing."""
    ipam = SlowIpam(node, tmp_path / "bin", "ADD")
    node.add_netns("a")
    adding = network.start("ADD", "a", **ipam.environ)
    ipam.wait(1)
    deleting = network.start("DEL", "a", **ipam.environ)
    time.sleep(0.5)
    ipam.go()
    assert [adding.wait(), deleting.wait()] == [0, 0]
    assert ipam.log == ["ADD begins", "ADD ends", "DEL begins", "DEL ends"]
    assert remains(node) == []


def test_others_do_not_wait(network: Network, node: Node, tmp_path: Path) -> None:
    """Other pods come and go while an ADD is in progress."""
    ipam = SlowIpam(node, tmp_path / "bin", "ADD")
    node.add_netns("a")
    adding = network.start("ADD", "a", **ipam.environ)
    ipam.wait(1)
    assert network.check(network.attach("b")).ok
    assert network.delete("b").ok
    ipam.go()
    assert adding.wait() == 0
    assert len(masqueraded(node)) == 2


def test_last_of_two_deletes(network: Network, node: Node, tmp_path: Path) -> None:
    """If the node's last two pods leave at the same time, the table goes, too."""
    ipam = SlowIpam(node, tmp_path / "bin", "DEL")
    for name in "ab":
        network.attach(name)
    deleting = network.start("DEL", "a", **ipam.environ)
    ipam.wait(1)
    assert network.delete("b").ok
    ipam.go()
    assert deleting.wait() == 0
    assert remains(node) == []


def test_two_deletes_of_one(network: Network, node: Node) -> None:
    """DELs of the same attachment may run at the same time."""
    network.attach()
    deleting = [network.start("DEL", "a") for _ in range(4)]
    assert [process.wait() for process in deleting] == [0] * 4
    assert remains(node) == []


def test_two_adds_of_one(network: Network, node: Node) -> None:
    """Of ADDs of the same attachment at the same time one succeeds, and stays whole."""
    node.add_netns("a")
    adding = [network.start("ADD", "a") for _ in range(4)]
    assert sorted(process.wait() for process in adding) == [0, 1, 1, 1]
    assert sorted(masqueraded(node)) == ["10.22.0.2", "fd00:22::2"]


def test_coming_and_going(network: Network, node: Node) -> None:
    """Many pods that come and go at once leave nothing."""

    def come_and_go(number: int) -> None:
        for turn in range(3):
            name = f"pod{number}-{turn}"
            network.attach(name)
            assert network.delete(name).ok

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(come_and_go, range(6)))
    assert remains(node) == []


def test_two_networks_on_one_bridge(node: Node) -> None:
    """Two networks' first ADDs at once, on one bridge with IPv6 subnets of their own, succeed."""
    networks = [
        Network(node, name=f"net{n}", ipam={"type": "host-local", "subnet": f"fd00:{n}::/64"})
        for n in range(4)
    ]
    with ThreadPoolExecutor(4) as pool:
        pods = list(pool.map(Network.attach, networks, "abcd"))
    for network, pod in itertools.zip_longest(networks, pods):
        assert network.check(pod).ok
