"""The rooms of the house: which modules there are, which room each is in, who imports whom.

    python -m tests.support.rooms       the picture of docs/architecture.md, for Graphviz' dot

Imports inside functions count; those for type checkers alone do not: they are gone at run time.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.support.node import ROOT

# What is kept on each floor, and its rooms, from the bottom to the top: a module imports only from
# its own floor and those below. The longest name that fits is a module's room.
FLOORS = {
    "constants": ["cni.__init__"],
    "words of the protocol": [
        *("cni.errors", "cni.result", "cni.versions", "cni.net.addresses"),
        *("cni.namedtuple", "cni.jsontext", "cni.log"),
    ],
    "the kernel's side, without policy": ["cni.net"],
    "requests and configuration": [
        "cni.request",
        "cni.config",
        "cni.formats",
        "cni.refusal",
        "cni",
    ],
    "one request, one answer": ["cni.plugin", "cni.delegate"],
    "the runtime's side": ["cni.client", "cni.testing"],
    "files, locks, records, claims, leases": ["pycni.state"],
    "what plugins ask of a firewall": ["pycni.firewall.entries", "pycni.firewall.vocabulary"],
    "what the reference plugins left": ["pycni.migrate"],
    "entries in force, by nftables or iptables": ["pycni.firewall"],
    "what every interface plugin does": ["pycni.attach"],
    "names, many hosts": ["pycni.names", "pycni.cluster"],
    "bridge, host-local, portmap, loopback": ["cni_plugins"],
    "how an executable starts": ["pycni"],
    "programs": ["pycni.agent", "pycni.cli"],
}

_FOLDERS = {"cni": "cni", "pycni": "pycni", "cni_plugins": "plugins"}


def _modules() -> Iterator[tuple[str, Path]]:
    for package, folder in _FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            inside = path.relative_to(ROOT / folder).with_suffix("")
            yield ".".join([package, *inside.parts]).replace("-", "_"), path


# Every module's file; a package is its module `__init__`.
MODULES = dict(_modules())


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
    parent = name.rpartition(".")[0]
    candidates = (name, f"{name}.__init__", parent, f"{parent}.__init__")
    return next((candidate for candidate in candidates if candidate in MODULES), None)


def floor(module: str) -> int:
    """The floor of the room that a module is in, counted from the bottom."""
    floors = {room: number for number, rooms in enumerate(FLOORS.values()) for room in rooms}
    fitting = [room for room in floors if _is_in(module, room)]
    return floors[max(fitting, key=len)]


def draw() -> str:
    """The floors and the arrows between them, as Graphviz' dot reads it."""
    arrows = {
        (floor(module), floor(other))
        for module, path in MODULES.items()
        for other in imports(path.read_text())
    }
    inhabited = {floor(module) for module in MODULES} - {0}  # all lead to the constants
    lines = ['    node [shape=box, fontname="sans-serif", fontsize=11]']
    for number, (what, rooms) in enumerate(FLOORS.items()):
        present = [room for room in rooms if any(_is_in(module, room) for module in MODULES)]
        if number in inhabited:
            lines.append(f'    {number} [label="{"  ".join(present)}\\n{what}"]')
    lines += [f"    {a} -> {b}" for a, b in sorted(_reduce(arrows)) if b > 0]
    return "\n".join(["digraph rooms {", *lines, "}", ""])


def _reduce(arrows: set[tuple[int, int]]) -> set[tuple[int, int]]:
    """Those downward arrows that no two others replace (the transitive reduction)."""
    below: dict[int, set[int]] = {number: set() for number in range(len(FLOORS))}
    kept = set()
    for start, under in below.items():
        for end in sorted((b for a, b in arrows if a == start > b), reverse=True):
            if end not in under:
                kept.add((start, end))
                under |= {end, *below[end]}
    return kept


def _is_in(module: str, room: str) -> bool:
    return module == room or module.startswith(f"{room}.")


if __name__ == "__main__":
    sys.stdout.write(draw())
