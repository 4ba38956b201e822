from __future__ import annotations

import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.runtimes.runtimes import RUNTIMES, Kind, Start, started
from tests.support.node import ROOT

# Why runtimes could not be got, if so.
_MISSING = pytest.StashKey[str]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Get the runtimes that tests will need. It may take longer than a test may."""
    kinds = [
        parameter
        for item in session.items
        for parameter in getattr(getattr(item, "callspec", None), "params", {}).values()
        if isinstance(parameter, Kind)
    ]
    if not kinds or session.config.option.collectonly:
        return
    more = ("--all",) if any(RUNTIMES[kind.runtime].built for kind in kinds) else ()
    command = (ROOT / "scripts/runtimes", *more)
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        session.config.stash[_MISSING] = done.stderr


@pytest.fixture(scope="session")
def start(request: pytest.FixtureRequest, bin_dir: Path) -> Start:
    """How a runtime is started, on a machine of its own."""
    missing = request.config.stash.get(_MISSING, None)
    if missing is not None:
        pytest.fail(f"scripts/runtimes failed: {missing}", pytrace=False)
    return partial(started, bin_dir)


@pytest.fixture
def client(request: pytest.FixtureRequest, start: Start, tmp_path: Path) -> Iterator[Any]:
    """A runtime, as a parameter that `every` made says."""
    with start(request.param, tmp_path) as client:
        yield client
