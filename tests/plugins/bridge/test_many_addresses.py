"""Many addresses: a pod in hundreds of subnets is as ordinary as one in two."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.network import Network, addresses, remains
from tests.support.node import Node


@pytest.fixture(params=["root", "rootless"])
def node(request: pytest.FixtureRequest, bin_dir: Path, tmp_path: Path) -> Iterator[Node]:
    """A host, also one in a user namespace, where socket buffers cannot be raised."""
    with Node(bin_dir, tmp_path, rootless=request.param == "rootless") as node:
        yield node


@pytest.fixture(autouse=True)
def _backend(backend: str) -> None:
    pass


def range_sets(count: int) -> list[list[dict[str, Any]]]:
    """So many subnets of each family, from each of which a pod gets an address."""
    ipv4 = [[{"subnet": f"10.{n // 250}.{n % 250}.0/24"}] for n in range(count)]
    return ipv4 + [[{"subnet": f"fd00:{n:x}::/64"}] for n in range(count)]


@pytest.mark.parametrize("count", [150, pytest.param(1000, marks=pytest.mark.all_only)])
def test_from_add_to_delete(node: Node, count: int) -> None:
    """ADD, CHECK, DEL and DEL again of a pod with hundreds of addresses work and leave nothing."""
    network = Network(node, ipam={"type": "host-local", "ranges": range_sets(count)})
    pod = network.attach()
    assert len(addresses(node, "eth0", pod.netns)) == 2 * count
    assert network.check(pod).ok
    assert network.delete().ok
    assert network.delete().ok
    assert remains(node) == []


def test_one_network_after_another(node: Node) -> None:
    """The last of many networks takes its own rules away, and the first one's pod stays whole."""
    first = Network(node, ipam={"type": "host-local", "ranges": range_sets(100)})
    subnets = [[{"subnet": f"172.16.{n}.0/24"}] for n in range(100)]
    second = Network(
        node, name="second", bridge="br1", ipam={"type": "host-local", "ranges": subnets}
    )
    pod = first.attach()
    second.attach("b")
    assert second.delete("b").ok
    assert first.check(pod).ok
