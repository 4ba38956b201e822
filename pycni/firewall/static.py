"""What the static part of a backend's rules was made for: a file, so nothing has to be listed."""

from __future__ import annotations

import contextlib
from ipaddress import ip_network

from cni import TYPE_CHECKING, jsontext, log
from cni.errors import CheckFailed
from cni.formats import parse_quotable_ifname
from cni.namedtuple import NamedTuple
from cni.net import sysctl
from cni.request import is_name
from pycni.firewall.vocabulary import NAMES
from pycni.state import files, location, parameters
from pycni.state.files import Damaged

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from typing import Any

    from cni.net.addresses import IPNetwork


class Static(NamedTuple):
    """What the static part of a backend's rules was made for.

    subnets     each network's own
    localnet    the interfaces by which traffic from 127.0.0.0/8 may leave, guarded by a rule
    mark_bits   the bits of packet marks that ask for source NAT; iptables only
    versions    the IP versions that there are rules for; iptables only
    own         the addresses at which host ports are taken; nftables only
    """

    subnets: Mapping[str, frozenset[IPNetwork]] = {}
    localnet: frozenset[str] = frozenset()
    mark_bits: frozenset[int] = frozenset()
    versions: frozenset[int] = frozenset()
    own: frozenset[IPNetwork] = frozenset()


def path(backend: str) -> str:
    """The file."""
    return location.path(f"{backend}.json")


def is_made(backend: str) -> bool:
    """Whether there are rules, as far as it is known."""
    return files.exists(path(backend))


def read(backend: str) -> Static:
    """What is known; of a file that is missing, nothing. Raises Damaged, OSError."""
    try:
        return files.read_json(path(backend), _parse)
    except FileNotFoundError:
        return Static()


def _parse(fields: Any) -> Static:
    subnets = {
        network: frozenset(ip_network(str(subnet)) for subnet in nets)
        for network, nets in fields["subnets"].items()
    }
    localnet = frozenset(map(parse_quotable_ifname, fields["localnet"]))
    mark_bits = frozenset(fields.get("mark_bits", ()))
    versions = frozenset(fields.get("versions", ()))
    if not (all(map(is_name, subnets)) and mark_bits <= {*range(32)} and versions <= {4, 6}):
        raise ValueError("a network's name, a bit or a version that there cannot be")
    own = frozenset(ip_network(str(network)) for network in fields.get("own", ()))
    return Static(subnets, localnet, mark_bits, versions, own)


def write(backend: str, static: Static, before: Static | None) -> None:
    """Keep what the rules were made for, and let guarded interfaces route loopback traffic.

    The caller holds `attachments.all_locked`, and has put the rules in force.
    """
    if static != before or not is_made(backend):
        fields = {
            "subnets": {
                network: sorted(str(subnet) for subnet in nets)
                for network, nets in static.subnets.items()
            },
            "localnet": sorted(static.localnet),
            "mark_bits": sorted(static.mark_bits),
            "versions": sorted(static.versions),
            "own": sorted(map(str, static.own)),
        }
        files.write(path(backend), jsontext.dumps(fields))
    _open_localnet(static.localnet, before.localnet if before else frozenset())


def _open_localnet(names: Collection[str], before: Collection[str]) -> None:
    """Let loopback traffic leave by the interfaces; first of all their ports get the filter.

    The walk over the ports is for an interface that is new to us, or that somebody has closed.
    """
    from pycni.firewall import loopback_filter

    for name in names:
        parameter = _route_localnet(name)
        if name not in before or sysctl.read(parameter) != "1":
            loopback_filter.ensure_behind(name)
            parameters.try_ensure(parameter, "1")


def forget(backend: str) -> None:
    """Remove the file."""
    files.remove(path(backend))


def close_localnet(backend: str, guarded: Collection[str]) -> None:
    """Have loopback traffic leave only where it did before us, as there will be no guard.

    What another backend guards stays as it is, and all of it while the reference plugins publish
    ports: they need it, and have no guard.
    """
    from pycni.migrate import reference

    if not guarded or reference.publishes_ports():
        return
    others: set[str] = set()
    for other in NAMES:
        if other != backend:
            with contextlib.suppress(Damaged):
                others |= read(other).localnet
    from pycni.firewall import loopback_filter

    for name in sorted(set(guarded) - others):
        parameters.restore(_route_localnet(name), unknown="0")
        with log.told(f"ports of {name} may keep their loopback filters"):
            loopback_filter.remove_behind(name)


def check_localnet(names: Collection[str]) -> None:
    """Raise CheckFailed for an interface by which loopback traffic may not leave."""
    for name in map(_route_localnet, names):
        if sysctl.read(name) != "1":
            raise CheckFailed(f"{name.replace('/', '.')} is not 1", "`pycni repair` sets it again")


def _route_localnet(ifname: str) -> str:
    return f"net/ipv4/conf/{ifname}/route_localnet"
