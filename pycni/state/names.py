"""Names of kernel objects that can be made again when only their owner is known.

Such names have little room, so they are short ones made of long ones.
"""

from __future__ import annotations

from cni import TYPE_CHECKING

if TYPE_CHECKING:
    from cni.request import Attachment

_PREFIX = "veth"
_DIGITS = 11  # as many as an interface's name has room for


def digest(text: str) -> int:
    """64 bits that are the text's own: FNV-1a.

    hashlib would load OpenSSL, which takes longer than most of what the name is for.
    """
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


def shorten(text: str, length: int) -> str:
    """The text itself if it has no more characters than that, or else its beginning and a hash."""
    if len(text) <= length:
        return text
    return f"{text[: length - 9]}-{digest(text) % 16**8:08x}"


def host_ifname(owner: Attachment) -> str:
    """The name of the host side of an attachment's pair."""
    return port_ifname(str(owner))


def lasting_ifname(owner: Attachment) -> str:
    """The alternative name of the host side, which it keeps when somebody renames it."""
    return f"pc{digest(f'lasting {owner}') % 16**13:013x}"


def port_ifname(whose: str) -> str:
    """The name of a port of the bridge, made from what it is for."""
    return f"{_PREFIX}{digest(whose) % 16**_DIGITS:0{_DIGITS}x}"


def is_port_ifname(name: str) -> bool:
    """Whether it is of the form that `port_ifname` gives; the reference plugin's are shorter."""
    digits = name.removeprefix(_PREFIX)
    return digits != name and len(digits) == _DIGITS and set(digits) <= set("0123456789abcdef")
