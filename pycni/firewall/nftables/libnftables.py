"""libnftables: nft's own text, without running nft.

`run` executes commands as one transaction: all or none. Source: libnftables(3).
"""

from __future__ import annotations

import errno
import os
import re
from functools import cache, partial

from cni import TYPE_CHECKING
from cni.net.netlink.socket import leave_open
from pycni.firewall.vocabulary import Refused, Unavailable

if TYPE_CHECKING:
    import ctypes

_LIBRARY = "libnftables.so.1"

# A command begins at the beginning of a line; further lines of it are indented, or close it.
_COMMAND = re.compile(r"^(?=[a-z])", re.MULTILINE)


@cache
def load() -> ctypes.CDLL:
    """The library. Raises Unavailable if it is not installed."""
    import ctypes

    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise Unavailable(
            f"{_LIBRARY} (of the nftables package) cannot be used", str(error)
        ) from None
    library.nft_ctx_new.restype = ctypes.c_void_p
    library.nft_ctx_new.argtypes = [ctypes.c_uint32]
    library.nft_ctx_free.argtypes = [ctypes.c_void_p]
    library.nft_ctx_set_dry_run.argtypes = [ctypes.c_void_p, ctypes.c_bool]
    library.nft_ctx_buffer_output.argtypes = [ctypes.c_void_p]
    library.nft_ctx_buffer_error.argtypes = [ctypes.c_void_p]
    library.nft_ctx_get_error_buffer.argtypes = [ctypes.c_void_p]
    library.nft_ctx_get_error_buffer.restype = ctypes.c_char_p
    library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    return library


def run(commands: str, *, dry_run: bool = False) -> None:
    """Execute commands, or have them checked only.

    Only what is longer than the kernel takes at once is executed as several transactions, in order:
    where a process may not raise its send buffer, as in a user namespace, beyond 400 KiB. Raises
    Refused with nft's own message, or Unavailable.
    """
    message = _execute(commands, dry_run=dry_run)
    if message is None:
        return
    single = list(filter(None, _COMMAND.split(commands)))
    if os.strerror(errno.EMSGSIZE) not in message or len(single) < 2:
        raise Refused("nftables refused the rules", message)
    half = len(single) // 2
    for part in (single[:half], single[half:]):
        run("".join(part), dry_run=dry_run)


def _execute(commands: str, *, dry_run: bool) -> str | None:
    """Execute commands as one transaction. Returns nft's message if they are refused."""
    library = load()
    context = library.nft_ctx_new(0)
    if not context:
        raise Unavailable("libnftables cannot open a netlink socket")
    leave_open(partial(library.nft_ctx_free, context))
    library.nft_ctx_set_dry_run(context, dry_run)
    library.nft_ctx_buffer_output(context)
    library.nft_ctx_buffer_error(context)
    if library.nft_run_cmd_from_buffer(context, commands.encode()) == 0:
        return None
    message = library.nft_ctx_get_error_buffer(context).decode(errors="replace")
    return str(message.strip())
