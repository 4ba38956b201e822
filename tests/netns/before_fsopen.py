"""Run a program for which the kernel is one before Linux 5.2, which has no fsopen(2).

python before_fsopen.py PROGRAM [ARGUMENT…]

Source: seccomp(2), include/uapi/linux/{filter,seccomp}.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys

_FSOPEN = 430

_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2
_LOAD_NUMBER, _SKIP_UNLESS_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _FAIL = 0x7FFF0000, 0x00050000 | errno.ENOSYS

# struct sock_filter: code, jump if true, jump if false, operand
_INSTRUCTIONS = (
    (_LOAD_NUMBER, 0, 0, 0),
    (_SKIP_UNLESS_EQUAL, 0, 1, _FSOPEN),
    (_RETURN, 0, 0, _FAIL),
    (_RETURN, 0, 0, _ALLOW),
)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def main() -> None:
    """Refuse fsopen to this process, and become the program."""
    instructions = b"".join(struct.pack("=HBBI", *one) for one in _INSTRUCTIONS)
    program = _Program(len(_INSTRUCTIONS), instructions)
    libc = ctypes.CDLL(None)
    if libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program)) != 0:
        sys.exit("prctl failed")
    os.execv(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
