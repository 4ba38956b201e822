"""What the static part of a backend's rules was made for: a file, so nothing has to be listed."""

from __future__ import annotations

import contextlib
import os
from ipaddress import ip_network

from cni import TYPE_CHECKING, jsontext
from cni.errors import CheckFailed
from cni.namedtuple import NamedTuple
from cni.net import sysctl
from pycni.firewall.vocabulary import NAMES
from pycni.state import location

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from cni.net.addresses import IPNetwork


class Damaged(ValueError):
    """The file is not as it was written."""


class Static(NamedTuple):
    """What the static part of a backend's rules was made for.

    subnets     each network's own
    localnet    the interfaces by which traffic from 127.0.0.0/8 may leave, guarded by a rule
    mark_bits   the bits of packet marks that ask for source NAT; iptables only
    versions    the IP versions that there are rules for; iptables only
    """

    subnets: Mapping[str, frozenset[IPNetwork]] = {}
    localnet: frozenset[str] = frozenset()
    mark_bits: frozenset[int] = frozenset()
    versions: frozenset[int] = frozenset()


def path(backend: str) -> str:
    """The file."""
    return location.path(f"{backend}.json")


def is_made(backend: str) -> bool:
    """Whether there are rules, as far as it is known."""
    return os.path.exists(path(backend))


def read(backend: str) -> Static:
    """What is known; of a file that is missing, nothing. Raises Damaged."""
    try:
        fields = jsontext.load(path(backend))
        return Static(
            {
                network: frozenset(ip_network(subnet) for subnet in nets)
                for network, nets in fields["subnets"].items()
            },
            frozenset(fields["localnet"]),
            frozenset(fields.get("mark_bits", ())),
            frozenset(fields.get("versions", ())),
        )
    except FileNotFoundError:
        return Static()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Damaged(f"{path(backend)} is damaged: {error!r}") from None


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
        }
        with open(f"{path(backend)}.new", "w", encoding="utf-8") as file:
            file.write(jsontext.dumps(fields))
        os.rename(f"{path(backend)}.new", path(backend))
    for name in static.localnet:
        sysctl.try_write(_route_localnet(name), "1")


def forget(backend: str) -> None:
    """Remove the file."""
    for name in (path(backend), f"{path(backend)}.new"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


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
