"""`config.validate` spares most requests jsonschema, and must never let through what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni.config import is_plainly_allowed, load_schema
from cni.refusal import find_refusal
from tests.support.node import ROOT

SCHEMAS = {
    path.parent.name: load_schema(str(path)) for path in (ROOT / "plugins").glob("*/schema.json")
}

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 70000),
    st.floats(allow_nan=False),
    st.sampled_from(["", "tcp", "UDP", "10.1.0.0/16", "10.1.0.1", "fd00::1", "cni0", "a/b", "nft"]),
    st.text(max_size=4),
)


def documents(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that resemble what a schema asks for, and some that do not."""
    if "properties" in schema:
        keys = {key: documents(value) for key, value in schema["properties"].items()}
        return st.one_of(st.fixed_dictionaries({}, optional=keys), SCALARS)
    if "items" in schema:
        return st.one_of(st.lists(documents(schema["items"]), max_size=3), SCALARS)
    constants = [st.just(schema["const"])] if "const" in schema else []
    return st.one_of(SCALARS, st.lists(SCALARS, max_size=2), *constants)


@pytest.mark.parametrize("plugin", SCHEMAS)
@given(data=st.data())
def test_what_is_plainly_allowed_is_allowed(plugin: str, data: st.DataObject) -> None:
    """Whatever is let through without jsonschema, jsonschema would let through."""
    document = data.draw(documents(SCHEMAS[plugin]))
    if isinstance(document, dict) and is_plainly_allowed(document, SCHEMAS[plugin]):
        assert find_refusal(document, SCHEMAS[plugin]) is None


@pytest.mark.parametrize("path", sorted((ROOT / "conf").glob("*.conflist")), ids=lambda p: p.name)
def test_sample_configurations_are_plainly_allowed(path: Any) -> None:
    """What people use is let through without jsonschema."""
    mapping = {"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": ""}
    for plugin in json.loads(path.read_text())["plugins"]:
        config = plugin | {"runtimeConfig": {"portMappings": [mapping]}, "prevResult": {}}
        assert is_plainly_allowed(config, SCHEMAS[plugin["type"]])


@pytest.mark.parametrize(("mtu", "loaded"), [(1400, False), (1400.5, True)])
def test_jsonschema_is_loaded_for_a_refusal_only(mtu: float, *, loaded: bool) -> None:
    """An ADD that is in order starts without it."""
    program = f"""
import contextlib, sys
from cni.config import load_schema, validate
from cni.errors import InvalidConfig
with contextlib.suppress(InvalidConfig):
    validate({{"mtu": {mtu}}}, load_schema("{ROOT}/plugins/bridge/schema.json"))
print("jsonschema" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(loaded)


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "integer"}, True),
        ({"const": 0}, False),
        ({"const": False}, 0),
        ({"minimum": 1}, 0),
        ({"maxItems": 0}, [1]),
        ({"required": ["a"]}, {}),
        ({"pattern": "^a$"}, "b"),
        ({"format": "address"}, "10.0.0.256"),
        ({"anyOf": [{"const": 0}, {"minimum": 68}]}, 67),
        ({"items": {"type": "string"}}, [1]),
        ({"unheardOf": 1}, "anything"),
    ],
)
def test_what_is_not_plainly_allowed(schema: dict[str, Any], value: Any) -> None:
    """Each keyword is looked at, and a keyword that is not known is left to jsonschema."""
    assert not is_plainly_allowed(value, schema)
