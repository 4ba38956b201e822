"""What CHECK and DEL need, and what a repeated ADD does."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from tests.support.network import IPV4, Network, write_plugin
from tests.support.node import Node
from tests.support.pod import Pod
from tests.support.ports import (
    BOTH,
    OTHERS,
    add_pod,
    fails,
    port,
    portmap,
    publish,
    remains,
    route_localnet,
    wired,
    withdraw,
)
from tests.support.rulesets import published

pytestmark = pytest.mark.usefixtures("backend")

# CHECK and DEL


def test_check(node: Node, pod: Pod) -> None:
    """CHECK passes after ADD, silently, for several ports of both families."""
    ports = (port(), port(8081, 81, "udp", hostIP="192.0.2.1"), port(8082, 80, "sctp"))
    publish(node, pod, *ports)
    answer = portmap(node, "CHECK", pod, *ports)
    assert (answer.code, answer.document, answer.stderr) == (0, None, "")


def test_check_names_what_was_never_added(node: Node, pod: Pod) -> None:
    """CHECK fails for a port that ADD was not asked for."""
    publish(node, pod, port())
    assert fails(portmap(node, "CHECK", pod, port(), port(9000)), "0.0.0.0:9000/tcp")


def test_check_names_who_has_the_port(node: Node, pod: Pod, other: Pod) -> None:
    """CHECK fails for a port that another attachment has, and names it."""
    assert fails(portmap(node, "CHECK", pod, port(9000)), "0.0.0.0:9000/tcp", "net/pod3/eth0")
    assert published(node) == OTHERS
    assert other.name == "pod3"


@pytest.mark.parametrize("netns", [None, "", "/run/netns/gone", "/etc/hostname", "/proc/1/ns/net"])
def test_delete_needs_little(node: Node, pod: Pod, netns: str | None) -> None:
    """DEL needs no namespace, no prevResult, no runtimeConfig; a second one is fine."""
    publish(node, pod, port(), port(53, 53, "udp"))
    config = {"cniVersion": "1.0.0", "name": "net", "type": "portmap"}
    for _ in range(2):
        answer = node.cni("DEL", "portmap", config, pod.name, netns)
        assert (answer.code, answer.document, answer.stderr) == (0, None, "")
        assert not remains(node)


@pytest.mark.parametrize(
    "keys",
    [
        {"prevResult": {"ips": "none"}},
        {"prevResult": {"ips": [{"address": "10.99.0.9/24"}]}},
        {"runtimeConfig": {"portMappings": [{"hostPort": 0}]}},
        {"runtimeConfig": {"portMappings": [port(1234)]}},
        {"snat": "perhaps", "backend": "iptables"},
    ],
)
def test_delete_ignores_the_configuration(node: Node, pod: Pod, keys: dict[str, Any]) -> None:
    """DEL removes what ADD did, whatever the configuration says by now."""
    publish(node, pod, port())
    assert portmap(node, "DEL", pod, port(), **keys).ok
    assert not remains(node)


def test_delete_before_any_add(node: Node, pod: Pod) -> None:
    """DEL of what never was is fine, and makes nothing."""
    withdraw(node, pod)
    assert not remains(node)


def test_delete_leaves_others(node: Node, pod: Pod, other: Pod) -> None:
    """DEL removes one attachment's ports and no others."""
    publish(node, pod, port())
    withdraw(node, pod)
    assert published(node) == OTHERS
    assert portmap(node, "CHECK", other, port(9000)).ok


def test_all_at_once(node: Node) -> None:
    """Pods that are deleted at the same time leave nothing, whichever of them is the last."""
    pods = [add_pod(node, number) for number in range(2, 10)]
    with ThreadPoolExecutor(len(pods)) as pool:
        list(pool.map(lambda pod: publish(node, pod, port(8000 + int(pod.name[3:]))), pods))
        assert len(published(node)) == 2 * len(pods)
        list(pool.map(lambda pod: withdraw(node, pod), pods))
    assert not remains(node)
    assert route_localnet(node) == "0"


