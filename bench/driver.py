"""Runs inside a node and times what it starts there, so that entering the node is not measured.

A line of standard input is a JSON list of chains to run at once, a chain being programs to run in
turn; a line of standard output answers with `{"ms": …, "chains": [{"ms": …, "results": […]}]}`. A
program is `{"argv": […], "env": {…}, "stdin": {…}}`; where its `stdin` has the key `prevResult`
with the value "previous", that becomes what the program before it in the chain printed.

A chain ends with the first program that fails, with its output under `"error"`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def main() -> None:
    """Answer until standard input ends."""
    print("ready", flush=True)
    for line in sys.stdin:
        chains = json.loads(line)
        start = time.perf_counter()
        if len(chains) == 1:
            answers = [run_chain(chains[0])]
        else:
            with ThreadPoolExecutor(len(chains)) as threads:
                answers = list(threads.map(run_chain, chains))
        spent = (time.perf_counter() - start) * 1000
        print(json.dumps({"ms": spent, "chains": answers}), flush=True)


def run_chain(programs: list[dict[str, Any]]) -> dict[str, Any]:
    """Run programs in turn; `ms` is the time that they took, without this process's own."""
    results: list[Any] = []
    spent = 0.0
    for program in programs:
        document = program.get("stdin")
        if document and document.get("prevResult") == "previous":
            document = document | {"prevResult": results[-1]}
        stdin = json.dumps(document) if document else ""
        start = time.perf_counter()
        done = subprocess.run(
            program["argv"],
            env={"PATH": os.environ["PATH"]} | program["env"],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        spent += time.perf_counter() - start
        if done.returncode != 0:
            return {"ms": spent * 1000, "results": results, "error": done.stdout + done.stderr}
        results.append(json.loads(done.stdout or "null"))
    return {"ms": spent * 1000, "results": results}


if __name__ == "__main__":
    main()
