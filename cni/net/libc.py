"""Functions of the C library that Python does not have, or not yet."""

from __future__ import annotations

import os
from functools import cache

from cni import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def call(function: str, *arguments: int | bytes | None) -> int:
    """What a function returns that takes numbers, strings and pointers, and returns an int.

    Raises OSError that names the function if it returns -1, by the errno that it sets.
    """
    import _ctypes

    result = _prototype()(_address(function))(*arguments)
    if result == -1:
        number = _ctypes.get_errno()
        raise OSError(number, os.strerror(number), function)
    return result


def _address(function: str) -> int:
    import _ctypes

    libc = _ctypes.dlopen(None, os.RTLD_NOW)  # type: ignore[arg-type]  # what is loaded already
    return int(_ctypes.dlsym(libc, function))


@cache
def _prototype() -> Callable[[int], Callable[..., int]]:
    """The class of such functions. Making one takes ten times as long as calling a function."""
    # The part of ctypes that is written in C: the rest takes eight times as long to import.
    import _ctypes

    class Int(_ctypes._SimpleCData):  # type: ignore[type-arg]  # noqa: SLF001 - as ctypes.c_int
        _type_ = "i"

    class Function(_ctypes.CFuncPtr):
        _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_USE_ERRNO
        _restype_ = Int

    return Function
