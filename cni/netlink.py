"""rtnetlink: links, addresses and routes of one network namespace.

A `Netlink` is a socket that stays in the namespace it was opened in, so a plugin holds two of
them, one on the host and one in the container, and need not change namespaces in between. Messages
are put together and taken apart by pyroute2's message classes.

All methods raise `NetlinkError`. Source: rtnetlink(7), include/uapi/linux/{rtnetlink,if_link}.h.
"""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import util
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any, NamedTuple

from cni import netns
from cni.addresses import IPAddress, IPInterface, IPNetwork
from cni.nlsocket import HEADER, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NetlinkError, Socket


@contextmanager
def _without_running_pyroute2() -> Iterator[None]:
    """Import single modules of pyroute2 without its `__init__`, which imports all the others.

    Running it takes five times as long as the message classes take. If a program already
    has pyroute2, nothing is done; if it imports pyroute2 later, that works as ever.
    """
    if "pyroute2" in sys.modules:
        yield
        return
    spec = util.find_spec("pyroute2")
    if spec is None:
        raise ImportError("pyroute2 is not installed")
    sys.modules["pyroute2"] = util.module_from_spec(spec)
    try:
        yield
    finally:
        del sys.modules["pyroute2"]


with _without_running_pyroute2():
    from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
    from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
    from pyroute2.netlink.rtnl.rtmsg import rtmsg

_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK = 16, 17, 18
_RTM_NEWADDR, _RTM_DELADDR, _RTM_GETADDR = 20, 21, 22
_RTM_NEWROUTE, _RTM_GETROUTE = 24, 26

_IFF_UP, _IFF_PROMISC = 0x1, 0x100
_IFA_F_NODAD, _IFA_F_DADFAILED, _IFA_F_TENTATIVE, _IFA_F_PERMANENT = 0x02, 0x08, 0x40, 0x80
_RTEXT_FILTER_SKIP_STATS = 1 << 3
_RT_TABLE_MAIN, _RTPROT_BOOT, _RTN_UNICAST, _RTN_LOCAL = 254, 3, 1, 2
_RT_SCOPE_UNIVERSE = 0
RT_SCOPE_LINK = 253


