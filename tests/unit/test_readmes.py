"""The plugins' READMEs, beside the schemas: each key is documented, and no other."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.node import ROOT

PLUGINS = ("bridge", "host-local", "loopback", "portmap")
# These hold the keys that a README tells of.
CONTAINERS = {"args", "cni", "runtimeConfig"}
# These stand in a README's table, too, and are no keys.
VARIABLES = {"CNI_ARGS", "IP"}


def schema(plugin: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((ROOT / f"plugins/{plugin}/schema.json").read_text())
    return loaded


def keys(schema: dict[str, Any]) -> Iterator[str]:
    """The keys of a schema, at any depth."""
    for key, value in schema.get("properties", {}).items():
        yield key
        yield from keys(value)
    if "items" in schema:
        yield from keys(schema["items"])


def code(plugin: str) -> set[str]:
    """The words that a README has in code, before it says what the verbs do."""
    text = (ROOT / f"plugins/{plugin}/README.md").read_text().partition("## What the verbs do")[0]
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return {word for span in spans for word in re.findall(r"\w+", span)}


def table(plugin: str) -> set[str]:
    """The keys that a README's first column lists."""
    text = (ROOT / f"plugins/{plugin}/README.md").read_text().partition("## What the verbs do")[0]
    cells = re.findall(r"^\| (`.*?`) \|", text, re.MULTILINE)
    spans = (span for cell in cells for span in re.findall(r"`([^`]+)`", cell))
    return {re.split(r"\W+", span)[-1] for span in spans}


@pytest.mark.parametrize("plugin", PLUGINS)
def test_every_key_is_documented(plugin: str) -> None:
    """Each key of a schema stands in the plugin's README."""
    assert set(keys(schema(plugin))) - CONTAINERS - code(plugin) == set()


@pytest.mark.parametrize("plugin", PLUGINS)
def test_every_documented_key_is_known(plugin: str) -> None:
    """Each key of a README's tables stands in the plugin's schema, or in that which all share."""
    shared = json.loads((ROOT / "cni/network.schema.json").read_text())
    assert table(plugin) - set(keys(schema(plugin))) - set(keys(shared)) - VARIABLES == set()
