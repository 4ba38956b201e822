"""Which gateways an IPAM plugin's addresses make of the bridge: pure, no kernel here."""

from __future__ import annotations

from ipaddress import ip_interface, ip_network

from cni import TYPE_CHECKING
from cni.net.addresses import IPAddress, IPInterface, IPNetwork
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


def unaddressed_subnets(ips: Iterable[IPConfig]) -> set[IPNetwork]:
    """Subnets in which the bridge has no address, as their gateway has a link-local one: the node
    has no route there by itself.
    """
    return {ip.address.network for ip in ips if _is_link_local(ip.gateway)}


def _is_link_local(address: IPAddress | None) -> bool:
    return address is not None and address.version == 6 and address.is_link_local


def conflicting(wanted: Sequence[IPInterface], present: Iterable[IPInterface]) -> list[IPInterface]:
    """Those of a bridge's addresses that cannot stay beside the wanted ones.

    A bridge has one IPv4 subnet (several, if one result brings them), and of IPv6 as many as do
    not overlap; link-local addresses are in nobody's way.
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
    if _is_link_local(wanted.ip) or _is_link_local(address.ip):
        return False  # every interface has one of the same subnet, which nobody routes
    return address.version == 4 or wanted.network.overlaps(address.network)
