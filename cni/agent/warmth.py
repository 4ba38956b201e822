"""What the agent has imported before the first request, and whether it is what is installed."""

from __future__ import annotations

import gc
import os
import pkgutil
import sys
from contextlib import suppress
from importlib import import_module

from cni.errors import CniError
from cni.install import EXECUTABLES

# What no request runs, and jsonschema: it only words the refusal of a configuration, and is big.
_LEFT_OUT = {"cni.agent", "cni.install", "cni.node", "cni.refusal", "cni.runtime"}

# What is imported in the middle of functions, by our modules or by the standard library's.
_LATE = ("ctypes", "encodings.ascii", "encodings.idna", "hashlib", "traceback")

_PROJECTS = {"cni", "cni_plugins", "pyroute2"}


def import_all() -> None:
    """Import what requests may need, and make it cheap to fork. Nothing of it runs."""
    for package in ("cni", *(f"cni_plugins.{name.replace('-', '_')}" for name in EXECUTABLES)):
        for name in _modules(package):
            import_module(name)
    for name in _LATE:
        import_module(name)
    with suppress(CniError):  # a node without the library has the children say so
        import_module("cni.firewall.libnftables").load()
    # A child that collects garbage, or counts references to these objects in vain, copies pages.
    gc.collect()
    gc.freeze()


def _modules(package: str) -> list[str]:
    path = import_module(package).__path__
    found = [package]
    for module in pkgutil.iter_modules(path, f"{package}."):
        if module.name not in _LEFT_OUT:
            found += _modules(module.name) if module.ispkg else [module.name]
    return found


def stamp() -> dict[str, tuple[int, int] | None]:
    """The inode and time of change of every file that the running code comes from.

    None stands for a file that is gone. An upgrade, or an editor, changes the stamp.
    """
    return {path: _version(path) for path in _files()}


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
