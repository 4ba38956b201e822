"""The interfaces by which what pods send leaves the node: not those of other containers' networks.

What a bridge forwards is accepted to these only. Isolation between bridges is decided by whoever
made them; Docker drops what is sent to a container's unpublished port by FORWARD's policy alone.
iptables cannot tell a bridge from another interface, so rules name the uplinks, and an interface
that comes later is not accepted until they are looked up again, by the next ADD or `pycni repair`:
a network that comes later stays closed.
"""

from __future__ import annotations

from ipaddress import ip_address

from cni import TYPE_CHECKING
from cni.net.netlink.route import Netlink
from cni.net.netlink.socket import NetlinkError

if TYPE_CHECKING:
    from cni.net.addresses import IPAddress

# Bridges, the node's ends of point-to-point links to containers, ports of a virtual switch.
_KINDS_OF_CONTAINERS = {"bridge", "veth", "openvswitch"}

# For documentation (RFC 5737, RFC 3849), so no route leads there but a default route.
_FAR_AWAY = (ip_address("198.51.100.1"), ip_address("2001:db8:ffff::1"))


def find_uplinks() -> frozenset[str]:
    """The names of interfaces that have addresses and are not of a kind that containers' networks
    are made of; and of the default routes' interfaces, as a hypervisor's uplink is a bridge.
    """
    with Netlink() as host:
        links = map(host.find_link_by_index, _find_holders(host))
        uplinks = {link.name for link in links if link and link.kind not in _KINDS_OF_CONTAINERS}
        uplinks.update(filter(None, (_find_interface(host, address) for address in _FAR_AWAY)))
    return frozenset(uplinks - {"lo"})


def _find_holders(host: Netlink) -> set[int]:
    """Interfaces with an address that no other one has.

    The node's ends of point-to-point links, of which there may be one for each container, share
    their gateway's address.
    """
    holders: dict[bytes, set[int]] = {}
    for ifindex, address in host.global_addresses():
        holders.setdefault(address, set()).add(ifindex)
    return {ifindex for found in holders.values() if len(found) == 1 for ifindex in found}


def _find_interface(host: Netlink, address: IPAddress) -> str | None:
    """The name of the interface by which a packet to the address leaves the node, if it does."""
    try:
        route = host.find_route(address)
    except NetlinkError:
        return None  # the route is one that refuses packets
    link = host.find_link_by_index(route.ifindex) if route and route.ifindex else None
    return link.name if link else None
