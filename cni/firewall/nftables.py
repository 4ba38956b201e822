"""The nftables backend: entries become elements of maps in the table `inet pycni`.

The static part of the table is made on first use. What it was made for (each network's subnets, the
guarded interfaces) is kept in a file, so that nothing has to be listed: as long as the kernel takes
elements, the table is as we left it, and where it refuses them, the caller has it rebuilt.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_network
from typing import NamedTuple

from cni import sysctl
from cni.addresses import IPNetwork
from cni.attachments import STATE
from cni.errors import CheckFailed
from cni.firewall import ruleset
from cni.firewall.entries import Entry
from cni.firewall.libnftables import Refused, Unavailable, run
from cni.firewall.query import Query

__all__ = ["Refused", "Unavailable", "add", "check", "rebuild", "remove", "remove_everything"]

_FILE = f"{STATE}/nftables.json"


class _Static(NamedTuple):
    """What the static part of the table was made for."""

    subnets: Mapping[str, frozenset[IPNetwork]]
    localnet: frozenset[str]


def add(
    network: str, entries: Sequence[Entry], superseded: Sequence[Entry], localnet: Iterable[str]
) -> None:
    """Add the entries in one transaction, in place of those that they supersede.

    Raises Refused where the table is missing or not as it should be.
    """
    static = _read()
    known = static.subnets.get(network, frozenset())
    wanted = known | ruleset.subnets(entries)
    guarded = static.localnet | set(localnet)
    commands = "" if wanted == known else ruleset.network_chains(network, wanted)
    run(
        commands
        + ruleset.guard(guarded - static.localnet)
        + ruleset.delete(ruleset.element(network, entry) for entry in superseded)
        + ruleset.add(ruleset.element(network, entry) for entry in entries)
    )
    _write(_Static({**static.subnets, network: wanted}, guarded), static)


def rebuild(entries: Mapping[str, Sequence[Entry]], localnet: Iterable[str]) -> None:
    """Make the table anew, in one transaction, from every network's entries."""
    before = _read()
    subnets = {network: frozenset(ruleset.subnets(owned)) for network, owned in entries.items()}
    static = _Static(subnets, before.localnet | set(localnet))
    run(
        ruleset.base()
        + "".join(ruleset.network_chains(network, nets) for network, nets in subnets.items())
        + ruleset.guard(static.localnet)
        + ruleset.add(
            ruleset.element(network, entry) for network, owned in entries.items() for entry in owned
        )
    )
    _write(static, before)


def remove(entries: Iterable[Entry], network: str, *, last_of_network: bool) -> None:
    """Delete the entries, and with the last of a network its chains.

    Raises Refused where one of them is missing; then nothing was deleted.
    """
    static = _read()
    commands = ruleset.delete(ruleset.element(network, entry) for entry in entries)
    if last_of_network and network in static.subnets:
        commands += ruleset.delete_network_chains(network)
        subnets = {name: nets for name, nets in static.subnets.items() if name != network}
    else:
        subnets = dict(static.subnets)
    if commands:
        run(commands)
        _write(static._replace(subnets=subnets), static)


def remove_everything() -> None:
    """Delete the table, as nobody is attached any more, if it was ever made."""
    static = _read()
    if not os.path.exists(_FILE):
        return
    # Without the guard, loopback traffic must not leave the node.
    for name in static.localnet:
        sysctl.try_write(_route_localnet(name), "0")
    run(ruleset.delete_table())
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_FILE)


def check(network: str, entries: Iterable[Entry]) -> None:
    """Raise CheckFailed that names an entry, or a chain, which is not in force."""
    subnets = _read().subnets.get(network, frozenset())
    inside, outside = ruleset.network_chain_rules(subnets)
    chains = {
        **ruleset.STATIC_RULES,
        ruleset.hairpin_chain(network): inside,
        ruleset.network_chain(network): outside,
    }
    with Query(ruleset.TABLE.split()[1]) as query:
        for chain, rules in chains.items():
            found = query.count_rules(chain)
            if found != rules:
                raise CheckFailed(
                    f"the nftables chain {chain} of table {ruleset.TABLE} is not as it should be",
                    f"it has {found} rules instead of {rules}; `pycni repair` makes it anew",
                )
        for entry in entries:
            element = ruleset.element(network, entry)
            if not query.has(element):
                raise CheckFailed(
                    f"the nftables map {element.map} of table {ruleset.TABLE} lacks {entry}",
                    "`pycni repair` adds it again",
                )


def _route_localnet(ifname: str) -> str:
    return f"net/ipv4/conf/{ifname}/route_localnet"


def _read() -> _Static:
    try:
        with open(_FILE, encoding="utf-8") as file:
            fields = json.load(file)
    except FileNotFoundError:
        return _Static({}, frozenset())
    subnets = {
        network: frozenset(ip_network(subnet) for subnet in nets)
        for network, nets in fields["subnets"].items()
    }
    return _Static(subnets, frozenset(fields["localnet"]))


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
        with open(f"{_FILE}.new", "w", encoding="utf-8") as file:
            json.dump(fields, file)
        os.rename(f"{_FILE}.new", _FILE)
    for name in static.localnet:
        sysctl.try_write(_route_localnet(name), "1")
