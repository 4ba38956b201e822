"""Where another firewall drops what it is not told to forward, tell it of the bridges.

An accept in a table of our own could not help: every chain of the kernel's hook is asked, and one
drop is final. So a rule has to be where it is dropped, and to get there as the owner of that place
has it: see `forward_chain` (iptables, whose policy for FORWARD is DROP) and `firewalld`. Where
there is neither, nothing is done, and to know that takes a question or two of the kernel.

What was done is kept in a file, with all bridges, since such a firewall may be started at any time:
the next ADD tells it of all of them, as `repair` does. The last attachment's DEL takes it back.

The caller holds `attachments.all_locked`.
"""

from __future__ import annotations

from cni import TYPE_CHECKING, jsontext, log
from cni.errors import CheckFailed, NotAvailable
from cni.formats import parse_ifname
from cni.namedtuple import NamedTuple
from cni.net.netlink.socket import NetlinkError
from pycni.firewall.entries import Bridge
from pycni.firewall.foreign import firewalld, forward_chain
from pycni.firewall.foreign.uplinks import find_uplinks
from pycni.firewall.nftables.query import Query
from pycni.state import files, location
from pycni.state.files import Damaged

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from typing import Any

_FILE = "forwarding.json"

_Place = forward_chain.ForwardChain | firewalld.Firewalld
_FIREWALLD = firewalld.Firewalld()
_ALL: tuple[_Place, ...] = (*forward_chain.ALL, _FIREWALLD)


class _Told(NamedTuple):
    """The bridges, and whom they were made known to.

    chains    those of `forward_chain`, by tool
    trusted   bridges that firewalld trusts because of us
    """

    bridges: Mapping[str, bool]
    chains: frozenset[str] = frozenset()
    trusted: frozenset[str] = frozenset()

    def with_bridge(self, bridge: Bridge) -> _Told:
        routes = bridge.routes or self.bridges.get(bridge.name, False)
        return self._replace(bridges={**self.bridges, bridge.name: routes})


def ensure(bridge: Bridge) -> None:
    """Have every firewall that is here let the bridge's own traffic pass.

    One that cannot be told is a warning, and STATUS's business: it may have been told by hand.
    """
    known = _read()
    told = known.with_bridge(bridge)
    if told != known:
        _write(told)
    _tell_all(told, anew=not known.bridges)


def repair() -> None:
    """Tell all firewalls again, of all bridges."""
    known = _read()
    if known.bridges:
        _tell_all(known, anew=True)


def check(bridge: Bridge) -> None:
    """Raise CheckFailed that names a firewall which drops the bridge's own traffic."""
    bridges = _read().with_bridge(bridge).bridges
    for place, uplinks in _places():
        if place.lacks(bridges, uplinks):
            raise CheckFailed(
                f"{place} drops what {bridge.name} forwards", "`pycni repair` has it pass again"
            )


def require_possible(bridge: Bridge) -> None:
    """Raise NotAvailable if a firewall drops what a bridge forwards, and cannot be told."""
    bridges = _read().with_bridge(bridge).bridges
    for place, uplinks in _places():
        if not place.has_tools() and place.lacks(bridges, uplinks):
            raise NotAvailable(
                f"{place} drops what {bridge.name} forwards",
                f"install {place.tool}, by which it can be told to let that pass",
            )
    blocking = _find_blocking_chain() if bridge.routes else None
    if blocking:
        raise NotAvailable(
            f"{blocking} drops what {bridge.name} forwards",
            f"it has to accept iifname {bridge.name}, ct status dnat, ct state established,related",
        )


def _find_blocking_chain() -> str | None:
    """A chain of an administrator's that has the policy drop and not a single rule.

    A chain with rules is taken to let pass what its owner wants to have passed.
    """
    try:
        with Query("") as query:
            chains = query.all_chains()
    except NetlinkError:
        return None  # from a kernel without nftables
    for chain in chains:
        if chain.is_at_forward and chain.drops_by_policy and chain.uses == 0:
            return f"the nftables chain {chain.name} of table inet {chain.table}"
    return None


def remove() -> None:
    """Take back whatever a firewall was told; nothing to take back is fine."""
    known = _read()
    for chain in forward_chain.ALL:
        if chain.tool in known.chains:
            log.attempt(f"rules may be left in {chain}", chain.close)
    if known.trusted:
        log.attempt("firewalld may still trust bridges", _FIREWALLD.close, sorted(known.trusted))
    files.remove(location.path(_FILE))


def _places() -> Iterator[tuple[_Place, Collection[str]]]:
    """Where packets that nobody speaks for are dropped, and the node's uplinks if it matters."""
    places = [place for place in _ALL if place.drops()]
    if places:
        uplinks = list(filter(forward_chain.is_tellable, find_uplinks()))
        yield from ((place, uplinks) for place in places)


def _tell_all(told: _Told, *, anew: bool) -> None:
    """Tell those who do not know. Whom we told is written down beforehand."""
    names = ", ".join(told.bridges)
    for place, uplinks in _places():
        with log.told(f"{place} may drop what is forwarded for {names}"):
            is_right = not place.lacks(told.bridges, uplinks) and not place.is_too_open(uplinks)
            if is_right and not anew:
                continue
            if isinstance(place, forward_chain.ForwardChain):
                told = told._replace(chains=told.chains | {place.tool})
            else:
                told = told._replace(trusted=told.trusted.union(place.unassigned(told.bridges)))
            _write(told)
            place.open(told.bridges, uplinks)


def _read() -> _Told:
    """What was written. Of a damaged file, rules in any chain are taken to be ours to remove."""
    try:
        return files.read_json(location.path(_FILE), _parse)
    except FileNotFoundError:
        return _Told({})
    except Damaged as error:
        log.warn(str(error))
        return _Told({}, frozenset(chain.tool for chain in forward_chain.ALL))


def _parse(fields: Any) -> _Told:
    bridges = {parse_ifname(name): bool(routes) for name, routes in fields["bridges"].items()}
    trusted = frozenset(map(parse_ifname, fields["trusted"]))
    return _Told(bridges, frozenset(map(str, fields["chains"])), trusted)


def _write(told: _Told) -> None:
    fields = {
        "bridges": told.bridges,
        "chains": sorted(told.chains),
        "trusted": sorted(told.trusted),
    }
    files.write(location.path(_FILE), jsontext.dumps(fields))
