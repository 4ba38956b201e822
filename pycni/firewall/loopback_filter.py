"""The loopback filter: what comes in by a port from or to 127.0.0.0/8 is dropped, at the port.

A node's process reaches a host port at 127.0.0.1 only if packets from there may leave by the bridge
(`route_localnet`). That would let the bridge's other hosts reach the node's own 127.0.0.1
(CVE-2020-8558). The backends have a rule against that, which somebody's `nft flush ruleset` or
`iptables -F` takes away. So each port has a filter of traffic control, which no firewall's reload
touches (see `cni.net.netlink.traffic_control`); the rule is the second line.

It is at the ports and not at the bridge: where bridged packets pass iptables
(net.bridge.bridge-nf-call-iptables), the answers of a host port have their destination 127.0.0.1
back when they reach the bridge, and would be dropped there.

The bridge plugin gives it to each port that it makes, before that is up. Before portmap switches
route_localnet on, it gives it to all other ports that the bridge has then; those it takes away
again when route_localnet is switched off. What others add to the bridge later is left to the rule,
until the next `pycni repair`.
"""

from __future__ import annotations

import errno

from cni import TYPE_CHECKING, log
from cni.errors import CheckFailed
from cni.net import namespace
from cni.net.addresses import random_mac
from cni.net.netlink import traffic_control
from cni.net.netlink.route import Netlink, both_sides
from cni.net.netlink.socket import NetlinkError
from cni.net.netlink.traffic_control import CONTINUE, DROP, Filter

if TYPE_CHECKING:
    from cni.net.netlink.route import Link

# Codes of classic BPF, include/uapi/linux/bpf_common.h: load into A a word or half-word at a
# constant's offset, or a byte at X plus it; load X; jump if A equals; return.
_LD_W, _LD_H, _LD_B_X, _LDX = 0x20, 0x28, 0x50, 0x01
_JEQ, _RET = 0x15, 0x06

# The offset that stands for the packet's protocol (SKF_AD_PROTOCOL), include/uapi/linux/filter.h.
_PROTOCOL = 0xFFFFF000

_IPV4, _VLAN, _SERVICE_VLAN = 0x0800, 0x8100, 0x88A8
_VLAN_SIZE, _IPV4_SOURCE, _IPV4_DESTINATION, _LOOPBACK = 4, 12, 16, 127

_ETHERNET_SIZE = 14


def _program(header: int) -> tuple[tuple[int, int, int, int], ...]:
    """The filter for packets that begin with a link layer's header of so many bytes.

    The kernel has taken off the outermost tag, and hands a packet on to the bridge's own IP whose
    further tags have the VLAN ID 0, which means a priority alone. One more tag is looked behind;
    what has a third is dropped: no network sends such frames, and the kernel would look behind it.

    Offsets are counted from the packet's beginning, not from its network header (SKF_NET_OFF): that
    would fail, and let pass, where the header is in a page of its own, as PACKET_TX_RING sends it.
    """
    return (
        (_LDX, 0, 0, 0),  # 0: X = 0
        (_LD_W, 0, 0, _PROTOCOL),
        (_JEQ, 7, 0, _IPV4),  # to 10
        (_JEQ, 1, 0, _VLAN),  # to 5
        (_JEQ, 0, 9, _SERVICE_VLAN),  # or else to 14
        (_LDX, 0, 0, _VLAN_SIZE),  # 5: X = 4
        (_LD_H, 0, 0, header + 2),  # the protocol behind the tag
        (_JEQ, 7, 0, _VLAN),  # to 15
        (_JEQ, 6, 0, _SERVICE_VLAN),  # to 15
        (_JEQ, 0, 4, _IPV4),  # or else to 14
        (_LD_B_X, 0, 0, header + _IPV4_DESTINATION),  # 10
        (_JEQ, 3, 0, _LOOPBACK),  # to 15
        (_LD_B_X, 0, 0, header + _IPV4_SOURCE),
        (_JEQ, 1, 0, _LOOPBACK),  # to 15
        (_RET, 0, 0, CONTINUE),  # 14
        (_RET, 0, 0, DROP),  # 15
    )


# The handles are letters, so that nobody else has them by chance. First the filter of a port that
# was made with it, which goes with it; then those of others' ports, which we take away.
_MADE_WITH_PORT = Filter(
    int.from_bytes(b"pyc0", "big"), 1, "pycni-loopback", _program(_ETHERNET_SIZE)
)
_LENT = Filter(int.from_bytes(b"pyc1", "big"), 1, "pycni-loopback-lent", _program(_ETHERNET_SIZE))
_LENT_WITHOUT_ETHERNET = _LENT._replace(program=_program(0))

_UNKNOWN_TO_KERNEL = (errno.ENOENT, errno.EOPNOTSUPP)


def add_to_new_port(host: Netlink, port: Link) -> None:
    """Give the filter to a port that we have made, which is not up yet.

    Failure is a warning, and where the kernel has no such filters not even that: whether anybody
    needs it is portmap's business.
    """
    with log.told(f"{port.name} has no loopback filter"):
        try:
            traffic_control.ensure_filter(host, port, _MADE_WITH_PORT)
        except NetlinkError as error:
            if error.errno not in _UNKNOWN_TO_KERNEL:
                raise


def ensure_at_container(netns_path: str, ifname: str) -> None:
    """Have the filter at the node's side of a container's interface, whoever made it.

    Failure is a warning: the backend's rule is there, too.
    """
    what = f"only a firewall rule keeps {ifname} of {netns_path} from the node's 127.0.0.1"
    with log.told(what), both_sides(netns_path) as sides:
        port = _find_port(sides.host, sides.container.find_link(ifname))
        if port is not None:
            _lend(sides.host, port)


def repair_at_container(netns_path: str, ifname: str) -> None:
    """Give the filter back to the port of a container that we have made."""
    what = f"{ifname} of {netns_path} has no loopback filter"
    with log.told(what), both_sides(netns_path) as sides:
        port = _find_port(sides.host, sides.container.find_link(ifname))
        if port is not None and not _has_one(sides.host, port):
            add_to_new_port(sides.host, port)


def check_at_container(netns_path: str, ifname: str) -> None:
    """Raise CheckFailed if the node's side of a container's interface lacks the filter."""
    with both_sides(netns_path) as sides:
        port = _find_port(sides.host, sides.container.find_link(ifname))
        if port is not None:
            check_port(sides.host, port)


def check_port(host: Netlink, port: Link) -> None:
    """Raise CheckFailed if a port lacks the filter, and the kernel has such filters."""
    if not _has_one(host, port) and is_possible():
        raise CheckFailed(
            f"{port.name} has no loopback filter, which keeps it from the node's 127.0.0.1",
            "`pycni repair` adds it again",
        )


def ensure_behind(device: str) -> None:
    """Have the filter at every port by which packets come in to a device of the node.

    To be called before route_localnet of the device is switched on. It takes as long as the device
    has ports. Failure is a warning: the backend's rule is there, too.
    """
    with Netlink() as host:
        for port in _ports_of(host, device):
            with log.told(f"only a firewall rule keeps {port.name} from the node's 127.0.0.1"):
                _lend(host, port)


def find_unfiltered(device: str) -> list[str]:
    """The ports behind a device without the filter. It takes as long as the device has ports."""
    with Netlink() as host:
        return [port.name for port in _ports_of(host, device) if not _has_one(host, port)]


def remove_behind(device: str) -> None:
    """Take the filter from the ports behind a device, but for those that were made with it."""
    with Netlink() as host:
        for port in _ports_of(host, device):
            with log.told(f"{port.name} may keep its loopback filter"):
                traffic_control.remove_filter(host, port, _LENT)


def is_possible() -> bool:
    """Whether the kernel has such filters: by trying, where nobody sees it."""
    with namespace.passing(), Netlink() as nowhere:
        nowhere.add_bridge("br0", mac=random_mac(), mtu=None)
        link = nowhere.find_link("br0")
        try:
            if link is not None:
                traffic_control.ensure_filter(nowhere, link, _LENT)
        except NetlinkError:
            return False
    return True


def _lend(host: Netlink, port: Link) -> None:
    if _has_one(host, port):
        return
    try:
        traffic_control.ensure_filter(host, port, _lent(port))
    except NetlinkError as error:
        if error.errno != errno.ENODEV:  # gone meanwhile
            raise


def _has_one(host: Netlink, port: Link) -> bool:
    filters = (_MADE_WITH_PORT, _lent(port))
    return any(traffic_control.has_filter(host, port, each) for each in filters)


def _lent(port: Link) -> Filter:
    return _LENT if port.is_ethernet else _LENT_WITHOUT_ETHERNET


def _find_port(host: Netlink, link: Link | None) -> Link | None:
    """The node's side of a container's interface that is a veth; None of another kind."""
    if link is None or link.kind != "veth" or link.peer is None:
        return None
    port = host.find_link_by_index(link.peer)
    return port if port is not None and port.peer == link.ifindex else None


def _ports_of(host: Netlink, device: str) -> list[Link]:
    """The interfaces by which packets come in to a device from outside of the node.

    That is a bridge's ports, also if the device is the bridge's gateway in a VLAN: a veth whose
    peer is a port. Another device has no ports but itself.
    """
    link = host.find_link(device)
    if link is None:
        return []
    if link.kind == "bridge":
        return host.ports(link)
    peer = host.find_link_by_index(link.peer) if link.peer and link.is_peer_here else None
    if peer is None or peer.master is None:
        return [link]
    bridge = host.find_link_by_index(peer.master)
    return [port for port in host.ports(bridge) if port.ifindex != peer.ifindex] if bridge else []