class Link(NamedTuple):
    """An interface. `peer` and `master` are interface indices, of another interface each."""

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
        return self._find_link(0, [("IFLA_IFNAME", name)], name)

    def find_link_by_index(self, index: int) -> Link | None:
        """The interface of this index."""
        return self._find_link(index, [], f"interface {index}")

    def _find_link(self, index: int, attributes: list[Any], what: str) -> Link | None:
        message = ifinfmsg()
        message["index"] = index
        message["attrs"] = [*attributes, ("IFLA_EXT_MASK", _RTEXT_FILTER_SKIP_STATS)]
        try:
            (body,) = self._ask(_RTM_GETLINK, 0, message, what)
        except NetlinkError as error:
            if error.errno == errno.ENODEV:
                return None
            raise
        return _parse_link(body)

    def add_bridge(self, name: str, *, mac: str, mtu: int | None) -> None:
        """Create a bridge. A MAC that is set does not change as ports come and go.

        Raises NetlinkError, EEXIST for a name that is taken.
        """
        attributes = [("IFLA_IFNAME", name), ("IFLA_ADDRESS", mac), _kind("bridge")]
        self._create_link(0, attributes + _optional("IFLA_MTU", mtu), f"adding the bridge {name}")

    def add_veth(
        self,
        name: str,
        peer_name: str,
        *,
        peer_netns: int,
        mac: str,
        peer_mac: str,
        mtu: int | None,
        master: int,
    ) -> None:
        """Create a pair in one message: `name` here as a port of `master`, the peer over there.

        `peer_netns` is a descriptor. Raises NetlinkError, EEXIST if either name is taken.
        """
        peer = [
            ("IFLA_IFNAME", peer_name),
            ("IFLA_ADDRESS", peer_mac),
            ("IFLA_NET_NS_FD", peer_netns),
            *_optional("IFLA_MTU", mtu),
        ]
        attributes = [
            ("IFLA_IFNAME", name),
            ("IFLA_ADDRESS", mac),
            ("IFLA_MASTER", master),
            _kind("veth", [("VETH_INFO_PEER", {"attrs": peer})]),
            *_optional("IFLA_MTU", mtu),
        ]
        self._create_link(0, attributes, f"adding the veth pair {name}, {peer_name}")

    def _create_link(self, index: int, attributes: list[Any], what: str) -> None:
        message = ifinfmsg()
        message["index"] = index
        message["attrs"] = attributes
        self._ask(_RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, message, what)

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
        message = ifinfmsg()
        message["index"] = link.ifindex
        for flag, wanted in ((_IFF_UP, up), (_IFF_PROMISC, promiscuous)):
            if wanted is not None:
                message["change"] |= flag
                message["flags"] |= flag if wanted else 0
        port = [
            *_optional("IFLA_BRPORT_MODE", None if hairpin is None else int(hairpin)),
            *_optional("IFLA_BRPORT_ISOLATED", None if isolated is None else int(isolated)),
        ]
        if port:
            slave = [("IFLA_INFO_SLAVE_KIND", "bridge"), ("IFLA_INFO_SLAVE_DATA", {"attrs": port})]
            message["attrs"] = [("IFLA_LINKINFO", {"attrs": slave})]
        message["attrs"] += _optional("IFLA_ADDRESS", mac) + _optional("IFLA_IFALIAS", alias)
        self._ask(_RTM_NEWLINK, 0, message, f"setting up {link.name}")

    def has_ports(self, bridge: Link) -> bool:
        """Whether any interface has this one as its master."""
        message = ifinfmsg()
        mask = ("IFLA_EXT_MASK", _RTEXT_FILTER_SKIP_STATS)
        message["attrs"] = [("IFLA_MASTER", bridge.ifindex), mask]
        what = f"listing ports of {bridge.name}"
        links = map(_parse_link, self._ask(_RTM_GETLINK, NLM_F_DUMP, message, what))
        return any(link.master == bridge.ifindex for link in links)

    def remove_link(self, name: str) -> bool:
        """Delete an interface, with a veth its peer as well. False if there is none."""
        message = ifinfmsg()
        message["attrs"] = [("IFLA_IFNAME", name)]
        try:
            self._ask(_RTM_DELLINK, 0, message, f"deleting {name}")
        except NetlinkError as error:
            if error.errno == errno.ENODEV:
                return False
            raise
        return True

    # Addresses

    def addresses(self, link: Link) -> list[Address]:
        """All addresses of an interface."""
        message = ifaddrmsg()
        message["index"] = link.ifindex
        bodies = self._ask(_RTM_GETADDR, NLM_F_DUMP, message, f"listing addresses of {link.name}")
        return [_parse_address(body) for body in bodies]

    def add_address(self, link: Link, address: IPInterface, *, dad: bool = False) -> None:
        """Add an address, usable at once unless it shall pass duplicate address detection.

        Raises NetlinkError, EEXIST for an address that is there already.
        """
        attributes: list[Any] = [("IFA_LOCAL", str(address.ip))]
        if address.version == 4:
            broadcast = address.network.broadcast_address
            if address.network.prefixlen <= 30:
                attributes.append(("IFA_BROADCAST", str(broadcast)))
        else:
            attributes.append(("IFA_FLAGS", _IFA_F_PERMANENT | (0 if dad else _IFA_F_NODAD)))
        what = f"adding {address} to {link.name}"
        flags = NLM_F_CREATE | NLM_F_EXCL
        self._ask(_RTM_NEWADDR, flags, _address_message(link, address, attributes), what)

    def remove_address(self, link: Link, address: IPInterface) -> bool:
        """Take an address off an interface. False if it is not there."""
        message = _address_message(link, address, [("IFA_LOCAL", str(address.ip))])
        try:
            self._ask(_RTM_DELADDR, 0, message, f"deleting {address} from {link.name}")
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
        metrics: Mapping[str, int] | None = None,
        priority: int | None = None,
        table: int | None = None,
        scope: int | None = None,
    ) -> None:
        """Add a route by `link`; metrics are RTAX_MTU and RTAX_ADVMSS, in bytes.

        Raises NetlinkError, EEXIST for a route that is there already.
        """
        narrowest = RT_SCOPE_LINK if gateway is None else _RT_SCOPE_UNIVERSE
        message = _route_message(destination)
        message["proto"] = _RTPROT_BOOT
        message["type"] = _RTN_UNICAST
        message["scope"] = narrowest if scope is None else scope
        message["attrs"] += [("RTA_OIF", link.ifindex), ("RTA_TABLE", table or _RT_TABLE_MAIN)]
        message["attrs"] += _optional("RTA_GATEWAY", None if gateway is None else str(gateway))
        message["attrs"] += _optional("RTA_PRIORITY", priority)
        if metrics:
            message["attrs"].append(("RTA_METRICS", {"attrs": list(metrics.items())}))
        what = f"adding the route {destination}" + (f" via {gateway}" if gateway else "")
        self._ask(_RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, message, what)

    def routes(self, family: int) -> list[KernelRoute]:
        """All routes of a family, 4 or 6."""
        message = rtmsg()
        message["family"] = socket.AF_INET if family == 4 else socket.AF_INET6
        bodies = self._ask(_RTM_GETROUTE, NLM_F_DUMP, message, "listing routes")
        return [_parse_route(body) for body in bodies]

    def find_route(self, address: IPAddress) -> KernelRoute | None:
        """The route that a packet to `address` would take, None if it would take none."""
        message = _route_message(ip_network(address))
        try:
            (body,) = self._ask(_RTM_GETROUTE, 0, message, f"looking for a route to {address}")
        except NetlinkError as error:
            if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH):
                return None
            raise
        return _parse_route(body)

    def _ask(self, kind: int, flags: int, message: Any, what: str) -> list[bytes]:
        message.encode()
        # pyroute2 encodes a header of its own, with fields that only its sockets know to fill.
        return self.ask(kind, flags, bytes(message.data[HEADER.size :]), what)


