from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from pycni.agent import calls
from pycni.launcher import ANSWER, LIFELINE, REQUEST


@pytest.fixture
def standby() -> Iterator[None]:
    """This process has open what a child of the agent's has that waits."""
    calls._open_pipes()
    yield
    for descriptor in (REQUEST, ANSWER, LIFELINE):
        os.close(descriptor)
