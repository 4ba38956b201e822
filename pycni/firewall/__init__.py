"""What plugins ask of the node's firewall, in entries that any backend can carry out.

    Masquerade   what an address sends out of its network leaves with the node's address
    Address      nobody else of the network gets an address: a claim, and no rule
    HostPort     what arrives at a port of the node goes to a port of an address
    SourceNat    ... from sources whose answers would otherwise not come back through the node
    MacGuard     what a bridge's port sends with another MAC address than its own is dropped

`install`, `check`, `remove` and `require_usable` are what a plugin calls for these; `let_pass` and
its like are about other firewalls on the node, see `pycni.firewall.foreign.forwarding`. Entries
belong to an attachment: each is claimed (see `pycni.state.attachments`), and only its owner's
`remove` takes it away. A MacGuard is `macguard`'s, all others are the backend's (see
`pycni.firewall.backend`); that is told apart where the kernel is told. One lock serialises changes,
as the kernel does anyway.
"""

from __future__ import annotations

import contextlib
import functools

from cni import TYPE_CHECKING, log
from cni.errors import CheckFailed, CniError, NotAvailable
from cni.namedtuple import NamedTuple
from cni.net import namespace
from cni.request import Attachment
from pycni.firewall import enforcement, static
from pycni.firewall.backend import choose, find_usable, load
from pycni.firewall.entries import (
    Address,
    Bridge,
    Entry,
    HostPort,
    MacGuard,
    Masquerade,
    SourceNat,
    Translation,
    entry_to_record,
    split,
)
from pycni.firewall.holdings import (
    backend_of,
    claim_all,
    entries_of,
    find_held,
    find_live,
    find_losses,
    find_shared,
    is_sibling,
    release_all,
)
from pycni.firewall.vocabulary import NAMES, EntryUpdate, PluginEntries, Unavailable
from pycni.state import attachments, parameters
from pycni.state.attachments import Record
from pycni.state.files import Damaged

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

__all__ = [
    "Address",
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
    "find_unfiltered_ports",
    "install",
    "let_pass",
    "remove",
    "remove_stale",
    "repair",
    "require_mac_guard",
    "require_passable",
    "require_usable",
    "restore_parameters",
    "warn_of_damage",
]


def install(
    owner: Attachment,
    plugin: str,
    netns_path: str,
    entries: Sequence[Entry],
    localnet: Iterable[str] = (),
    *,
    backend: str | None = None,
    pod: str = "",
) -> Callable[[], None]:
    """Carry out the entries, all or none, and keep a record of them. Returns what undoes that.

    Traffic from 127.0.0.0/8 may leave by the interfaces of `localnet`, which no neighbour can
    abuse (see `loopback_filter`). `backend` is nftables or iptables; None stands for the first of
    them that is usable. Raises AlreadyExists for a host port that a live attachment of another
    container holds; one that the same container has by another network stays there for now (see
    `find_shared`). A dead attachment's is taken over, as is any entry about an address: who was
    given an address last has it. `pod` is for messages, see `attachments.Record`.
    """
    guards, translations = split(entries)
    localnet = list(localnet)
    enforcement.require_one_place()
    if localnet:
        from pycni.firewall import loopback_filter

        loopback_filter.ensure_at_container(netns_path, owner.ifname)
    with attachments.all_locked():
        shared = find_shared(owner, entries)
        now = [entry for entry in entries if entry.claim not in shared]
        before = attachments.find_record(owner, plugin)
        had = backend_of(before) if before else ""
        used = choose(backend, set(map(type, translations))) if translations else had
        losses = find_losses(owner, plugin, now)
        held = find_held(owner, before)
        # All of an attachment is on one backend; a second ADD adds to it, or moves it.
        moved = had not in ("", used)
        left = split(held)[1] if moved else []
        kept = [*split(held)[0]] if moved else held
        claims = {entry.claim for entry in entries}
        after = [*(entry for entry in kept if entry.claim not in claims), *entries]
        in_force = [entry for entry in split(after)[1] if entry.claim not in shared]
        mine = EntryUpdate(owner, plugin, split(kept)[1], in_force)
        owned = list(map(entry_to_record, after))
        record = Record(netns_path, namespace.identify(netns_path), owned, used, pod)
        attachments.write_record(owner, plugin, record)
        claimed: dict[str, Attachment | None] = {}
        step = _Step(owner, plugin, record, before, claimed)
        try:
            claim_all(owner, now, claimed)
            if guards:
                enforcement.add_guards(guards, losses.guards)
            if left:
                enforcement.remove_translations(had, EntryUpdate(owner, plugin, left, ()))
            if translations:
                enforcement.add(used, mine, losses.changes, localnet)
        except BaseException as error:
            # nftables takes all or nothing, so nothing if it cannot be used. All else may be there:
            # iptables is told one IP version after the other.
            was_refused = used != "iptables" and isinstance(error, Unavailable)
            log.attempt("rolling back", _roll_back, step, bool(guards) or not was_refused)
            raise
    return functools.partial(_undo, step)


