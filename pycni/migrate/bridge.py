"""The veth pair of an attachment that the reference bridge plugin made.

Its host side has a random name, so it is looked for by what proves to be the attachment's: that
name in prevResult, or an address that is leased to the attachment. A pair that is not found goes
with the container's namespace.
"""

from __future__ import annotations

import _socket as socket

import cni
from cni.errors import InvalidEnvironment
from cni.net.netlink.route import Netlink, both_sides
from pycni.state.names import is_port_ifname


def remove_pair(request: cni.Delete) -> None:
    """Remove the pair, if there is any for certain."""
    names = _host_names(request)
    if names:
        _remove_ports(names)
    elif request.netns:
        _remove_leased(request, request.netns)


def _host_names(request: cni.Delete) -> set[str]:
    """The names of the interfaces that the node has: the bridge's and the pair's.

    No names if prevResult is about something else: another interface, or a pair of our own.
    """
    interfaces = request.prev_result.interfaces if request.prev_result else ()
    names = {interface.name for interface in interfaces if not interface.sandbox}
    inside = {interface.name for interface in interfaces if interface.sandbox}
    is_about_it = request.owner.ifname in inside and not any(map(is_port_ifname, names))
    return names if is_about_it else set()


def _remove_ports(names: set[str]) -> None:
    """Remove what is, among these interfaces, a pair's end and port of a bridge."""
    present = names.intersection(name for _, name in socket.if_nameindex())
    if len(present) < 2:
        return  # without loading netlink: the usual case of a repeated DEL
    with Netlink() as host:
        links = [link for link in map(host.find_link, present) if link]
        bridges = [link.ifindex for link in links if link.kind == "bridge"]
        for link in links:
            if link.kind == "veth" and link.master in bridges:
                host.remove_link(link.name)


def _remove_leased(request: cni.Delete, netns: str) -> None:
    """Remove the container's interface, if one of its addresses is leased to the attachment.

    That shows that the path does not lead to another container's namespace by now.
    """
    from pycni.state.leases import Store, find_directory

    leases = Store(find_directory(request)).find_owned(request.owner)
    if not leases:
        return
    try:
        with both_sides(netns) as sides:
            link = sides.container.find_link(request.owner.ifname)
            if link is None or link.kind != "veth":
                return
            present = {address.address.ip for address in sides.container.addresses(link)}
            if any(lease.address in present for lease in leases):
                sides.container.remove_link(link.name)
    except InvalidEnvironment:
        return  # the namespace is gone, and the pair with it
