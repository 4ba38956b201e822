"""pycni: an SDK for CNI plugins. `import cni` is all that a plugin has to import.

Modules and names are loaded on first use, so importing `cni` costs nothing and a plugin's VERSION
or a DEL of nothing never loads what talks to the kernel.
"""

from __future__ import annotations

# As typing's, which takes longer to import than Python to start; type checkers take it as true.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any

    from cni import (
        addresses,
        attachments,
        config,
        conntrack,
        delegate,
        firewall,
        interface,
        log,
        netlink,
        netns,
        sysctl,
    )
    from cni.errors import (
        AlreadyExists,
        CheckFailed,
        CniError,
        InvalidConfig,
        NoAddressAvailable,
        NotAvailable,
    )
    from cni.request import Add, Attachment, Check, Delete, Gc, Status
    from cni.result import DNS, Interface, IPConfig, Result, Route
    from cni.skel import Plugin, main

__all__ = [
    "DNS",
    "Add",
    "AlreadyExists",
    "Attachment",
    "Check",
    "CheckFailed",
    "CniError",
    "Delete",
    "Gc",
    "IPConfig",
    "Interface",
    "InvalidConfig",
    "NoAddressAvailable",
    "NotAvailable",
    "Plugin",
    "Result",
    "Route",
    "Status",
    "addresses",
    "attachments",
    "config",
    "conntrack",
    "delegate",
    "firewall",
    "interface",
    "log",
    "main",
    "netlink",
    "netns",
    "sysctl",
]

# Where the names live; what is exported and not named here is a module.
_HOMES = {
    "AlreadyExists": "errors",
    "CheckFailed": "errors",
    "CniError": "errors",
    "InvalidConfig": "errors",
    "NoAddressAvailable": "errors",
    "NotAvailable": "errors",
    "Add": "request",
    "Attachment": "request",
    "Check": "request",
    "Delete": "request",
    "Gc": "request",
    "Status": "request",
    "DNS": "result",
    "IPConfig": "result",
    "Interface": "result",
    "Result": "result",
    "Route": "result",
    "Plugin": "skel",
    "main": "skel",
}


def __getattr__(name: str) -> Any:
    """PEP 562: load a module or a name on first use."""
    if name in _HOMES:
        value = getattr(__import__(f"cni.{_HOMES[name]}", fromlist=[name]), name)
        globals()[name] = value
        return value
    if name in __all__:
        return __import__(f"cni.{name}", fromlist=[name])
    raise AttributeError(f"module 'cni' has no attribute {name!r}")
