from __future__ import annotations

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


def test_check_came_later() -> None:
    """CHECK is in 0.4.0 and later."""
    for version in SUPPORTED[SUPPORTED.index("0.4.0") :]:
        require_verb("CHECK", version)
    for version in SUPPORTED[: SUPPORTED.index("0.4.0")]:
        with pytest.raises(IncompatibleVersion, match=r"CHECK needs 0\.4\.0 or later"):
            require_verb("CHECK", version)
