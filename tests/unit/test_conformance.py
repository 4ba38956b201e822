"""docs/conformance.md, and the rules of the suite."""

from __future__ import annotations

import pytest

from tests.support import conformance
from tests.support.conformance import read_parts


def test_every_test_is_a_sentence() -> None:
    """Each test of what the page tells has a sentence, each file a heading."""
    assert conformance.find_faults() == []


def test_page_is_up_to_date() -> None:
    """The page is what the tests' docstrings make it."""
    is_current = conformance.PAGE.read_text() == conformance.render()
    assert is_current, "run scripts/conformance, and commit docs/conformance.md"


def test_every_part_has_tests() -> None:
    """No folder that the page tells of is empty."""
    assert all(file.tests for _, files in read_parts() for file in files)


def test_a_missing_tool_is_a_failure(pytester: pytest.Pytester) -> None:
    """A test that is skipped fails, unless the kernel is what it lacks."""
    pytester.makeconftest("from tests.conftest import pytest_runtest_makereport")
    pytester.makeini("[pytest]\nmarkers = kernel(feature): a feature")
    pytester.makepyfile("""
        import pytest

        def test_tool():
            pytest.skip("there is no nft")

        @pytest.mark.kernel("VLANs")
        def test_kernel():
            pytest.skip("there is no filter")
    """)
    result = pytester.runpytest_inprocess("-p", "no:xdist")
    result.assert_outcomes(failed=1, skipped=1)
    result.stdout.fnmatch_lines(["*skipped, and not for the kernel*there is no nft*"])
