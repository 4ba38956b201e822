"""The iptables backend: entries become rules in chains of our own, and addresses in ipsets.

Whatever is done is one `iptables-restore --noflush` for each IP version, which also says what it
expects to find (`-C`): if that is missing, nothing is changed, and the caller has all rules made
anew. With iptables-nft only the chains that are named are read. With iptables-legacy every change
and every question reads a whole table; the kernel has no other way there.

What the static part was made for is kept in a file, see `pycni.firewall.static`.
"""

from __future__ import annotations

import contextlib
import errno
import os

from cni import TYPE_CHECKING, log
from cni.errors import CheckFailed, CniError
from pycni.firewall import static
from pycni.firewall.entries import Masquerade
from pycni.firewall.iptables import chains, transaction, xtables
from pycni.firewall.static import Static
from pycni.firewall.vocabulary import EntryUpdate, PluginEntries, Refused, Unavailable
from pycni.state.files import Damaged

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from cni.net.addresses import IPAddress, IPNetwork
    from cni.request import Attachment
    from pycni.firewall.entries import HostPort, Translation
    from pycni.firewall.iptables.chains import Rule
    from pycni.firewall.iptables.ipset import IPSets

_NAME = "iptables"

# iptables-nft sends at most 1.5 KiB for a rule.
_LINES_AT_ONCE = 250


def add(mine: EntryUpdate, superseded: Sequence[EntryUpdate], guarded: Iterable[str]) -> None:
    """Add the entries, in one transaction for each IP version and table."""
    _require_mark_chains(mine.after)
    known, network = _read(), mine.owner.network
    changes = [*superseded, mine]
    versions = _versions(entry for change in changes for entry in (*change.before, *change.after))
    if not versions <= known.versions:
        raise Refused("there are no iptables rules yet")
    subnets = known.subnets.get(network, frozenset()) | chains.subnets(mine.after)
    wanted = known._replace(
        subnets={**known.subnets, network: subnets} if subnets else known.subnets,
        localnet=known.localnet.union(guarded),
        mark_bits=known.mark_bits | chains.mark_bits(mine.after),
    )
    _change_sets(changes)
    for version in sorted(versions):
        lines = [
            *transaction.static_changes(known, wanted, version),
            *transaction.network_changes(known, wanted, network, version),
            *(line for each in changes for line in transaction.attachment_changes(each, version)),
        ]
        guard = transaction.guard_changes(known, wanted) if version == 4 else []
        _restore(version, {"raw": guard, "nat": lines})
    static.write(_NAME, wanted, known)


def rebuild(shares: Sequence[PluginEntries], guarded: Iterable[str]) -> None:
    """Make chains and sets anew, in one transaction for each IP version and table."""
    before = _read_anyway()
    entries = [entry for share in shares for entry in share.entries]
    wanted = Static(
        _subnets(shares),
        before.localnet | _listed_guards(before) | set(guarded),
        frozenset(chains.mark_bits(entries)),
        before.versions | _versions(entries),
    )
    kept = _fill_sets(shares)
    for version in sorted(wanted.versions):
        with _tolerated(version, entries):
            if version == 4:
                guard = transaction.rebuilt_guard(wanted, xtables.save(version, "raw"))
                _restore(version, {"raw": guard})
            listing = xtables.save(version, "nat")
            _restore(version, {"nat": transaction.rebuilt(wanted, shares, version, listing)})
    if before.subnets or kept:
        _discard_sets(kept)
    static.write(_NAME, wanted, before)


def remove(mine: EntryUpdate, *, last_of_network: bool) -> None:
    """Delete the entries, and with the last of a network its chains and sets.

    Raises Refused where one of them is missing.
    """
    known, network = _read(), mine.owner.network
    ended = known.subnets.get(network, frozenset()) if last_of_network else frozenset()
    subnets = {name: nets for name, nets in known.subnets.items() if name != network or not ended}
    wanted = known._replace(subnets=subnets)
    for version in sorted(_versions(mine.before) | {subnet.version for subnet in ended}):
        lines = transaction.attachment_changes(mine, version)
        if ended:
            lines += transaction.network_changes(known, wanted, network, version)
        with _tolerated(version, ()):
            _restore(version, {"nat": lines})
    _change_sets([mine])
    if ended:
        with _sets() as sets:
            for version in sorted({subnet.version for subnet in ended}):
                sets.destroy(chains.address_set(network, version))
        static.write(_NAME, wanted, known)


