"""Functions of the C library that Python does not have, or not yet."""

from __future__ import annotations

import os


def call(function: str, *arguments: int | bytes | None) -> int:
    """What a function returns that takes numbers, strings and pointers, and returns an int."""
    # The part of ctypes that is written in C: the rest takes eight times as long to import.
    import _ctypes

    libc = _ctypes.dlopen(None, os.RTLD_NOW)  # type: ignore[arg-type]  # what is loaded already
    return int(_ctypes.call_function(_ctypes.dlsym(libc, function), arguments))
