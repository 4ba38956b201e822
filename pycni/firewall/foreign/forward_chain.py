"""iptables' chain FORWARD where its policy is DROP, as Docker and many an administrator have it.

What nothing there accepts is dropped, whatever other tables say. So a chain of our own,
PYCNI-FORWARD, is jumped to at FORWARD's end: after everybody's rules, none of which is moved or
overruled, and before the policy. What pods send is accepted by the uplinks, which a second chain
names, once for all bridges; between bridges, only answers and what was sent to a published port. It
is written by iptables' own tools, for `iptables -S` has to
show it. There may be two such chains for each IP version: iptables-nft's, a chain of nftables, and
that of iptables-legacy.
"""

from __future__ import annotations

import os

from cni import TYPE_CHECKING
from cni.errors import CniError
from cni.namedtuple import NamedTuple
from pycni.firewall.nftables.query import Chain, Query, find_chain

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

CHAIN, UPLINKS = "PYCNI-FORWARD", "PYCNI-UPLINKS"
_LETTERS = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.@-")
_JUMP = f"-A FORWARD -j {CHAIN}"
_EMPTY = [f":{chain} - [0:0]" for chain in (CHAIN, UPLINKS)]  # for iptables-restore

# Where the tools are, if the runtime's PATH is short of them.
_MORE_PATH = ("/usr/sbin", "/sbin", "/usr/local/sbin")


class ForwardChain(NamedTuple):
    """One of the FORWARD chains. `variant` is nft or legacy, `version` that of IP."""

    version: int
    variant: str

    def __str__(self) -> str:
        return f"the chain FORWARD of {self.tool}"

    @property
    def tool(self) -> str:
        """The program's full name, which tells the chains apart in a file, too."""
        return f"{'iptables' if self.version == 4 else 'ip6tables'}-{self.variant}"

    def drops(self) -> bool:
        """Whether it is there, with the policy DROP."""
        if self.variant == "legacy":
            return self._has_legacy_table() and self._drops_in_legacy_table()
        chain = self._find_nft("FORWARD")
        return chain is not None and chain.drops_by_policy

    def lacks(self, bridges: Mapping[str, bool], uplinks: Collection[str]) -> bool:
        """Whether the rules for these bridges are not, or not all, in force, or an uplink's."""
        try:
            is_whole = self._leads_to_all(rules(bridges))
            accepting = self._accepting()
        except CniError:
            return True  # for all that can be known
        return not is_whole or not all(any(_names(rule, n) for rule in accepting) for n in uplinks)

    def is_too_open(self, uplinks: Collection[str]) -> bool:
        """Whether there are rules for more interfaces than these, which were uplinks once."""
        try:
            return len(self._accepting()) > len(uplinks)
        except CniError:
            return False

    def _leads_to_all(self, wanted: list[str]) -> bool:
        """Whether FORWARD leads to the chain, and that has as many rules as are wanted."""
        if self.variant == "legacy":
            # The list begins with the chain itself.
            return len(self._list(CHAIN)) == 1 + len(wanted) and _JUMP in self._list("FORWARD")
        chain = self._find_nft(CHAIN)
        # Whatever jumps there does so from FORWARD: nobody else knows the name.
        return chain is not None and chain.uses == len(wanted) + 1

    def _accepting(self) -> list[bytes]:
        """The rules about uplinks, as they are listed."""
        if self.variant == "legacy":
            return [f"{line} ".encode() for line in self._list(UPLINKS)[1:]]
        with Query("filter", "ip" if self.version == 4 else "ip6") as query:
            return query.rules(UPLINKS)

    def open(self, bridges: Mapping[str, bool], uplinks: Collection[str]) -> None:
        """Put the rules for these bridges in force, in place of any others. Raises CniError."""
        jump = [] if _JUMP in self._list("FORWARD") else [_JUMP]
        self._restore([*_EMPTY, *uplink_rules(uplinks), *rules(bridges), *jump])

    def close(self) -> None:
        """Remove our rules, as far as they are there. Raises CniError."""
        if not self._is_open():
            return
        jumps = self._list("FORWARD").count(_JUMP)
        gone = [f"-X {CHAIN}", f"-X {UPLINKS}"]
        self._restore([*_EMPTY, *[f"-D FORWARD -j {CHAIN}"] * jumps, *gone])

    def has_tools(self) -> bool:
        """Whether the programs that this needs are installed."""
        try:
            self._find("")
            self._find("-restore")
        except CniError:
            return False
        return True

    def _is_open(self) -> bool:
        if self.variant == "nft":
            return any(map(self._find_nft, (CHAIN, UPLINKS)))
        return self._has_legacy_table() and any(map(self._list, (CHAIN, UPLINKS)))

    def _has_legacy_table(self) -> bool:
        """Whether there is a table `filter`; who asks for more about one makes it."""
        names = "ip_tables_names" if self.version == 4 else "ip6_tables_names"
        try:
            with open(f"/proc/net/{names}", encoding="ascii") as file:
                return "filter" in file.read().split()
        except (FileNotFoundError, PermissionError):
            return False  # in a kernel without it, or one that keeps it from us

    def _drops_in_legacy_table(self) -> bool:
        from pycni.firewall.foreign import legacy_policy

        return legacy_policy.drops(self.version)

    def _find_nft(self, chain: str) -> Chain | None:
        return find_chain("ip" if self.version == 4 else "ip6", "filter", chain)

    def _list(self, chain: str) -> list[str]:
        """A chain's rules, in iptables' words, none if there is no such chain."""
        done = self._run("", "--wait=10", "--list-rules", chain)
        return done.splitlines()

    def _restore(self, lines: list[str]) -> None:
        text = "\n".join(["*filter", *lines, "COMMIT", ""])
        self._run("-restore", "--noflush", "--wait=10", stdin=text)

    def _run(self, suffix: str, *arguments: str, stdin: str = "") -> str:
        import subprocess

        program = self._find(suffix)
        done = subprocess.run(
            [program, *arguments], input=stdin, capture_output=True, text=True, check=False
        )
        is_missing = "No chain/target/match by that name" in done.stderr and not stdin
        if done.returncode != 0 and not is_missing:
            raise CniError(f"{os.path.basename(program)} fails", done.stderr.strip())
        return done.stdout

    def _find(self, suffix: str) -> str:
        """The path of a tool of this variant. Raises CniError if it is not installed."""
        import shutil
        import subprocess

        path = os.pathsep.join((os.environ.get("PATH", os.defpath), *_MORE_PATH))
        found = shutil.which(self.tool + suffix, path=path)
        if found:
            return found
        # Distributions with only one variant give it the short name.
        found = shutil.which(self.tool.partition("-")[0] + suffix, path=path)
        if found:
            version = subprocess.run(
                [found, "--version"], capture_output=True, text=True, check=False
            )
            if ("nf_tables" in version.stdout) == (self.variant == "nft"):
                return found
        raise CniError(f"{self.tool}{suffix} is not installed")


