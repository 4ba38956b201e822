"""A state directory that others than root may write to, or replace."""

from __future__ import annotations

import pytest

from tests.support.network import Network, remains
from tests.support.node import Node

STRANGE = {
    "chown 1000 /run/cni": "/run/cni belongs to user 1000",
    "chmod 777 /run/cni": "/run/cni can be written to by others",
    "chown 1000 /run/cni; chmod 1777 /run/cni": "/run/cni belongs to user 1000",
    "mkdir /run/cni/pycni; chown 1000 /run/cni/pycni": "/run/cni/pycni belongs to user 1000",
    "mkdir -m 777 /run/cni/pycni": "/run/cni/pycni can be written to by others",
    "mkdir /run/evil; chown 1000 /run/evil; ln -s /run/evil /run/cni/pycni": "belongs to user 1000",
}


@pytest.mark.parametrize("script", STRANGE)
def test_strangers(node: Node, script: str) -> None:
    """ADD refuses such a directory, STATUS has code 50, both name it; DEL succeeds."""
    node.run("sh", "-c", script)
    network = Network(node)
    answer = network.add()
    assert answer.document["code"] == 5
    assert STRANGE[script] in answer.document["msg"]
    status = node.cni("STATUS", "bridge", network.config).document
    assert (status["code"], STRANGE[script] in status["msg"]) == (50, True)
    assert network.delete().ok
    assert [line for line in remains(node) if "veth" in line or ".json" in line] == []
