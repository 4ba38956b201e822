"""Faults by the thousand. See docs/reliability.md.

python -m tests.faults SUITE [--seconds N] [--seed N]    a suite of tests.faults.suites
python -m tests.faults SUITE --again 'WORLD FAULT'       a fault that was reported
"""

from __future__ import annotations

import argparse
import random
import sys
import time

from tests.faults.suites import SUITES, again, run


def main() -> int:
    """Prints the seed, what is found, and a row of the table. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    parser.add_argument("suite", choices=SUITES)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--again", metavar="'WORLD FAULT'")
    options = parser.parse_args()
    if options.again:
        report = again(options.suite, options.again)
    else:
        print(f"seed {options.seed}", flush=True)
        end = time.monotonic() + options.seconds
        report = run(options.suite, options.seed, lambda _: time.monotonic() > end)
    print(report.row())
    return 1 if report.found else 0


if __name__ == "__main__":
    sys.exit(main())