ALL = [ForwardChain(version, variant) for version in (4, 6) for variant in ("nft", "legacy")]


def rules(bridges: Mapping[str, bool]) -> list[str]:
    """What is accepted, as arguments of iptables: `bridges` are names, and whether they route.

    Traffic inside of a bridge (netfilter sees it if net.bridge.bridge-nf-call-iptables is 1); to a
    routing bridge, answers and what was sent to a published port; from it, answers and what leaves
    by an uplink. All else is left to the policy: what a bridge sends to another one, and new
    connections from elsewhere straight to a container.
    """
    routing = sorted(name for name, routes in bridges.items() if routes)
    for name in bridges:
        if not is_tellable(name):
            raise CniError(f"{name} is no name that iptables can be told")
    match = "-m conntrack --ctstate RELATED,ESTABLISHED"
    return [
        *(f"-A {CHAIN} -i {name} -o {name} -j ACCEPT" for name in sorted(bridges)),
        *(f"-A {CHAIN} -o {name} {match},DNAT -j ACCEPT" for name in routing),
        *(f"-A {CHAIN} -i {name} {match} -j ACCEPT" for name in routing),
        *(f"-A {CHAIN} -i {name} -j {UPLINKS}" for name in routing),
    ]


def uplink_rules(uplinks: Iterable[str]) -> list[str]:
    """By which interfaces what comes from a routing bridge is accepted."""
    return [f"-A {UPLINKS} -o {name} -j ACCEPT" for name in sorted(uplinks)]


def is_tellable(name: str) -> bool:
    """Whether an interface's name means just that to iptables, which - or ! before or + behind it
    would change.
    """
    return name[0] != "-" and set(name) <= _LETTERS


def _names(rule: bytes, interface: str) -> bool:
    """Whether a listed rule of an uplink is that interface's."""
    name = interface.encode()
    # nftables lists the bytes that are compared, the final zero included.
    return name + b"\0" in rule or b" -o " + name + b" " in rule
