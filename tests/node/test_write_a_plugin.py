"""docs/write-a-plugin.md: the plugin that it builds works, and what it shows is what happens."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.network import remains, sysctl
from tests.support.node import Answer, Node, find_cnitool
from tests.support.pages import commands, fenced

PAGE = "write-a-plugin.md"
PLUGIN, TEST = fenced(PAGE, "python")
SCHEMA, CONFLIST_TEXT, *ERRORS = fenced(PAGE, "json")
CONFLIST = json.loads(CONFLIST_TEXT)
PORT_RANGE = "net/ipv4/ip_local_port_range"
USUAL = "32768\t60999"

# What the page's commands presuppose; whatever they write stays in the node.
_INSTALLED = """
mount -t tmpfs tmpfs /opt
mount -t tmpfs tmpfs /etc/cni
ln -s {venv} /opt/pycni
mkdir -p /opt/cni/bin /etc/cni/net.d
cp {bin_dir}/* /opt/cni/bin
cp {page}/conflist /etc/cni/net.d/20-tuned.conflist
PATH=$PATH:{tools}
cd {page}
"""


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """A folder with the page's plugin and schema, for the Python that runs the tests."""
    folder = tmp_path / "page"
    folder.mkdir()
    (folder / "sysctl").write_text(PLUGIN.replace("/opt/pycni/bin/python3", sys.executable))
    (folder / "sysctl").chmod(0o755)
    (folder / "sysctl.json").write_text(SCHEMA)
    (folder / "conflist").write_text(CONFLIST_TEXT)
    return folder


def ask(node: Node, page: Path, verb: str, *parameters: tuple[str, Any], **keys: Any) -> Answer:
    """Run the plugin by itself, as a runtime does."""
    wanted = [{"name": name, "value": value} for name, value in parameters]
    config = {"cniVersion": "1.0.0", "name": "tuned", "sysctls": wanted, "prevResult": {}} | keys
    return node.cni(verb, "sysctl", config, "pod", "/run/netns/pod", path=page)


def test_size() -> None:
    """The plugin has 40 lines at most."""
    assert 20 < len(PLUGIN.splitlines()) <= 40


def test_the_test_of_the_page() -> None:
    """The page shows a test that is run: it stands here."""
    assert TEST in Path(__file__).read_text()


def test_add(node: Node, page: Path) -> None:
    """In a chain, ADD sets the pod's parameters and nobody else's, and hands the result on."""
    netns, other = node.add_netns("pod"), node.add_netns("other")
    answer = node.cnitool("add", CONFLIST, netns, path=f"{page}:{node.bin_dir}")
    assert [ip["address"] for ip in answer.document["ips"]] == ["10.24.0.2/24"]
    assert len(answer.document["interfaces"]) == 3
    assert sysctl(node, PORT_RANGE, netns) == "20000\t60999"
    assert sysctl(node, "net/ipv4/conf/eth0/arp_filter", netns) == "1"
    assert {sysctl(node, PORT_RANGE, at) for at in (None, other)} == {USUAL}


def test_check(node: Node, page: Path) -> None:
    """CHECK passes after ADD, and names what somebody has changed since."""
    path = f"{page}:{node.bin_dir}"
    netns = node.add_netns("pod")
    assert node.cnitool("add", CONFLIST, netns, path=path).ok
    assert sysctl(node, PORT_RANGE, netns) == "20000\t60999"
    assert node.cnitool("check", CONFLIST, netns, path=path).ok
    node.run("sysctl", "-w", f"{PORT_RANGE}=1024 60999", netns=netns)
    answer = node.cnitool("check", CONFLIST, netns, path=path)
    assert "ip_local_port_range is 1024 60999 instead of 20000 60999" in answer.stderr


@pytest.mark.parametrize("gone", [False, True])
def test_delete(node: Node, page: Path, *, gone: bool) -> None:
    """DEL of the chain leaves nothing, may be repeated, and needs no namespace."""
    path = f"{page}:{node.bin_dir}"
    netns = node.add_netns("pod")
    assert node.cnitool("add", CONFLIST, netns, path=path).ok
    if gone:
        node.run("ip", "netns", "delete", "pod")
    for _ in range(2):
        assert node.cnitool("del", CONFLIST, netns, path=path).ok
    assert remains(node) == []


def test_wrong_key_in_a_chain(node: Node, page: Path) -> None:
    """cnitool is told the key, its value and what is allowed; nothing has been set."""
    bridge, tuned = CONFLIST["plugins"]
    sysctls = [*tuned["sysctls"], {"name": "kernel.hostname", "value": "x"}]
    conflist = CONFLIST | {"plugins": [bridge, tuned | {"sysctls": sysctls}]}
    netns, path = node.add_netns("pod"), f"{page}:{node.bin_dir}"
    answer = node.cnitool("add", conflist, netns, path=path)
    assert not answer.ok
    assert 'sysctls[2].name: "kernel.hostname" is not allowed' in answer.stderr
    assert "allowed: a parameter of a network namespace" in answer.stderr
    assert sysctl(node, PORT_RANGE, netns) == USUAL
    assert node.cnitool("del", conflist, netns, path=path).ok
    assert remains(node) == []


def test_errors(node: Node, page: Path) -> None:
    """Errors look as the page shows them."""
    node.run("sysctl", "-w", f"{PORT_RANGE}=1024 60999", netns=node.add_netns("pod"))
    answers = [
        ask(node, page, "CHECK", ("net.ipv4.ip_local_port_range", "20000 60999")),
        ask(node, page, "ADD", ("kernel.hostname", "x")),
        ask(node, page, "ADD", ("net.core.nothing", "1")),
    ]
    assert [answer.document for answer in answers] == [json.loads(error) for error in ERRORS]
    assert {answer.code for answer in answers} == {1}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"sysctls": None}, "sysctls: missing"),
        ({"sysctls": [{"name": "net.core.somaxconn"}]}, "sysctls[0].value: missing"),
        ({"sysctls": [{"name": "net.x", "value": 5}]}, "sysctls[0].value: 5 is not allowed"),
        ({"prevResult": None}, "prevResult: missing"),
    ],
)
def test_refusal(node: Node, page: Path, keys: dict[str, Any], message: str) -> None:
    """What is missing or of another type is named."""
    node.add_netns("pod")
    answer = ask(node, page, "ADD", **keys)
    assert (answer.document["code"], answer.document["msg"]) == (7, message)


def test_value_that_the_kernel_refuses(node: Node, page: Path) -> None:
    """A value that the kernel refuses is an error that names the parameter."""
    node.add_netns("pod")
    answer = ask(node, page, "ADD", ("net.ipv4.ip_local_port_range", "many"))
    assert answer.document["code"] == 5
    assert PORT_RANGE in answer.document["msg"]


@pytest.mark.parametrize("runtime", ["cnitool", "/opt/pycni/bin/python3 -m cni.client"])
def test_commands(node: Node, page: Path, runtime: str) -> None:
    """The page's commands do what it says; of them, the CHECK after the change alone fails."""
    cnitool = find_cnitool()
    assert cnitool
    venv = Path(sys.executable).parents[1]
    tools = f"{Path(cnitool).parent}:/usr/sbin"
    setup = _INSTALLED.format(venv=venv, bin_dir=node.bin_dir, page=page, tools=tools)
    (page / "sysctl").write_text(PLUGIN)
    lines = [line.replace("cnitool", runtime) for line in commands(PAGE)]
    told = [f"{line} || echo FAILED: '{line}'" for line in lines]
    printed = node.run("sh", "-c", "\n".join([setup, *told])).stdout
    assert "ip_local_port_range = 20000\t60999" in printed
    failed = [line for line in printed.splitlines() if line.startswith("FAILED")]
    assert failed == [f"FAILED: {runtime} check tuned /run/netns/pod"]
    assert remains(node) == []
