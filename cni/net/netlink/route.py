"""rtnetlink: links, addresses and routes of one network namespace.

A `Netlink` is a socket that stays in the namespace it was opened in, so a plugin holds two of
them, one on the host and one in the container, and need not change namespaces in between.

A message is a fixed header and attributes, which this module packs itself: importing classes that
could do so for any message takes longer than all that the kernel does for an ADD. Names are the
kernel's; tests compare with pyroute2's idea of each message.

All methods raise `NetlinkError`. Source: rtnetlink(7),
include/uapi/linux/{rtnetlink,if_link,if_addr}.h, include/uapi/linux/veth.h.
"""

from __future__ import annotations

import _socket as socket
import errno
import struct
from contextlib import contextmanager
from ipaddress import ip_address, ip_interface, ip_network

from cni import TYPE_CHECKING
from cni.namedtuple import NamedTuple
from cni.net import namespace
from cni.net.netlink.attributes import (
    attribute,
    nested,
    parse,
    parse_string,
    parse_u32,
    string,
    u32,
)
from cni.net.netlink.socket import (
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_EXCL,
    NetlinkError,
    Socket,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cni.net.addresses import IPAddress, IPInterface, IPNetwork

_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK = 16, 17, 18
_RTM_NEWADDR, _RTM_DELADDR, _RTM_GETADDR = 20, 21, 22
_RTM_NEWROUTE, _RTM_GETROUTE = 24, 26
_RTM_NEWLINKPROP = 108

# struct ifinfomsg: family, type, index, flags, change
_IFINFOMSG = struct.Struct("=BxHiII")
_ARPHRD_ETHER = 1
_IFF_UP, _IFF_PROMISC = 0x1, 0x100
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINK, _IFLA_MASTER = 1, 3, 4, 5, 10
_IFLA_OPERSTATE, _IFLA_LINKINFO, _IFLA_IFALIAS, _IFLA_NET_NS_FD, _IFLA_EXT_MASK = 16, 18, 20, 28, 29
_IFLA_LINK_NETNSID = 37
_IFLA_PROP_LIST, _IFLA_ALT_IFNAME = 52, 53
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _IFLA_INFO_SLAVE_KIND, _IFLA_INFO_SLAVE_DATA = 1, 2, 4, 5
_IFLA_BRPORT_MODE, _IFLA_BRPORT_ISOLATED = 4, 33
_VETH_INFO_PEER = 1
_IF_OPER_UNKNOWN, _IF_OPER_UP = 0, 6
_RTEXT_FILTER_SKIP_STATS = 1 << 3

# struct ifaddrmsg: family, prefixlen, flags, scope, index
_IFADDRMSG = struct.Struct("=BBBBI")
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST, _IFA_FLAGS = 1, 2, 4, 8
_IFA_F_NODAD, _IFA_F_DADFAILED, _IFA_F_TENTATIVE, _IFA_F_PERMANENT = 0x02, 0x08, 0x40, 0x80

# struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags
_RTMSG = struct.Struct("=BBBBBBBBI")
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_METRICS, _RTA_TABLE = 1, 4, 5, 6, 8, 15
_RTA_MULTIPATH = 9
# struct rtnexthop: length, flags, hops, ifindex
_RTNEXTHOP = struct.Struct("=HBBi")
_RTAX_MTU, _RTAX_ADVMSS = 2, 8
_RT_TABLE_UNSPEC, _RT_TABLE_MAIN, _RTPROT_BOOT, _RTN_UNICAST, _RTN_LOCAL = 0, 254, 3, 1, 2
_RTPROT_RA = 9
_RT_SCOPE_UNIVERSE = 0
RT_SCOPE_LINK = 253


class Link(NamedTuple):
    """An interface. `mtu` is in bytes; `peer` and `master` are other interfaces' indices.

    That of a peer in another namespace is an index over there: then `is_peer_here` is False.
    `mac` is text in lower case with colons, empty for an interface without one.
    """

    ifindex: int
    name: str
    kind: str | None
    mac: str
    mtu: int
    is_up: bool
    is_running: bool
    is_promiscuous: bool
    peer: int | None
    master: int | None
    is_peer_here: bool = True
    is_ethernet: bool = True


class Address(NamedTuple):
    """An address of an interface, with its prefix length."""

    address: IPInterface
    is_tentative: bool
    is_duplicate: bool


class KernelRoute(NamedTuple):
    """A route as the kernel has it. `destination` 0.0.0.0/0 or ::/0 is the default route."""

    destination: IPNetwork
    gateway: IPAddress | None
    ifindex: int | None
    table: int
    is_local: bool


class Netlink(Socket):
    """The links, addresses and routes of the namespace in which this was opened."""

    def __init__(self) -> None:
        super().__init__(socket.NETLINK_ROUTE)

    # Links

    def find_link(self, name: str) -> Link | None:
        """The interface of this name."""
        return self._find_link(_link_message(string(_IFLA_IFNAME, name), _WITHOUT_STATISTICS), name)

    def find_link_by_index(self, index: int) -> Link | None:
        """The interface of this index."""
        message = _link_message(_WITHOUT_STATISTICS, index=index)
        return self._find_link(message, f"interface {index}")

    def _find_link(self, message: bytes, what: str) -> Link | None:
        try:
            (body,) = self.ask(_RTM_GETLINK, 0, message, what)
        except NetlinkError as error:
            if error.errno == errno.ENODEV:
                return None
            raise
        return _parse_link(body)

    def add_bridge(self, name: str, *, mac: str, mtu: int | None) -> None:
        """Create a bridge. A MAC that is set does not change as ports come and go.

        Raises NetlinkError, EEXIST for a name that is taken.
        """
        kind = string(_IFLA_INFO_KIND, "bridge")
        message = _link_message(
            string(_IFLA_IFNAME, name),
            _mac(mac),
            _mtu(mtu),
            nested(_IFLA_LINKINFO, kind),
        )
        what = f"adding the bridge {name}"
        self.ask(_RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, message, what)

    def add_veth(
        self,
        name: str,
        peer_name: str,
        *,
        peer_netns: int | None = None,
        mac: str,
        peer_mac: str,
        mtu: int | None,
        master: int,
    ) -> None:
        """Create a pair in one message: `name` here as a port of `master`, the peer over there.

        `peer_netns` is a descriptor; without it, the peer is here, too. Raises NetlinkError, EEXIST
        if either name is taken.
        """
        peer = _link_message(
            string(_IFLA_IFNAME, peer_name),
            _mac(peer_mac),
            _mtu(mtu),
            b"" if peer_netns is None else u32(_IFLA_NET_NS_FD, peer_netns),
        )
        kind = string(_IFLA_INFO_KIND, "veth")
        data = nested(_IFLA_INFO_DATA, attribute(_VETH_INFO_PEER, peer))
        message = _link_message(
            string(_IFLA_IFNAME, name),
            _mac(mac),
            _mtu(mtu),
            u32(_IFLA_MASTER, master),
            nested(_IFLA_LINKINFO, kind, data),
        )
        what = f"adding the veth pair {name}, {peer_name}"
        self.ask(_RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, message, what)

    def set_link(
        self,
        link: Link,
        *,
        up: bool | None = None,
        promiscuous: bool | None = None,
        mac: str | None = None,
        alias: str | None = None,
        hairpin: bool | None = None,
        isolated: bool | None = None,
    ) -> None:
        """Change what is given, leave what is None. The last two are a bridge port's."""
        flags = change = 0
        for flag, wanted in ((_IFF_UP, up), (_IFF_PROMISC, promiscuous)):
            if wanted is not None:
                change |= flag
                flags |= flag if wanted else 0
        port = b"".join(
            attribute(kind, bytes([wanted]))
            for kind, wanted in ((_IFLA_BRPORT_MODE, hairpin), (_IFLA_BRPORT_ISOLATED, isolated))
            if wanted is not None
        )
        attributes = [
            b"" if mac is None else _mac(mac),
            b"" if alias is None else string(_IFLA_IFALIAS, alias),
        ]
        if port:
            kind = string(_IFLA_INFO_SLAVE_KIND, "bridge")
            attributes.append(nested(_IFLA_LINKINFO, kind, nested(_IFLA_INFO_SLAVE_DATA, port)))
        message = _link_message(*attributes, index=link.ifindex, flags=flags, change=change)
        self.ask(_RTM_NEWLINK, 0, message, f"setting up {link.name}")

    def port_settings(self, port: Link) -> tuple[bool, bool]:
        """Whether a bridge's port is in hairpin mode, and whether it is isolated."""
        message = _link_message(_WITHOUT_STATISTICS, index=port.ifindex)
        (body,) = self.ask(_RTM_GETLINK, 0, message, f"looking at {port.name}")
        info = parse(parse(body[_IFINFOMSG.size :]).get(_IFLA_LINKINFO, b""))
        found = parse(info.get(_IFLA_INFO_SLAVE_DATA, b""))
        hairpin, isolated = (
            found.get(kind, b"\0")[:1] == b"\1"
            for kind in (_IFLA_BRPORT_MODE, _IFLA_BRPORT_ISOLATED)
        )
        return hairpin, isolated

    def has_ports(self, bridge: Link) -> bool:
        """Whether any interface has this one as its master."""
        return bool(self.ports(bridge))

    def ports(self, bridge: Link) -> list[Link]:
        """The interfaces that have this one as their master."""
        message = _link_message(u32(_IFLA_MASTER, bridge.ifindex), _WITHOUT_STATISTICS)
        what = f"listing ports of {bridge.name}"
        links = map(_parse_link, self.ask(_RTM_GETLINK, NLM_F_DUMP, message, what))
        return [link for link in links if link.master == bridge.ifindex]

    def add_alternative_name(self, link: Link, name: str) -> None:
        """Give an interface one more name, which it keeps when it is renamed.

        Raises NetlinkError, EEXIST for a name that is taken; older kernels than 5.5 have no such.
        """
        message = _link_message(
            nested(_IFLA_PROP_LIST, string(_IFLA_ALT_IFNAME, name)), index=link.ifindex
        )
        flags = NLM_F_CREATE | NLM_F_EXCL | NLM_F_APPEND
        self.ask(_RTM_NEWLINKPROP, flags, message, f"giving {link.name} the name {name}")

    def remove_link(self, name: str) -> bool:
        """Delete an interface, with a veth its peer as well. False if there is none."""
        message = _link_message(string(_IFLA_IFNAME, name))
        try:
            self.ask(_RTM_DELLINK, 0, message, f"deleting {name}")
        except NetlinkError as error:
            if error.errno == errno.ENODEV:
                return False
            raise
        return True

    # Addresses

    def addresses(self, link: Link) -> list[Address]:
        """All addresses of an interface."""
        message = _IFADDRMSG.pack(0, 0, 0, 0, link.ifindex)
        bodies = self.ask(_RTM_GETADDR, NLM_F_DUMP, message, f"listing addresses of {link.name}")
        return [_parse_address(body) for body in bodies]

    def global_addresses(self) -> Iterator[tuple[int, bytes]]:
        """The addresses of all interfaces, each as the interface's index and packed.

        Those are left out whose scope is a link or the host.
        """
        message = _IFADDRMSG.pack(0, 0, 0, 0, 0)
        for body in self.ask(_RTM_GETADDR, NLM_F_DUMP, message, "listing addresses"):
            _, _, _, scope, ifindex = _IFADDRMSG.unpack_from(body)
            if scope < RT_SCOPE_LINK:
                found = parse(body[_IFADDRMSG.size :])
                yield ifindex, found.get(_IFA_LOCAL) or found[_IFA_ADDRESS]

    def add_address(self, link: Link, address: IPInterface, *, dad: bool = False) -> None:
        """Add an address, usable at once unless it shall pass duplicate address detection.

        Raises NetlinkError, EEXIST for an address that is there already.
        """
        message = _address_message(link, address)
        if address.version == 6:
            message += u32(_IFA_FLAGS, _IFA_F_PERMANENT | (0 if dad else _IFA_F_NODAD))
        elif address.network.prefixlen <= 30:
            message += attribute(_IFA_BROADCAST, address.network.broadcast_address.packed)
        what = f"adding {address} to {link.name}"
        self.ask(_RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, message, what)

    def remove_address(self, link: Link, address: IPInterface) -> bool:
        """Take an address off an interface. False if it is not there."""
        message = _address_message(link, address)
        try:
            self.ask(_RTM_DELADDR, 0, message, f"deleting {address} from {link.name}")
        except NetlinkError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                return False
            raise
        return True

    # Routes

    def add_route(
        self,
        link: Link,
        destination: IPNetwork,
        gateway: IPAddress | None = None,
        *,
        mtu: int | None = None,
        advmss: int | None = None,
        priority: int | None = None,
        table: int | None = None,
        scope: int | None = None,
    ) -> None:
        """Add a route by `link`; `mtu` and `advmss` are in bytes.

        It comes behind other routes to the same destination, which stay. Raises NetlinkError,
        EEXIST for a route that is there already.
        """
        if scope is None:
            scope = RT_SCOPE_LINK if gateway is None else _RT_SCOPE_UNIVERSE
        message = _route_message(destination, _RTPROT_BOOT, scope, _RTN_UNICAST)
        message += u32(_RTA_OIF, link.ifindex) + u32(_RTA_TABLE, table or _RT_TABLE_MAIN)
        if gateway is not None:
            message += attribute(_RTA_GATEWAY, gateway.packed)
        if priority is not None:
            message += u32(_RTA_PRIORITY, priority)
        metrics = [u32(kind, n) for kind, n in ((_RTAX_MTU, mtu), (_RTAX_ADVMSS, advmss)) if n]
        if metrics:
            message += nested(_RTA_METRICS, *metrics)
        what = f"adding the route {destination}" + (f" via {gateway}" if gateway else "")
        self.ask(_RTM_NEWROUTE, NLM_F_CREATE | NLM_F_APPEND, message, what)

    def routes(self, family: int) -> list[KernelRoute]:
        """All routes of a family, 4 or 6; one of several ways counts as several."""
        message = _RTMSG.pack(_AF[family], 0, 0, 0, 0, 0, 0, 0, 0)
        bodies = self.ask(_RTM_GETROUTE, NLM_F_DUMP, message, "listing routes")
        return [way for body in bodies for way in _parse_ways(body)]

    def advertised_routers(self) -> set[int]:
        """The indices of interfaces by which a router advertisement's default route leads."""
        message = _RTMSG.pack(socket.AF_INET6, 0, 0, 0, 0, _RTPROT_RA, 0, 0, 0)
        bodies = self.ask(_RTM_GETROUTE, NLM_F_DUMP, message, "listing routes of advertisements")
        ways = (way for body in bodies for way in _parse_ways(body))
        return {way.ifindex for way in ways if way.ifindex and not way.destination.prefixlen}

    def find_route(self, address: IPAddress) -> KernelRoute | None:
        """The route that a packet to `address` would take, None if it would take none."""
        message = _route_message(ip_network(address))
        try:
            (body,) = self.ask(_RTM_GETROUTE, 0, message, f"looking for a route to {address}")
        except NetlinkError as error:
            if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH):
                return None
            raise
        return _parse_ways(body)[0]