class _Step(NamedTuple):
    """What `install` did: its record, the one before it, and the former holders of its claims."""

    owner: Attachment
    plugin: str
    record: Record
    before: Record | None
    claimed: Mapping[str, Attachment | None]


def _undo(step: _Step) -> None:
    with log.told("rolling back"), attachments.all_locked():
        _roll_back(step)


def _roll_back(step: _Step, may_be_in_force: bool = True) -> None:
    """Have things be as they were. If that fails, the record still tells of them, for a DEL."""
    owner, plugin, record, before, claimed = step
    superseded = any(claimed.values())
    if before is None and not superseded and may_be_in_force:
        enforcement.remove(owner, plugin, record.backend, find_held(owner, record))
    for what, holder in claimed.items():
        attachments.release(what, owner)
        if holder is not None:
            attachments.claim(what, holder)
    if before is not None:
        attachments.write_record(owner, plugin, before)
    if before is not None or superseded:
        live = find_live(without=(owner, plugin) if before is None else None)
        enforcement.rebuild_guards(live)
        for backend in NAMES:
            enforcement.rebuild(backend, live)
    if before is None:
        _remove_last(owner, plugin)
        attachments.remove_record(owner, plugin)


def _remove_last(owner: Attachment, plugin: str) -> None:
    """With the node's last record, take back what other firewalls were told."""
    if attachments.is_last(owner, plugin):
        from pycni.firewall.foreign import forwarding

        forwarding.remove()


def check(
    owner: Attachment, plugin: str, entries: Sequence[Entry], localnet: Collection[str] = ()
) -> None:
    """Raise CheckFailed that names an entry which is not in force, or is another attachment's.

    `localnet` is as in `install`.
    """
    if not entries:
        return
    guards, translations = split(entries)
    with attachments.all_locked():
        record = attachments.find_record(owner, plugin)
        if record is None:
            _check_unrecorded(owner, plugin, entries)
            return
        for entry in entries:
            holder = attachments.find_holder(entry.claim)
            if holder != owner and not (holder and is_sibling(holder, owner)):
                raise _lost(plugin, entry, holder)
        held = split(find_held(owner, record))[1]
        recorded = {_comparable(entry) for entry in split(entries_of(record))[1]}
        for entry in translations:
            if _comparable(entry) not in recorded:
                raise CheckFailed(f"{plugin}: {entry} is not recorded")
        if translations:
            load(backend_of(record)).check(PluginEntries(owner, plugin, held), localnet)
        if localnet:
            from pycni.firewall import loopback_filter

            loopback_filter.check_at_container(record.netns, owner.ifname)
        if guards:
            from pycni.firewall import macguard

            macguard.check(guards)


def _lost(plugin: str, entry: Entry, holder: Attachment | None) -> CheckFailed:
    if holder is None:
        return CheckFailed(f"{plugin}: {entry} is not recorded")
    whose = attachments.describe(holder)
    return CheckFailed(f"{plugin}: {entry} belongs to {whose}", f"attachment {holder}")


def _comparable(entry: Translation) -> Translation:
    """Without the way in which source NAT is asked for, which may have been configured since."""
    return entry._replace(mark=0) if isinstance(entry, SourceNat) else entry


def _check_unrecorded(owner: Attachment, plugin: str, entries: Sequence[Entry]) -> None:
    """Of what the reference plugins made there is neither record nor claim."""
    from pycni.migrate import reference

    for entry in entries:
        holder = attachments.find_holder(entry.claim)
        if holder not in (owner, None):
            raise _lost(plugin, entry, holder)
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
            from pycni.migrate import reference

            reference.remove(owner, plugin)
        if parameters.are_set() and not attachments.are_any():
            restore_parameters()  # those of a killed ADD
        return
    with attachments.all_locked():
        mine = _withdraw(owner, plugin)
        then(mine)
        _remove_last(owner, plugin)
        release_all(owner, mine)
        attachments.remove_record(owner, plugin)
        enforcement.hand_over(mine, owner.container_id)
        _restore_parameters()


def restore_parameters() -> None:
    """If nothing is attached any more, have kernel parameters of interfaces be what they were.

    For an ADD that fails, and may have made and removed interfaces. One that has no record yet,
    and has set some, has to set them again when it has one.
    """
    if parameters.are_set():
        with attachments.all_locked():
            parameters.forget_gone()
            _restore_parameters()


def _restore_parameters() -> None:
    if parameters.are_set() and not attachments.are_any():
        parameters.restore_all()


