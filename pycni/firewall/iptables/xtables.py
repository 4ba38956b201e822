"""Running iptables-restore and iptables-save, of whatever flavour there is: nft or legacy.

Source: iptables-restore(8), iptables-save(8).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess

from cni.errors import CniError, IOFailure
from pycni.firewall.vocabulary import Refused, Unavailable

# Where the programs are if a runtime's PATH is short of them.
_MORE_PATH = "/usr/sbin:/sbin"

PROGRAMS = {4: "iptables", 6: "ip6tables"}

# In the programs' words: not this change is wrong, but any would be.
_UNUSABLE = re.compile(
    r"(can't|cannot|unable to|failed to) initialize|could not fetch rule set|permission denied"
    r"|protocol not supported|address family not supported|is incompatible",
    re.IGNORECASE,
)
_LINE = re.compile(r"line:? (\d+) failed")


class Rejected(Refused):
    """iptables-restore did not take a line; nothing of its table was changed.

    `line` is its number, counted from 1, None if the program does not tell it.
    """

    def __init__(self, message: str, details: str, line: int | None) -> None:
        super().__init__(message, details)
        self.line = line


def restore(version: int, text: str, *, dry: bool = False) -> None:
    """Carry out what the text says for an IP version, or, if `dry`, have it judged only.

    Raises Rejected, or Unavailable.
    """
    program = _find(f"{PROGRAMS[version]}-restore")
    test = ("--test",) if dry else ()
    done = _run(program, "--noflush", "--wait", *test, stdin=text)
    if done.returncode != 0:
        found = _LINE.search(done.stderr)
        line = int(found[1]) if found else None
        raise Rejected(f"{os.path.basename(program)} refused the rules", done.stderr.strip(), line)


def save(version: int, table: str) -> str:
    """A table with all its chains and rules, as iptables-save prints it."""
    done = _run(_find(f"{PROGRAMS[version]}-save"), "-t", table)
    if done.returncode != 0:
        # For want of memory or the like: there may be rules, and the next time they may be listed.
        raise CniError(f"{PROGRAMS[version]}-save fails", done.stderr.strip())
    return done.stdout


def _find(program: str) -> str:
    """The path of a program. Raises Unavailable if it is not installed."""
    found = shutil.which(program, path=f"{os.environ.get('PATH', '')}:{_MORE_PATH}")
    if found is None:
        raise Unavailable(f"{program} (of the iptables package) is not installed")
    return found


def _run(*command: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    environ = os.environ | {"LC_ALL": "C"}
    try:
        done = subprocess.run(
            command, input=stdin, env=environ, capture_output=True, text=True, check=False
        )
    except (FileNotFoundError, PermissionError) as error:
        raise Unavailable(f"{command[0]} cannot be run", error.strerror or "") from None
    except OSError as error:  # for want of memory or descriptors, which passes
        raise IOFailure(f"{command[0]} cannot be run", error.strerror or "") from None
    if done.returncode != 0 and _UNUSABLE.search(done.stderr):
        raise Unavailable(f"{os.path.basename(command[0])} cannot be used", done.stderr.strip())
    return done
