"""Network configuration: JSON from standard input, matched and validated against a schema.

A plugin's `schema.json` is the single source for the keys that it knows; the keys that every
plugin shares stand in `cni/network.schema.json`. Besides JSON Schema's own keywords a schema
may say

    "format"    one of `cni.formats.FORMATS`
    "allowed"   what is allowed, in words, for the error message

Keys that no schema names are allowed and left alone: runtimes inject some.

Source: CNI specification, section "Network configuration format"; JSON Schema 2020-12; for keys in
any case, encoding/json of Go.
"""

from __future__ import annotations

import os
from functools import cache

from cni import TYPE_CHECKING, jsontext
from cni.errors import DecodingFailure
from cni.formats import FORMATS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

Document = dict[str, "Any"]

# Deeper values would end in the interpreter's recursion limit sooner or later.
_MOST_LEVELS = 100

# The keys that every plugin shares.
SHARED_SCHEMA = os.path.join(os.path.dirname(__file__), "network.schema.json")


def decode(stdin: bytes) -> Document:
    """The JSON object that a runtime wrote. Raises DecodingFailure for anything else."""
    try:
        document = jsontext.loads(stdin.decode())
    except ValueError as error:
        raise DecodingFailure("the network configuration is not JSON", str(error)) from None
    if not isinstance(document, dict):
        kind = type(document).__name__
        raise DecodingFailure("the network configuration is not a JSON object", f"it is a {kind}")
    if _is_deeper(document, _MOST_LEVELS):
        limit = f"allowed: {_MOST_LEVELS} levels"
        raise DecodingFailure("the network configuration is nested too deeply", limit)
    return document


def _is_deeper(value: object, levels: int) -> bool:
    """Whether objects and lists are nested in more levels than that."""
    if not isinstance(value, dict | list):
        return False
    items = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_is_deeper(item, levels - 1) for item in items)


@cache
def load_schema(path: str) -> Document:
    """The schema in the file `path`, with the keys that every plugin shares.

    Raises OSError or ValueError for a file that is missing or no JSON.
    """
    return _merge(jsontext.load(SHARED_SCHEMA), jsontext.load(path))


def _merge(base: Document, extension: Document) -> Document:
    """Objects are united key by key; of anything else, the extension's value counts."""
    merged = dict(base)
    for key, value in extension.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def match_keys(value: Any, schema: Mapping[str, Any]) -> Any:
    """Spell the keys that the schema knows as it does, and drop those that are null.

    Go decodes JSON without regard to the case of keys and takes null for absent; containerd
    relies on the first (it sends `HostPort`). The exact spelling wins where both are there.
    """
    if isinstance(value, list):
        return [match_keys(item, schema.get("items", {})) for item in value]
    properties = schema.get("properties")
    if not isinstance(value, dict) or properties is None:
        return value
    known: dict[str, str] = {key.lower(): key for key in properties}
    matched: Document = {}
    for key, item in value.items():
        spelling = known.get(key.lower(), str(key))
        if spelling != key and spelling in value:
            continue
        if item is None and spelling in properties:
            continue
        matched[spelling] = match_keys(item, properties.get(spelling, {}))
    return matched


def validate(document: Document, schema: Mapping[str, Any]) -> None:
    """Raise InvalidConfig that names the first offending key's path, its value, what is allowed.

    jsonschema decides, and finds the words; but its import takes longer than all else that a
    request does. So a document that is plainly allowed is not shown to it.
    """
    if not is_plainly_allowed(document, schema):
        from cni.refusal import find_refusal

        refusal = find_refusal(document, schema)
        if refusal is not None:
            raise refusal


def is_plainly_allowed(value: Any, schema: Mapping[str, Any]) -> bool:
    """Whether jsonschema would allow the value, too. False if not, or if that is not known here."""
    return all(
        keyword in _KEYWORDS and _KEYWORDS[keyword](value, argument)
        for keyword, argument in schema.items()
    )


def _is_of_type(value: Any, name: Any) -> bool:
    return type(value) is _TYPES.get(name)


def _properties_allowed(value: Any, properties: Mapping[str, Any]) -> bool:
    return isinstance(value, dict) and all(
        is_plainly_allowed(value[key], schema) for key, schema in properties.items() if key in value
    )


def _items_allowed(value: Any, schema: Mapping[str, Any]) -> bool:
    return isinstance(value, list) and all(is_plainly_allowed(item, schema) for item in value)


def _matches(value: Any, pattern: str) -> bool:
    import re  # not wanted by a schema of ours: it takes as long as Python to start

    return isinstance(value, str) and re.search(pattern, value) is not None


def _has_format(value: Any, name: str) -> bool:
    try:
        FORMATS[name][0](value)
    except (ValueError, TypeError):
        return False
    return isinstance(value, str)


_TYPES = {"array": list, "boolean": bool, "integer": int, "object": dict, "string": str}

# Each says yes only if jsonschema does. What is not here, it is asked about.
_KEYWORDS: Mapping[str, Callable[[Any, Any], bool]] = {
    "$schema": lambda _value, _uri: True,
    "title": lambda _value, _text: True,
    "allowed": lambda _value, _text: True,
    "type": _is_of_type,
    "properties": _properties_allowed,
    "items": _items_allowed,
    "required": lambda value, keys: isinstance(value, dict) and all(key in value for key in keys),
    "enum": lambda value, values: isinstance(value, str) and value in values,
    "const": lambda value, constant: type(value) is type(constant) and value == constant,
    "minimum": lambda value, least: type(value) is int and value >= least,
    "maximum": lambda value, most: type(value) is int and value <= most,
    "minItems": lambda value, least: isinstance(value, list) and len(value) >= least,
    "maxItems": lambda value, most: isinstance(value, list) and len(value) <= most,
    "pattern": _matches,
    "format": _has_format,
    "anyOf": lambda value, schemas: any(is_plainly_allowed(value, schema) for schema in schemas),
}
