"""Find the process of the host that listens on a port, through the kernel's socket diagnostics.

Source: sock_diag(7), include/uapi/linux/inet_diag.h.
"""

from __future__ import annotations

import _socket as socket
import contextlib
import os
import struct
import time
from ipaddress import ip_address

from cni import TYPE_CHECKING
from cni.namedtuple import NamedTuple
from cni.net import protocols
from cni.net.addresses import IPAddress, parse_address
from cni.net.netlink.attributes import parse
from cni.net.netlink.socket import NLM_F_DUMP, NetlinkError, Socket

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_SKV6ONLY = 11

_WALK_SECONDS = 0.2

# What waits for strangers: TCP and SCTP sockets that listen, UDP sockets that are not connected.
_STATES = {"tcp": 1 << 10, "udp": 1 << 7, "sctp": 1 << 10}
# struct inet_diag_req_v2 up to its socket id, and struct inet_diag_msg
_REQUEST = struct.Struct("=BBBxI")
_ANSWER = struct.Struct("=BBBB2s2s16s16sIQIIIII")


class Listener(NamedTuple):
    """A socket that waits for strangers; `inode` leads to the processes that hold it."""

    address: IPAddress
    port: int
    takes_ipv4: bool
    inode: int

    def receives(self, address: IPAddress) -> bool:
        """Whether it would get what is sent to the address; unspecified: to any of its family."""
        if self.address.version != address.version and not (
            address.version == 4 and self.takes_ipv4
        ):
            return False
        return self.address == address or self.address.is_unspecified or address.is_unspecified


def find_listeners(protocol: str, ports: Collection[int]) -> dict[int, list[Listener]]:
    """Who waits for strangers at these ports, by port. All sockets are walked through once.

    Whatever the kernel cannot tell is not there.
    """
    found: dict[int, list[Listener]] = {}
    for family in (socket.AF_INET, socket.AF_INET6):
        for listener in _listeners(protocol, frozenset(ports), family):
            found.setdefault(listener.port, []).append(listener)
    return found


def _listeners(protocol: str, ports: Collection[int], family: int) -> Iterator[Listener]:
    request = _REQUEST.pack(family, protocols.NUMBERS[protocol], 0, _STATES[protocol])
    only = next(iter(ports)) if len(ports) == 1 else 0
    socket_id = struct.pack("!HH", only, 0) + bytes(44)
    # A kernel without diagnostics for this protocol refuses.
    with Socket(_NETLINK_SOCK_DIAG) as connection, contextlib.suppress(NetlinkError):
        answers = connection.each_answer(
            _SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, request + socket_id, "listing sockets"
        )
        for answer in answers:
            fields = _ANSWER.unpack_from(answer)
            port = int.from_bytes(fields[4], "big")
            if port in ports:
                yield _parse(family, fields[6], answer[_ANSWER.size :], port, inode=fields[-1])


def _parse(family: int, packed: bytes, attributes: bytes, port: int, inode: int) -> Listener:
    if family == socket.AF_INET:
        return Listener(ip_address(packed[:4]), port, takes_ipv4=True, inode=inode)
    own_family_only = parse(attributes).get(_SKV6ONLY, b"\1")[0] != 0
    # An IPv6 socket that is bound to ::ffff:192.0.2.1 is one of IPv4.
    address = parse_address(str(ip_address(packed)))
    takes_ipv4 = address.is_unspecified and not own_family_only
    return Listener(address, port, takes_ipv4, inode)


def process_names(inodes: Collection[int]) -> dict[int, str]:
    """By inode of a socket: a process that holds it, as `name (pid)`, if one is found.

    Walks /proc, newest process first, until all are found or `_WALK_SECONDS` have passed: it is
    for messages, and a node may run any number of processes.
    """
    missing = {f"socket:[{inode}]": inode for inode in inodes}
    names: dict[int, str] = {}
    deadline = time.monotonic() + _WALK_SECONDS
    for pid in sorted(map(int, filter(str.isdigit, os.listdir("/proc"))), reverse=True):
        if not missing or time.monotonic() > deadline:
            break
        with contextlib.suppress(OSError):
            held = {_target(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
            found = held & missing.keys()
            if found:
                with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
                    name = f"{file.read().strip()} ({pid})"
                names.update((missing.pop(target), name) for target in found)
    return names


def _target(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
