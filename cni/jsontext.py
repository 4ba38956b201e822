"""JSON, read and written without the package `json`, which compiles regular expressions first.

Its C parts do the work here, too; a text that they do not take right away is left to the package,
so that what is JSON, and how an error reads, is `json`'s to say.
"""

from __future__ import annotations

from _json import encode_basestring_ascii as _quote
from _json import make_scanner

from cni import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON value")


class _Settings:
    """What json.JSONDecoder tells its scanner."""

    strict = True
    object_hook = object_pairs_hook = None
    parse_float, parse_int, parse_constant = float, int, _refuse_constant
    memo: dict[str, str] = {}  # noqa: RUF012 - the scanner's own


_scan = make_scanner(_Settings)  # type: ignore[arg-type]  # any object with these attributes


def loads(text: str) -> Any:
    """The value that `text` is. Raises ValueError; NaN is no JSON value."""
    try:
        return _loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _loads(text: str) -> Any:
    try:
        value, end = _scan(text, 0)
        if end == len(text) or text[end:].isspace():
            return value
    # SystemError is how the scanner fails where json.decoder, whose error it raises, is missing.
    except (ValueError, StopIteration, SystemError):
        pass
    import json

    return json.loads(text, parse_constant=_refuse_constant)


def load(path: str) -> Any:
    """The value in a file. Raises ValueError, and OSError."""
    with open(path, encoding="utf-8") as file:
        return loads(file.read())


def dumps(value: Any, indent: int | None = None) -> str:
    """`value` as text, as json.dumps has it. Raises TypeError for what is no JSON value."""
    return _dumps(value, "" if indent is None else " " * indent, "\n")


def _dumps(value: Any, indent: str, newline: str) -> str:
    """`newline` is a line's end together with the spaces that the next line begins with."""
    if isinstance(value, str):
        return _quote(value)
    if value is None or value is True or value is False:
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float) and value - value == 0:  # neither infinite nor NaN
        return float.__repr__(value)
    deeper = newline + indent
    if isinstance(value, (list, tuple)):
        items = [_dumps(item, indent, deeper) for item in value]
        return _enclose("[", items, "]", indent and newline, deeper)
    if isinstance(value, dict):
        items = [f"{_quote(key)}: {_dumps(item, indent, deeper)}" for key, item in value.items()]
        return _enclose("{", items, "}", indent and newline, deeper)
    raise TypeError(f"{value!r} is no JSON value")


def _enclose(opening: str, items: list[str], closing: str, newline: str, deeper: str) -> str:
    if not items or not newline:
        return opening + ", ".join(items) + closing
    return opening + deeper + f",{deeper}".join(items) + newline + closing
