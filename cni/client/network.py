"""Networks as they are configured: a file holds a list of plugins, or a single one. To a list, more
may come from files in a directory of the network's name.

Source: CNI specification, section "Network configuration format"; libcni for where it looks.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import NamedTuple

from cni.client.documents import is_true, naming, parse_object, take
from cni.config import Document
from cni.errors import InvalidConfig
from cni.versions import SUPPORTED

CONFIG_DIRECTORY = "/etc/cni/net.d"


class Network(NamedTuple):
    """A network: the chain of its plugins' configurations. `source` is its JSON."""

    name: str
    version: str
    plugins: tuple[Document, ...]
    disable_check: bool
    disable_gc: bool
    source: bytes


def load_network(directory: str, name: str) -> Network:
    """The network of this name: a list of plugins, or a single plugin's configuration.

    Raises InvalidConfig for the first file that cannot be understood, as libcni does.
    """
    for path in _files(directory, ".conflist"):
        source = path.read_bytes()
        with naming(path):
            document = parse_object(source)
            if document.get("name") != name:
                continue
            # Besides those in the list, plugins may come in files of a folder with its name.
            alone = is_true(document, "loadOnlyInlinedPlugins")
            files = [] if alone else _files(os.path.join(directory, name), ".conf")
            return parse_network(source, [parse_object(file.read_bytes()) for file in files])
    for path in _files(directory, ".conf", ".json"):
        with naming(path):
            plugin = parse_object(path.read_bytes())
            if plugin.get("name") == name:
                version = take(plugin, "cniVersion", str, "")
                single = {"name": name, "cniVersion": version, "plugins": [plugin]}
                return parse_network(json.dumps(single).encode())
    raise InvalidConfig(f"there is no network {name!r} in {directory}")


def parse_network(source: bytes, more_plugins: list[Document] | None = None) -> Network:
    """Read a network's list of plugins; `more_plugins` come after those in the list."""
    document = parse_object(source)
    name = take(document, "name", str, "")
    if not name or "/" in name:
        # The name becomes part of a file's name in the cache.
        raise InvalidConfig(f"name: {name!r} is not allowed", "allowed: a name without '/'")
    plugins = [*take(document, "plugins", list, []), *(more_plugins or [])]
    if not plugins:
        raise InvalidConfig("plugins: missing", "a network needs one plugin at least")
    for number, plugin in enumerate(plugins):
        if not isinstance(plugin, dict) or not isinstance(plugin.get("type"), str):
            raise InvalidConfig(f"plugins[{number}].type: missing")
    return Network(
        name,
        _choose_version(document),
        tuple(plugins),
        is_true(document, "disableCheck"),
        is_true(document, "disableGC"),
        source,
    )


def _choose_version(document: Document) -> str:
    """The newest version of `cniVersions`, from 1.1.0 on, and `cniVersion` that is known here."""
    version: str = take(document, "cniVersion", str, "")
    offered = [*take(document, "cniVersions", list, []), version]
    return max((v for v in SUPPORTED if v in offered), key=SUPPORTED.index, default=version)


def _files(directory: str, *suffixes: str) -> list[Path]:
    with contextlib.suppress(FileNotFoundError):
        files = (Path(entry.path) for entry in os.scandir(directory) if entry.is_file())
        return sorted(file for file in files if file.suffix in suffixes)
    return []
