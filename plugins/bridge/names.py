"""Names of interfaces that can be made again when only their owner is known."""

from __future__ import annotations

from cni import TYPE_CHECKING, names

if TYPE_CHECKING:
    from cni.request import Attachment


def host_ifname(owner: Attachment) -> str:
    """The name of the host side of an attachment's pair."""
    return port_ifname(str(owner))


def port_ifname(whose: str) -> str:
    """The name of a port of the bridge, made from what it is for."""
    return f"veth{names.digest(whose) % 16**11:011x}"
