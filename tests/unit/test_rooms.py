"""The rooms: who may import whom. docs/architecture.md describes them.

Imports inside functions count, those for type checkers alone do not: they are gone at run time.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.support.node import ROOT

# From the bottom to the top: a room imports only rooms below it, and its own modules. The longest
# name that fits is a module's room; firewall.entries and vocabulary are what migrate speaks in.
ROOMS = [
    ["cni.__init__"],
    ["cni.errors", "cni.namedtuple", "cni.jsontext", "cni.log", "cni.versions"],
    ["cni.net.addresses", "cni.result"],
    ["cni.net"],
    ["cni"],
    ["cni.plugin", "cni.delegate"],
    ["cni.client", "cni.testing"],
    ["pycni.state"],
    ["pycni.firewall.entries", "pycni.firewall.vocabulary"],
    ["pycni.migrate"],
    ["pycni.firewall"],
    ["pycni.attach"],
    ["pycni.names", "pycni.cluster"],
    ["cni_plugins"],
    ["pycni"],
    ["pycni.agent", "pycni.cli"],
]
FOLDERS = {"cni": "cni", "pycni": "pycni", "cni_plugins": "plugins"}


def modules() -> Iterator[tuple[str, Path]]:
    """Every module's name and file."""
    for package, folder in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            inside = path.relative_to(ROOT / folder).with_suffix("")
            yield ".".join([package, *inside.parts]).replace("-", "_"), path


MODULES = dict(modules())


def imports(source: str) -> set[str]:
    """The modules of ours that a source imports when it runs."""
    tree = ast.parse(source)
    unseen = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for child in ast.walk(node)
    }
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node not in unseen:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import) and node not in unseen:
            names |= {alias.name for alias in node.names}
    return {module for name in names if (module := _module(name))}


def _module(name: str) -> str | None:
    """The module that a dotted name is, or is in; None if that is not ours."""
    for candidate in (name, f"{name}.__init__", name.rpartition(".")[0]):
        if candidate in MODULES:
            return candidate
    parent = f"{name.rpartition('.')[0]}.__init__"
    return parent if parent in MODULES else None


def rank(module: str) -> int:
    """The floor of the room that a module is in."""
    floors = {room: floor for floor, rooms in enumerate(ROOMS) for room in rooms}
    fitting = [room for room in floors if module == room or module.startswith(f"{room}.")]
    return floors[max(fitting, key=len)]


def wrong(module: str, source: str) -> list[str]:
    """The imports that lead up."""
    return sorted(other for other in imports(source) if rank(other) > rank(module))


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
