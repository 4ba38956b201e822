"""Transport protocols that have ports, by the names that CNI and nftables have for them.

Source: IANA's protocol numbers.
"""

from __future__ import annotations

import socket

NUMBERS = {
    "tcp": socket.IPPROTO_TCP,
    "udp": socket.IPPROTO_UDP,
    "sctp": socket.IPPROTO_SCTP,
}
