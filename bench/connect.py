"""Runs on both ends of a published port, to time the first packets of new TCP connections.

python -m bench.connect serve PORT                    accept for ever
python -m bench.connect measure ADDRESS PORT COUNT    print a JSON list of microseconds
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time


def serve(port: int) -> None:
    """Accept connections and close them."""
    _stay_on_one_cpu()
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))  # not while the other end runs
    with socket.create_server(("", port), backlog=1024) as server:
        print("ready", flush=True)
        while True:
            server.accept()[0].close()


def measure(address: str, port: int, count: int) -> None:
    """Connect again and again, and print how long each connection took to be established."""
    _stay_on_one_cpu()
    spent = []
    for _ in range(count):
        start = time.perf_counter()
        connection = socket.create_connection((address, port), timeout=5)
        spent.append((time.perf_counter() - start) * 1e6)
        connection.close()
    print(json.dumps(spent))


def _stay_on_one_cpu() -> None:
    """Waking another CPU may take a virtual machine as long as the whole connection."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]))
    else:
        measure(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