def test_two_interfaces(node: Node, pod: Pod) -> None:
    """DEL of one interface of a container leaves the other one's ports."""
    second = deepcopy(pod.result)
    second["interfaces"][0]["name"] = "eth1"
    publish(node, pod, port())
    publish(node, pod, port(9000), prevResult=second, ifname="eth1")
    withdraw(node, pod)
    assert set(published(node)) == {"ip tcp 9000", "ip6 tcp 9000"}
    assert portmap(node, "CHECK", pod, port(9000), prevResult=second, ifname="eth1").ok


def test_two_networks(node: Node, pod: Pod) -> None:
    """DEL of one network of a container leaves the other one's ports."""
    second = wired(pod.name, pod.netns, 9)
    publish(node, pod, port())
    publish(node, second, port(9000), network="second")
    withdraw(node, pod)
    assert set(published(node)) == {"ip tcp 9000", "ip6 tcp 9000"}
    assert portmap(node, "CHECK", second, port(9000), network="second").ok


@pytest.mark.parametrize("name", ["a", "net_1.x-y", "n" * 200])
def test_network_names(node: Node, pod: Pod, name: str) -> None:
    """A network may have any name that the specification allows."""
    publish(node, pod, port(), network=name)
    assert portmap(node, "CHECK", pod, port(), network=name).ok
    assert portmap(node, "DEL", pod, network=name).ok
    assert not remains(node)


# A bridge plugin that tells what there is when its DEL comes.
_WITNESS = """
if [ $CNI_COMMAND = DEL ]; then
    ip -o link show type veth
    nft list ruleset
fi >{log}
exec {bridge}
"""


def test_order_of_delete(node: Node, tmp_path: Path) -> None:
    """In a chain, nothing leads to a pod any more before its interface goes."""
    network = Network(node, name="net", ipam=IPV4).config
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}, "backend": node.backend}
    conflist = {"cniVersion": "1.0.0", "name": "net", "plugins": [network, portmap]}
    log = tmp_path / "log"
    witness = _WITNESS.format(log=log, bridge=node.bin_dir / "bridge")
    write_plugin(tmp_path / "witness", "bridge", witness)
    path = f"{tmp_path}/witness:{node.bin_dir}"
    pod = node.add_netns("pod")
    assert node.cnitool("add", conflist, pod, [port()], path=path).ok
    assert published(node) == {"ip tcp 8080": "10.22.0.2 80"}
    assert node.cnitool("del", conflist, pod, [port()], path=path).ok
    seen = log.read_text()
    assert "veth" in seen
    assert "hostports" in seen.lower()
    assert "8080" not in seen


# Repeated ADD


def test_repeated_add(node: Node, pod: Pod) -> None:
    """A second ADD changes nothing."""
    publish(node, pod, port())
    before = node.run("nft", "-s", "list", "ruleset").stdout
    publish(node, pod, port())
    assert node.run("nft", "-s", "list", "ruleset").stdout == before
    withdraw(node, pod)
    assert not remains(node)


def test_repeated_add_with_another_target(node: Node, pod: Pod) -> None:
    """A second ADD that has the port lead elsewhere counts."""
    publish(node, pod, port(8080, 80))
    publish(node, pod, port(8080, 81))
    assert published(node) == {"ip tcp 8080": "10.77.0.2 81", "ip6 tcp 8080": "fd00:77::2 81"}
    withdraw(node, pod)
    assert not remains(node)


def test_repeated_add_with_other_ports(node: Node, pod: Pod, other: Pod) -> None:
    """What a first ADD published and a second one does not is removed by DEL as well."""
    publish(node, pod, port(8080))
    publish(node, pod, port(8081))
    withdraw(node, pod)
    assert published(node) == OTHERS
    assert other.name == "pod3"


def test_repeated_add_that_is_refused(node: Node, pod: Pod, other: Pod) -> None:
    """A second ADD that is refused leaves what the first one did."""
    publish(node, pod, port())
    assert not portmap(node, "ADD", pod, port(8080, 81), port(9000)).ok
    assert published(node) == BOTH | OTHERS
    assert portmap(node, "CHECK", pod, port()).ok
    withdraw(node, pod)
    withdraw(node, other)
    assert not remains(node)
