"""The start-up discipline where there is something to do: see tests/unit/test_imports.py."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.netns.network import Network, Pod
from tests.netns.node import Node
from tests.unit.test_imports import FORBIDDEN, PROGRAM, creeping

OURS = ("cni", "cni_plugins")
PORTS = [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]


@pytest.fixture
def node(bin_dir: Path, tmp_path: Path) -> Iterator[Node]:
    """A host without an agent: what is loaded is to be the executable's own."""
    with Node(bin_dir, tmp_path, agent=False) as node:
        yield node


@pytest.fixture
def network(node: Node) -> Network:
    """A network with a pod already, whose firewall is there."""
    network = Network(node)
    network.attach("neighbour")
    node.cni(
        "ADD", "portmap", portmap(network, network.attach("other")), "other", "/run/netns/other"
    )
    return network


def portmap(network: Network, pod: Pod) -> dict[str, Any]:
    config = network.config | {"type": "portmap", "prevResult": pod.result}
    return config | {"runtimeConfig": {"portMappings": PORTS}}


def loaded(node: Node, verb: str, name: str, config: dict[str, Any], pod: str = "a") -> set[str]:
    """The modules that a plugin has loaded when it has answered."""
    environ = {"CNI_COMMAND": verb, "CNI_CONTAINERID": pod, "CNI_IFNAME": "eth0"}
    environ |= {"CNI_NETNS": f"/run/netns/{pod}", "CNI_PATH": str(node.bin_dir)}
    command = [sys.executable, "-IS", "-c", PROGRAM, name, ":".join(sys.path), ""]
    done = node.run(*command, env=environ, stdin=json.dumps(config))
    return set(done.stderr.split())


def heavy(modules: set[str]) -> list[str]:
    """Those that take longer to load than a plugin takes to answer."""
    ours = {module for module in modules if module.partition(".")[0] in OURS}
    assert ours
    return creeping(modules, ours)


@pytest.mark.parametrize("verb", ["ADD", "CHECK", "DEL"])
def test_bridge(network: Network, node: Node, verb: str) -> None:
    """Neither an attachment nor its end loads anything heavy, netlink and firewall included."""
    config = network.config
    if verb == "ADD":
        node.add_netns("a")
    else:
        config = config | {"prevResult": network.attach("a").result}
    modules = loaded(node, verb, "bridge", config)
    assert "cni.netlink" in modules
    assert heavy(modules) == []


@pytest.mark.parametrize("verb", ["ADD", "CHECK", "DEL"])
def test_portmap(network: Network, node: Node, verb: str) -> None:
    """Nor does a published port."""
    config = portmap(network, network.attach("a"))
    config["runtimeConfig"] = {"portMappings": [PORTS[0] | {"hostPort": 8081}]}
    if verb != "ADD":
        assert node.cni("ADD", "portmap", config, "a", "/run/netns/a").ok
    modules = loaded(node, verb, "portmap", config)
    assert "cni.firewall.nftables" in modules
    assert heavy(modules) == []


def test_forbidden() -> None:
    """What was heavy once is on the list."""
    assert {"ctypes", "json", "pyroute2", "re", "socket", "typing"} <= FORBIDDEN