class Sides(NamedTuple):
    """A container's namespace, as a descriptor, and a socket on either side of its border."""

    netns: int
    host: Netlink
    container: Netlink


@contextmanager
def both_sides(netns_path: str) -> Iterator[Sides]:
    """Open the container's namespace and both sockets. Raises InvalidEnvironment, see `netns`."""
    with namespace.opened(netns_path) as descriptor, Netlink() as host:
        with namespace.entered(descriptor):
            container = Netlink()
        with container:
            yield Sides(descriptor, host, container)


_AF = {4: socket.AF_INET, 6: socket.AF_INET6}

_WITHOUT_STATISTICS = u32(_IFLA_EXT_MASK, _RTEXT_FILTER_SKIP_STATS)


def _link_message(*attributes: bytes, index: int = 0, flags: int = 0, change: int = 0) -> bytes:
    return _IFINFOMSG.pack(socket.AF_UNSPEC, 0, index, flags, change) + b"".join(attributes)


def _mac(mac: str) -> bytes:
    return attribute(_IFLA_ADDRESS, bytes.fromhex(mac.replace(":", "")))


def _mtu(mtu: int | None) -> bytes:
    return b"" if mtu is None else u32(_IFLA_MTU, mtu)


def _parse_link(body: bytes) -> Link:
    _, hardware, index, flags, _ = _IFINFOMSG.unpack_from(body)
    found = parse(body[_IFINFOMSG.size :])
    kind = parse(found.get(_IFLA_LINKINFO, b"")).get(_IFLA_INFO_KIND)
    operstate = found.get(_IFLA_OPERSTATE, b"\0")[0]
    return Link(
        ifindex=index,
        name=parse_string(found[_IFLA_IFNAME]),
        kind=None if kind is None else parse_string(kind),
        mac=found.get(_IFLA_ADDRESS, b"").hex(":"),
        mtu=parse_u32(found[_IFLA_MTU]),
        is_up=bool(flags & _IFF_UP),
        is_running=operstate in (_IF_OPER_UP, _IF_OPER_UNKNOWN),
        is_promiscuous=bool(flags & _IFF_PROMISC),
        peer=parse_u32(found[_IFLA_LINK]) if _IFLA_LINK in found else None,
        master=parse_u32(found[_IFLA_MASTER]) if _IFLA_MASTER in found else None,
        is_peer_here=_IFLA_LINK_NETNSID not in found,
        is_ethernet=hardware == _ARPHRD_ETHER,
    )


