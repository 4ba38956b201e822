"""The formats that a schema's "format" may ask of a string: a parser each, and words for people.

The parsers raise ValueError, which quotes the text and says what is wrong with it.

Source: for interfaces' names, dev_valid_name in the kernel's net/core/dev.c, and
sysctl_dev_name_is_allowed in net/ipv4/devinet.c; for `plugin-type`,
CVE-2021-20206; for empty strings, what encoding/json of Go writes for fields that are not set.
"""

from __future__ import annotations

from cni import TYPE_CHECKING
from cni.net.addresses import parse_address, parse_mac, parse_prefixed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def parse_ifname(text: str) -> str:
    """An interface's name, as the kernel takes it (dev_valid_name in net/core/dev.c).

    Raises ValueError, as the other parsers here do, that quotes the text and says what is wrong.
    """
    if not text or len(text.encode()) > 15:
        raise ValueError(f"{text!r} does not have 1 to 15 bytes")
    if text in (".", ".."):
        raise ValueError(f"{text!r} names a directory")
    if text in ("all", "default"):
        raise ValueError(f"{text!r} is taken by the kernel, for parameters of all interfaces")
    if any(c in "/:\0" or c.isspace() for c in text):
        raise ValueError(f"{text!r} contains '/', ':' or white space")
    if "%" in text:
        raise ValueError(f"{text!r} contains '%', which the kernel takes for a pattern")
    if text in ("all", "default"):
        raise ValueError(f"{text!r} names the kernel's parameters for several interfaces")
    return text


def parse_quotable_ifname(text: str) -> str:
    """An interface's name that nft can be told: without quotes, and no pattern."""
    if set(text) & set('"*\\'):
        raise ValueError(f"{text!r} contains '\"', '*' or '\\'")
    return parse_ifname(text)


def parse_path(text: str) -> str:
    """A file's path, as the kernel takes it."""
    if "\0" in text:
        raise ValueError(f"{text!r} contains a NUL")
    return text


def parse_plugin_type(text: str) -> str:
    """An executable's file name, never a path: `type` must not reach outside of CNI_PATH."""
    if not text or text in (".", "..") or "/" in text or "\0" in text:
        raise ValueError(f"{text!r} is not a plain file name")
    return text


def parse_protocol(text: str) -> str:
    """A transport protocol that has ports, in either case."""
    protocol = text.lower()
    if protocol not in ("tcp", "udp", "sctp"):
        raise ValueError(f"{text!r} is not tcp, udp or sctp")
    return protocol


def parse_requested_address(text: str) -> object:
    """An address with or without prefix length: both are written in `ips` by runtimes."""
    return parse_prefixed(text) if "/" in text else parse_address(text)


def _empty_or(parse: Callable[[str], object]) -> Callable[[str], object]:
    """Go writes fields that are not set as empty strings; runtimes pass them on."""
    return lambda text: parse(text) if text else None


FORMATS: Mapping[str, tuple[Callable[[str], object], str]] = {
    "address": (_empty_or(parse_address), "an IPv4 or IPv6 address"),
    "subnet": (parse_prefixed, "an IPv4 or IPv6 subnet, ADDRESS/PREFIX-LENGTH"),
    "requested-address": (
        parse_requested_address,
        "an IPv4 or IPv6 address, with or without /PREFIX-LENGTH",
    ),
    "protocol": (_empty_or(parse_protocol), '"tcp", "udp", "sctp"'),
    "mac": (_empty_or(parse_mac), "a MAC address of one interface, such as 0a:58:0a:16:00:05"),
    "ifname": (
        _empty_or(parse_ifname),
        "a name of 1 to 15 bytes without '/', ':', '%' and white space",
    ),
    "quotable-ifname": (
        _empty_or(parse_quotable_ifname),
        "a name of 1 to 15 bytes without '/', ':', '%', '*', quotes, backslashes and white space",
    ),
    "path": (parse_path, "the path of a file"),
    "plugin-type": (_empty_or(parse_plugin_type), "the file name of an executable, without '/'"),
}
