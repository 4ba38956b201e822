"""An SDK for CNI plugins: the protocol, and a toolbox for the kernel's side in `cni.net`.

docs/sdk.md lists what there is, docs/write-a-plugin.md builds a plugin with it. Names are loaded on
first use, so importing `cni` costs nothing. Nothing here knows what pycni keeps on a node.
"""

# Every executable loads this module, so it does without `__future__`, which is one more file.

# As typing's, which takes longer to import than Python to start; type checkers take it as true.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any

    from cni.errors import (
        AlreadyExists,
        CheckFailed,
        CniError,
        DecodingFailure,
        IncompatibleVersion,
        InvalidConfig,
        InvalidEnvironment,
        InvalidNetns,
        IOFailure,
        NoAddressAvailable,
        NotAvailable,
        TryAgainLater,
        UnknownContainer,
        run_all,
    )
    from cni.net.netlink.socket import NetlinkError
    from cni.plugin import Plugin, main, run
    from cni.request import Add, Attachment, Check, Delete, Gc, Status, take_args
    from cni.result import DNS, Interface, IPConfig, Result, Route

__all__ = [
    "DNS",
    "Add",
    "AlreadyExists",
    "Attachment",
    "Check",
    "CheckFailed",
    "CniError",
    "DecodingFailure",
    "Delete",
    "Gc",
    "IOFailure",
    "IPConfig",
    "IncompatibleVersion",
    "Interface",
    "InvalidConfig",
    "InvalidEnvironment",
    "InvalidNetns",
    "NetlinkError",
    "NoAddressAvailable",
    "NotAvailable",
    "Plugin",
    "Result",
    "Route",
    "Status",
    "TryAgainLater",
    "UnknownContainer",
    "main",
    "run",
    "run_all",
    "take_args",
]

# Where the names live.
_HOMES = {
    "AlreadyExists": "errors",
    "CheckFailed": "errors",
    "CniError": "errors",
    "DecodingFailure": "errors",
    "IncompatibleVersion": "errors",
    "InvalidConfig": "errors",
    "InvalidEnvironment": "errors",
    "InvalidNetns": "errors",
    "IOFailure": "errors",
    "NoAddressAvailable": "errors",
    "NotAvailable": "errors",
    "TryAgainLater": "errors",
    "UnknownContainer": "errors",
    "run_all": "errors",
    "NetlinkError": "net.netlink.socket",
    "Add": "request",
    "Attachment": "request",
    "Check": "request",
    "Delete": "request",
    "Gc": "request",
    "Status": "request",
    "take_args": "request",
    "DNS": "result",
    "IPConfig": "result",
    "Interface": "result",
    "Result": "result",
    "Route": "result",
    "Plugin": "plugin",
    "main": "plugin",
    "run": "plugin",
}


def __getattr__(name: str) -> "Any":
    """PEP 562: load a module or a name on first use."""
    if name in _HOMES:
        value = getattr(__import__(f"cni.{_HOMES[name]}", fromlist=[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'cni' has no attribute {name!r}")
