"""Which gateways an IPAM plugin's addresses make of the bridge: pure, no kernel here."""

from __future__ import annotations

from ipaddress import ip_interface, ip_network

from cni import TYPE_CHECKING
from cni.net.addresses import IPInterface
from cni.result import IPConfig, Result, Route
from cni_plugins.bridge.config import BridgeConfig

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def with_gateways(result: Result, config: BridgeConfig) -> Result:
    """The result with the gateways and the default routes that the configuration asks for.

    A bridge that is a gateway has the subnet's first address, unless the IPAM plugin named
    another one. A default route by it is added for each family that has none.
    """
    ips = tuple(_with_gateway(ip) if config.is_gateway else ip for ip in result.ips)
    routes = list(result.routes)
    if config.is_default_gateway:
        first = {ip.address.version: ip for ip in reversed(ips)}
        for version in dict.fromkeys(ip.address.version for ip in ips):
            everywhere = ip_network("0.0.0.0/0" if version == 4 else "::/0")
            if not any(r.destination == everywhere and r.gateway for r in routes):
                routes.append(Route(everywhere, first[version].gateway))
    return result._replace(ips=ips, routes=tuple(routes))


def _with_gateway(ip: IPConfig) -> IPConfig:
    return ip if ip.gateway else ip._replace(gateway=ip.address.network.network_address + 1)


def gateway_addresses(ips: Iterable[IPConfig]) -> list[IPInterface]:
    """What the bridge shall be addressed by, each once."""
    wanted = (
        ip_interface(f"{ip.gateway}/{ip.address.network.prefixlen}") for ip in ips if ip.gateway
    )
    return list(dict.fromkeys(wanted))


def conflicting(wanted: Sequence[IPInterface], present: Iterable[IPInterface]) -> list[IPInterface]:
    """Those of a bridge's addresses that cannot stay beside the wanted ones.

    A bridge has one IPv4 subnet (several, if one result brings them), and of IPv6 as many as do
    not overlap.
    """
    stay = set(wanted)
    return [
        address
        for address in present
        if address not in stay and any(_excludes(other, address) for other in wanted)
    ]


def _excludes(wanted: IPInterface, address: IPInterface) -> bool:
    if wanted.version != address.version:
        return False
    return address.version == 4 or wanted.network.overlaps(address.network)
