"""What a container sends with another MAC address than its own is dropped: always by nftables.

One table of our own, of family bridge; it sees frames before the bridge looks at where they go. Its
one rule looks ports and their MACs up in sets, so a frame's cost does not depend on how many there
are. Nothing else is kept anywhere: what is in force, the kernel is asked.
"""

from __future__ import annotations

from cni import TYPE_CHECKING
from cni.errors import CheckFailed
from pycni.firewall.nftables.elements import delete_table
from pycni.firewall.nftables.libnftables import run
from pycni.firewall.nftables.query import Query, has_table, pack_ifname
from pycni.firewall.vocabulary import Refused

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from pycni.firewall.entries import MacGuard

_NAME = "pycni"
_TABLE = f"bridge {_NAME}"

_MAKE = f"""
table {_TABLE} {{
    set guarded {{
        type ifname
    }}

    set macs {{
        type ifname . ether_addr
    }}

    chain prerouting {{
        type filter hook prerouting priority dstnat; policy accept;
        iifname @guarded iifname . ether saddr != @macs drop
    }}
}}
"""
_RULES = 1

# The first command makes the second possible if there is no such table.
_DELETE = f"add table {_TABLE}\ndelete table {_TABLE}\n"


def add(guards: Iterable[MacGuard], superseded: Iterable[MacGuard]) -> None:
    """Add the guards in one transaction, in place of those that they supersede.

    Raises Refused where the table is missing or not as it should be.
    """
    with Query(_NAME, "bridge") as query:
        if query.count_rules("prerouting") != _RULES:
            raise Refused(f"the nftables table {_TABLE} is not as it should be")
    run(_elements("delete", superseded) + _elements("add", guards))


def rebuild(guards: Iterable[MacGuard]) -> None:
    """Make the table anew, in one transaction, from all guards."""
    run(_DELETE + _MAKE + _elements("add", guards))


def remove(guards: Iterable[MacGuard]) -> None:
    """Delete the guards. Raises Refused where one is missing; then nothing was deleted."""
    run(_elements("delete", guards))


def remove_everything() -> None:
    """Delete the table, if there is one, as nobody is attached any more."""
    if exists():
        delete_table("bridge", _NAME)


def exists() -> bool:
    """Whether the table is there; False also on a kernel without nftables."""
    return has_table("bridge", _NAME)


def check(guards: Collection[MacGuard]) -> None:
    """Raise CheckFailed that names what is not in force."""
    with Query(_NAME, "bridge") as query:
        found = query.count_rules("prerouting")
        if found != _RULES:
            raise CheckFailed(
                f"the nftables chain prerouting of table {_TABLE} is not as it should be",
                f"it has {found} rules instead of {_RULES}; `pycni repair` makes it anew",
            )
        for guard in guards:
            ifname = pack_ifname(guard.ifname)
            mac = bytes.fromhex(guard.mac.replace(":", "")).ljust(8, b"\0")
            if not (query.contains("guarded", ifname) and query.contains("macs", ifname + mac)):
                raise CheckFailed(
                    f"the nftables table {_TABLE} lacks {guard}", "`pycni repair` adds it again"
                )


def require_usable() -> None:
    """Raise Unavailable without libnftables, Refused if the kernel would not take the table."""
    run(_DELETE + _MAKE, dry_run=True)


def _elements(verb: str, guards: Iterable[MacGuard]) -> str:
    return "".join(
        f'{verb} element {_TABLE} guarded {{ "{guard.ifname}" }}\n'
        f'{verb} element {_TABLE} macs {{ "{guard.ifname}" . {guard.mac} }}\n'
        for guard in guards
    )
