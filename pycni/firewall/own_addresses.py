"""The addresses of the node at which host ports are taken, where not all local ones are its own.

kube-proxy in IPVS mode, and kube-router, give the node the address of every Service, on a device
of theirs, which is known by its name. Without such a device all local addresses are the
node's own, whichever come and go. With one they are listed, and an address that comes later is
known to pods and to the node's processes from the next ADD on, or after `pycni repair`; to others
at once, as it is that of the interface at which they come in.
"""

from __future__ import annotations

import _socket as socket
from ipaddress import collapse_addresses, ip_network

from cni import TYPE_CHECKING
from cni.net.netlink.route import Netlink

if TYPE_CHECKING:
    from cni.net.addresses import IPNetwork

# All of them, and those of which no list is needed: of IPv4, loopback and link-local addresses.
EVERY = frozenset(map(ip_network, ("0.0.0.0/0", "::/0")))
_ALWAYS = frozenset(map(ip_network, ("127.0.0.0/8", "169.254.0.0/16")))

# kube-proxy's, which is down, and kube-router's, which is up.
_DEVICES_OF_SERVICES = {"kube-ipvs0", "kube-dummy-if"}


def find_own_addresses() -> frozenset[IPNetwork]:
    """The addresses, as networks: `EVERY` if there is no device of Services.

    That is asked by name: for a list of addresses the kernel goes through all interfaces. Beside
    such a device no address counts that is on an interface which is down.
    """
    if not any(map(_exists, _DEVICES_OF_SERVICES)):
        return EVERY
    with Netlink() as host:
        held: dict[int, list[bytes]] = {}
        for ifindex, address in host.global_addresses():
            held.setdefault(ifindex, []).append(address)
        links = {ifindex: host.find_link_by_index(ifindex) for ifindex in held}
    own = {
        ifindex
        for ifindex, link in links.items()
        if link is None or (link.is_up and link.name not in _DEVICES_OF_SERVICES)
    }
    networks = _ALWAYS.union(ip_network(address) for ifindex in own for address in held[ifindex])
    v4 = [net for net in networks if net.version == 4]
    v6 = [net for net in networks if net.version == 6]
    return frozenset((*collapse_addresses(v4), *collapse_addresses(v6)))


def _exists(ifname: str) -> bool:
    """Whether there is the interface; it may have no addresses yet."""
    try:
        return socket.if_nametoindex(ifname) > 0
    except OSError:
        return False