def _address_message(link: Link, address: IPInterface) -> bytes:
    prefix_length = address.network.prefixlen
    message = _IFADDRMSG.pack(_AF[address.version], prefix_length, 0, 0, link.ifindex)
    packed = address.packed
    return message + attribute(_IFA_LOCAL, packed) + attribute(_IFA_ADDRESS, packed)


def _parse_address(body: bytes) -> Address:
    _, prefix_length, flags, _, _ = _IFADDRMSG.unpack_from(body)
    found = parse(body[_IFADDRMSG.size :])
    if _IFA_FLAGS in found:
        flags = parse_u32(found[_IFA_FLAGS])
    # Of a point-to-point link, IFA_ADDRESS is the other end's.
    packed = found.get(_IFA_LOCAL) or found[_IFA_ADDRESS]
    return Address(
        ip_interface((packed, prefix_length)),
        is_tentative=bool(flags & _IFA_F_TENTATIVE),
        is_duplicate=bool(flags & _IFA_F_DADFAILED),
    )


def _route_message(
    destination: IPNetwork, protocol: int = 0, scope: int = 0, kind: int = 0
) -> bytes:
    family, length = _AF[destination.version], destination.prefixlen
    header = _RTMSG.pack(family, length, 0, 0, _RT_TABLE_UNSPEC, protocol, scope, kind, 0)
    return header + attribute(_RTA_DST, destination.network_address.packed)


