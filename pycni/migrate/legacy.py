"""Rules of iptables' old tables, which some nodes have beside nftables, or in its place.

They can only be read and written a table at a time, by the tools of iptables-legacy (by the plain
ones where those are missing). A table that the namespace does not have, as /proc tells, is not
asked for. All chains here are of family ip or ip6.
"""

from __future__ import annotations

from cni import TYPE_CHECKING
from cni.errors import CniError
from cni.namedtuple import NamedTuple
from cni.net.addresses import IPAddress
from pycni.migrate.rules import Chain

if TYPE_CHECKING:
    from collections.abc import Iterable

_TOOLS = {"ip": "iptables", "ip6": "ip6tables"}


class LegacyRule(NamedTuple):
    """A rule; its `text` is as iptables-save writes it behind `-A CHAIN`."""

    chain: Chain
    text: str

    @property
    def target(self) -> str | None:
        """What stands behind -j or -g; a comment may hold these, too, so the last one counts."""
        words = f" {self.text}".replace(" -g ", " -j ").rpartition(" -j ")
        return words[2].split()[0] if words[1] else None

    @property
    def comment(self) -> str:
        """A comment of nft's, which there is none."""
        return ""

    @property
    def expressions(self) -> bytes:
        """The text, as iptables writes comments into it."""
        return self.text.encode()

    def mentions(self, address: IPAddress) -> bool:
        """Whether the address is among what the rule compares or sets."""
        import re

        end = r"(?![\d.])" if address.version == 4 else r"(?![\w:])"
        return re.search(rf"(?<![\w.:]){re.escape(str(address))}{end}", self.text) is not None


class LegacyRules:
    """The old tables of this namespace, as they are when first asked for."""

    def __init__(self) -> None:
        self._saved: dict[tuple[str, str], list[str]] = {}

    def has(self, chain: Chain) -> bool:
        """Whether there is such a chain."""
        return any(line.startswith(f":{chain.name} ") for line in self._save(chain))

    def of(self, chain: Chain) -> list[LegacyRule]:
        """The rules of a chain, in their order; none if there is no such chain."""
        start = f"-A {chain.name} "
        lines = [line for line in self._save(chain) if line.startswith(start)]
        return [LegacyRule(chain, line.removeprefix(start)) for line in lines]

    def delete(self, rules: Iterable[LegacyRule], chains: Iterable[Chain]) -> None:
        """Delete rules, and chains with all that is in them, in one transaction a table.

        Raises CniError if one of them is gone, or if a rule that stays leads to one of the chains.
        """
        commands: dict[tuple[str, str], list[str]] = {}
        for rule in rules:
            family, table, name = rule.chain
            commands.setdefault((family, table), []).append(f"-D {name} {rule.text}")
        chains = list(chains)
        for option in ("-F", "-X"):
            for family, table, name in chains:
                commands.setdefault((family, table), []).append(f"{option} {name}")
        for (family, table), lines in commands.items():
            stdin = "\n".join((f"*{table}", *lines, "COMMIT\n"))
            _run(family, "restore", "--noflush", "--wait", stdin=stdin)

    def _save(self, chain: Chain) -> list[str]:
        key = (chain.family, chain.table)
        if key not in self._saved:
            is_there = chain.table in _tables(chain.family)
            saved = _run(chain.family, "save", "-t", chain.table) if is_there else ""
            self._saved[key] = saved.splitlines()
        return self._saved[key]


def _tables(family: str) -> list[str]:
    try:
        with open(f"/proc/thread-self/net/{family}_tables_names", encoding="ascii") as file:
            return file.read().split()
    except (FileNotFoundError, PermissionError):  # the kernel has none of them
        return []


def _run(family: str, tool: str, *arguments: str, stdin: str = "") -> str:
    """What a tool prints; nothing if it is missing, as then nobody can have made rules with it."""
    import shutil
    import subprocess

    name = _TOOLS[family]
    command = shutil.which(f"{name}-legacy-{tool}") or shutil.which(f"{name}-{tool}")
    if command is None:
        return ""
    done = subprocess.run(
        [command, *arguments], input=stdin, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise CniError(f"{command} failed", done.stderr.strip())
    return done.stdout
