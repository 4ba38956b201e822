"""Versions: which are supported, and which verbs each has."""

from __future__ import annotations

import re

import pytest

from cni.errors import IncompatibleVersion
from cni.versions import SUPPORTED, at_least, parse_version, require_verb


def test_versions_are_in_order() -> None:
    """Of two supported versions, one is at least the other as numbers compare."""
    for version in SUPPORTED:
        for wanted in SUPPORTED:
            numbers = [tuple(map(int, text.split("."))) for text in (version, wanted)]
            assert at_least(version, wanted) == (numbers[0] >= numbers[1])


@pytest.mark.parametrize("version", SUPPORTED)
def test_supported_versions(version: str) -> None:
    """A supported version is what it says."""
    assert parse_version(version) == version


@pytest.mark.parametrize("absent", [None, ""])
def test_an_absent_version(absent: str | None) -> None:
    """No version means the first one, which had no such key."""
    assert parse_version(absent) == "0.1.0"


@pytest.mark.parametrize("value", ["1.2.0", "1", "v1.0.0", " 1.0.0", 1.0, True, [], {}])
def test_other_versions(value: object) -> None:
    """Anything else is refused, and quoted."""
    with pytest.raises(IncompatibleVersion) as caught:
        parse_version(value)
    assert repr(value) in caught.value.message
    assert "1.1.0" in caught.value.details


@pytest.mark.parametrize("verb", ["ADD", "DEL"])
def test_verbs_of_all_versions(verb: str) -> None:
    """ADD and DEL are in all versions."""
    for version in SUPPORTED:
        require_verb(verb, version)


@pytest.mark.parametrize(
    ("verb", "first"), [("CHECK", "0.4.0"), ("GC", "1.1.0"), ("STATUS", "1.1.0")]
)
def test_verbs_that_came_later(verb: str, first: str) -> None:
    """CHECK is in 0.4.0 and later, GC and STATUS are in 1.1.0."""
    for version in SUPPORTED[SUPPORTED.index(first) :]:
        require_verb(verb, version)
    for version in SUPPORTED[: SUPPORTED.index(first)]:
        with pytest.raises(IncompatibleVersion, match=f"{verb} needs {re.escape(first)} or later"):
            require_verb(verb, version)