def exists() -> bool:
    """No: without the programs there is nobody to ask."""
    return False


def remove_everything(last: EntryUpdate | None = None) -> None:
    """Delete all chains and sets, as nobody is attached any more."""
    had = last.before if last else ()
    if not had and not static.is_made(_NAME):
        return  # they were never made
    known = _read_anyway()
    static.close_localnet(_NAME, known.localnet | _listed_guards(known))
    for version in sorted(known.versions | _versions(had)):
        with _tolerated(version, ()):
            for table in transaction.TABLES[version]:
                lines = transaction.everything_removed(xtables.save(version, table))
                _restore(version, {table: lines})
    if known.subnets or chains.masqueraded(had):
        _discard_sets(())
    static.forget(_NAME)


def check(share: PluginEntries, guarded: Collection[str]) -> None:
    """Raise CheckFailed that names what is not in force: an entry, a rule, or the guard."""
    known = _read_anyway()
    for version in sorted(_versions(share.entries)):
        if version == 4:
            localnet = known.localnet.union(guarded)
            _check_rules(version, "raw", transaction.expected_guard(localnet))
        _check_rules(version, "nat", transaction.expected(known, share, version))
    _check_sets(share)
    static.check_localnet(guarded)


def check_static() -> None:
    """Raise CheckFailed if the guard of 127.0.0.1 is not in force, or no rule leads to host ports.

    Only IPv4 is looked at: each question is a program.
    """
    known = _read_anyway()
    if 4 in known.versions:
        _check_rules(4, "raw", transaction.expected_guard(known.localnet))
        _check_rules(4, "nat", chains.jumps(4))


def require_usable(kinds: Collection[type]) -> None:
    """Raise Unavailable without iptables-restore or, to masquerade, without the kernel's ipsets."""
    xtables.restore(4, chains.restore("nat", []))
    if Masquerade in kinds:
        with _sets():
            pass


def find_refusal(port: HostPort) -> str | None:
    """What iptables has against a host port's conditions, in its own words. Raises Unavailable."""
    text = chains.restore("nat", chains.trial(port))
    try:
        xtables.restore(chains.version_of(port), text, dry=True)
    except xtables.Rejected as rejected:
        return rejected.details
    return None


# Rules


def _restore(version: int, tables: Mapping[str, Sequence[str]]) -> None:
    """Change tables, each completely or not at all.

    Only what is longer than the kernel takes at once is changed in several transactions, in order:
    where a process may not raise its send buffer, as in a user namespace, beyond 400 KiB.
    """
    changed = {table: lines for table, lines in tables.items() if lines}
    if sum(map(len, changed.values())) <= _LINES_AT_ONCE:
        if changed:
            text = "".join(chains.restore(table, lines) for table, lines in changed.items())
            xtables.restore(version, text)
        return
    for table, lines in changed.items():
        try:
            xtables.restore(version, chains.restore(table, lines))
        except xtables.Rejected as rejected:
            if os.strerror(errno.EMSGSIZE) not in rejected.details:
                raise
            starts = range(0, len(lines), _LINES_AT_ONCE)
            pieces = (lines[at : at + _LINES_AT_ONCE] for at in starts)
            xtables.restore(version, "".join(chains.restore(table, piece) for piece in pieces))


def _check_rules(version: int, table: str, rules: Sequence[Rule]) -> None:
    """Raise CheckFailed for the first rule that is missing."""
    try:
        _restore(version, {table: [rule.want for rule in rules]})
    except xtables.Rejected as rejected:
        # The first line of the text names the table.
        at = rejected.line - 2 if rejected.line else None
        about = rules[at].about if at is not None else "a chain"
        raise CheckFailed(
            f"{about} is missing in the table {table} of {xtables.PROGRAMS[version]}",
            f"`pycni repair` makes it anew; {rejected.details}",
        ) from None


