"""JSON that people and other programs wrote: read with care."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cni.config import Document
from cni.errors import CniError, DecodingFailure, InvalidConfig

_KINDS = {bool: "true or false", dict: "an object", list: "a list", str: "a string"}


@contextlib.contextmanager
def naming(place: Path | str) -> Iterator[None]:
    """Say in an error (InvalidConfig) where it was found."""
    try:
        yield
    except CniError as error:
        raise InvalidConfig(f"{place}: {error}") from None


def parse_object(source: bytes | str) -> Document:
    """Read a JSON object. Raises DecodingFailure."""
    try:
        document = json.loads(source)
    except ValueError as error:
        raise DecodingFailure("not JSON", str(error)) from None
    if not isinstance(document, dict):
        raise DecodingFailure("not a JSON object")
    return document


def take(document: Document, key: str, kind: type, default: Any) -> Any:
    """A key's value, or the default for a key that is missing or null.

    Raises InvalidConfig for one that is not of this kind.
    """
    value = document.get(key)
    if value is None:
        return default
    if not isinstance(value, kind):
        raise InvalidConfig(
            f"{key}: {json.dumps(value)} is not allowed", f"allowed: {_KINDS[kind]}"
        )
    return value


def is_true(document: Document, key: str) -> bool:
    """A flag, which may be written as a string, in any case. Raises InvalidConfig."""
    value = document.get(key, False)
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    return bool(take(document, key, bool, default=False))
