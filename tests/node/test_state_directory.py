"""Where state is kept: what environment and settings say, on a node."""

from __future__ import annotations

import sys

import pytest

from tests.support.network import Network
from tests.support.node import Node

ELSEWHERE = "/run/elsewhere/pycni"
PYCNI = f"{sys.prefix}/bin/pycni"


@pytest.fixture
def asked(node: Node, request: pytest.FixtureRequest) -> dict[str, str]:
    """The environment of requests for which state is elsewhere, by themselves or by settings."""
    if request.param == "environment":
        return {"PYCNI_STATE": ELSEWHERE}
    node.run("sh", "-ec", "cp -a /etc /run/etc; mount --bind /run/etc /etc; mkdir -p /etc/pycni")
    node.run("tee", "/etc/pycni/pycni.toml", stdin=f'stateDirectory = "{ELSEWHERE}"\n')
    return {}


@pytest.mark.parametrize("asked", ["environment", "settings"], indirect=True)
def test_all_state_is_there(node: Node, asked: dict[str, str]) -> None:
    """Records, claims, locks and indexes are where they are asked for, and nowhere else."""
    network = Network(node)
    pod = network.attach(**asked)
    assert node.run("find", "/run/cni", "-mindepth", "1").stdout == ""
    names = node.run("ls", ELSEWHERE).stdout.split()
    assert {"attachments", "claims", "leases"} <= set(names)
    checked = network.config | {"prevResult": pod.result}
    assert node.cni("CHECK", "bridge", checked, pod.name, pod.netns, **asked).ok
    listed = node.run(PYCNI, "list", env=asked).stdout
    assert "net/a/eth0" in listed
    assert network.delete(**asked).ok
    assert node.run("find", ELSEWHERE, "!", "-type", "d").stdout == ""


def test_second_directory(node: Node) -> None:
    """While pods are attached, another directory is refused, both are named, nothing changes."""
    network = Network(node)
    pod = network.attach("a")
    elsewhere = {"PYCNI_STATE": ELSEWHERE}
    document = network.add("b", **elsewhere).document
    assert document["code"] == 4
    assert ELSEWHERE in document["msg"]
    assert "state in /run/cni/pycni" in document["msg"]
    repaired = node.run(PYCNI, "repair", env=elsewhere, check=False)
    assert (repaired.returncode, repaired.stdout) == (1, "")
    assert network.delete("b", **elsewhere).ok
    assert network.check(pod).ok


def test_next_directory(node: Node) -> None:
    """When the last pod is gone, the next one's directory may be another."""
    network = Network(node)
    network.attach("a")
    assert network.delete("a").ok
    pod = network.attach("b", PYCNI_STATE=ELSEWHERE)
    checked = network.config | {"prevResult": pod.result}
    assert node.cni("CHECK", "bridge", checked, "b", pod.netns, PYCNI_STATE=ELSEWHERE).ok


def test_lost_state(node: Node) -> None:
    """State that was lost is made again in its place."""
    network = Network(node)
    network.attach("a")
    node.run("rm", "-r", "/run/cni/pycni")
    assert network.check(network.attach("b")).ok
