"""pycni: look at, and repair, what pycni's plugins hold on this node.

pycni list      every attachment, and what the firewall does for it
pycni repair    put all of that in force again, as after `nft flush ruleset`
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from cni import log
from cni.errors import CniError, from_oserror
from pycni import firewall
from pycni.state import attachments, parameters


def main() -> NoReturn:
    """Run as an executable."""
    os.umask(0o022)
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Carry out one command. Returns the exit code: 0, 1 if it failed, 2 if there is none such."""
    commands = {"list": _list, "repair": _repair}
    if arguments in (["--help"], ["-h"], ["help"]):
        print(__doc__, end="")
        return 0
    if len(arguments) != 1 or arguments[0] not in commands:
        sys.stderr.write(__doc__ or "")
        return 2
    if os.geteuid() != 0:
        sys.stderr.write(f"pycni: {arguments[0]} needs root\n")
        return 1
    try:
        commands[arguments[0]]()
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has enough, as `head` has. Nor must Python, at its end, write what is left.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (CniError, OSError) as error:
        told = from_oserror(error) if isinstance(error, OSError) else error
        sys.stderr.write(f"pycni: {told}\n")
        return 1
    return 0


def _list() -> None:
    for owner, plugin, record in attachments.all_records():
        state = "" if record.is_live else "  (its namespace is gone)"
        pod = f"  pod {record.pod}" if record.pod else ""
        entries: list[firewall.Entry] = []
        with log.told(f"{owner} is left out"):
            entries = firewall.entries_of(record)
        print(f"{owner}  {plugin}{pod}{state}")
        for entry in entries:
            print(f"    {entry}")
    for port in firewall.find_unfiltered_ports():
        print(f"{port} has no loopback filter: only a firewall rule keeps it from 127.0.0.1")
    for setting in parameters.find_changed():
        print(f"{setting} is not {setting.value}")


def _repair() -> None:
    print(f"{firewall.repair()} entries are in force")
    for setting in parameters.repair():
        print(f"{setting} is {setting.value} again")
