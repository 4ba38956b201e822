"""The nftables backend: entries become elements of sets and maps in the table `inet pycni`.

The static part of the table is made on first use. What it was made for (each network's subnets, the
guarded interfaces) is kept in a file, so that nothing has to be listed: the kernel is only asked
how many rules a chain has. If that is not as we left it, or elements are refused, the caller has
the table rebuilt.
"""

from __future__ import annotations

import _socket as socket

from cni import TYPE_CHECKING, log
from cni.errors import CheckFailed, InvalidEnvironment
from cni.net.netlink.socket import NetlinkError
from pycni.firewall import static
from pycni.firewall.entries import HostPort, Translation
from pycni.firewall.nftables import elements, ruleset
from pycni.firewall.nftables.libnftables import load, run
from pycni.firewall.nftables.query import Query, find_comment, has_table
from pycni.firewall.own_addresses import find_own_addresses
from pycni.firewall.static import Static
from pycni.firewall.vocabulary import EntryUpdate, PluginEntries, Refused, Unavailable
from pycni.state import location, names
from pycni.state.files import Damaged

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from pycni.firewall.nftables.ruleset import Element

_NAME = "nftables"
_LONGEST_PLACE = 100  # of the 128 bytes that a comment has


def add(mine: EntryUpdate, superseded: Sequence[EntryUpdate], guarded: Iterable[str]) -> None:
    """Add the entries in one transaction, in place of those that they supersede.

    Raises Refused where the table is missing or not as it should be.
    """
    network, entries = mine.owner.network, mine.after
    known = _read_undamaged()
    with Query(ruleset.NAME) as query:
        damage = _find_damage(query, known, [network] if network in known.subnets else [])
        damage = damage or _find_damaged_chain(query, ruleset.dispatch_rules(known.subnets))
    if damage:
        raise Refused(*damage)
    nets = known.subnets.get(network, frozenset())
    wanted = nets | ruleset.subnets(entries)
    localnet = known.localnet | set(guarded)
    lost = [entry for change in (mine, *superseded) for entry in change.lost]
    subnets = {**known.subnets, network: wanted}
    own = find_own_addresses() if _publishes(entries) else known.own
    commands = ""
    if network not in known.subnets or wanted != nets:
        commands = ruleset.network_chains(network, wanted) + ruleset.dispatch(subnets)
    if own != known.own:
        commands += ruleset.own_addresses(own)
    _change(
        [ruleset.element(entry) for entry in lost],
        [ruleset.element(entry) for entry in entries],
        before=commands + ruleset.guard(localnet - known.localnet),
        between=ruleset.delete_port_chains(lost) + ruleset.port_chains(entries),
    )
    static.write(_NAME, known._replace(subnets=subnets, localnet=localnet, own=own), known)


def rebuild(shares: Sequence[PluginEntries], guarded: Iterable[str]) -> None:
    """Make the table anew, in one transaction, from what all attachments have."""
    known = _read()
    entries: dict[str, list[Translation]] = {}
    for share in shares:
        entries.setdefault(share.owner.network, []).extend(share.entries)
    subnets = {network: frozenset(ruleset.subnets(owned)) for network, owned in entries.items()}
    own = find_own_addresses()
    wanted = Static(subnets, known.localnet | set(guarded), own=own)
    run(
        ruleset.base(comment())
        + ruleset.own_addresses(own)
        + "".join(ruleset.network_chains(network, nets) for network, nets in subnets.items())
        + ruleset.dispatch(subnets)
        + "".join(map(ruleset.port_chains, entries.values()))
        + ruleset.guard(wanted.localnet)
        + ruleset.add(ruleset.element(entry) for owned in entries.values() for entry in owned)
    )
    static.write(_NAME, wanted, known)


def remove(mine: EntryUpdate, *, last_of_network: bool) -> None:
    """Delete the entries, and with the last of a network its chains.

    Raises Refused where one of them is missing; then nothing was deleted.
    """
    network, lost = mine.owner.network, mine.lost
    known = _read_undamaged()
    subnets = dict(known.subnets)
    deleted = [ruleset.element(entry) for entry in lost]
    commands = ruleset.delete_port_chains(lost)
    # An ADD that was killed may have made chains that no file tells of.
    if last_of_network and (lost or network in subnets):
        with Query(ruleset.NAME) as query:
            damage = _find_damaged_chain(query, ruleset.dispatch_rules(known.subnets))
        if damage:
            raise Refused(*damage)
        subnets.pop(network, None)
        commands += ruleset.dispatch(subnets) + ruleset.delete_network_chains(network)
    try:
        if deleted or commands:
            _change(deleted, after=commands)
            static.write(_NAME, known._replace(subnets=subnets), known)
    except Unavailable as error:
        # Chains to which no element leads do nothing, and the file still tells of them.
        log.warn(f"{error}; the chains of {network} stay until `pycni repair`")
        _change(deleted)


def _change(
    deleted: Sequence[Element],
    added: Sequence[Element] = (),
    *,
    before: str = "",
    between: str = "",
    after: str = "",
) -> None:
    """Delete and add elements, and run other commands, in one transaction.

    Raises Refused. Without other commands, which are rare, libnftables is not loaded.
    """
    if before or between or after:
        run(before + ruleset.delete(deleted) + between + ruleset.add(added) + after)
        return
    try:
        elements.change(ruleset.NAME, deleted, added)
    except NetlinkError as error:
        raise Refused("nftables refused the elements", str(error)) from None


def comment() -> str:
    """What a table made now says of itself: where the state is that it was made from."""
    return f"state in {names.shorten(location.directory(), _LONGEST_PLACE)}"


