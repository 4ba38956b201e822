"""What the plugins' READMEs say that ADD creates, by name."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.support.network import Network, remains
from tests.support.node import ROOT, Node
from tests.support.ports import port

# What the READMEs' placeholders stand for here.
_HERE = {
    "<network>": "net",
    "<container ID>": "a",
    "<interface>": "eth0",
    "<address>": "10.22.0.2",
}
PORTS = [port(), port(53, 53, "udp", hostIP="127.0.0.1"), port(54, 53, "udp", hostIP="::1")]


def named(plugin: str) -> list[str]:
    """What is set in code in a README's paragraph about ADD."""
    readme = (ROOT / f"plugins/{plugin}/README.md").read_text()
    text = readme.partition("**ADD** creates")[2].partition("**CHECK**")[0]
    for placeholder, name in _HERE.items():
        text = text.replace(placeholder, name)
    return re.findall(r"`([^`\n]+)`", text)


def attach(network: Network) -> dict[str, Any]:
    """Add pod `a`, and PORTS of it. Returns portmap's configuration."""
    pod = network.attach("a")
    runtime_config = {"portMappings": PORTS}
    config = {"cniVersion": "1.0.0", "name": "net", "prevResult": pod.result}
    config["runtimeConfig"] = runtime_config
    answer = network.node.cni("ADD", "portmap", config, "a", pod.netns)
    assert answer.ok, answer
    return config


@pytest.mark.parametrize("plugin", ["bridge", "portmap"])
def test_firewall(node: Node, plugin: str) -> None:
    """Every nftables set, map and chain that a README names is there after ADD."""
    attach(Network(node))
    ruleset = node.json("nft", "-j", "list", "table", "inet", "pycni")["nftables"]
    made = {
        item[kind]["name"] for item in ruleset for kind in ("set", "map", "chain") if kind in item
    }
    pattern = re.compile(r"(network|hairpin)-\w+|[a-z-]+-ip6?|networks|hairpins")
    wanted = {name for name in named(plugin) if pattern.fullmatch(name)}
    assert len(wanted) >= 4
    assert wanted - made == set()


@pytest.mark.parametrize("plugin", ["bridge", "portmap"])
def test_files(node: Node, plugin: str) -> None:
    """Every file below /run that a README names is there after ADD, and gone after DEL."""
    network = Network(node)
    config = attach(network)
    paths = [name for name in named(plugin) if name.startswith("/run/")]
    assert len(paths) >= 2
    node.run("ls", "-d", *paths)
    assert node.cni("DEL", "portmap", config, "a").ok
    assert network.delete().ok
    assert remains(node) == []
