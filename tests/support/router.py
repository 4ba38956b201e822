"""A router advertisement by hand: router.py PREFIX [SECONDS]; with SECONDS, as often as that.

It offers a default route, and a /64 from which to make up addresses. Source: RFC 4861, sections 4.2
and 4.6.2.
"""

from __future__ import annotations

import socket
import struct
import sys
import time

_ADVERTISEMENT, _PREFIX = 134, 3
_ON_LINK, _AUTONOMOUS = 0x80, 0x40
_SECONDS = 1800


def advertise(prefix: str) -> None:
    header = struct.pack("!BBHBBHII", _ADVERTISEMENT, 0, 0, 64, 0, _SECONDS, 0, 0)
    flags = _ON_LINK | _AUTONOMOUS
    option = struct.pack("!BBBBIII", _PREFIX, 4, 64, flags, _SECONDS, _SECONDS, 0)
    option += socket.inet_pton(socket.AF_INET6, prefix)
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as sender:
        sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        sender.sendto(header + option, ("ff02::1", 0, 0, socket.if_nametoindex("eth0")))


if __name__ == "__main__":
    advertise(sys.argv[1])
    while len(sys.argv) == 3:
        time.sleep(float(sys.argv[2]))
        advertise(sys.argv[1])
