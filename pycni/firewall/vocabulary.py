"""What the firewall and its backends exchange: updates of entries, and errors."""

from __future__ import annotations

from cni import TYPE_CHECKING
from cni.errors import CniError
from cni.namedtuple import NamedTuple
from cni.request import Attachment

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from typing import Protocol

    from pycni.firewall.entries import HostPort, Translation

# In the order in which they are tried if the configuration does not say.
NAMES = ("nftables", "iptables")


class Unavailable(CniError):
    """A tool or a library is not installed, the kernel lacks something, or forbids it."""


class Refused(CniError):
    """The rules were not taken, or some that should be there are missing."""


class PluginEntries(NamedTuple):
    """What one plugin has in force for an attachment."""

    owner: Attachment
    plugin: str
    entries: Sequence[Translation]


class EntryUpdate(NamedTuple):
    """What one plugin had in force for an attachment, and what it shall have."""

    owner: Attachment
    plugin: str
    before: Sequence[Translation]
    after: Sequence[Translation]

    @property
    def lost(self) -> list[Translation]:
        """What is no longer in force."""
        kept = set(self.after)
        return [entry for entry in self.before if entry not in kept]


if TYPE_CHECKING:

    class Backend(Protocol):
        """The verbs. All raise Unavailable where the backend cannot be used at all."""

        def add(
            self, mine: EntryUpdate, superseded: Sequence[EntryUpdate], guarded: Iterable[str], /
        ) -> None:
            """Put in force what an attachment shall have, in place of what others lose by it.

            Traffic from 127.0.0.0/8 may then leave by the guarded interfaces. Raises Refused where
            something is missing; `rebuild` brings it back.
            """

        def rebuild(self, shares: Sequence[PluginEntries], guarded: Iterable[str], /) -> None:
            """Make everything anew from what all attachments have."""

        def remove(self, mine: EntryUpdate, /, *, last_of_network: bool) -> None:
            """Take out of force what an attachment loses, with the last of a network its chains.

            Raises Refused where something is missing.
            """

        def exists(self) -> bool:
            """Whether there are rules, as far as the kernel tells where `remove` cannot be used."""

        def remove_everything(self, last: EntryUpdate | None = None, /) -> None:
            """Remove all rules, as nobody is attached any more; `last` is what the last one had."""

        def check(self, share: PluginEntries, guarded: Collection[str], /) -> None:
            """Raise CheckFailed that names what is not in force."""

        def check_static(self) -> None:
            """Raise CheckFailed if what all entries have in common is not in force.

            Not all of it is looked at; that which keeps others from the node's 127.0.0.1 is.
            """

        def find_refusal(self, port: HostPort, /) -> str | None:
            """What is wrong with a host port's conditions, None if nothing."""

        def require_usable(self, kinds: Collection[type], /) -> None:
            """Raise a CniError or OSError if entries of these kinds could not be added."""
