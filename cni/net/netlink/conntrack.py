"""Forget connections that conntrack remembers and that rules have since overtaken.

NAT is decided by a connection's first packet. A UDP "connection" that began before a host port was
published goes on to wherever it went, and one that was sent to a container that is gone goes on
into nothing, for as long as packets keep coming; so their entries are deleted.

Source: include/uapi/linux/netfilter/nfnetlink_conntrack.h, net/netfilter/nf_conntrack_netlink.c.
"""

from __future__ import annotations

import _socket as socket
import errno
import struct
import sys
from ipaddress import ip_address

from cni import TYPE_CHECKING
from cni.namedtuple import NamedTuple
from cni.net import protocols, sysctl
from cni.net.addresses import IPAddress
from cni.net.netlink.attributes import attribute, nested, parse
from cni.net.netlink.socket import NLM_F_DUMP, Socket, leave_open

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

_NETLINK_NETFILTER = 12
_SUBSYSTEM = 1 << 8  # NFNL_SUBSYS_CTNETLINK
_CT_GET, _CT_DELETE = _SUBSYSTEM | 1, _SUBSYSTEM | 2

_TUPLE_ORIG, _TUPLE_REPLY, _ID, _FILTER = 1, 2, 12, 25
_TUPLE_IP, _TUPLE_PROTO = 1, 2
_IP_SOURCE = {4: 1, 6: 3}
_IP_DESTINATION = {4: 2, 6: 4}
_PROTO_NUMBER, _PROTO_SOURCE_PORT, _PROTO_DESTINATION_PORT = 1, 2, 3
_FILTER_ORIG_FLAGS, _FILTER_REPLY_FLAGS = 1, 2
# CTA_FILTER_F_CTA_IP_SRC, CTA_FILTER_F_CTA_PROTO_NUM, CTA_FILTER_F_CTA_PROTO_DST_PORT
_BY_SOURCE, _BY_PROTOCOL, _BY_DESTINATION_PORT = 1 << 0, 1 << 3, 1 << 5
# The header of an attribute that holds a destination port.
_PORT_HEADER = struct.pack("=HH", 6, _PROTO_DESTINATION_PORT)

_PROTOCOLS = {number: name for name, number in protocols.NUMBERS.items()}


class Flow(NamedTuple):
    """A connection: where its sender wanted it to go, and who answers it, each address and port.

    `protocol` is the protocol's name, as in `protocols.NUMBERS`.
    """

    protocol: str
    destination: IPAddress
    destination_port: int
    answered_by: IPAddress
    answered_port: int


def forget(
    protocol: str, ports: Collection[int], family: int, is_stale: Callable[[Flow], bool]
) -> int:
    """Delete the connections to one of these ports that `is_stale` says yes to. Returns how many.

    `family` is 4 or 6. However many ports there are, the node's connections are walked through
    once. Raises NetlinkError.
    """
    wanted = frozenset(ports)

    def is_meant(flow: Flow) -> bool:
        return flow.protocol == protocol and flow.destination_port in wanted and is_stale(flow)

    fields, flags = [attribute(_PROTO_NUMBER, bytes([protocols.NUMBERS[protocol]]))], _BY_PROTOCOL
    if len(wanted) == 1:
        (port,) = wanted
        fields.append(attribute(_PROTO_DESTINATION_PORT, struct.pack("!H", port)))
        flags |= _BY_DESTINATION_PORT
    original = nested(_TUPLE_ORIG, nested(_TUPLE_PROTO, *fields))
    return _forget(family, original + _filter(original=flags), is_meant, wanted)


def forget_answered(address: IPAddress, is_stale: Callable[[Flow], bool]) -> int:
    """Delete the connections answered by `address` that `is_stale` says yes to. Returns how many.

    The kernel picks by the address. Raises NetlinkError.
    """

    def is_meant(flow: Flow) -> bool:
        return flow.answered_by == address and is_stale(flow)

    source = nested(_TUPLE_IP, attribute(_IP_SOURCE[address.version], address.packed))
    wanted = nested(_TUPLE_REPLY, source) + _filter(reply=_BY_SOURCE)
    return _forget(address.version, wanted, is_meant)


def _filter(original: int = 0, reply: int = 0) -> bytes:
    """By which fields the kernel picks (Linux 5.8 and later; older ones list everything)."""
    return nested(
        _FILTER,
        attribute(_FILTER_ORIG_FLAGS, struct.pack("=I", original)),
        attribute(_FILTER_REPLY_FLAGS, struct.pack("=I", reply)),
    )


def _forget(
    family: int,
    wanted: bytes,
    is_meant: Callable[[Flow], bool],
    ports: Collection[int] | None = None,
) -> int:
    """Delete what is meant of those that the kernel picks; `ports`, if given, are those meant."""
    if _is_empty():
        return 0
    header = struct.pack("=BBH", socket.AF_INET if family == 4 else socket.AF_INET6, 0, 0)
    connection = Socket(_NETLINK_NETFILTER)
    leave_open(connection.close)
    stale = []
    entries = connection.each_answer(_CT_GET, NLM_F_DUMP, header + wanted, "listing connections")
    for entry in entries:
        if ports is None or _destination_port(entry) in ports:
            flow = _find_flow(entry, family)
            if flow and is_meant(flow):
                stale.append(header + _identity(entry))
    # Those that are gone ended by themselves.
    connection.tell_each(_CT_DELETE, stale, "deleting connections", ignored=errno.ENOENT)
    return len(stale)


def _destination_port(entry: bytes) -> int:
    """The port that a connection's sender wanted, 0 if there is none.

    It is found without taking the entry apart, as there may be tens of thousands: the kernel puts
    the original direction first, and the destination port last in it.
    """
    length = int.from_bytes(entry[4:6], sys.byteorder)
    at = entry.rfind(_PORT_HEADER, 4, 4 + length)
    return 0 if at < 0 else _port(entry[at + 4 : at + 6])


def _is_empty() -> bool:
    """Whether the node has no connections.

    To list them, the kernel walks through hundreds of thousands of buckets, however few are used.
    """
    return sysctl.read("net/netfilter/nf_conntrack_count") == "0"


def _find_flow(entry: bytes, family: int) -> Flow | None:
    """An entry's connection; None if its protocol has no ports that could be published."""
    attributes = parse(entry[4:])
    original, reply = parse(attributes[_TUPLE_ORIG]), parse(attributes[_TUPLE_REPLY])
    transport, answer = parse(original[_TUPLE_PROTO]), parse(reply[_TUPLE_PROTO])
    protocol = _PROTOCOLS.get(transport[_PROTO_NUMBER][0])
    if protocol is None:
        return None
    return Flow(
        protocol,
        ip_address(parse(original[_TUPLE_IP])[_IP_DESTINATION[family]]),
        _port(transport[_PROTO_DESTINATION_PORT]),
        ip_address(parse(reply[_TUPLE_IP])[_IP_SOURCE[family]]),
        _port(answer[_PROTO_SOURCE_PORT]),
    )


def _port(packed: bytes) -> int:
    return int.from_bytes(packed, "big")


def _identity(entry: bytes) -> bytes:
    """What names an entry; with its identifier, so that no later one of the same ends is meant."""
    attributes = parse(entry[4:])
    return nested(_TUPLE_ORIG, attributes[_TUPLE_ORIG]) + attribute(_ID, attributes[_ID])
