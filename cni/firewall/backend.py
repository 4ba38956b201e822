"""What a backend of the firewall is, and which of them carries out an attachment's entries.

An attachment's record names its backend, so two networks of a node may have different ones, and
what was made by one is never looked for in the other.
"""

from __future__ import annotations

from cni import TYPE_CHECKING
from cni.errors import CniError
from cni.namedtuple import NamedTuple
from cni.request import Attachment

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from typing import Protocol

    from cni.firewall.entries import HostPort, Translation

# In the order in which they are tried if the configuration does not say.
NAMES = ("nftables", "iptables")


class Unavailable(CniError):
    """A tool or a library is not installed, the kernel lacks something, or forbids it."""


class Refused(CniError):
    """The rules were not taken, or some that should be there are missing."""


class Share(NamedTuple):
    """What one plugin has in force for an attachment."""

    owner: Attachment
    plugin: str
    entries: Sequence[Translation]


class Change(NamedTuple):
    """What one plugin had in force for an attachment, and what it shall have."""

    owner: Attachment
    plugin: str
    before: Sequence[Translation]
    after: Sequence[Translation]

    @property
    def lost(self) -> list[Translation]:
        """What is no longer in force."""
        return [entry for entry in self.before if entry not in self.after]


if TYPE_CHECKING:

    class Backend(Protocol):
        """The verbs. All raise Unavailable where the backend cannot be used at all."""

        def add(
            self, mine: Change, superseded: Sequence[Change], guarded: Iterable[str], /
        ) -> None:
            """Put in force what an attachment shall have, in place of what others lose by it.

            Traffic from 127.0.0.0/8 may then leave by the guarded interfaces. Raises Refused where
            something is missing; `rebuild` brings it back.
            """

        def rebuild(self, shares: Sequence[Share], guarded: Iterable[str], /) -> None:
            """Make everything anew from what all attachments have."""

        def remove(self, mine: Change, /, *, last_of_network: bool) -> None:
            """Take out of force what an attachment loses, with the last of a network its chains.

            Raises Refused where something is missing.
            """

        def remove_everything(self, last: Change | None = None, /) -> None:
            """Remove all rules, as nobody is attached any more; `last` is what the last one had."""

        def check(self, share: Share, guarded: Collection[str], /) -> None:
            """Raise CheckFailed that names what is not in force."""

        def find_refusal(self, port: HostPort, /) -> str | None:
            """What is wrong with a host port's conditions, None if nothing."""

        def require_usable(self, kinds: Collection[type], /) -> None:
            """Raise a CniError or OSError if entries of these kinds could not be added."""


def load(name: str) -> Backend:
    """One of NAMES."""
    if name == "iptables":
        from cni.firewall import iptables

        return iptables
    from cni.firewall import nftables

    return nftables


def choose(configured: str | None, kinds: Collection[type]) -> str:
    """The backend for entries of these kinds: the configured one, or else the first usable.

    nftables counts as usable if there is a table: to ask further would take longer than all the
    rest. Raises Unavailable that names what is missing.
    """
    from cni.firewall import static

    if configured != "iptables" and static.is_made("nftables"):
        return "nftables"
    return find_usable(configured, kinds)


def find_usable(configured: str | None, kinds: Collection[type]) -> str:
    """The same, but also a backend that has rules already is asked whether it can make more."""
    reasons: list[str] = []
    for name in (configured,) if configured else NAMES:
        try:
            load(name).require_usable(kinds)
        except (CniError, OSError) as error:
            reasons.append(str(error))
        else:
            return name
    raise Unavailable("there is no usable firewall", "; ".join(reasons))