class Sides(NamedTuple):
    """A container's namespace, as a descriptor, and a socket on either side of its border."""

    netns: int
    host: Netlink
    container: Netlink


@contextmanager
def both_sides(netns_path: str) -> Iterator[Sides]:
    """Open the container's namespace and both sockets. Raises InvalidEnvironment, see `netns`."""
    with netns.opened(netns_path) as descriptor, Netlink() as host:
        with netns.entered(descriptor):
            container = Netlink()
        with container:
            yield Sides(descriptor, host, container)


def _kind(kind: str, data: Iterable[Any] = ()) -> tuple[str, Any]:
    attributes: list[Any] = [("IFLA_INFO_KIND", kind)]
    if data:
        attributes.append(("IFLA_INFO_DATA", {"attrs": list(data)}))
    return ("IFLA_LINKINFO", {"attrs": attributes})


def _optional(name: str, value: Any) -> list[tuple[str, Any]]:
    return [] if value is None else [(name, value)]


def _parse(message: Any, body: bytes) -> Any:
    parsed = message(HEADER.pack(HEADER.size + len(body), 0, 0, 0, 0) + body)
    parsed.decode()
    return parsed


def _parse_link(body: bytes) -> Link:
    message = _parse(ifinfmsg, body)
    kind = message.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND")
    return Link(
        ifindex=message["index"],
        name=message.get_attr("IFLA_IFNAME"),
        kind=kind,
        mac=message.get_attr("IFLA_ADDRESS") or "",
        mtu=message.get_attr("IFLA_MTU"),
        is_up=bool(message["flags"] & _IFF_UP),
        is_running=message.get_attr("IFLA_OPERSTATE") in ("UP", "UNKNOWN"),
        is_promiscuous=bool(message["flags"] & _IFF_PROMISC),
        peer=message.get_attr("IFLA_LINK"),
        master=message.get_attr("IFLA_MASTER"),
    )


def _address_message(link: Link, address: IPInterface, attributes: list[Any]) -> Any:
    message = ifaddrmsg()
    message["family"] = socket.AF_INET if address.version == 4 else socket.AF_INET6
    message["prefixlen"] = address.network.prefixlen
    message["index"] = link.ifindex
    message["attrs"] = [("IFA_ADDRESS", str(address.ip)), *attributes]
    return message


def _parse_address(body: bytes) -> Address:
    message = _parse(ifaddrmsg, body)
    address = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
    flags = message.get_attr("IFA_FLAGS") or message["flags"]
    return Address(
        ip_interface(f"{address}/{message['prefixlen']}"),
        is_tentative=bool(flags & _IFA_F_TENTATIVE),
        is_duplicate=bool(flags & _IFA_F_DADFAILED),
    )


def _route_message(destination: IPNetwork) -> Any:
    message = rtmsg()
    message["family"] = socket.AF_INET if destination.version == 4 else socket.AF_INET6
    message["dst_len"] = destination.prefixlen
    message["attrs"] = [("RTA_DST", str(destination.network_address))]
    return message


def _parse_route(body: bytes) -> KernelRoute:
    message = _parse(rtmsg, body)
    everywhere = "0.0.0.0" if message["family"] == socket.AF_INET else "::"
    destination = message.get_attr("RTA_DST") or everywhere
    gateway = message.get_attr("RTA_GATEWAY")
    return KernelRoute(
        ip_network(f"{destination}/{message['dst_len']}"),
        ip_address(gateway) if gateway else None,
        message.get_attr("RTA_OIF"),
        message.get_attr("RTA_TABLE") or message["table"],
        is_local=message["type"] == _RTN_LOCAL,
    )
