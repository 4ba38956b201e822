"""pycni: an SDK for CNI plugins. `import cni` is all that a plugin has to import.

docs/sdk.md lists what there is, docs/write-a-plugin.md builds a plugin with it. Modules and names
are loaded on first use, so importing `cni` costs nothing and a plugin's VERSION or a DEL of nothing
never loads what talks to the kernel.
"""

# Every executable loads this module, so it does without `__future__`, which is one more file.

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
        listeners,
        log,
        netlink,
        netns,
        runtime,
        sysctl,
    )
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
    from cni.nlsocket import NetlinkError
    from cni.request import Add, Attachment, Check, Delete, Gc, Status, take_args
    from cni.result import DNS, Interface, IPConfig, Result, Route
    from cni.skel import Plugin, main, run

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
    "addresses",
    "attachments",
    "config",
    "conntrack",
    "delegate",
    "firewall",
    "interface",
    "listeners",
    "log",
    "main",
    "netlink",
    "netns",
    "run",
    "run_all",
    "runtime",
    "sysctl",
    "take_args",
]

# Where the names live; what is exported and not named here is a module.
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
    "NetlinkError": "nlsocket",
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
    "Plugin": "skel",
    "main": "skel",
    "run": "skel",
}


def __getattr__(name: str) -> "Any":
    """PEP 562: load a module or a name on first use."""
    if name in _HOMES:
        value = getattr(__import__(f"cni.{_HOMES[name]}", fromlist=[name]), name)
        globals()[name] = value
        return value
    if name in __all__:
        return __import__(f"cni.{name}", fromlist=[name])
    raise AttributeError(f"module 'cni' has no attribute {name!r}")
