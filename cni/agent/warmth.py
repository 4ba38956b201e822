"""What the agent has imported before the first request, and whether it is what is installed."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterable
from importlib import import_module

from cni import config
from cni.errors import CniError
from cni.launcher import EXECUTABLES
from cni.skel import Plugin

# What no request runs, and what brings much along that few requests use: every page more costs
# every child time.
_LEFT_OUT = {
    *("cni.agent", "cni.install", "cni.node", "cni.runtime"),
    "cni.refusal",  # jsonschema, which words the refusal of a configuration
    *("cni.firewall.ipset", "cni.firewall.iptables", "cni.firewall.xtables"),  # pyroute2
}

# What is imported in the middle of functions, by our modules or by the standard library's.
_LATE = ("ctypes", "encodings.ascii")

_PROJECTS = {"cni", "cni_plugins", "pyroute2"}

# By path: the inode and time of change; None stands for a file that is gone.
Stamp = dict[str, tuple[int, int] | None]


def load_all() -> Stamp:
    """Load what requests may need, and make it cheap to fork. Nothing of it runs.

    Returns of which version the files are that all of it comes from.
    """
    schemas = []
    for package in ("cni", *(f"cni_plugins.{name.replace('-', '_')}" for name in EXECUTABLES)):
        for name in _modules(package):
            plugin = getattr(import_module(name), "PLUGIN", None)
            if isinstance(plugin, Plugin):
                config.load_schema(plugin.schema)
                schemas.append(plugin.schema)
    for name in _LATE:
        import_module(name)
    try:
        import_module("cni.firewall.libnftables").load()
    except CniError:  # then iptables does the work
        import_module("cni.firewall.iptables")
        import_module("cni.firewall.ipset")
    # A child that collects garbage, or counts references to these objects in vain, copies pages.
    gc.collect()
    gc.freeze()
    return look_at([*_files(), config.SHARED_SCHEMA, *schemas])


def _modules(package: str) -> list[str]:
    """The package's modules and packages, without those left out."""
    found = [package]
    for path in import_module(package).__path__:
        for entry in sorted(os.listdir(path)):
            name = f"{package}.{entry.removesuffix('.py')}"
            if name in _LEFT_OUT or entry.startswith("_"):
                continue
            if entry.endswith(".py"):
                found.append(name)
            elif os.path.exists(f"{path}/{entry}/__init__.py"):
                found += _modules(name)
    return found


def look_at(paths: Iterable[str]) -> Stamp:
    """Of which version files are; an upgrade, or an editor, changes that."""
    return {path: _version(path) for path in paths}


def _files() -> list[str]:
    modules = [module for name, module in sys.modules.items() if name.split(".")[0] in _PROJECTS]
    paths = (getattr(module, "__file__", None) for module in modules)
    return [path for path in paths if path]


def _version(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns
