"""What plugins ask of the node's firewall, in entries that any backend can carry out.

    Masquerade   what an address sends out of its network leaves with the node's address
    HostPort     what arrives at a port of the node goes to a port of an address
    SourceNat    ... from sources whose answers would otherwise not come back through the node

`install`, `check`, `remove` and `require_usable` are all that a plugin calls. Entries belong to an
attachment: each is claimed (see `cni.attachments`), and only its owner's `remove` takes it away.
One lock serialises changes, as the kernel does anyway.
"""

from __future__ import annotations

import contextlib

from cni import TYPE_CHECKING, attachments, log, netns
from cni.attachments import Record
from cni.errors import AlreadyExists, CheckFailed, NotAvailable
from cni.firewall.backend import NAMES, Change, Refused, Share, Unavailable, choose, load
from cni.firewall.entries import (
    Entry,
    HostPort,
    Masquerade,
    SourceNat,
    entry_from_record,
    entry_to_record,
)
from cni.request import Attachment

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

__all__ = [
    "Entry",
    "HostPort",
    "Masquerade",
    "SourceNat",
    "check",
    "entries_of",
    "find_refusal",
    "install",
    "remove",
    "repair",
    "require_usable",
]


def install(
    owner: Attachment,
    plugin: str,
    netns_path: str,
    entries: Sequence[Entry],
    localnet: Iterable[str] = (),
    *,
    backend: str | None = None,
) -> None:
    """Carry out the entries, all or none, and keep a record of them.

    Traffic from 127.0.0.0/8 may leave by the interfaces of `localnet`, which no neighbour can
    abuse. `backend` is nftables or iptables; None stands for the first of them that is usable.
    Raises AlreadyExists for a host port that a live attachment holds; a dead one's is taken
    over, as is any entry about an address: who was given an address last has it.
    """
    with attachments.all_locked():
        before = attachments.find_record(owner, plugin)
        used = choose(backend, {type(entry) for entry in entries}) if entries else ""
        superseded = _find_superseded(owner, plugin, entries)
        change = _own_change(owner, plugin, before, entries, used)
        if not used and change.after and before:
            used = before.backend
        owned = [entry_to_record(entry) for entry in change.after]
        record = Record(netns_path, netns.identify(netns_path), owned, used)
        attachments.write_record(owner, plugin, record)
        claimed: list[Entry] = []
        try:
            _claim_all(owner, entries, claimed)
            if entries:
                _clear_other_backends(used, before, change, superseded)
                same = [lost for backend, lost in superseded if backend == used]
                _add_to_kernel(used, change, same, localnet)
        except BaseException:
            # Most likely nothing was added, but what comes after that may have failed, too.
            _roll_back(change, used, before, claimed)
            raise


def _own_change(
    owner: Attachment, plugin: str, record: Record | None, entries: Sequence[Entry], backend: str
) -> Change:
    """What the attachment has on the backend, and what it shall have: a second ADD adds to it."""
    held = _held(owner, record) if record else []
    if record and backend not in ("", record.backend):
        return Change(owner, plugin, (), entries)
    claims = {entry.claim for entry in entries}
    kept = [entry for entry in held if entry.claim not in claims]
    return Change(owner, plugin, held, (*kept, *entries))


def _clear_other_backends(
    backend: str,
    before: Record | None,
    change: Change,
    superseded: Sequence[tuple[str, Change]],
) -> None:
    """What the entries take the place of is not in force beside them."""
    if before and before.backend not in ("", backend):
        former = change._replace(before=_held(change.owner, before), after=())
        _remove_from_kernel(before.backend, former)
    for other, lost in superseded:
        if other != backend:
            _remove_a_part(other, lost)


def _roll_back(
    change: Change, backend: str, before: Record | None, claimed: Sequence[Entry]
) -> None:
    """Have things be as they were, as far as that goes."""
    owner, plugin = change.owner, change.plugin
    if before is None:
        if backend:
            added = change._replace(before=change.after, after=())
            log.attempt("rolling back", _remove_from_kernel, backend, added)
        _release_all(owner, claimed)
        attachments.remove_record(owner, plugin)
        return
    _release_all(owner, claimed)
    attachments.write_record(owner, plugin, before)
    for name in sorted({backend, before.backend} - {""}):
        log.attempt("rolling back", lambda name=name: load(name).rebuild(_in_force(name), ()))


