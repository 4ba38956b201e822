"""Many ranges: whichever two of them overlap, that is found."""

from __future__ import annotations

from ipaddress import ip_address
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni.errors import InvalidConfig
from cni_plugins.host_local.ranges import Catalogue, parse_range_sets

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


@given(SPANS)
def test_catalogue(spans: list[tuple[int, int]]) -> None:
    """For each address the set is found that offers it, if there is one."""
    ranges = [
        [{"subnet": f"10.0.{n}.0/24", "rangeStart": f"10.0.{n}.{first}"}]
        for n, (first, _) in enumerate(spans)
    ]
    sets = parse_range_sets({"ipam": {"ranges": ranges}}, "1.0.0")
    catalogue = Catalogue(sets)
    for address in (ip_address(f"10.0.{n}.{last}") for n in range(9) for last in range(256)):
        assert catalogue.find(address) == next((s for s in sets if s.offers(address)), None)
    assert catalogue.find(ip_address("fd00::1")) is None
