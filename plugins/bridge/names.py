"""Names of interfaces that can be made again when only their owner is known."""

from __future__ import annotations

from cni import TYPE_CHECKING

if TYPE_CHECKING:
    from cni.request import Attachment


def host_ifname(owner: Attachment) -> str:
    """The name of the host side of an attachment's pair."""
    return port_ifname(str(owner))


def port_ifname(whose: str) -> str:
    """The name of a port of the bridge, made from what it is for.

    It is an FNV-1a hash; hashlib would load OpenSSL, which takes longer than making the pair.
    """
    digest = 0xCBF29CE484222325
    for byte in whose.encode():
        digest = (digest ^ byte) * 0x100000001B3 % 2**64
    return f"veth{digest % 16**11:011x}"
