"""What the static part of a backend's rules was made for: a file, so nothing has to be listed."""

from __future__ import annotations

import contextlib
from ipaddress import ip_network

from cni import TYPE_CHECKING, jsontext
from cni.errors import CheckFailed
from cni.formats import parse_quotable_ifname
from cni.namedtuple import NamedTuple
from cni.net import sysctl
from cni.request import is_name
from pycni.firewall.vocabulary import NAMES
from pycni.state import files, location
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
    """Keep what the rules were made for, and let guarded interfaces route loopback traffic."""
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
    for name in static.localnet:
        sysctl.try_write(_route_localnet(name), "1")


def forget(backend: str) -> None:
    """Remove the file."""
    files.remove(path(backend))


def close_localnet(backend: str, guarded: Collection[str]) -> None:
    """Let no loopback traffic leave any more, as without the guard it must not.

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
    for name in set(guarded) - others:
        sysctl.try_write(_route_localnet(name), "0")


def check_localnet(names: Collection[str]) -> None:
    """Raise CheckFailed for an interface by which loopback traffic may not leave."""
    for name in map(_route_localnet, names):
        if sysctl.read(name) != "1":
            raise CheckFailed(f"{name.replace('/', '.')} is not 1", "`pycni repair` sets it again")


def _route_localnet(ifname: str) -> str:
    return f"net/ipv4/conf/{ifname}/route_localnet"
