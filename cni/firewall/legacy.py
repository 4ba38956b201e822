"""What iptables-legacy's chain FORWARD does with what no rule decides, asked of the kernel.

iptables-legacy itself may be missing: its rules are often made from within a container.
Source: include/uapi/linux/netfilter/x_tables.h, netfilter_ipv{4,6}/ip{,6}_tables.h beside it.
"""

from __future__ import annotations

import os
import socket
import struct

# By IP version: the table's names file, domain and option level of a socket, size of struct
# ipt_entry or ip6t_entry without its rules.
_KINDS = {
    4: ("/proc/net/ip_tables_names", socket.AF_INET, socket.IPPROTO_IP, 112),
    6: ("/proc/net/ip6_tables_names", socket.AF_INET6, socket.IPPROTO_IPV6, 168),
}
_SO_GET_INFO, _SO_GET_ENTRIES = 64, 65
_FILTER = b"filter".ljust(32, b"\0")

# struct ipt_getinfo: name, valid_hooks, hook_entry, underflow, num_entries, size.
_INFO = struct.Struct("=32sI5I5III")
_FORWARD = 2  # NF_INET_FORWARD, an index of underflow
_ENTRIES = struct.Struct("=32sI4x")  # struct ipt_get_entries, without the entries
_VERDICT_OFFSET = 32  # in struct xt_standard_target
_DROP = -1  # -NF_DROP - 1


def has_filter(version: int) -> bool:
    """Whether there is a table `filter` for this IP version."""
    return "filter" in _words(_KINDS[version][0])


def drops(version: int) -> bool:
    """Whether there is one, whose chain FORWARD has the policy DROP."""
    # To ask for a table that is not there would make it.
    if not has_filter(version):
        return False
    _, domain, level, entry_size = _KINDS[version]
    with socket.socket(domain, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.IPPROTO_RAW) as raw:
        info = _INFO.unpack(_get(raw, level, _SO_GET_INFO, _FILTER, _INFO.size))
        policy, size = info[7 + _FORWARD], info[-1]
        request = _ENTRIES.pack(_FILTER, size)
        entries = _get(raw, level, _SO_GET_ENTRIES, request, _ENTRIES.size + size)
    (verdict,) = struct.unpack_from(
        "=i", entries, _ENTRIES.size + policy + entry_size + _VERDICT_OFFSET
    )
    return bool(verdict == _DROP)


def _get(raw: socket.socket, level: int, option: int, request: bytes, size: int) -> bytes:
    """getsockopt(2) with a question in the buffer, which Python's own does not take."""
    import ctypes

    buffer = ctypes.create_string_buffer(request, size)
    length = ctypes.c_uint32(size)
    library = ctypes.CDLL(None, use_errno=True)
    if library.getsockopt(raw.fileno(), level, option, buffer, ctypes.byref(length)) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return buffer.raw


def _words(path: str) -> list[str]:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().split()
    except OSError:
        return []  # a kernel without it
