"""The nftables backend: entries become elements of maps in the table `inet pycni`.

The static part of the table is made on first use. What it was made for (each network's subnets, the
guarded interfaces) is kept in a file, so that nothing has to be listed: the kernel is only asked
how many rules a chain has. If that is not as we left it, or elements are refused, the caller has
the table rebuilt.
"""

from __future__ import annotations

import _socket as socket
import contextlib
import os
from ipaddress import ip_network

from cni import TYPE_CHECKING, jsontext, log, sysctl
from cni.addresses import IPNetwork
from cni.attachments import STATE
from cni.errors import CheckFailed
from cni.firewall import elements, ruleset
from cni.firewall.entries import HostPort, Translation
from cni.firewall.libnftables import Refused, Unavailable, load, run
from cni.firewall.query import Query
from cni.namedtuple import NamedTuple
from cni.nlsocket import NetlinkError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from cni.firewall.ruleset import Element

__all__ = [
    "Refused",
    "Unavailable",
    "add",
    "check",
    "find_refusal",
    "rebuild",
    "remove",
    "remove_everything",
]

_FILE = f"{STATE}/nftables.json"
_UNFINISHED = f"{_FILE}.new"


class _Static(NamedTuple):
    """What the static part of the table was made for."""

    subnets: Mapping[str, frozenset[IPNetwork]]
    localnet: frozenset[str]


def add(
    network: str,
    entries: Sequence[Translation],
    superseded: Sequence[Translation],
    localnet: Iterable[str],
) -> None:
    """Add the entries in one transaction, in place of those that they supersede.

    Raises Refused where the table is missing or not as it should be.
    """
    static = _read()
    with Query(ruleset.NAME) as query:
        damage = _find_damage(query, static, [network] if network in static.subnets else [])
    if damage:
        raise Refused(*damage)
    known = static.subnets.get(network, frozenset())
    wanted = known | ruleset.subnets(entries)
    guarded = static.localnet | set(localnet)
    commands = "" if wanted == known else ruleset.network_chains(network, wanted)
    _change(
        [ruleset.element(network, entry) for entry in superseded],
        [ruleset.element(network, entry) for entry in entries],
        before=commands + ruleset.guard(guarded - static.localnet),
        between=ruleset.delete_port_chains(superseded) + ruleset.port_chains(entries),
    )
    _write(_Static({**static.subnets, network: wanted}, guarded), static)


def rebuild(entries: Mapping[str, Sequence[Translation]], localnet: Iterable[str]) -> None:
    """Make the table anew, in one transaction, from every network's entries."""
    before = _read()
    subnets = {network: frozenset(ruleset.subnets(owned)) for network, owned in entries.items()}
    static = _Static(subnets, before.localnet | set(localnet))
    run(
        ruleset.base()
        + "".join(ruleset.network_chains(network, nets) for network, nets in subnets.items())
        + "".join(map(ruleset.port_chains, entries.values()))
        + ruleset.guard(static.localnet)
        + ruleset.add(
            ruleset.element(network, entry) for network, owned in entries.items() for entry in owned
        )
    )
    _write(static, before)


def remove(entries: Collection[Translation], network: str, *, last_of_network: bool) -> None:
    """Delete the entries, and with the last of a network its chains.

    Raises Refused where one of them is missing; then nothing was deleted.
    """
    static = _read()
    subnets = dict(static.subnets)
    deleted = [ruleset.element(network, entry) for entry in entries]
    commands = ruleset.delete_port_chains(entries)
    # An ADD that was killed may have made chains that no file tells of.
    if last_of_network and (entries or network in subnets):
        commands += ruleset.delete_network_chains(network)
        subnets.pop(network, None)
    if deleted or commands:
        _change(deleted, after=commands)
        _write(static._replace(subnets=subnets), static)


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


