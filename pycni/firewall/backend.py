"""Which backend of the firewall carries out an attachment's entries.

An attachment's record names its backend, so two networks of a node may have different ones, and
what was made by one is never looked for in the other.
"""

from __future__ import annotations

from cni import TYPE_CHECKING
from cni.errors import CniError
from pycni.firewall.vocabulary import NAMES, Unavailable

if TYPE_CHECKING:
    from collections.abc import Collection

    from pycni.firewall.vocabulary import Backend


def load(name: str) -> Backend:
    """One of NAMES."""
    if name == "iptables":
        from pycni.firewall.iptables import iptables

        return iptables
    from pycni.firewall.nftables import nftables

    return nftables


def choose(configured: str | None, kinds: Collection[type]) -> str:
    """The backend for entries of these kinds: the configured one, or else the first usable.

    nftables counts as usable if there is a table: to ask further would take longer than all the
    rest. Raises Unavailable that names what is missing.
    """
    from pycni.firewall import static

    if configured != "iptables" and static.is_made("nftables"):
        return "nftables"
    return find_usable(configured, kinds)


def find_usable(configured: str | None, kinds: Collection[type]) -> str:
    """The same, but also a backend that has rules already is asked whether it can make more."""
    reasons: list[str] = []
    for name in (configured,) if configured else NAMES:
        try:
            load(name).require_usable(kinds)
        except (CniError, OSError) as error:
            reasons.append(str(error))
        else:
            return name
    raise Unavailable("there is no usable firewall", "; ".join(reasons))