def _require_mark_chains(entries: Iterable[Translation]) -> None:
    """Raise CniError unless there are the chains of others that are to mark packets."""
    entries = list(entries)
    for version in sorted(_versions(entries)):
        for chain in chains.mark_chains(entries):
            text = chains.restore("nat", chains.trial_jump(chain))
            try:
                xtables.restore(version, text)  # iptables-nft does not see it in a dry run
            except xtables.Rejected as rejected:
                program = xtables.PROGRAMS[version]
                raise CniError(
                    f"externalSetMarkChain: {program} has no chain {chain} in the table nat",
                    rejected.details,
                ) from None


def _listed_guards(known: Static) -> set[str]:
    return chains.listed_guards(xtables.save(4, "raw")) if 4 in known.versions else set()


@contextlib.contextmanager
def _tolerated(version: int, entries: Iterable[Translation]) -> Iterator[None]:
    """Run a block; where IPv6 cannot be used, and no entry needs it, nothing can be in force."""
    try:
        yield
    except Unavailable as error:
        if version == 4 or version in _versions(entries):
            raise
        log.warn(f"{error}; so there are no IPv6 rules to change")


def _versions(entries: Iterable[Translation]) -> set[int]:
    return {chains.version_of(entry) for entry in entries}


# Sets of addresses


def _sets() -> IPSets:
    # pyroute2 takes longer to load than iptables to run: for those who masquerade only.
    from pycni.firewall.iptables.ipset import IPSets

    return IPSets()


def _change_sets(changes: Sequence[EntryUpdate]) -> None:
    """Delete what is lost from the networks' sets, add what is wanted."""
    wanted = {address for change in changes for address in _in_sets(change.owner, change.after)}
    lost = {address for change in changes for address in _in_sets(change.owner, change.lost)}
    if not wanted and not lost:
        return
    with _sets() as sets:
        for name, address in sorted(lost - wanted, key=str):
            sets.delete(name, address)
        for name, address in sorted(wanted, key=str):
            sets.ensure(name, address.version)
            sets.add(name, address)


def _fill_sets(shares: Sequence[PluginEntries]) -> set[str]:
    """Have just these addresses in the networks' sets. Returns the sets' names."""
    wanted = {item for share in shares for item in _in_sets(share.owner, share.entries)}
    if wanted:
        with _sets() as sets:
            for name, version in sorted({(name, address.version) for name, address in wanted}):
                sets.ensure(name, version)
                sets.flush(name)
            for name, address in sorted(wanted, key=str):
                sets.add(name, address)
    return {name for name, _ in wanted}


def _discard_sets(kept: Collection[str]) -> None:
    """Delete our sets, but those; one that somebody else's rule refers to stays."""
    with _sets() as sets:
        for name in sets.names(chains.SET_PREFIX):
            if name not in kept:
                with log.told("an ipset is left"):
                    sets.destroy(name)


def _check_sets(share: PluginEntries) -> None:
    wanted = _in_sets(share.owner, share.entries)
    if not wanted:
        return
    with _sets() as sets:
        for name, address in sorted(wanted, key=str):
            if not sets.has(name, address):
                raise CheckFailed(
                    f"the ipset {name} lacks masquerade for {address}",
                    "`pycni repair` adds it again",
                )


def _in_sets(owner: Attachment, entries: Iterable[Translation]) -> set[tuple[str, IPAddress]]:
    """The addresses that are to be in sets, and the sets' names."""
    return {
        (chains.address_set(owner.network, address.version), address)
        for address in chains.masqueraded(entries)
    }


# What is known


def _read() -> Static:
    """What the rules were made for. Raises Refused if the file is damaged: it is rebuilt, too."""
    try:
        return static.read(_NAME)
    except Damaged as error:
        raise Refused(str(error)) from None


def _read_anyway() -> Static:
    """... and if it is damaged, that there may be rules for anything."""
    try:
        return static.read(_NAME)
    except Damaged as error:
        log.warn(str(error))
        return Static(versions=frozenset(transaction.TABLES))


def _subnets(shares: Iterable[PluginEntries]) -> dict[str, frozenset[IPNetwork]]:
    """The subnets that each network's chain has to know."""
    found: dict[str, frozenset[IPNetwork]] = {}
    for share in shares:
        nets = chains.subnets(share.entries)
        if nets:
            found[share.owner.network] = found.get(share.owner.network, frozenset()) | nets
    return found
