"""What host-local's ADD, CHECK and DEL cost beside many leases, without the start of a process.

    python -m bench.leases [LEASES] [ROUNDS]

Takes turns between a network without a lease and one with many (2,000), which were made as an ADD
makes them. Printed are medians of the CPU time in milliseconds, and their ratio. The files are in a
temporary directory, and so is the index of leases; nothing else is touched.
"""

from __future__ import annotations

import io
import json
import os
import statistics
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

from cni import plugin
from cni.request import Attachment
from cni_plugins.host_local.main import PLUGIN
from cni_plugins.host_local.ranges import parse_range_sets
from pycni.state import location
from pycni.state.leases import locked

_RANGES = [[{"subnet": "10.22.0.0/16"}], [{"subnet": "fd00:22::/64"}]]
_VERBS = ("ADD", "CHECK", "DEL")


def main(leases: int, rounds: int) -> None:
    """Measure and print."""
    times: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as directory:
        os.environ[location.VARIABLE] = f"{directory}/state"
        configs = {name: _config(name, directory) for name in ("empty", "full")}
        _fill(Path(directory, "full"), configs["full"], leases)
        for number in range(rounds + 1):
            for name, config in configs.items():
                for verb in _VERBS:
                    spent = _run(verb, config, f"pod{number}")
                    if number:  # the first round makes the index
                        times.setdefault((verb, name), []).append(spent)
    print(f"{'':8}{'empty':>10}{f'{leases} leases':>14}{'ratio':>8}   (medians of {rounds}, ms)")
    for verb in _VERBS:
        empty, full = (statistics.median(times[verb, name]) for name in configs)
        print(f"{verb:8}{empty:10.3f}{full:14.3f}{full / empty:8.2f}")


def _config(name: str, directory: str) -> dict[str, Any]:
    ipam = {"type": "host-local", "dataDir": directory, "ranges": _RANGES}
    return {"cniVersion": "1.1.0", "name": name, "type": "bridge", "ipam": ipam}


def _fill(directory: Path, config: dict[str, Any], leases: int) -> None:
    with locked(str(directory), create=True) as store:
        for ranges in parse_range_sets(config, "1.1.0"):
            for number, address in enumerate(islice(ranges.candidates(), leases)):
                store.lease_first([address], Attachment("full", f"neighbour{number}", "eth0"))
                store.remember_last(ranges.number, address)


def _run(verb: str, config: dict[str, Any], container_id: str) -> float:
    environ = {"CNI_COMMAND": verb, "CNI_CONTAINERID": container_id, "CNI_IFNAME": "eth0"}
    environ["CNI_NETNS"] = "/run/netns/none"
    stdin = json.dumps(config | {"prevResult": {"cniVersion": "1.1.0"}}).encode()
    stdout = io.BytesIO()
    start = time.process_time()
    code = plugin.run(PLUGIN, environ, io.BytesIO(stdin), stdout, sys.stderr)
    spent = (time.process_time() - start) * 1000
    assert code == 0, stdout.getvalue()
    return spent


if __name__ == "__main__":
    given = [int(argument) for argument in sys.argv[1:3]]
    main(*given, *(2000, 200)[len(given) :])
