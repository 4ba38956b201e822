"""What the agent has imported before the first request, and whether it is what is installed."""

from __future__ import annotations

import gc
import os
import sys
import time
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

_SUFFIXES = (".py", ".json")

# By path: the inode and time of change in nanoseconds; None stands for a file that is gone.
Stamp = dict[str, tuple[int, int] | None]


def load_all() -> Stamp:
    """Load what requests may need, and make it cheap to fork. Nothing of it runs.

    Returns of which version the files are that all of it comes from.
    """
    began = time.time_ns()
    packages = ["cni", *(f"cni_plugins.{name.replace('-', '_')}" for name in EXECUTABLES)]
    for name in [module for package in packages for module in _modules(package)]:
        plugin = getattr(import_module(name), "PLUGIN", None)
        if isinstance(plugin, Plugin):
            config.load_schema(plugin.schema)
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
    stamp = look_at(_files(packages))
    # What has been changed meanwhile may be loaded as it was before.
    return {path: found if found and found[1] < began else None for path, found in stamp.items()}


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


def _files(packages: Iterable[str]) -> list[str]:
    """All modules and schemas of the packages, and the modules of pyroute2 that are loaded."""
    found = []
    for package in packages:
        for root in import_module(package).__path__:
            for directory, _, names in os.walk(root):
                found += [f"{directory}/{name}" for name in names if name.endswith(_SUFFIXES)]
    pyroute2 = [module for name, module in sys.modules.items() if name.startswith("pyroute2")]
    return found + [module.__file__ for module in pyroute2 if module.__file__]


def _version(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_ctime_ns
