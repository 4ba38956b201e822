"""The rooms: who may import whom. docs/architecture.md describes them."""

from __future__ import annotations

from graphlib import TopologicalSorter

import pytest

from tests.support.pages import DOCS
from tests.support.rooms import MODULES, draw, floor, imports


def wrong(module: str, source: str) -> list[str]:
    """The imports that lead up."""
    return sorted(other for other in imports(source) if floor(other) > floor(module))


@pytest.mark.parametrize("module", MODULES)
def test_arrows(module: str) -> None:
    """A room imports only rooms below it; nothing in cni imports pycni."""
    assert wrong(module, MODULES[module].read_text()) == []


def test_no_circle() -> None:
    """No module imports, by way of others, itself."""
    graph = {module: imports(path.read_text()) for module, path in MODULES.items()}
    TopologicalSorter(graph).prepare()


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("cni.result", "from pycni.state import locks"),
        ("cni.net.sysctl", "def f():\n    from cni import plugin"),
        ("pycni.state.locks", "import pycni.firewall.nftables.query"),
        ("pycni.migrate.reference", "from pycni.firewall import HostPort"),
        ("pycni.firewall.backend", "from cni_plugins.bridge.main import PLUGIN"),
    ],
)
def test_a_planted_import_is_noticed(module: str, line: str) -> None:
    """An import that leads up is named, wherever it stands."""
    assert len(wrong(module, line)) == 1


def test_the_picture_is_true() -> None:
    """The picture of the rooms shows the imports that there are; `scripts/draw-rooms` draws it."""
    assert (DOCS / "architecture/rooms.dot").read_text() == draw()
