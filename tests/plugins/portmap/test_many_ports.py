"""Many ports: hundreds of one pod are as ordinary as one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.node import Node
from tests.support.pod import Pod
from tests.support.ports import port, portmap, publish, remains, withdraw
from tests.support.rulesets import published

ALL = pytest.mark.all_only
PROTOCOLS = ("tcp", "udp")


def ports(count: int, **more: Any) -> list[dict[str, Any]]:
    """So many ports of each protocol; host port 20000 leads to port 1000, and so on."""
    numbers = range(count)
    return [port(20000 + n, 1000 + n, protocol, **more) for protocol in PROTOCOLS for n in numbers]


@pytest.fixture(params=["root", "rootless"])
def node(request: pytest.FixtureRequest, bin_dir: Path, tmp_path: Path) -> Iterator[Node]:
    """A host, also one in a user namespace, where socket buffers cannot be raised."""
    with Node(bin_dir, tmp_path, rootless=request.param == "rootless") as node:
        yield node


@pytest.fixture(autouse=True)
def _backend(backend: str) -> None:
    pass


def answers(node: Node, pod: Pod, number: int) -> bool:
    """Whether the pod is reached by its host port of that number, by each protocol and family."""
    for protocol in PROTOCOLS:
        node.serve(protocol, 1000 + number, pod.netns, name=pod.name)
    replies = [
        node.ask(protocol, address, 20000 + number)
        for protocol in PROTOCOLS
        for address in ("10.77.0.1", "fd00:77::1")
    ]
    return all(reply and reply.startswith(pod.name) for reply in replies)


@pytest.mark.usefixtures("other")
@pytest.mark.parametrize("count", [150, pytest.param(1000, marks=ALL)])
def test_from_add_to_delete(node: Node, pod: Pod, count: int) -> None:
    """ADD, CHECK, DEL and DEL again of many ports work, and leave what another pod has."""
    everything, before = ports(count), (remains(node), published(node))
    assert node.ask("udp", pod.ipv4, 1000, timeout=0.1) is None  # a connection to look through
    publish(node, pod, *everything)
    assert answers(node, pod, count - 1)
    assert portmap(node, "CHECK", pod, *everything).ok
    withdraw(node, pod)
    withdraw(node, pod)
    assert (remains(node), published(node)) == before


CONDITIONS: dict[str, dict[str, Any]] = {
    "nftables": {
        "conditionsV4": ["ip saddr != 10.9.9.9"],
        "conditionsV6": ["ip6 saddr != fd09::9"],
    },
    "iptables": {"conditionsV4": ["!", "-s", "10.9.9.9"], "conditionsV6": ["!", "-s", "fd09::9"]},
}


@pytest.mark.parametrize("count", [100, pytest.param(1000, marks=ALL)])
def test_with_conditions(node: Node, pod: Pod, count: int) -> None:
    """The same holds for many ports with conditions."""
    keys: dict[str, Any] = CONDITIONS[str(node.backend)]
    publish(node, pod, *ports(count), **keys)
    assert answers(node, pod, count - 1)
    assert portmap(node, "CHECK", pod, *ports(count), **keys).ok
    withdraw(node, pod)
    assert remains(node) == []


@pytest.mark.parametrize("count", [150, pytest.param(1000, marks=ALL)])
def test_taken_over(node: Node, pod: Pod, other: Pod, count: int) -> None:
    """The many ports of a pod whose namespace is gone go over to the next pod that wants them."""
    publish(node, pod, *ports(count))
    node.run("ip", "netns", "delete", pod.name)
    publish(node, other, *ports(count), port(9000))
    assert answers(node, other, count - 1)
    withdraw(node, pod)
    assert len(published(node)) == 4 * count + 2