def require_one_place() -> None:
    """Raise InvalidEnvironment if the table was made from another state directory.

    Before Linux 5.10 tables do not say.
    """
    found = find_comment("inet", ruleset.NAME)
    if found.startswith("state in ") and found != comment():
        raise InvalidEnvironment(
            f"state cannot be in {location.directory()}: this network namespace has its {found}",
            f"all requests have to use the same directory ({location.VARIABLE}, or stateDirectory"
            f" in {location.SETTINGS}); the last DEL, or where nobody is attached `nft delete table"
            f" {ruleset.TABLE}`, frees the namespace for another one",
        )


def exists() -> bool:
    """Whether there is a table; False also on a kernel without nftables."""
    return has_table("inet", ruleset.NAME)


def remove_everything(last: EntryUpdate | None = None) -> None:
    """Delete the table, as nobody is attached any more."""
    if not (last and last.before) and not static.is_made(_NAME) and not exists():
        return
    static.close_localnet(_NAME, _read().localnet)
    if exists():
        elements.delete_table("inet", ruleset.NAME)
    static.forget(_NAME)


def check(share: PluginEntries, guarded: Collection[str]) -> None:
    """Raise CheckFailed that names what is not in force: an entry, a chain, or the guard."""
    known = _read()
    with Query(ruleset.NAME) as query:
        damage = _find_damage(query, known, [share.owner.network], guarded)
        damage = damage or _find_damaged_port(query, share.entries)
        # An ADD to another network that was killed may have left more; that does no harm.
        dispatch = ruleset.dispatch_rules(known.subnets).items()
        fewer = {chain: number for chain, number in dispatch if query.count_rules(chain) < number}
        damage = damage or _find_damaged_chain(query, fewer)
        if _publishes(share.entries):
            damage = damage or _find_wrong_addresses(query, known)
        if damage:
            raise CheckFailed(*damage)
        for entry in share.entries:
            element = ruleset.element(entry)
            if not query.has(element):
                kind = "set" if element.value is None else "map"
                raise CheckFailed(
                    f"the nftables {kind} {element.holder} of table {ruleset.TABLE} lacks {entry}",
                    "`pycni repair` adds it again",
                )
    static.check_localnet(guarded)


def check_static() -> None:
    """Raise CheckFailed if one of the table's own chains is not as it should be."""
    known = _read()
    with Query(ruleset.NAME) as query:
        damage = _find_damage(query, known, ())
    if damage:
        raise CheckFailed(*damage)


def find_refusal(port: HostPort) -> str | None:
    """What nft has against a host port's conditions, in its own words. Raises Unavailable."""
    try:
        run(ruleset.trial(port), dry_run=True)
    except Refused as refused:
        return refused.details
    return None


def require_usable(_kinds: Collection[type]) -> None:
    """Raise Unavailable without libnftables, NetlinkError without nftables in the kernel."""
    load()
    with Query(ruleset.NAME) as query:
        query.count_rules("hostports")


def _find_damage(
    query: Query, known: Static, networks: Iterable[str], guarded: Iterable[str] = ()
) -> tuple[str, str] | None:
    """What is not as it should be in the static part of the table, and in the networks' chains."""
    rules = dict(ruleset.STATIC_RULES)
    for network in networks:
        inside, outside = ruleset.network_chain_rules(known.subnets.get(network, ()))
        rules[ruleset.hairpin_chain(network)] = inside
        rules[ruleset.network_chain(network)] = outside
    damage = _find_damaged_chain(query, rules)
    if damage:
        return damage
    for name in known.localnet.union(guarded):
        if not query.guards(name):
            return (
                f"the nftables set localnet of table {ruleset.TABLE} lacks {name}",
                "`pycni repair` adds it again",
            )
    return None


def _publishes(entries: Iterable[Translation]) -> bool:
    return any(isinstance(entry, HostPort) for entry in entries)


def _find_wrong_addresses(query: Query, known: Static) -> tuple[str, str] | None:
    """An address at which host ports are not taken, or are and should not be."""
    own = find_own_addresses()
    missing = {
        net
        for net in own
        if not query.contains(ruleset.own_set(net.version), net.network_address.packed)
    }
    for network in sorted(missing | (known.own - own), key=str):
        verb = "lacks" if network in missing else "has"
        name = ruleset.own_set(network.version)
        return (
            f"the nftables set {name} of table {ruleset.TABLE} {verb} {network}",
            "`pycni repair` looks up the node's addresses again",
        )
    return None


def _find_damaged_port(query: Query, entries: Iterable[Translation]) -> tuple[str, str] | None:
    ports = ruleset.conditional_ports(entries)
    return _find_damaged_chain(query, {ruleset.port_chain(port): 1 for port in ports})


def _find_damaged_chain(query: Query, rules: Mapping[str, int]) -> tuple[str, str] | None:
    """The first chain that has another number of rules."""
    for chain, wanted in rules.items():
        found = query.count_rules(chain)
        if found != wanted:
            return (
                f"the nftables chain {chain} of table {ruleset.TABLE} is not as it should be",
                f"it has {found} rules instead of {wanted}; `pycni repair` makes it anew",
            )
    return None


def _read_undamaged() -> Static:
    """What is known of the table. Raises Refused where that is not to be relied on."""
    try:
        return static.read(_NAME)
    except Damaged as error:
        raise Refused("what the rules were made for is not known", str(error)) from None


def _read() -> Static:
    """What is known of the table; a file that is missing or damaged tells nothing.

    The guard is written before the file, and loopback traffic let through after it: so the guard
    still tells.
    """
    try:
        if static.is_made(_NAME):
            return static.read(_NAME)
    except Damaged as error:
        log.warn(str(error))
    with Query(ruleset.NAME) as query:
        names = (name for _, name in socket.if_nameindex())
        return Static(localnet=frozenset(filter(query.guards, names)))