def remove_stale(network: str, valid: Collection[Attachment], plugin: str) -> None:
    """Undo what the reference plugins did for the network's attachments that are not valid.

    What we did ourselves, `attachments.find_stale` tells.
    """
    from pycni.migrate import reference

    reference.remove_stale(network, valid, plugin)


def _withdraw(owner: Attachment, plugin: str) -> list[Entry]:
    """Take out of force what the attachment's record says it has, and return it."""
    try:
        record = attachments.find_record(owner, plugin)
        entries = entries_of(record) if record else []
        backend = backend_of(record) if record else ""
    except Damaged as error:
        log.warn(f"{error}; all rules are made anew without it")
        _withdraw_unknown(owner, plugin)
        return []
    # What nobody holds is left from an ADD or a DEL of ours that was killed.
    mine = [e for e in entries if attachments.find_holder(e.claim) in (owner, None)]
    enforcement.remove(owner, plugin, backend, mine)
    return mine


def _withdraw_unknown(owner: Attachment, plugin: str) -> None:
    """Leave in force, and claimed, what others have and what the owner's other records tell of."""
    from pycni.firewall import macguard

    live = find_live(without=(owner, plugin))
    with enforcement.warned(macguard.exists):
        enforcement.rebuild_guards(live)
    for backend in NAMES:
        with enforcement.warned(load(backend).exists):
            enforcement.rebuild(backend, live)
    known = {entry.claim for entry in live.entries}
    for what in attachments.claims_of(owner):
        if what not in known:
            attachments.release(what, owner)


def find_refusal(port: HostPort, backend: str | None = None) -> str | None:
    """What the firewall has against a host port's conditions, None if it takes them.

    Nothing is changed by asking.
    """
    return load(choose(backend, {HostPort})).find_refusal(port)


def let_pass(bridge: Bridge) -> None:
    """Have other firewalls, if any would drop it, let pass what the bridge forwards.

    That ends with the node's last attachment, so there has to be one. Failure is only told: such
    a firewall may have been told by hand.
    """
    from pycni.firewall.foreign import forwarding

    with attachments.all_locked(), log.told(f"what {bridge.name} forwards may be dropped"):
        forwarding.ensure(bridge)


def check_passes(bridge: Bridge) -> None:
    """Raise CheckFailed that names another firewall which drops what the bridge forwards."""
    from pycni.firewall.foreign import forwarding

    with attachments.all_locked():
        forwarding.check(bridge)


def require_passable(bridge: Bridge) -> None:
    """Raise NotAvailable if another firewall drops that, and `let_pass` could not help it."""
    from pycni.firewall.foreign import forwarding

    forwarding.require_possible(bridge)


def require_usable(kinds: Collection[type], backend: str | None = None) -> None:
    """Raise NotAvailable if `install` of such entries could not work now, with the reason."""
    try:
        find_usable(backend, kinds)
    except Unavailable as error:
        raise NotAvailable(error.message, error.details) from None


def require_mac_guard() -> None:
    """... of a MacGuard."""
    from pycni.firewall import macguard

    try:
        macguard.require_usable()
    except (CniError, OSError) as error:
        raise NotAvailable("MAC addresses cannot be checked", str(error)) from None


def repair() -> int:
    """Put every live attachment's entries in force again, as after a flush of the ruleset.

    So with loopback filters. Returns how many entries there are.
    """
    from pycni.firewall import loopback_filter
    from pycni.firewall.foreign import forwarding

    enforcement.require_one_place()
    with attachments.all_locked():
        if any(attachments.all_records()):
            forwarding.repair()
        else:
            forwarding.remove()
        for what in attachments.release_orphaned():
            log.warn(f"the claim {what} was nobody's: removed")
        for owner, plugin, record in attachments.all_records():
            if plugin == "bridge" and record.is_live:
                loopback_filter.repair_at_container(record.netns, owner.ifname)
        for name in _localnet():
            loopback_filter.ensure_behind(name)
        live = find_live()
        enforcement.rebuild_guards(live)
        for backend in NAMES:
            enforcement.rebuild(backend, live)
        return len(live.entries)


def warn_of_damage() -> None:
    """Warn if the rules that all host ports have in common are not, or not all, in force.

    That keeps no ADD from being served: the next one makes them anew.
    """
    for backend in NAMES:
        if static.is_made(backend):
            with log.told("host ports may be out of force"), attachments.all_locked():
                load(backend).check_static()


def find_unfiltered_ports() -> list[str]:
    """The ports that only a rule keeps from the node's 127.0.0.1. Looks at all of a bridge's."""
    from pycni.firewall import loopback_filter

    return [port for name in _localnet() for port in loopback_filter.find_unfiltered(name)]


def _localnet() -> list[str]:
    """The interfaces by which traffic from 127.0.0.0/8 may leave, because of us."""
    names: set[str] = set()
    for backend in NAMES:
        with contextlib.suppress(Damaged):
            names |= static.read(backend).localnet
    return sorted(names)
