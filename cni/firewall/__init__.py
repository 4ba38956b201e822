"""What plugins ask of the node's firewall, in entries that any backend can carry out.

    Masquerade   what an address sends out of its network leaves with the node's address
    HostPort     what arrives at a port of the node goes to a port of an address
    SourceNat    ... from sources whose answers would otherwise not come back through the node
    MacGuard     what a bridge's port sends with another MAC address than its own is dropped

`install`, `check`, `remove` and `require_usable` are what a plugin calls for these; `let_pass` and
its like are about other firewalls on the node, see `cni.firewall.forwarding`. Entries belong to an
attachment: each is claimed (see `cni.attachments`), and only its owner's `remove` takes it away.
A MacGuard is `macguard`'s, all others are the backend's; that is told apart where the kernel is
told. One lock serialises changes, as the kernel does anyway.
"""

from __future__ import annotations

import contextlib

from cni import TYPE_CHECKING, attachments, log, netns
from cni.attachments import Record
from cni.errors import AlreadyExists, CheckFailed, CniError, NotAvailable
from cni.firewall.entries import (
    Bridge,
    Entry,
    HostPort,
    MacGuard,
    Masquerade,
    SourceNat,
    Translation,
    entry_from_record,
    entry_to_record,
)
from cni.request import Attachment

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

__all__ = [
    "Bridge",
    "Entry",
    "HostPort",
    "MacGuard",
    "Masquerade",
    "SourceNat",
    "Translation",
    "check",
    "check_passes",
    "entries_of",
    "find_refusal",
    "install",
    "let_pass",
    "remove",
    "remove_stale",
    "repair",
    "require_mac_guard",
    "require_passable",
    "require_usable",
]


def install(
    owner: Attachment,
    plugin: str,
    netns_path: str,
    entries: Sequence[Entry],
    localnet: Iterable[str] = (),
) -> None:
    """Carry out the entries, all or none, and keep a record of them.

    Traffic from 127.0.0.0/8 may leave by the interfaces of `localnet`, which no neighbour can
    abuse. Raises AlreadyExists for a host port that a live attachment holds; a dead one's is taken
    over, as is any entry about an address: who was given an address last has it.
    """
    with attachments.all_locked():
        superseded = _find_superseded(owner, entries)
        before = attachments.find_record(owner, plugin)
        claims = {entry.claim for entry in entries}
        had = entries_of(before) if before else []
        kept = [entry for entry in had if entry.claim not in claims]
        owned = [entry_to_record(entry) for entry in (*kept, *entries)]
        record = Record(netns_path, netns.identify(netns_path), owned)
        attachments.write_record(owner, plugin, record)
        claimed: list[Entry] = []
        try:
            _claim_all(owner, entries, claimed)
            if entries:
                _add_to_kernel(owner, entries, superseded, localnet)
        except BaseException:
            # Most likely nothing was added, but what comes after that may have failed, too.
            log.attempt("rolling back", _remove_from_kernel, owner, plugin, claimed)
            _release_all(owner, claimed)
            if before is None:
                attachments.remove_record(owner, plugin)
            else:
                attachments.write_record(owner, plugin, before)
            raise


def _add_to_kernel(
    owner: Attachment,
    entries: Sequence[Entry],
    superseded: Sequence[Entry],
    localnet: Iterable[str],
) -> None:
    from cni.firewall import macguard, nftables

    # Refused is what is missing (the first ADD since boot, or after a flush), or not as we left it.
    guards, translations = _split(entries)
    former_guards, former = _split(superseded)
    if guards:
        try:
            macguard.add(guards, former_guards)
        except macguard.Refused:
            macguard.rebuild(_guards(_in_force()))
    if translations:
        try:
            nftables.add(owner.network, translations, former, localnet)
        except nftables.Refused:
            nftables.rebuild(_translations(_in_force()), localnet)


def _split(entries: Iterable[Entry]) -> tuple[list[MacGuard], list[Translation]]:
    guards: list[MacGuard] = []
    translations: list[Translation] = []
    for entry in entries:
        if isinstance(entry, MacGuard):
            guards.append(entry)
        else:
            translations.append(entry)
    return guards, translations


def _guards(entries: Mapping[str, Iterable[Entry]]) -> list[MacGuard]:
    return [guard for owned in entries.values() for guard in _split(owned)[0]]


def _translations(entries: Mapping[str, Iterable[Entry]]) -> dict[str, list[Translation]]:
    return {network: _split(owned)[1] for network, owned in entries.items()}


def check(
    owner: Attachment, plugin: str, entries: Sequence[Entry], localnet: Collection[str] = ()
) -> None:
    """Raise CheckFailed that names an entry which is not in force, or is another attachment's.

    `localnet` is as in `install`.
    """
    if entries and not attachments.has_record(owner, plugin):
        _check_unrecorded(owner, plugin, entries)
        return
    from cni.firewall import macguard, nftables

    guards, translations = _split(entries)
    with attachments.all_locked():
        for entry in entries:
            holder = attachments.find_holder(entry.claim)
            if holder != owner:
                whose = f"belongs to {holder}" if holder else "is not recorded"
                raise CheckFailed(f"{plugin}: {entry} {whose}")
        if translations:
            nftables.check(owner.network, translations, localnet)
        if guards:
            macguard.check(guards)


def _check_unrecorded(owner: Attachment, plugin: str, entries: Sequence[Entry]) -> None:
    """Of what the reference plugins made there is neither record nor claim."""
    from cni.firewall import reference

    for entry in entries:
        holder = attachments.find_holder(entry.claim)
        if holder not in (owner, None):
            raise CheckFailed(f"{plugin}: {entry} belongs to {holder}")
    reference.check(owner, plugin, entries)


def _nothing_more(_removed: Sequence[Entry]) -> None:
    pass


def remove(
    owner: Attachment, plugin: str, then: Callable[[Sequence[Entry]], None] = _nothing_more
) -> None:
    """Undo what `install`, or the reference plugins, did for the attachment; nothing is fine.

    `then` is given what is no longer in force, before that is forgotten: if this process is killed,
    the next DEL does it again. Without a usable firewall nothing can be in force, which is said on
    standard error.
    """
    if not attachments.has_record(owner, plugin):
        attachments.remove_record(owner, plugin)  # what a killed ADD has not finished writing
        if not attachments.is_known(owner):
            from cni.firewall import reference

            reference.remove(owner, plugin)
        return
    with attachments.all_locked():
        mine = _withdraw(owner, plugin)
        then(mine)
        if attachments.is_last(owner, plugin):
            from cni.firewall import forwarding

            forwarding.remove()
        _release_all(owner, mine)
        attachments.remove_record(owner, plugin)


def remove_stale(network: str, valid: Collection[Attachment], plugin: str) -> None:
    """Undo what the reference plugins did for the network's attachments that are not valid.

    What we did ourselves, `attachments.find_stale` tells.
    """
    from cni.firewall import reference

    reference.remove_stale(network, valid, plugin)


def _withdraw(owner: Attachment, plugin: str) -> list[Entry]:
    """Take out of force what the attachment's record says it has, and return it."""
    try:
        record = attachments.find_record(owner, plugin)
        entries = entries_of(record) if record else []
    except attachments.DamagedRecord as error:
        log.warn(f"{error}; all rules are made anew without it")
        _withdraw_unknown(owner, plugin)
        return []
    # What nobody holds is left from an ADD or a DEL of ours that was killed.
    mine = [e for e in entries if attachments.find_holder(e.claim) in (owner, None)]
    _remove_from_kernel(owner, plugin, mine)
    return mine


def entries_of(record: Record) -> list[Entry]:
    """What a record tells of. Raises DamagedRecord."""
    try:
        return [entry_from_record(fields) for fields in record.owned]
    except (ValueError, TypeError, AttributeError, IndexError) as error:
        raise attachments.DamagedRecord("a record's entries cannot be read", repr(error)) from None


def _withdraw_unknown(owner: Attachment, plugin: str) -> None:
    """Leave in force, and claimed, what others have and what the owner's other records tell of."""
    from cni.firewall.libnftables import Unavailable

    entries = _in_force(without=(owner, plugin))
    with contextlib.suppress(Unavailable):
        _rebuild(entries)
    known = {entry.claim for entry in entries.get(owner.network, ())}
    for what in attachments.claims_of(owner):
        if what not in known:
            attachments.release(what, owner)


def _remove_from_kernel(owner: Attachment, plugin: str, entries: Sequence[Entry]) -> None:
    from cni.firewall import macguard, nftables

    guards, translations = _split(entries)
    last_of_network = attachments.is_last_of_network(owner, plugin)
    try:
        if last_of_network and attachments.is_last(owner, plugin):
            macguard.remove_everything()
            nftables.remove_everything(translations)
            return
        try:
            if guards:
                macguard.remove(guards)
        except macguard.Refused:
            macguard.rebuild(_guards(_in_force(without=(owner, plugin))))
        try:
            nftables.remove(translations, owner.network, last_of_network=last_of_network)
        except nftables.Refused:
            nftables.rebuild(_translations(_in_force(without=(owner, plugin))), ())
    except nftables.Unavailable as error:
        log.warn(f"{error}; so there are no rules to remove")


def find_refusal(port: HostPort) -> str | None:
    """What the firewall has against a host port's conditions, None if it takes them.

    Nothing is changed by asking.
    """
    from cni.firewall import nftables

    return nftables.find_refusal(port)


def let_pass(bridge: Bridge) -> None:
    """Have other firewalls, if any would drop it, let pass what the bridge forwards.

    That ends with the node's last attachment, so there has to be one. Failure is only told: such
    a firewall may have been told by hand.
    """
    from cni.firewall import forwarding

    with attachments.all_locked(), log.told(f"what {bridge.name} forwards may be dropped"):
        forwarding.ensure(bridge)


def check_passes(bridge: Bridge) -> None:
    """Raise CheckFailed that names another firewall which drops what the bridge forwards."""
    from cni.firewall import forwarding

    with attachments.all_locked():
        forwarding.check(bridge)


def require_passable(bridge: Bridge) -> None:
    """Raise NotAvailable if another firewall drops that, and `let_pass` could not help it."""
    from cni.firewall import forwarding

    forwarding.require_possible(bridge)


def require_usable() -> None:
    """Raise NotAvailable if `install` could not work now, with the reason."""
    from cni.firewall import nftables

    try:
        nftables.require_usable()
    except (CniError, OSError) as error:
        raise NotAvailable("there is no usable firewall", str(error)) from None


def require_mac_guard() -> None:
    """... of a MacGuard."""
    from cni.firewall import macguard

    try:
        macguard.require_usable()
    except (CniError, OSError) as error:
        raise NotAvailable("MAC addresses cannot be checked", str(error)) from None


def repair() -> int:
    """Put every live attachment's entries in force again, as after a flush of the ruleset.

    Returns how many entries there are.
    """
    from cni.firewall import forwarding

    with attachments.all_locked():
        forwarding.repair()
        entries = _in_force()
        _rebuild(entries)
        return sum(map(len, entries.values()))


def _rebuild(entries: Mapping[str, Sequence[Entry]]) -> None:
    """Put just these in force; if there are none, remove everything."""
    from cni.firewall import macguard, nftables

    guards, translations = _guards(entries), _translations(entries)
    if guards:
        macguard.rebuild(guards)
    else:
        macguard.remove_everything()
    if any(translations.values()):
        nftables.rebuild(translations, ())
    else:
        nftables.remove_everything()


def _in_force(without: tuple[Attachment, str] | None = None) -> dict[str, list[Entry]]:
    """The entries that live attachments hold, by network."""
    entries: dict[str, list[Entry]] = {}
    for owner, plugin, record in attachments.all_records():
        if record.is_live and (owner, plugin) != without:
            with log.told(f"{owner} is left out"):
                owned = entries_of(record)
                mine = [entry for entry in owned if attachments.find_holder(entry.claim) == owner]
                entries.setdefault(owner.network, []).extend(mine)
    return entries


def _find_superseded(owner: Attachment, entries: Iterable[Entry]) -> list[Entry]:
    """What others, or the owner itself, had by the claims of these entries, as far as it is known.

    Raises AlreadyExists for a host port that a live attachment holds.
    """
    superseded: list[Entry] = []
    for entry in entries:
        holder = attachments.find_holder(entry.claim)
        records = attachments.records_of(holder) if holder else []
        is_live = any(record.is_live for record in records)
        if isinstance(entry, HostPort) and is_live and holder != owner:
            raise AlreadyExists(f"{entry.published} is taken by the attachment {holder}")
        had = [entry for record in records for entry in entries_of(record)]
        superseded += [other for other in had if other.claim == entry.claim and other != entry]
    return superseded


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
