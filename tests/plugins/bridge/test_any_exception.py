"""ADDs in which any of our functions fails."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.network import Network
from tests.support.node import Node

SCRIPT = Path(__file__).parents[2] / "support/fail_anywhere.py"
# A prime, so that the calls of a loop are met at another place each time.
EVERY = 97


def fail_anywhere(node: Node, plugin: str, config: Any, first: int, step: int) -> Any:
    """Run the script on the node, with the installed project."""
    environ = {"CNI_PATH": str(node.bin_dir), "PYTHONPATH": ""}
    argv = (sys.executable, "-I", SCRIPT, plugin, str(first), str(step))
    return json.loads(node.run(*argv, env=environ, stdin=json.dumps(config)).stdout)


@pytest.mark.parametrize("first", [1, 20])
def test_any_function_fails(node: Node, first: int) -> None:
    """Whatever exception an ADD meets, wherever, it leaves everything or nothing."""
    node.add_netns("a")
    found = fail_anywhere(node, "bridge", Network(node).config, first, EVERY)
    assert found["wrong"] == []
    assert found["failed"] > 10