def _add_to_kernel(
    backend: str, mine: Change, superseded: Sequence[Change], localnet: Iterable[str]
) -> None:
    chosen = load(backend)
    try:
        chosen.add(mine, superseded, localnet)
    except Refused:
        # Missing (the first ADD since boot, or after a flush), or not as we left it.
        chosen.rebuild(_in_force(backend), localnet)


def check(
    owner: Attachment, plugin: str, entries: Sequence[Entry], localnet: Collection[str] = ()
) -> None:
    """Raise CheckFailed that names an entry which is not in force, or is another attachment's.

    `localnet` is as in `install`.
    """
    with attachments.all_locked():
        for entry in entries:
            holder = attachments.find_holder(entry.claim)
            if holder != owner:
                whose = f"belongs to {holder}" if holder else "is not recorded"
                raise CheckFailed(f"{plugin}: {entry} {whose}")
        record = attachments.find_record(owner, plugin)
        if not entries:
            return
        if record is None:
            raise CheckFailed(f"{plugin}: {owner} has no record")
        held = _held(owner, record)
        recorded = {_comparable(entry) for entry in held}
        for entry in entries:
            if _comparable(entry) not in recorded:
                raise CheckFailed(f"{plugin}: {entry} is not recorded")
        load(_backend_of(record)).check(Share(owner, plugin, held), localnet)


def _comparable(entry: Entry) -> Entry:
    """Without the way in which source NAT is asked for, which may have been configured since."""
    return entry._replace(mark=0) if isinstance(entry, SourceNat) else entry


def _nothing_more(_removed: Sequence[Entry]) -> None:
    pass


def remove(
    owner: Attachment, plugin: str, then: Callable[[Sequence[Entry]], None] = _nothing_more
) -> None:
    """Undo what `install` did for the attachment; nothing to undo is fine.

    `then` is given what is no longer in force, before that is forgotten: if this process is killed,
    the next DEL does it again. Without a usable firewall nothing can be in force, which is said on
    standard error.
    """
    if not attachments.has_record(owner, plugin):
        attachments.remove_record(owner, plugin)  # what a killed ADD has not finished writing
        return
    with attachments.all_locked():
        mine = _withdraw(owner, plugin)
        then(mine)
        _release_all(owner, mine)
        attachments.remove_record(owner, plugin)


def _withdraw(owner: Attachment, plugin: str) -> list[Entry]:
    """Take out of force what the attachment's record says it has, and return it."""
    try:
        record = attachments.find_record(owner, plugin)
        entries = entries_of(record) if record else []
    except attachments.DamagedRecord as error:
        log.warn(f"{error}; all rules are made anew without it")
        _withdraw_unknown(owner, plugin)
        return []
    if record is None or not record.backend:
        return entries
    # What nobody holds is left from an ADD or a DEL of ours that was killed.
    mine = [e for e in entries if attachments.find_holder(e.claim) in (owner, None)]
    _remove_from_kernel(_backend_of(record), Change(owner, plugin, mine, ()))
    return mine


def entries_of(record: Record) -> list[Entry]:
    """What a record tells of. Raises DamagedRecord."""
    try:
        return [entry_from_record(fields) for fields in record.owned]
    except (ValueError, TypeError, IndexError) as error:
        raise attachments.DamagedRecord("a record's entries cannot be read", repr(error)) from None


def _backend_of(record: Record) -> str:
    """The backend that carries out a record's entries. Raises DamagedRecord."""
    if record.backend not in NAMES:
        raise attachments.DamagedRecord("a record's backend cannot be read", record.backend)
    return record.backend


def _held(owner: Attachment, record: Record) -> list[Entry]:
    """What a record tells of that nobody else has claimed since. Raises DamagedRecord."""
    return [entry for entry in entries_of(record) if attachments.find_holder(entry.claim) == owner]


def _withdraw_unknown(owner: Attachment, plugin: str) -> None:
    """Leave in force, and claimed, what others have and what the owner's other records tell of."""
    known: set[str] = set()
    for name in NAMES:
        shares = _in_force(name, without=(owner, plugin))
        known |= {entry.claim for share in shares for entry in share.entries}
        with contextlib.suppress(Unavailable):
            if attachments.is_last(owner, plugin, name):
                load(name).remove_everything()
            else:
                load(name).rebuild(shares, ())
    for what in attachments.claims_of(owner):
        if what not in known:
            attachments.release(what, owner)


