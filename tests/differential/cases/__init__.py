"""All cases, by plugin."""

from __future__ import annotations

from tests.differential.case import Case
from tests.differential.cases import bridge, host_local, loopback, portmap, requests

CASES: tuple[Case, ...] = (
    *requests.CASES,
    *loopback.CASES,
    *host_local.CASES,
    *bridge.CASES,
    *portmap.CASES,
)
