from __future__ import annotations

import os
from pathlib import Path

import pytest

_NEED_ROOT = [Path(__file__).with_name(suite) for suite in ("netns", "runtimes")]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A suite that was skipped looks like one that passed: without root these fail."""
    if os.geteuid() != 0 and any(suite in item.path.parents for suite in _NEED_ROOT):
        pytest.fail(
            "tests/netns and tests/runtimes make namespaces: run them as root", pytrace=False
        )
