"""What an ADD made, and removes again if it fails."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager

from cni import TYPE_CHECKING, log
from cni.net.netlink.socket import NetlinkError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def made(
    undo: ExitStack, what: str, remove: Callable[..., object], *arguments: object
) -> Iterator[None]:
    """Run a block that makes something by netlink; `undo` removes it again once it is made.

    What the kernel refused has not been made, and what has its name is somebody else's. Where the
    answer was lost, nobody knows, and it is removed as well. Failure to remove it is told, see
    `log.attempt`.
    """
    try:
        yield
    except NetlinkError:
        raise
    except BaseException:
        # Not at once: the caller may hold the lock that `remove` takes.
        undo.callback(log.attempt, what, remove, *arguments)
        raise
    undo.callback(log.attempt, what, remove, *arguments)
