"""What iptables-legacy's chain FORWARD does with what no rule decides, asked of the kernel.

iptables-legacy itself may be missing: its rules are often made from within a container.
Source: include/uapi/linux/netfilter/x_tables.h, netfilter_ipv{4,6}/ip{,6}_tables.h beside it.
"""

from __future__ import annotations

import _socket as socket
import ctypes
import os
import struct

# By IP version: domain and option level of a socket, size of struct ipt_entry or ip6t_entry
# without its matches and target.
_KINDS = {
    4: (socket.AF_INET, socket.IPPROTO_IP, 112),
    6: (socket.AF_INET6, socket.IPPROTO_IPV6, 168),
}
_SO_GET_INFO, _SO_GET_ENTRIES = 64, 65
_FILTER = b"filter".ljust(32, b"\0")

# struct ipt_getinfo: name, valid_hooks, hook_entry, underflow, num_entries, size.
_INFO = struct.Struct("=32sI5I5III")
_FORWARD = 2  # NF_INET_FORWARD, an index of underflow
_ENTRIES = struct.Struct("=32sI4x")  # struct ipt_get_entries, without the entries
_VERDICT_OFFSET = 32  # in struct xt_standard_target
_DROP = -1  # -NF_DROP - 1


def drops(version: int) -> bool:
    """Whether the policy is DROP; a table `filter` that is not there would be made by asking."""
    domain, level, entry_size = _KINDS[version]
    raw = socket.socket(domain, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.IPPROTO_RAW)
    try:
        info = _INFO.unpack(_get(raw, level, _SO_GET_INFO, _FILTER, _INFO.size))
        policy, size = info[7 + _FORWARD], info[-1]
        request = _ENTRIES.pack(_FILTER, size)
        entries = _get(raw, level, _SO_GET_ENTRIES, request, _ENTRIES.size + size)
    finally:
        raw.close()
    (verdict,) = struct.unpack_from(
        "=i", entries, _ENTRIES.size + policy + entry_size + _VERDICT_OFFSET
    )
    return bool(verdict == _DROP)


def _get(raw: socket.socket, level: int, option: int, request: bytes, size: int) -> bytes:
    """getsockopt(2) with a question in the buffer, which Python's own does not take."""
    buffer = ctypes.create_string_buffer(request, size)
    length = ctypes.c_uint32(size)
    library = ctypes.CDLL(None, use_errno=True)
    if library.getsockopt(raw.fileno(), level, option, buffer, ctypes.byref(length)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "asking for iptables' table filter")
    return buffer.raw
