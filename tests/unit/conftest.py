from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from cni.agent import calls
from cni.launcher import ANSWER, LIFELINE, REQUEST
from cni_plugins.host_local import index

# A slow machine is no failure; a few examples a run are enough, for there are many runs.
settings.register_profile("pycni", deadline=None, max_examples=25, database=None)
settings.load_profile("pycni")


@pytest.fixture(scope="session", autouse=True)
def _index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Indexes of leases are kept among the tests' own files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index, "ROOT", str(tmp_path_factory.mktemp("index") / "leases"))
        yield


@pytest.fixture
def standby() -> Iterator[None]:
    """This process has open what a child of the agent's has that waits."""
    calls._open_pipes()
    yield
    for descriptor in (REQUEST, ANSWER, LIFELINE):
        os.close(descriptor)
