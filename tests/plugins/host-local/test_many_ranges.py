"""Many ranges: whichever two of them overlap, that is found."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni.errors import InvalidConfig
from cni_plugins.host_local.ranges import parse_range_sets

SPANS = st.lists(st.tuples(st.integers(1, 200), st.integers(0, 20)), min_size=1, max_size=8)


@given(SPANS)
def test_overlaps(spans: list[tuple[int, int]]) -> None:
    """Ranges are refused if, and only if, two of them have an address in common."""
    parts = [range(first, first + more + 1) for first, more in spans]
    overlap = any(set(a) & set(b) for a, b in combinations(parts, 2))
    ranges = [
        {"subnet": "10.0.0.0/24", "rangeStart": f"10.0.0.{p[0]}", "rangeEnd": f"10.0.0.{p[-1]}"}
        for p in parts
    ]
    config = {"ipam": {"ranges": [[each] for each in ranges]}}
    if overlap:
        with pytest.raises(InvalidConfig, match="not allowed"):
            parse_range_sets(config, "1.0.0")
    else:
        assert len(parse_range_sets(config, "1.0.0")) == len(parts)
