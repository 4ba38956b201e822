"""A forked process shares its parent's pages until one of them writes to it, and the kernel then
copies that page, which takes a few microseconds each time. A process that has time can have its
pages copied before.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

# Source: madvise(2); since Linux 5.14.
_MADV_POPULATE_WRITE = 23

_PIECE = 1 << 17  # bytes, about a tenth of a millisecond

_madvise = ctypes.CDLL(None, use_errno=True).madvise
_madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def copy_pages() -> Iterator[int]:
    """Copy all that this process may write to, piece by piece; to be left when something is up.

    Yields the address of each piece.
    """
    for start, end in _writable():
        for piece in range(start, end, _PIECE):
            if _madvise(piece, min(_PIECE, end - piece), _MADV_POPULATE_WRITE) != 0:
                return  # an older kernel: pages are copied when they are written to, as ever
            yield piece


def _writable() -> list[tuple[int, int]]:
    """Private mappings, from /proc/self/maps (proc_pid_maps(5))."""
    with open("/proc/self/maps", "rb") as file:
        fields = [line.split(maxsplit=2) for line in file]
    areas = [area.split(b"-") for area, access, _ in fields if access == b"rw-p"]
    return [(int(start, 16), int(end, 16)) for start, end in areas]
