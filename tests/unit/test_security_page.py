"""docs/security.md names tests, which have to be there."""

from __future__ import annotations

import re

import pytest

from tests.support.node import ROOT
from tests.support.pages import DOCS

NAMED = re.findall(r"`(tests/[\w/-]+\.py)::(test_\w+)`", (DOCS / "security.md").read_text())


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_named_tests_exist(file: str, name: str) -> None:
    """Each test that holds an advisory is there."""
    assert f"def {name}(" in (ROOT / file).read_text()


def test_every_advisory_is_held() -> None:
    """No row of the table of advisories is without a test."""
    rows = re.findall(r"^\| (?:CVE|GHSA).*$", (DOCS / "security.md").read_text(), re.MULTILINE)
    assert len(rows) > 5
    assert [row for row in rows if "`tests/" not in row] == []
