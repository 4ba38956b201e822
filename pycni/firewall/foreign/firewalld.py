"""firewalld, which rejects what it is not told to forward.

Its way of being told is a zone: a bridge that becomes an interface of the zone `trusted` may send
wherever it likes, while new connections to it stay rejected unless they are for a published port.
This is done at run time only, by firewall-cmd; a restart of firewalld forgets it. A bridge
that somebody has put into any zone stays there: that is a decision.

What it does is read from the kernel. Source: firewalld's src/firewall/core/nftables.py.
"""

from __future__ import annotations

import os

from cni import TYPE_CHECKING
from cni.errors import CniError
from pycni.firewall.nftables.query import Query, find_chain

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

_TABLE = "firewalld"
_IFNAMSIZ = 16
_MORE_PATH = ("/usr/bin", "/bin")


class Firewalld:
    """firewalld's table of nftables, `inet firewalld`."""

    tool = "firewall-cmd"

    def __str__(self) -> str:
        return "firewalld"

    def drops(self) -> bool:
        """Whether it is there."""
        return find_chain("inet", _TABLE, "filter_FORWARD") is not None

    def unassigned(self, bridges: Mapping[str, bool]) -> list[str]:
        """The bridges that route and that no zone has."""
        routing = sorted(name for name, routes in bridges.items() if routes)
        with Query(_TABLE) as query:
            rules = query.rules("filter_FORWARD_ZONES")
        return [name for name in routing if not any(_padded(name) in rule for rule in rules)]

    def lacks(self, bridges: Mapping[str, bool], _uplinks: Collection[str]) -> bool:
        """Whether a bridge that routes is in no zone yet."""
        return bool(self.unassigned(bridges))

    def is_too_open(self, _uplinks: Collection[str]) -> bool:
        """Zones know bridges only."""
        return False

    def open(self, bridges: Mapping[str, bool], _uplinks: Collection[str]) -> None:
        """Trust the bridges that are in no zone. Raises CniError."""
        for name in self.unassigned(bridges):
            _run("--zone=trusted", f"--add-interface={name}")

    def close(self, names: Iterable[str]) -> None:
        """Do not trust these bridges any more. Raises CniError."""
        if self.drops():
            for name in names:
                _run("--zone=trusted", f"--remove-interface={name}")

    def has_tools(self) -> bool:
        """Whether firewall-cmd is installed."""
        return _find() is not None


def _padded(name: str) -> bytes:
    """An interface's name, as a rule compares it."""
    return name.encode().ljust(_IFNAMSIZ, b"\0")


def _run(*arguments: str) -> None:
    import subprocess

    program = _find()
    if program is None:
        raise CniError("firewall-cmd is not installed")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CniError("firewall-cmd fails", done.stderr.strip())


def _find() -> str | None:
    import shutil

    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *_MORE_PATH))
    return shutil.which("firewall-cmd", path=path)
