"""Put a Result on a container's interface, and check that it is still there.

Source: RFC 4862, section 5.4 for duplicate address detection; the kernel's
Documentation/networking/ip-sysctl.rst for parameters.
"""

from __future__ import annotations

import errno
import time

from cni import TYPE_CHECKING
from cni.errors import CheckFailed, CniError
from cni.net import sysctl
from cni.net.addresses import IPAddress
from cni.net.netlink.route import RT_SCOPE_LINK, Link, Netlink
from cni.net.netlink.socket import NetlinkError
from cni.result import IPConfig, Result, Route

if TYPE_CHECKING:
    from collections.abc import Iterable

# How long duplicate address detection may take: RFC 4862, section 5.4 asks for one second after a
# random delay of up to one second.
_DAD_SECONDS = 5.0

_MAIN_TABLE = 254

# The parameters by which an interface takes addresses and routes from router advertisements.
ROUTER_ADVERTISEMENTS = ("accept_ra", "autoconf")


def refuse_router_advertisements(ifname: str) -> None:
    """Keep neighbours from giving the interface addresses and routes (CVE-2020-10749).

    To be called in the interface's namespace, before it is up. Where IPv6 is off, there is nothing
    to refuse.
    """
    for parameter in ROUTER_ADVERTISEMENTS:
        sysctl.try_write(f"net/ipv6/conf/{ifname}/{parameter}", "0")


def refuse_ipv6_addresses(ifname: str) -> None:
    """Keep an interface that only forwards frames, such as a bridge's port, from having any.

    The kernel would give it a link-local one, with routes; and it walks all routes of IPv6 whenever
    an interface is set up or goes. To be called in its namespace, before it is up.
    """
    sysctl.try_write(f"net/ipv6/conf/{ifname}/disable_ipv6", "1")


def prepare(ifname: str, *, ipv6: bool) -> None:
    """Set an interface's parameters before it is up; to be called in its namespace.

    It takes no router advertisements, and tells its neighbours when its MAC is set (`configure`
    makes use of that). With `ipv6`, IPv6 is switched on, for lo as well; and the interface keeps
    its IPv6 addresses when somebody sets it down and up again, as it does those of IPv4.

    Raises OSError where IPv6 cannot be switched on.
    """
    refuse_router_advertisements(ifname)
    sysctl.try_write(f"net/ipv4/conf/{ifname}/arp_notify", "1")
    sysctl.try_write(f"net/ipv6/conf/{ifname}/ndisc_notify", "1")
    if ipv6:
        sysctl.write(f"net/ipv6/conf/{ifname}/disable_ipv6", "0")
        sysctl.try_write("net/ipv6/conf/lo/disable_ipv6", "0")
        sysctl.try_write(f"net/ipv6/conf/{ifname}/keep_addr_on_down", "1")


def configure(container: Netlink, link: Link, result: Result, *, dad: bool = False) -> None:
    """Give an interface that is up the result's addresses and routes.

    With `dad`, IPv6 addresses pass duplicate address detection first; otherwise they can be
    used at once. Raises CniError for a duplicate, NetlinkError for what the kernel refuses.
    """
    for ip in result.ips:
        container.add_address(link, ip.address, dad=dad)
    if dad:
        _wait_for_addresses(container, link)
    for route in result.routes:
        _add_route(container, link, route, result.ips)
    # An address is often used again, and neighbours may remember its former MAC. The kernel tells
    # them whenever a MAC is set, be it the same.
    container.set_link(link, mac=link.mac)


def _wait_for_addresses(container: Netlink, link: Link) -> None:
    deadline = time.monotonic() + _DAD_SECONDS
    while True:
        addresses = [a for a in container.addresses(link) if not a.address.ip.is_link_local]
        duplicates = [str(a.address.ip) for a in addresses if a.is_duplicate]
        if duplicates:
            raise CniError(f"{', '.join(duplicates)} is in use by another host of the network")
        if not any(a.is_tentative for a in addresses):
            return
        if time.monotonic() > deadline:
            raise CniError(f"duplicate address detection took more than {_DAD_SECONDS:.0f} s")
        time.sleep(0.01)


def _add_route(container: Netlink, link: Link, route: Route, ips: Iterable[IPConfig]) -> None:
    try:
        container.add_route(
            link,
            route.destination,
            _gateway(route, ips),
            mtu=route.mtu,
            advmss=route.advmss,
            priority=route.priority,
            table=route.table,
            scope=route.scope,
        )
    except NetlinkError as error:
        # An IPAM plugin may name a route twice, or one that the kernel made with the address.
        if error.errno != errno.EEXIST:
            raise


def _gateway(route: Route, ips: Iterable[IPConfig]) -> IPAddress | None:
    """A route without a gateway of its own goes by that of the first address of its family.

    With the scope of a link, or a narrower one, it must not have any.
    """
    if route.gateway is not None or (route.scope or 0) >= RT_SCOPE_LINK:
        return route.gateway
    family = route.destination.version
    gateways = (ip.gateway for ip in ips if ip.gateway and ip.address.version == family)
    return next(gateways, None)


def check(container: Netlink, link: Link, ips: Iterable[IPConfig], routes: Iterable[Route]) -> None:
    """Raise CheckFailed that names the first address that the interface, or route that its
    namespace lacks.

    A route may be another interface's: a result does not tell, and other plugins add to it.
    """
    ips = tuple(ips)
    present = {address.address for address in container.addresses(link)}
    for ip in ips:
        if ip.address not in present:
            raise CheckFailed(f"{link.name} does not have the address {ip.address}")
    for family in (4, 6):
        wanted = [route for route in routes if route.destination.version == family]
        known = {
            (route.destination, route.gateway, route.table)
            for route in (container.routes(family) if wanted else ())
        }
        for route in wanted:
            gateway = _gateway(route, ips)
            # Without a gateway of its own it may be one that the kernel made with the address.
            fitting = {gateway, route.gateway}
            table = route.table or _MAIN_TABLE
            if not any((route.destination, via, table) in known for via in fitting):
                via = f" via {gateway}" if gateway else ""
                raise CheckFailed(f"the route {route.destination}{via} is missing")