def _parse_ways(body: bytes) -> list[KernelRoute]:
    """A route, once for each way that it has: IPv6 puts those of equal metric into one."""
    family, length, _, _, table, _, _, kind, _ = _RTMSG.unpack_from(body)
    found = parse(body[_RTMSG.size :])
    everywhere = bytes(4 if family == socket.AF_INET else 16)
    only = (found.get(_RTA_GATEWAY), parse_u32(found[_RTA_OIF]) if _RTA_OIF in found else None)
    return [
        KernelRoute(
            ip_network((found.get(_RTA_DST, everywhere), length)),
            None if gateway is None else ip_address(gateway),
            ifindex,
            parse_u32(found[_RTA_TABLE]) if _RTA_TABLE in found else table,
            is_local=kind == _RTN_LOCAL,
        )
        for gateway, ifindex in list(_next_hops(found.get(_RTA_MULTIPATH, b""))) or [only]
    ]


def _next_hops(data: bytes) -> Iterator[tuple[bytes | None, int | None]]:
    while len(data) >= _RTNEXTHOP.size:
        length, _, _, ifindex = _RTNEXTHOP.unpack_from(data)
        yield parse(data[_RTNEXTHOP.size : length]).get(_RTA_GATEWAY), ifindex
        data = data[max(_RTNEXTHOP.size, (length + 3) & ~3) :]
