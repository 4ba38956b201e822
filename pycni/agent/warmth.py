"""What the agent has imported before the first request, and when that is not any more what is
installed.
"""

from __future__ import annotations

import ctypes
import gc
import os
from importlib import import_module

from cni import config
from cni.errors import CniError
from cni.plugin import Plugin
from pycni.launcher import EXECUTABLES

# What no request runs, and what brings much along that few requests use: every page more costs
# every child time.
_LEFT_OUT = {
    *("pycni.agent", "pycni.install", "pycni.cli", "cni.client"),
    "cni.refusal",  # jsonschema, which words the refusal of a configuration
    *(
        "pycni.firewall.iptables.ipset",
        "pycni.firewall.iptables.iptables",
        "pycni.firewall.iptables.xtables",
    ),  # pyroute2
}

# What is imported in the middle of functions, by our modules or by the standard library's.
_LATE = ("encodings.ascii",)

_PACKAGES = ("cni", "pycni", *(f"cni_plugins.{name.replace('-', '_')}" for name in EXECUTABLES))

# Of files in a directory, and of itself: IN_MODIFY, IN_ATTRIB, IN_MOVED_FROM, IN_MOVED_TO,
# IN_CREATE, IN_DELETE, IN_DELETE_SELF, IN_MOVE_SELF. Source: inotify(7).
_ANY_CHANGE = 0x2 | 0x4 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x800


def watch() -> int:
    """A descriptor that can be read, without waiting, from when the installation changes.

    That is any file in pycni's packages: an upgrade, or an editor. Raises OSError.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor: int = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    for directory in _directories():
        path = os.fsencode(directory)
        if descriptor < 0 or libc.inotify_add_watch(descriptor, path, _ANY_CHANGE) < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), directory)
    return descriptor


def _directories() -> list[str]:
    roots = [root for package in _PACKAGES for root in import_module(package).__path__]
    found = [directory for root in roots for directory, _, _ in os.walk(root)]
    return [directory for directory in found if not directory.endswith("__pycache__")]


def load_all() -> None:
    """Load what requests may need, and make it cheap to fork. Nothing of it runs."""
    for name in [module for package in _PACKAGES for module in _modules(package)]:
        plugin = getattr(import_module(name), "PLUGIN", None)
        if isinstance(plugin, Plugin):
            config.load_schema(plugin.schema)
    for name in _LATE:
        import_module(name)
    try:
        import_module("pycni.firewall.nftables.libnftables").load()
    except CniError:  # then iptables does the work
        import_module("pycni.firewall.iptables.iptables")
        import_module("pycni.firewall.iptables.ipset")
    # A child that collects garbage, or counts references to these objects in vain, copies pages.
    gc.collect()
    gc.freeze()


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