def remove_everything(entries: Collection[Translation] = ()) -> None:
    """Delete the table, as nobody is attached any more; `entries` are what the last one had."""
    static = _read()
    if not entries and not os.path.exists(_FILE):
        return  # it was never made
    from cni.firewall import reference

    # Without the guard, loopback traffic must not leave the node; theirs has to, without any.
    if static.localnet and not reference.publishes_ports():
        for name in static.localnet:
            sysctl.try_write(_route_localnet(name), "0")
    run(ruleset.delete_table())
    for path in (_FILE, _UNFINISHED):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def check(network: str, entries: Collection[Translation], localnet: Collection[str]) -> None:
    """Raise CheckFailed that names what is not in force: an entry, a chain, or the guard."""
    with Query(ruleset.NAME) as query:
        damage = _find_damage(query, _read(), [network], localnet)
        damage = damage or _find_damaged_port(query, entries)
        if damage:
            raise CheckFailed(*damage)
        for entry in entries:
            element = ruleset.element(network, entry)
            if not query.has(element):
                raise CheckFailed(
                    f"the nftables map {element.map} of table {ruleset.TABLE} lacks {entry}",
                    "`pycni repair` adds it again",
                )
    for name in map(_route_localnet, localnet):
        if sysctl.read(name) != "1":
            raise CheckFailed(f"{name.replace('/', '.')} is not 1", "`pycni repair` sets it again")


def find_refusal(port: HostPort) -> str | None:
    """What nft has against a host port's conditions, in its own words. Raises Unavailable."""
    try:
        run(ruleset.trial(port), dry_run=True)
    except Refused as refused:
        return refused.details
    return None


def require_usable() -> None:
    """Raise Unavailable without libnftables, NetlinkError without nftables in the kernel."""
    load()
    with Query(ruleset.NAME) as query:
        query.count_rules("hostports")


def _find_damage(
    query: Query, static: _Static, networks: Iterable[str], localnet: Iterable[str] = ()
) -> tuple[str, str] | None:
    """What is not as it should be in the static part of the table, and in the networks' chains."""
    rules = dict(ruleset.STATIC_RULES)
    for network in networks:
        inside, outside = ruleset.network_chain_rules(static.subnets.get(network, ()))
        rules[ruleset.hairpin_chain(network)] = inside
        rules[ruleset.network_chain(network)] = outside
    damage = _find_damaged_chain(query, rules)
    if damage:
        return damage
    for name in static.localnet.union(localnet):
        if not query.guards(name):
            return (
                f"the nftables set localnet of table {ruleset.TABLE} lacks {name}",
                "`pycni repair` adds it again",
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


def _route_localnet(ifname: str) -> str:
    return f"net/ipv4/conf/{ifname}/route_localnet"


def _read() -> _Static:
    """What is known of the table; a file that is missing or damaged tells nothing.

    Then each network's chains are made anew when somebody needs them. The guard is written before
    the file, and loopback traffic let through after it: of a damaged file, the guard still tells.
    """
    try:
        fields = jsontext.load(_FILE)
        subnets = {
            network: frozenset(ip_network(subnet) for subnet in nets)
            for network, nets in fields["subnets"].items()
        }
        return _Static(subnets, frozenset(fields["localnet"]))
    except FileNotFoundError:
        pass
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        log.warn(f"{_FILE} is damaged: {error!r}")
        with Query(ruleset.NAME) as query:
            names = (name for _, name in socket.if_nameindex())
            return _Static({}, frozenset(filter(query.guards, names)))
    return _Static({}, frozenset())


def _write(static: _Static, before: _Static) -> None:
    """Keep what the table was made for, and let guarded interfaces route loopback traffic."""
    if static != before or not os.path.exists(_FILE):
        fields = {
            "subnets": {
                network: sorted(str(subnet) for subnet in nets)
                for network, nets in static.subnets.items()
            },
            "localnet": sorted(static.localnet),
        }
        with open(_UNFINISHED, "w", encoding="utf-8") as file:
            file.write(jsontext.dumps(fields))
        os.rename(_UNFINISHED, _FILE)
    for name in static.localnet:
        sysctl.try_write(_route_localnet(name), "1")
