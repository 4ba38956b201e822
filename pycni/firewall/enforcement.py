"""Entries in force and out of it: translations by their backend, guards by `macguard`.

Where something is missing or not as we left it (the first ADD since boot, or a flush), all of it is
made anew from what live attachments hold.
"""

from __future__ import annotations

import contextlib

from cni import TYPE_CHECKING, log
from pycni.firewall import static
from pycni.firewall.backend import load
from pycni.firewall.entries import Entry, HostPort, MacGuard, split
from pycni.firewall.holdings import (
    Holdings,
    backend_of,
    claim_all,
    entries_of,
    find_held,
    find_live,
)
from pycni.firewall.vocabulary import NAMES, EntryUpdate, Refused, Unavailable
from pycni.state import attachments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from cni.request import Attachment


def require_one_place() -> None:
    """Raise InvalidEnvironment if what is in force is known to another state directory alone.

    A directory that knows of anything in force has been asked about before.
    """
    if any(map(static.is_made, NAMES)):
        return
    from pycni.firewall.nftables import nftables

    nftables.require_one_place()


def add(
    backend: str,
    mine: EntryUpdate,
    superseded: Sequence[tuple[str, EntryUpdate]],
    localnet: Iterable[str],
) -> None:
    """Put in force what an attachment shall have, in place of what others lose by it."""
    for other, lost in superseded:
        if other != backend:
            _remove_a_part(other, lost)
    same = [lost for other, lost in superseded if other == backend]
    chosen = load(backend)
    try:
        chosen.add(mine, same, localnet)
    except Refused:
        chosen.rebuild(find_live().shares.get(backend, ()), localnet)


def hand_over(entries: Iterable[Entry], container_id: str) -> None:
    """Give host ports that an attachment of the container had to another one that wants them, too.

    Where that fails they stay closed, which is told; CHECK says so.
    """
    free = {entry.claim for entry in entries if isinstance(entry, HostPort)}
    for other in attachments.of_container(container_id) if free else ():
        with log.told(f"{other} gets no port of the container's other network"):
            for plugin, record in attachments.records_of(other).items():
                wanted = [entry for entry in entries_of(record) if entry.claim in free]
                if wanted and record.is_live:
                    before = split(find_held(other, record))[1]
                    claim_all(other, wanted, {})
                    after = split(find_held(other, record))[1]
                    update = EntryUpdate(other, plugin, before, after)
                    add(backend_of(record), update, (), ())
                    free -= {entry.claim for entry in wanted}


def _remove_a_part(backend: str, change: EntryUpdate) -> None:
    """Take out of force what an attachment loses to another one, which has another backend."""
    with warned(load(backend).exists):
        try:
            load(backend).remove(change, last_of_network=False)
        except Refused:
            load(backend).rebuild(find_live().shares.get(backend, ()), ())


def add_guards(guards: Sequence[MacGuard], superseded: Sequence[MacGuard]) -> None:
    """Put guards in force, in place of those."""
    from pycni.firewall import macguard

    try:
        macguard.add(guards, superseded)
    except Refused:
        macguard.rebuild(find_live().guards)


def remove(owner: Attachment, plugin: str, backend: str, entries: Sequence[Entry]) -> None:
    """Take out of force all that a plugin has for an attachment, which is about to be forgotten.

    Without a usable firewall nothing is in force, as far as the kernel tells; that is a warning.
    """
    from pycni.firewall import macguard

    guards, translations = split(entries)
    with warned(macguard.exists):
        _remove_guards(owner, plugin, guards)
    if backend:
        remove_translations(backend, EntryUpdate(owner, plugin, translations, ()))


def _remove_guards(owner: Attachment, plugin: str, guards: Sequence[MacGuard]) -> None:
    from pycni.firewall import macguard

    if attachments.is_last(owner, plugin):
        macguard.remove_everything()
    elif guards:
        try:
            macguard.remove(guards)
        except Refused:
            macguard.rebuild(find_live(without=(owner, plugin)).guards)


def remove_translations(backend: str, change: EntryUpdate) -> None:
    """Take out of force all that a plugin has for an attachment on a backend, which it leaves."""
    owner, plugin, *_ = change
    chosen = load(backend)
    last_of_network = attachments.is_last_of_network(owner, plugin, backend)
    with warned(chosen.exists):
        if last_of_network and attachments.is_last(owner, plugin, backend):
            chosen.remove_everything(change)
            return
        try:
            chosen.remove(change, last_of_network=last_of_network)
        except Refused:
            live = find_live(without=(owner, plugin))
            chosen.rebuild(live.shares.get(backend, ()), ())


@contextlib.contextmanager
def warned(exists: Callable[[], bool]) -> Iterator[None]:
    """Run a block that removes rules; that the firewall cannot be used is a warning only.

    But if there are rules, as `exists` tells, it is an error: it may work the next time.
    """
    try:
        yield
    except Unavailable as error:
        if exists():
            raise
        log.warn(f"{error}; so there are no rules to remove")


def rebuild(backend: str, live: Holdings) -> None:
    """Have just these translations in force on the backend; if there are none, no rules at all."""
    shares = live.shares.get(backend, ())
    if shares:
        load(backend).rebuild(shares, ())
    else:
        load(backend).remove_everything()


def rebuild_guards(live: Holdings) -> None:
    """Have just these guards in force; if there are none, no table."""
    from pycni.firewall import macguard

    if live.guards:
        macguard.rebuild(live.guards)
    else:
        macguard.remove_everything()
