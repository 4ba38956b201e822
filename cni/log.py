"""What a person may want to know, on standard error: the runtime logs it, and parses none of it.

Standard output is the result's; what a plugin prints goes to standard error, too (`cni.plugin`).
"""

from __future__ import annotations

import sys
from contextlib import contextmanager, suppress

from cni import TYPE_CHECKING
from cni.errors import CniError, from_oserror

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def warn(text: str) -> None:
    """Say that something went wrong which does not make the request fail; nor does this."""
    if sys.stderr is not None:
        with suppress(OSError):
            sys.stderr.write(f"pycni: {text}\n")


@contextmanager
def told(what: str) -> Iterator[None]:
    """Run a block whose CniError or OSError is told, behind `what`, and changes nothing else."""
    try:
        yield
    except CniError as error:
        warn(f"{what}: {error}")
    except OSError as error:
        warn(f"{what}: {from_oserror(error)}")


def attempt(what: str, step: Callable[..., object], *arguments: object) -> None:
    """Run a step of that kind, such as those of a rollback: what went wrong first matters more."""
    try:
        with told(what):
            step(*arguments)
    except Exception as error:  # noqa: BLE001 - nor does a mistake of ours
        warn(f"{what}: {type(error).__name__}: {error}")
