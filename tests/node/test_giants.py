"""Start-up: the two giants among the modules are loaded by the few requests that need them."""

from __future__ import annotations

import json
import sys

import pytest

from tests.support.network import Network
from tests.support.node import Node

GIANTS = {"jsonschema", "pyroute2"}

# Runs a plugin as its executable does, and tells what it has loaded at the end.
_PROGRAM = """
import os, posix, sys
name, sys.path[:] = sys.argv[1], sys.argv[2].split(":")
end = posix._exit
posix._exit = lambda code: (os.write(2, " ".join(sys.modules).encode()), end(code))
from pycni.launcher import run
run(name)
"""


@pytest.mark.parametrize("verb", ["VERSION", "ADD", "CHECK", "DEL", "STATUS"])
def test_no_giants(node: Node, verb: str) -> None:
    """No request that is plainly allowed loads jsonschema or pyroute2."""
    network = Network(node)
    config = network.config | {"ipMasqBackend": "nftables"}
    if verb in ("CHECK", "DEL"):
        config |= {"prevResult": network.attach("a").result}
    else:
        node.add_netns("a")
    environ = {"CNI_COMMAND": verb, "CNI_CONTAINERID": "a", "CNI_IFNAME": "eth0"}
    environ |= {"CNI_NETNS": "/run/netns/a", "CNI_PATH": str(node.bin_dir)}
    command = [sys.executable, "-IS", "-c", _PROGRAM, "bridge", ":".join(sys.path)]
    loaded = node.run(*command, env=environ, stdin=json.dumps(config)).stderr.split()
    assert "cni_plugins.bridge.main" in loaded
    assert GIANTS.isdisjoint(loaded)
