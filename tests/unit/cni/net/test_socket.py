"""Netlink sockets: when those are closed that are left open."""

from __future__ import annotations

from functools import partial

from cni.net.netlink.socket import leave_open


def test_left_open() -> None:
    """The latest stay open, in a process that never ends, too; the oldest is closed first."""
    closed: list[int] = []
    for number in range(100):
        leave_open(partial(closed.append, number))
    assert closed == list(range(len(closed)))
    assert 90 < len(closed) < 100
