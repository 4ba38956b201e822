"""Our plugins and the reference plugins in one chain, in each other's places.

The reference plugins are Debian's (package containernetworking-plugins), which do all of their
rules with iptables.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.network import write_plugin
from tests.support.node import Node, Outside
from tests.support.ports import port

REFERENCE = Path("/usr/lib/cni")
OURS = Path("ours")
PLUGINS = ("bridge", "host-local", "portmap")

# Which plugins of a chain are the reference's; the others are ours.
MIXTURES = [("portmap",), ("host-local",), ("bridge",), ("bridge", "host-local")]
each_mixture = pytest.mark.parametrize("reference", MIXTURES, ids="+".join)

CONFLIST: dict[str, Any] = {
    "cniVersion": "1.0.0",
    "name": "net",
    "plugins": [
        {
            "type": "bridge",
            "bridge": "br0",
            "isDefaultGateway": True,
            "ipMasq": True,
            "hairpinMode": True,
            "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.22.0.0/24"}]]},
        },
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ],
}
IPAM = CONFLIST["plugins"][0] | {"cniVersion": "1.0.0", "name": "net"}


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    """A test that was skipped looks like one that passed."""
    for plugin in PLUGINS:
        if not (REFERENCE / plugin).is_file():
            pytest.fail(f"no {REFERENCE / plugin}: install containernetworking-plugins")
    if shutil.which("iptables") is None:
        pytest.fail("the reference plugins need iptables: install it")


def mixed(node: Node, directory: Path, reference: tuple[str, ...]) -> Path:
    """A directory for CNI_PATH that has these of the reference plugins, and the rest of ours."""
    directory.mkdir()
    for plugin in PLUGINS:
        source = REFERENCE if plugin in reference else node.bin_dir
        (directory / plugin).symlink_to(source / plugin)
    return directory


def executables(node: Node, suite: Path) -> Path:
    return node.bin_dir if suite == OURS else suite


def leases(node: Node) -> list[str]:
    names = node.run("ls", "/var/lib/cni/networks/net").stdout.split()
    return [name for name in names if name[0].isdigit()]


@each_mixture
def test_traffic(node: Node, outside: Outside, tmp_path: Path, reference: tuple[str, ...]) -> None:
    """A pod's published port is reached from outside, from the node and from the pod itself."""
    path = mixed(node, tmp_path / "bin", reference)
    pod = node.add_netns("pod")
    answer = node.cnitool("add", CONFLIST, pod, [port()], path=path)
    assert answer.ok, answer
    node.serve("tcp", 80, pod, name="web")
    assert node.ask("tcp", outside.node_ipv4, 8080, outside.netns) == "web 192.0.2.2"
    assert node.ask("tcp", outside.node_ipv4, 8080) == "web 192.0.2.1"
    assert node.ask("tcp", "127.0.0.1", 8080) == "web 10.22.0.1"
    assert node.ask("tcp", outside.node_ipv4, 8080, pod) == "web 10.22.0.1"


@each_mixture
def test_to_outside(
    node: Node, outside: Outside, tmp_path: Path, reference: tuple[str, ...]
) -> None:
    """A pod reaches other hosts with the node's address."""
    path = mixed(node, tmp_path / "bin", reference)
    pod = node.add_netns("pod")
    assert node.cnitool("add", CONFLIST, pod, path=path).ok
    node.serve("tcp", 9000, outside.netns, name="outside")
    assert node.ask("tcp", outside.ipv4, 9000, pod) == "outside 192.0.2.1"


# The reference portmap's own CHECK fails in this version, in a chain of its kind, too.
@pytest.mark.parametrize("reference", MIXTURES[1:], ids="+".join)
def test_check(node: Node, tmp_path: Path, reference: tuple[str, ...]) -> None:
    """CHECK passes."""
    path = mixed(node, tmp_path / "bin", reference)
    pod = node.add_netns("pod")
    assert node.cnitool("add", CONFLIST, pod, [port()], path=path).ok
    answer = node.cnitool("check", CONFLIST, pod, [port()], path=path)
    assert answer.ok, answer


@each_mixture
def test_delete(node: Node, tmp_path: Path, reference: tuple[str, ...]) -> None:
    """DEL frees the address, removes interface and rules, and may be repeated."""
    path = mixed(node, tmp_path / "bin", reference)
    pod = node.add_netns("pod")
    assert node.cnitool("add", CONFLIST, pod, [port()], path=path).ok
    assert leases(node) == ["10.22.0.2"]
    for _ in range(2):
        assert node.cnitool("del", CONFLIST, pod, [port()], path=path).ok
    assert leases(node) == []
    assert node.run("ip", "-o", "link", "show", "type", "veth").stdout == ""
    assert "10.22.0.2" not in node.run("nft", "list", "ruleset").stdout


def test_reference_ipam_is_run(node: Node, tmp_path: Path) -> None:
    """Our bridge runs the host-local that CNI_PATH names, though it has one of its own."""
    path = mixed(node, tmp_path / "bin", ())
    (path / "host-local").unlink()
    write_plugin(path, "host-local", f"touch {tmp_path}/seen; exec {REFERENCE}/host-local")
    assert node.cnitool("add", CONFLIST, node.add_netns("pod"), path=path).ok
    assert (tmp_path / "seen").exists()


# Leases


each_order = pytest.mark.parametrize(
    ("first", "second"),
    [(OURS, REFERENCE), (REFERENCE, OURS)],
    ids=["ours-first", "reference-first"],
)


@each_order
def test_leases_are_honoured(node: Node, first: Path, second: Path) -> None:
    """Neither host-local gives away what the other has leased."""
    given = []
    for number, suite in enumerate((first, second, first, second)):
        request = (IPAM, f"pod{number}", "/none")
        answer = node.cni("ADD", "host-local", *request, path=executables(node, suite))
        given += [ip["address"] for ip in answer.document["ips"]]
    assert given == [f"10.22.0.{host}/24" for host in (2, 3, 4, 5)]


@each_order
def test_leases_are_released(node: Node, first: Path, second: Path) -> None:
    """Each host-local releases, for one interface only, what the other has leased."""
    request = (IPAM, "pod", "/none")
    adds, deletes = executables(node, first), executables(node, second)
    assert node.cni("ADD", "host-local", *request, path=adds, ifname="eth0").ok
    assert node.cni("ADD", "host-local", *request, path=adds, ifname="eth1").ok
    assert node.cni("DEL", "host-local", *request, path=deletes, ifname="eth0").ok
    assert leases(node) == ["10.22.0.3"]


@each_order
def test_leases_are_checked(node: Node, first: Path, second: Path) -> None:
    """Each host-local's CHECK accepts what the other has leased."""
    added = node.cni("ADD", "host-local", IPAM, "pod", "/none", path=executables(node, first))
    config = IPAM | {"prevResult": added.document}
    path = executables(node, second)
    assert node.cni("CHECK", "host-local", config, "pod", "/none", path=path).ok
