"""What a person may want to know, on standard error: the runtime logs it, and parses none of it."""

from __future__ import annotations

import sys
from collections.abc import Callable

from cni.errors import CniError


def warn(text: str) -> None:
    """Say that something went wrong which does not make the request fail."""
    if sys.stderr is not None:
        sys.stderr.write(f"pycni: {text}\n")


def attempt(what: str, step: Callable[..., object], *arguments: object) -> None:
    """Run a step whose failure is told and changes nothing else.

    So are the steps of a rollback: the runtime must hear what went wrong first.
    """
    try:
        step(*arguments)
    except (CniError, OSError) as error:
        warn(f"{what}: {error}")
