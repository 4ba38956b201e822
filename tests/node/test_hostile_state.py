"""State directories in which somebody else has put something."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.network import IPV4, Network, remains
from tests.support.node import Node

PYCNI = Path(sys.executable).with_name("pycni")
STATE, LEASES = "/run/cni/pycni", "/var/lib/cni/networks/net"

# What is put where a directory of state is to be, or was.
IN_THE_WAY = ["ln -s /nowhere", "ln -s /run/netns", "mkfifo", "touch"]
PLACES = [f"{STATE}/attachments", f"{STATE}/attachments/net", f"{STATE}/claims"]


@pytest.fixture
def network(node: Node) -> Network:
    return Network(node, ipam=IPV4)


@pytest.mark.parametrize("command", IN_THE_WAY)
@pytest.mark.parametrize("place", PLACES)
def test_something_in_the_way(network: Network, node: Node, place: str, command: str) -> None:
    """What is in the way of a directory of state is removed; ADD and DEL work, and nobody waits."""
    node.run("sh", "-ec", f"mkdir -p $(dirname {place}); {command} {place}")
    pod = network.attach()
    assert network.check(pod).ok
    assert network.delete().ok
    assert remains(node) == []


@pytest.mark.parametrize("command", IN_THE_WAY)
@pytest.mark.parametrize("place", PLACES)
def test_something_instead(network: Network, node: Node, place: str, command: str) -> None:
    """Where it has taken the place of an attachment's state, DEL succeeds; repair does the rest."""
    network.attach()
    node.run("sh", "-ec", f"rm -r {place}; {command} {place}")
    answer = network.delete()
    assert answer.ok, answer
    node.run(PYCNI, "repair")
    assert [line for line in remains(node) if line not in PLACES] == []
    assert node.run("sh", "-c", f"find {STATE} -path '*/claims/*'").stdout == ""
    assert node.run("ls", "/run/netns").stdout == "a\n"


@pytest.mark.parametrize("command", ["ln -s /nowhere", "ln -s /run/file", "mkfifo", "mkdir"])
@pytest.mark.parametrize("name", ["lock", "unfinished"])
def test_no_file_among_the_leases(network: Network, node: Node, name: str, command: str) -> None:
    """What is no plain file, in place of one of host-local's, is removed; nothing waits for it."""
    node.run("sh", "-ec", f"touch /run/file; mkdir -p {LEASES}; {command} {LEASES}/{name}")
    network.attach()
    node.run("sh", "-ec", f"rm -f {LEASES}/{name}; {command} {LEASES}/{name}")
    assert network.delete().ok
    assert remains(node) == []
    assert node.run("ls", "/run/file").stdout == "/run/file\n"


@pytest.mark.parametrize("target", ["nowhere", "../attachments/net", "a/b/c"])
def test_claims_that_name_nobody(network: Network, node: Node, target: str) -> None:
    """Claims that name no attachment keep neither DEL nor the next ADD from succeeding."""
    network.attach("a")
    node.run("sh", "-ec", f"cd {STATE}/claims; for f in *; do ln -sfn {target} $f; done")
    other = network.attach("b")
    assert [network.delete("a").code, network.check(other).code] == [0, 0]
    assert network.delete("b").ok
    assert remains(node) == []
    assert node.run("ls", f"{STATE}/claims").stdout == ""