def _remove_from_kernel(backend: str, change: Change) -> None:
    """Take out of force what an attachment has, which is all, and is about to be forgotten."""
    owner, plugin, *_ = change
    chosen = load(backend)
    last_of_network = attachments.is_last_of_network(owner, plugin, backend)
    try:
        if last_of_network and attachments.is_last(owner, plugin, backend):
            chosen.remove_everything(change)
            return
        try:
            chosen.remove(change, last_of_network=last_of_network)
        except Refused:
            chosen.rebuild(_in_force(backend, without=(owner, plugin)), ())
    except Unavailable as error:
        log.warn(f"{error}; so there are no rules to remove")


def _remove_a_part(backend: str, change: Change) -> None:
    """Take out of force what an attachment loses to another one, which has another backend."""
    try:
        load(backend).remove(change, last_of_network=False)
    except Refused:
        load(backend).rebuild(_in_force(backend), ())
    except Unavailable as error:
        log.warn(f"{error}; so there are no rules to remove")


def find_refusal(port: HostPort, backend: str | None = None) -> str | None:
    """What the firewall has against a host port's conditions, None if it takes them.

    Nothing is changed by asking.
    """
    return load(choose(backend, {HostPort})).find_refusal(port)


def require_usable(kinds: Collection[type], backend: str | None = None) -> None:
    """Raise NotAvailable if `install` of such entries could not work now, with the reason."""
    try:
        choose(backend, kinds)
    except Unavailable as error:
        raise NotAvailable(error.message, error.details) from None


def repair() -> int:
    """Put every live attachment's entries in force again, as after a flush of the ruleset.

    Returns how many entries there are.
    """
    number = 0
    with attachments.all_locked():
        for name in NAMES:
            shares = _in_force(name)
            found = sum(len(share.entries) for share in shares)
            number += found
            if found:
                load(name).rebuild(shares, ())
            else:
                load(name).remove_everything()
    return number


def _in_force(backend: str, without: tuple[Attachment, str] | None = None) -> list[Share]:
    """What live attachments have on a backend."""
    shares: list[Share] = []
    for owner, plugin, record in attachments.all_records():
        if record.is_live and record.backend == backend and (owner, plugin) != without:
            with log.told(f"{owner} is left out"):
                shares.append(Share(owner, plugin, _held(owner, record)))
    return [share for share in shares if share.entries]


def _find_superseded(
    owner: Attachment, plugin: str, entries: Iterable[Entry]
) -> list[tuple[str, Change]]:
    """What other records lose to these entries, as far as it is known, and on which backend.

    Raises AlreadyExists for a host port that a live attachment holds.
    """
    claims = {entry.claim for entry in entries}
    holders: dict[Attachment, dict[str, Record]] = {}
    for entry in entries:
        holder = attachments.find_holder(entry.claim)
        if holder is None:
            continue
        records = holders.setdefault(holder, attachments.records_of(holder))
        is_live = any(record.is_live for record in records.values())
        if isinstance(entry, HostPort) and is_live and holder != owner:
            raise AlreadyExists(f"{entry.published} is taken by the attachment {holder}")
    found: list[tuple[str, Change]] = []
    for holder, records in holders.items():
        for name, record in records.items():
            before = _held(holder, record)
            after = [entry for entry in before if entry.claim not in claims]
            if len(after) < len(before) and (holder, name) != (owner, plugin):
                found.append((_backend_of(record), Change(holder, name, before, after)))
    return found


def _claim_all(owner: Attachment, entries: Iterable[Entry], claimed: list[Entry]) -> None:
    """Claim every entry, noting in `claimed` which; former holders lose it."""
    for entry in entries:
        holder = attachments.find_holder(entry.claim)
        if holder == owner:
            continue
        if holder is not None:
            attachments.release(entry.claim, holder)
        attachments.claim(entry.claim, owner)
        claimed.append(entry)


def _release_all(owner: Attachment, entries: Iterable[Entry]) -> None:
    for entry in entries:
        attachments.release(entry.claim, owner)
