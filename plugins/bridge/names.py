"""Names of interfaces that can be made again when only their owner is known."""

from __future__ import annotations

from cni import TYPE_CHECKING, names

if TYPE_CHECKING:
    from cni.request import Attachment


_PREFIX = "veth"
_DIGITS = 11  # as many as an interface's name has room for


def host_ifname(owner: Attachment) -> str:
    """The name of the host side of an attachment's pair."""
    return port_ifname(str(owner))


def port_ifname(whose: str) -> str:
    """The name of a port of the bridge, made from what it is for."""
    return f"{_PREFIX}{names.digest(whose) % 16**_DIGITS:0{_DIGITS}x}"


def is_port_ifname(name: str) -> bool:
    """Whether it is of the form that `port_ifname` gives; the reference plugin's are shorter."""
    digits = name.removeprefix(_PREFIX)
    return digits != name and len(digits) == _DIGITS and set(digits) <= set("0123456789abcdef")
