"""Why a network configuration is refused: jsonschema's verdict, in words for a person.

Loaded only for a configuration that is not plainly allowed, see `config.validate`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import best_match
from jsonschema.validators import extend

from cni.errors import InvalidConfig
from cni.formats import FORMATS


def find_refusal(document: Mapping[str, Any], schema: Mapping[str, Any]) -> InvalidConfig | None:
    """The error that names an offending key's path, its value, what is allowed; None if none."""
    # A whole number is one without a decimal point (Go refuses 1500.0 for an integer, too).
    strict = Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _checker, value: isinstance(value, int) and not isinstance(value, bool)
    )
    formats = FormatChecker(formats=())
    for name, (parse, _words) in FORMATS.items():
        formats.checks(name, raises=ValueError)(_accepts(parse))
    validator = extend(Draft202012Validator, type_checker=strict)  # type: ignore[no-untyped-call]
    found = best_match(validator(schema, format_checker=formats).iter_errors(document))
    if found is None:
        return None
    path = _path(found.absolute_path)
    if found.validator == "required":
        # `required` is reported for the object; the reader wants the key that is not there.
        missing = next(key for key in found.validator_value if key not in found.instance)
        return InvalidConfig(f"{path}.{missing}: missing" if path else f"{missing}: missing")
    value = json.dumps(found.instance)
    return InvalidConfig(f"{path}: {value} is not allowed", f"allowed: {_allowed(_stated(found))}")


def _stated(found: Any) -> Mapping[str, Any]:
    """The schema that says in words what is allowed: of an alternative, the whole says it."""
    error = found
    while error is not None:
        if "allowed" in error.schema:
            return dict(error.schema)
        error = error.parent
    return dict(found.schema)


def _accepts(parse: Callable[[str], object]) -> Callable[[object], bool]:
    def check(value: object) -> bool:
        if isinstance(value, str):
            parse(value)
        return True

    return check


def _path(steps: Any) -> str:
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
    return text.removeprefix(".")


def _allowed(schema: Mapping[str, Any]) -> str:
    """What a schema allows, in words."""
    if "allowed" in schema:
        return str(schema["allowed"])
    if "enum" in schema:
        return ", ".join(json.dumps(value) for value in schema["enum"])
    if "format" in schema:
        return FORMATS[schema["format"]][1]
    words = _TYPES.get(schema.get("type", ""), "another value")
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        return f"{words} from {low} to {high}"
    return words if low is None else f"{words}, {low} or more"


_TYPES = {
    "array": "a list",
    "boolean": "true or false",
    "integer": "a whole number",
    "object": "an object",
    "string": "a string",
}
