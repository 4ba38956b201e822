"""VLANs of a bridge's ports, by rtnetlink.

A port's native VLAN (its PVID) is that of the frames without a tag, in both directions; frames of
all its other VLANs have tags. Functions raise NetlinkError, EOPNOTSUPP where the kernel is built
without bridge VLAN filtering.

Source: include/uapi/linux/{if_bridge,if_link,rtnetlink}.h, net/bridge/br_netlink.c.
"""

from __future__ import annotations

import struct

from cni import TYPE_CHECKING
from cni.namedtuple import NamedTuple
from cni.net.netlink.attributes import attribute, nested, parse, split, string, u32
from cni.net.netlink.socket import NLM_F_DUMP, Socket

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from cni.net.netlink.route import Link

# What a VLAN ID may be: 0 means a priority alone, 4095 is reserved (IEEE 802.1Q, 9.6).
LOWEST, HIGHEST = 1, 4094

_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK, _RTM_SETLINK, _RTM_GETVLAN = 16, 17, 18, 19, 114
_AF_UNSPEC, _AF_BRIDGE = 0, 7
_IFINFOMSG, _BR_VLAN_MSG = struct.Struct("=BxHiII"), struct.Struct("=BxxxI")

_IFLA_MASTER, _IFLA_LINKINFO, _IFLA_AF_SPEC, _IFLA_EXT_MASK = 10, 18, 26, 29
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _IFLA_BR_VLAN_FILTERING = 1, 2, 7
_RTEXT_FILTER_BRVLAN = 1 << 1

_IFLA_BRIDGE_VLAN_INFO = 2
_VLAN_INFO = struct.Struct("=HH")
_PVID, _UNTAGGED, _RANGE_BEGIN, _RANGE_END = 1 << 1, 1 << 2, 1 << 3, 1 << 4

_VLANDB_ENTRY, _ENTRY_INFO, _ENTRY_RANGE = 1, 1, 2


class PortVlans(NamedTuple):
    """The VLANs of a port: `native`, None if it has none, and others as ranges of their IDs."""

    native: int | None = None
    tagged: tuple[range, ...] = ()


def ranges(ids: Collection[int]) -> tuple[range, ...]:
    """IDs as ranges, as few as there can be, in order."""
    starts = sorted(vid for vid in ids if vid - 1 not in ids)
    ends = sorted(vid for vid in ids if vid + 1 not in ids)
    return tuple(range(start, end + 1) for start, end in zip(starts, ends, strict=True))


def is_filtering(host: Socket, bridge: Link) -> bool:
    """Whether the bridge keeps VLANs apart."""
    what = f"looking at {bridge.name}"
    (body,) = host.ask(_RTM_GETLINK, 0, _message(_AF_UNSPEC, bridge.ifindex), what)
    info = parse(parse(body[_IFINFOMSG.size :]).get(_IFLA_LINKINFO, b""))
    return parse(info.get(_IFLA_INFO_DATA, b"")).get(_IFLA_BR_VLAN_FILTERING) == b"\1"


def set_filtering(host: Socket, bridge: Link) -> None:
    """Have the bridge keep VLANs apart. Ports that there are go on in its default VLAN."""
    filtering = attribute(_IFLA_BR_VLAN_FILTERING, b"\1")
    kind = string(_IFLA_INFO_KIND, "bridge")
    info = nested(_IFLA_LINKINFO, kind, nested(_IFLA_INFO_DATA, filtering))
    message = _message(_AF_UNSPEC, bridge.ifindex, info)
    host.ask(_RTM_NEWLINK, 0, message, f"switching on VLAN filtering of {bridge.name}")


def remove_all(host: Socket, port: Link) -> None:
    """Take a port out of every VLAN; a new one is in its bridge's default VLAN."""
    everything = nested(_IFLA_AF_SPEC, *_range(range(LOWEST, HIGHEST + 1)))
    message = _message(_AF_BRIDGE, port.ifindex, everything)
    host.ask(_RTM_DELLINK, 0, message, f"removing the VLANs of {port.name}")


def add(host: Socket, port: Link, vlans: PortVlans) -> None:
    """Put a port into VLANs, in one message."""
    infos = [info for tagged in vlans.tagged for info in _range(tagged)]
    if vlans.native is not None:
        infos.append(_info(_PVID | _UNTAGGED, vlans.native))
    message = _message(_AF_BRIDGE, port.ifindex, nested(_IFLA_AF_SPEC, *infos))
    host.ask(_RTM_SETLINK, 0, message, f"adding VLANs to {port.name}")


def find_missing(host: Socket, port: Link, vlans: PortVlans) -> str | None:
    """What a port lacks of these VLANs, in words; None if nothing."""
    body = _BR_VLAN_MSG.pack(_AF_BRIDGE, port.ifindex)
    answers = host.ask(_RTM_GETVLAN, NLM_F_DUMP, body, f"listing the VLANs of {port.name}")
    flags = {vid: flags for answer in answers for vid, flags in _entries(answer)}
    if vlans.native is not None and flags.get(vlans.native, 0) != _PVID | _UNTAGGED:
        return f"the native VLAN {vlans.native}"
    wanted = (vid for tagged in vlans.tagged for vid in tagged)
    return next((f"the VLAN {vid}, tagged" for vid in wanted if flags.get(vid) != 0), None)


def ports_in(host: Socket, bridge: Link, vlan: int) -> list[int]:
    """The interface indices of a bridge's ports in a VLAN. Reads those of all its ports."""
    mask = u32(_IFLA_EXT_MASK, _RTEXT_FILTER_BRVLAN)
    message = _message(_AF_BRIDGE, 0, mask)
    found = []
    for body in host.ask(_RTM_GETLINK, NLM_F_DUMP, message, f"listing ports of {bridge.name}"):
        attributes = parse(body[_IFINFOMSG.size :])
        vids = (
            _VLAN_INFO.unpack(info)[1]
            for kind, info in split(attributes.get(_IFLA_AF_SPEC, b""))
            if kind == _IFLA_BRIDGE_VLAN_INFO
        )
        if attributes.get(_IFLA_MASTER) == struct.pack("=I", bridge.ifindex) and vlan in vids:
            found.append(_IFINFOMSG.unpack_from(body)[2])
    return found


def _message(family: int, index: int, *attributes: bytes) -> bytes:
    return _IFINFOMSG.pack(family, 0, index, 0, 0) + b"".join(attributes)


def _range(ids: range) -> Iterable[bytes]:
    if len(ids) == 1:
        return (_info(0, ids[0]),)
    return (_info(_RANGE_BEGIN, ids[0]), _info(_RANGE_END, ids[-1]))


def _info(flags: int, vid: int) -> bytes:
    return attribute(_IFLA_BRIDGE_VLAN_INFO, _VLAN_INFO.pack(flags, vid))


def _entries(answer: bytes) -> Iterator[tuple[int, int]]:
    """The VLAN IDs of a RTM_NEWVLAN message, each with its flags _PVID and _UNTAGGED."""
    for kind, entry in split(answer[_BR_VLAN_MSG.size :]):
        if kind == _VLANDB_ENTRY:
            fields = parse(entry)
            flags, first = _VLAN_INFO.unpack(fields[_ENTRY_INFO])
            (last,) = struct.unpack("=H", fields.get(_ENTRY_RANGE, struct.pack("=H", first))[:2])
            for vid in range(first, last + 1):
                yield vid, flags & (_PVID | _UNTAGGED)
