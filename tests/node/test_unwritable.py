"""Where state or leases cannot be written: DEL with nothing to do needs no place to write to."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.network import IPV4, Network, remains
from tests.support.node import Answer, Node
from tests.support.ports import port

PLUGINS = ("bridge", "host-local", "portmap", "loopback")
STATE, LEASES = "/run/cni", "/var/lib/cni"

# How a directory may be, by what the kernel says of it. The first file of a tmpfs is its root.
UNWRITABLE = {
    "Read-only file system": "mount -t tmpfs -o ro tmpfs {}",
    "No space left on device": "mount -t tmpfs -o nr_inodes=1 tmpfs {}",
    "Not a directory": "mount -t tmpfs tmpfs {0}; touch {0}/pycni {0}/networks",
}

# Times of directories change with each file that comes or goes.
_FILES = "find /run/cni /var/lib/cni -printf '%p %y %T@ %C@\\n' | sort"


def files(node: Node) -> str:
    return node.run("sh", "-c", _FILES).stdout


def request(node: Node, verb: str, plugin: str, **keys: Any) -> Answer:
    network = Network(node, ipam=IPV4, **keys)
    prev_result = {"cniVersion": "1.1.0", "ips": [{"address": "10.22.0.9/24"}]}
    published = {"portMappings": [port(8080)]}
    config = network.config | {"prevResult": prev_result, "runtimeConfig": published}
    return node.cni(verb, plugin, config, "never", "/run/netns/never")


@pytest.mark.parametrize("plugin", PLUGINS)
@pytest.mark.parametrize("neighbour", [False, True])
def test_nothing_to_remove(node: Node, plugin: str, neighbour: bool) -> None:
    """A DEL of what never was writes nothing: no directory, no file, no lock."""
    if neighbour:
        Network(node, ipam=IPV4).attach()
    before = files(node)
    assert request(node, "DEL", plugin).ok
    assert files(node) == before


@pytest.mark.parametrize("plugin", ["bridge", "host-local", "portmap"])
def test_nothing_to_collect(node: Node, plugin: str) -> None:
    """So does a GC when all attachments are valid."""
    Network(node, ipam=IPV4).attach()
    before = files(node)
    valid = {"cni.dev/valid-attachments": [{"containerID": "a", "ifname": "eth0"}]}
    assert request(node, "GC", plugin, **valid).ok
    assert files(node) == before


@pytest.mark.parametrize("plugin", PLUGINS)
@pytest.mark.parametrize("how", UNWRITABLE)
def test_delete(node: Node, plugin: str, how: str) -> None:
    """A DEL of what never was succeeds where nothing can be written."""
    for directory in (STATE, LEASES):
        node.run("sh", "-c", UNWRITABLE[how].format(directory))
    answer = request(node, "DEL", plugin)
    assert (answer.code, answer.document, answer.stderr) == (0, None, "")


@pytest.mark.parametrize("how", UNWRITABLE)
@pytest.mark.parametrize(
    ("plugin", "directory"),
    [("bridge", STATE), ("portmap", STATE), ("bridge", LEASES), ("host-local", LEASES)],
)
def test_add(node: Node, plugin: str, directory: str, how: str) -> None:
    """An ADD fails with code 5, path and reason, without a traceback, and leaves nothing."""
    node.run("sh", "-c", UNWRITABLE[how].format(directory))
    node.add_netns("never")
    answer = request(node, "ADD", plugin)
    assert (answer.code, answer.document["code"]) == (1, 5), answer
    said = f"{answer.document['msg']} {answer.document.get('details')}"
    assert directory in said
    assert how in said or "File exists" in said
    assert answer.stderr == ""
    assert [path for path in remains(node) if path.count("/") > 3] == []


@pytest.mark.parametrize("how", UNWRITABLE)
@pytest.mark.parametrize(
    ("plugin", "directory"),
    [("bridge", STATE), ("portmap", STATE), ("bridge", LEASES), ("host-local", LEASES)],
)
def test_status(node: Node, plugin: str, directory: str, how: str) -> None:
    """STATUS says that no ADD can be served, with the path and the reason."""
    node.run("sh", "-c", UNWRITABLE[how].format(directory))
    answer = request(node, "STATUS", plugin)
    assert (answer.code, answer.document["code"]) == (1, 50), answer
    said = f"{answer.document['msg']} {answer.document.get('details')}"
    assert directory in said
    assert how.lower() in said.lower() or "is not a directory" in said


def test_another_place_is_suggested(node: Node) -> None:
    """Where the default cannot be written, the error says how to name another directory."""
    node.run("sh", "-c", UNWRITABLE["Read-only file system"].format(STATE))
    node.add_netns("never")
    answer = request(node, "ADD", "bridge")
    assert "PYCNI_STATE" in answer.document["details"]
    assert "/etc/pycni/pycni.toml" in answer.document["details"]


@pytest.mark.parametrize("options", ["ro", "nr_inodes=1", "nr_inodes=4"])
def test_within_the_state_directory(node: Node, options: str) -> None:
    """Also within the state directory the whole path is named, and nothing is left."""
    state = f"{STATE}/pycni"
    node.run("sh", "-ec", f"mkdir {state}; mount -t tmpfs -o {options} tmpfs {state}")
    node.add_netns("never")
    document = request(node, "ADD", "bridge").document
    assert document["code"] == 5
    assert document["msg"].startswith(f"{state}/attachments/net/never/eth0: ")
    assert remains(node) == []
