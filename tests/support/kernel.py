"""What this machine's kernel can do, of what not every kernel can.

A test that cannot run without is marked `@pytest.mark.kernel(FEATURE)`.
"""

from __future__ import annotations

import os
import socket
import subprocess

from tests.support.echo import KINDS

VLAN_FILTERING = "VLAN filtering: run scripts/test-kernel"


def has_feature(feature: str) -> bool:
    # Without root tests fail for want of that.
    return os.geteuid() != 0 or _FEATURES[feature]()


def knows_protocol(protocol: str) -> bool:
    """Whether the kernel has SCTP, which many are built without, as it has TCP and UDP."""
    try:
        socket.socket(socket.AF_INET, *KINDS[protocol]).close()
    except OSError:
        return False
    return True


def can_filter_vlans() -> bool:
    """Whether the kernel was built with VLAN filtering for bridges: whether one can be made."""
    bridge = ("ip", "link", "add", "br0", "type", "bridge", "vlan_filtering", "1")
    done = subprocess.run(
        ("unshare", "--net", *bridge), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 or "not supported" in done.stderr, done.stderr
    return done.returncode == 0


_FEATURES = {VLAN_FILTERING: can_filter_vlans}
