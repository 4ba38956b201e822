"""What attachments hold of the firewall, as their records and claims tell."""

from __future__ import annotations

from cni import TYPE_CHECKING, log
from cni.errors import AlreadyExists
from cni.namedtuple import NamedTuple
from cni.request import Attachment
from pycni.firewall.entries import Entry, HostPort, MacGuard, entry_from_record, split
from pycni.firewall.vocabulary import NAMES, EntryUpdate, PluginEntries
from pycni.state import attachments
from pycni.state.files import Damaged

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pycni.state.attachments import Record


class Holdings(NamedTuple):
    """What several attachments hold: translations by backend, and guards."""

    shares: Mapping[str, Sequence[PluginEntries]]
    guards: Sequence[MacGuard]

    @property
    def entries(self) -> list[Entry]:
        """All of it."""
        shares = [share for of_backend in self.shares.values() for share in of_backend]
        return [*self.guards, *(entry for share in shares for entry in share.entries)]


class Losses(NamedTuple):
    """What one attachment's entries take the place of: translations with their backend, guards."""

    changes: Sequence[tuple[str, EntryUpdate]]
    guards: Sequence[MacGuard]


def entries_of(record: Record) -> list[Entry]:
    """What a record tells of. Raises Damaged."""
    try:
        return [entry_from_record(fields) for fields in record.owned]
    except (ValueError, TypeError, AttributeError, LookupError) as error:
        raise Damaged("a record's entries cannot be read", repr(error)[:200]) from None


def backend_of(record: Record) -> str:
    """What carries out a record's translations, empty if it has none. Raises Damaged."""
    if record.backend not in ("", *NAMES):
        raise Damaged("a record's backend cannot be read", record.backend)
    return record.backend


def find_held(owner: Attachment, record: Record | None) -> list[Entry]:
    """What a record tells of that nobody else has claimed since. Raises Damaged."""
    entries = entries_of(record) if record else []
    return [entry for entry in entries if attachments.find_holder(entry.claim) == owner]


def find_live(without: tuple[Attachment, str] | None = None) -> Holdings:
    """What live attachments hold, but for what one plugin did for one of them."""
    shares: dict[str, list[PluginEntries]] = {}
    guards: list[MacGuard] = []
    for owner, plugin, record in attachments.all_records():
        if record.is_live and (owner, plugin) != without:
            with log.told(f"{owner} is left out"):
                backend = backend_of(record)
                own_guards, translations = split(find_held(owner, record))
                guards += own_guards
                if translations:
                    shares.setdefault(backend, []).append(
                        PluginEntries(owner, plugin, translations)
                    )
    return Holdings(shares, guards)


def find_shared(owner: Attachment, entries: Iterable[Entry]) -> set[str]:
    """The claims of those host ports that another live attachment of the same container has.

    podman publishes each port of a container by every network of it. The first has it; the others
    get it when that one is gone, see `enforcement.hand_over`.
    """
    holders = {
        e.claim: attachments.find_holder(e.claim) for e in entries if isinstance(e, HostPort)
    }
    others = {holder for holder in holders.values() if holder and is_sibling(holder, owner)}
    live = {other for other in others if _is_live(attachments.records_of(other))}
    return {claim for claim, holder in holders.items() if holder in live}


def is_sibling(holder: Attachment, owner: Attachment) -> bool:
    """Whether these are two attachments of one container."""
    return holder != owner and holder.container_id == owner.container_id


def _is_live(records: Mapping[str, Record]) -> bool:
    return any(record.is_live for record in records.values())


def find_losses(owner: Attachment, plugin: str, entries: Iterable[Entry]) -> Losses:
    """What the entries take the place of, as far as it is known.

    That is other records' translations, and any guards. Raises AlreadyExists for a host port that a
    live attachment holds.
    """
    wanted = {entry.claim: entry for entry in entries}
    holders: dict[Attachment, dict[str, Record]] = {}
    live: dict[Attachment, bool] = {}
    for entry in wanted.values():
        holder = attachments.find_holder(entry.claim)
        if holder is None:
            continue
        if holder not in holders:
            holders[holder] = attachments.records_of(holder)
            live[holder] = _is_live(holders[holder])
        if isinstance(entry, HostPort) and holder != owner and live[holder]:
            who = attachments.describe(holder)
            raise AlreadyExists(f"{entry.published} is taken by {who}", f"attachment {holder}")
    changes: list[tuple[str, EntryUpdate]] = []
    guards: list[MacGuard] = []
    for holder, records in holders.items():
        for name, record in records.items():
            own_guards, before = split(find_held(holder, record))
            guards += [guard for guard in own_guards if wanted.get(guard.claim, guard) != guard]
            after = [entry for entry in before if entry.claim not in wanted]
            if len(after) < len(before) and (holder, name) != (owner, plugin):
                changes.append((backend_of(record), EntryUpdate(holder, name, before, after)))
    return Losses(changes, guards)


def claim_all(
    owner: Attachment, entries: Iterable[Entry], claimed: dict[str, Attachment | None]
) -> None:
    """Claim every entry, noting in `claimed` which, and who had it; former holders lose it."""
    for entry in entries:
        holder = attachments.find_holder(entry.claim)
        if holder == owner:
            continue
        claimed[entry.claim] = holder
        if holder is not None:
            attachments.release(entry.claim, holder)
        attachments.claim(entry.claim, owner)


def release_all(owner: Attachment, entries: Iterable[Entry]) -> None:
    """Give up the claims that are the owner's."""
    for entry in entries:
        attachments.release(entry.claim, owner)
