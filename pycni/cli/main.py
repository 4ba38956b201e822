"""pycni: look at, and repair, what pycni's plugins hold on this node.

pycni list      every attachment, and what the firewall does for it
pycni repair    put all of that in force again, as after `nft flush ruleset`
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from cni import log
from cni.errors import CniError
from pycni import firewall
from pycni.state import attachments


def main() -> NoReturn:
    """Run as an executable."""
    os.umask(0o022)
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Carry out one command. Returns the exit code."""
    commands = {"list": _list, "repair": _repair}
    if len(arguments) != 1 or arguments[0] not in commands:
        sys.stderr.write(__doc__ or "")
        return 2
    try:
        commands[arguments[0]]()
    except CniError as error:
        sys.stderr.write(f"pycni: {error}\n")
        return 1
    return 0


def _list() -> None:
    for owner, plugin, record in attachments.all_records():
        state = "" if record.is_live else "  (its namespace is gone)"
        print(f"{owner}  {plugin}{state}")
        with log.told(f"{owner} is left out"):
            for entry in firewall.entries_of(record):
                print(f"    {entry}")


def _repair() -> None:
    print(f"{firewall.repair()} entries are in force")
