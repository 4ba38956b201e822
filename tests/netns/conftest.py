from __future__ import annotations

import pytest

from tests.netns.node import Node
from tests.netns.ports import Pod, add_pod, port, publish


@pytest.fixture
def pod(node: Node) -> Pod:
    """A container wired by hand."""
    return add_pod(node)


@pytest.fixture
def other(node: Node) -> Pod:
    """Another one, which has port 9000."""
    other = add_pod(node, 3)
    publish(node, other, port(9000))
    return other
