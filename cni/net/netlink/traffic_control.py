"""Filters at an interface's ingress, by rtnetlink's traffic control: classic BPF, direct action.

A filter sees each packet when it has come in by the interface, before a bridge or IP does; its
program's return value is the packet's fate. A flush of nftables or iptables leaves it alone; it
goes with its interface. No compiler and no bpf(2) is needed, and a user namespace's root may add
one.

The filters are in the qdisc `clsact`, which an interface has once, for everybody's filters: so it
is made if it is missing, and never removed. Functions raise NetlinkError, ENOENT or EOPNOTSUPP
where the kernel is built without it (CONFIG_NET_SCH_INGRESS) or without CONFIG_NET_CLS_BPF.

Source: include/uapi/linux/{rtnetlink,pkt_sched,pkt_cls,filter}.h, net/sched/cls_bpf.c, tc-bpf(8).
"""

from __future__ import annotations

import errno
import struct

from cni import TYPE_CHECKING
from cni.namedtuple import NamedTuple
from cni.net.netlink.attributes import attribute, nested, parse, parse_u32, string, u32
from cni.net.netlink.socket import NLM_F_CREATE, NLM_F_EXCL, NetlinkError, Socket

if TYPE_CHECKING:
    from cni.net.netlink.route import Link

# What a program returns: packets pass to the next filter (TC_ACT_UNSPEC), or are dropped.
CONTINUE, DROP = 0xFFFFFFFF, 2

_RTM_NEWQDISC, _RTM_NEWTFILTER, _RTM_DELTFILTER, _RTM_GETTFILTER = 36, 44, 45, 46

# struct tcmsg: family, ifindex, handle, parent, info
_TCMSG = struct.Struct("=BxxxiIII")
_TCA_KIND, _TCA_OPTIONS = 1, 2
_CLSACT_HANDLE, _CLSACT_PARENT, _INGRESS = 0xFFFF0000, 0xFFFFFFF1, 0xFFFFFFF2

_TCA_BPF_OPS_LEN, _TCA_BPF_OPS, _TCA_BPF_FLAGS = 4, 5, 8
_TCA_BPF_FLAG_ACT_DIRECT = 1

# struct sock_filter: code, jump if true, jump if false, constant
_SOCK_FILTER = struct.Struct("=HBBI")

# In network byte order, as tcm_info has it.
_ETH_P_ALL = struct.unpack("=H", struct.pack("!H", 3))[0]

# ENOENT: no such filter. EINVAL: no filter at all can be there, as there is no qdisc for any.
_ABSENT = (errno.ENOENT, errno.EINVAL)


class Filter(NamedTuple):
    """A filter of ours. Handle and preference tell it from others'; the name is for messages, as
    the kernel keeps none of a program in classic BPF.

    Filters of a lower `preference` see a packet first. `program` is instructions of classic BPF,
    each with its code, its two jumps and its constant.
    """

    handle: int
    preference: int
    name: str
    program: tuple[tuple[int, int, int, int], ...]


def ensure_filter(host: Socket, link: Link, wanted: Filter) -> None:
    """Have the filter at the interface's ingress, in place of an older one of the same handle.

    Raises NetlinkError, EINVAL if another kind of filter has its preference.
    """
    what = f"adding the filter {wanted.name} to {link.name}"
    qdisc = _TCMSG.pack(0, link.ifindex, _CLSACT_HANDLE, _CLSACT_PARENT, 0)
    qdisc += string(_TCA_KIND, "clsact")
    try:
        host.ask(_RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, qdisc, what)
    except NetlinkError as error:
        if error.errno != errno.EEXIST:  # it may also be `ingress`, which has filters, too
            raise
    options = nested(
        _TCA_OPTIONS,
        attribute(_TCA_BPF_OPS_LEN, struct.pack("=H", len(wanted.program))),
        attribute(_TCA_BPF_OPS, _pack(wanted)),
        u32(_TCA_BPF_FLAGS, _TCA_BPF_FLAG_ACT_DIRECT),
    )
    host.ask(_RTM_NEWTFILTER, NLM_F_CREATE, _message(link, wanted) + options, what)


def has_filter(host: Socket, link: Link, wanted: Filter) -> bool:
    """Whether the filter is there, with just this program."""
    what = f"looking for the filter {wanted.name} of {link.name}"
    try:
        (body,) = host.ask(_RTM_GETTFILTER, 0, _message(link, wanted), what)
    except NetlinkError as error:
        if error.errno in _ABSENT:
            return False
        raise
    options = parse(parse(body[_TCMSG.size :]).get(_TCA_OPTIONS, b""))
    is_direct = _TCA_BPF_FLAGS in options and parse_u32(options[_TCA_BPF_FLAGS]) & 1
    return bool(is_direct) and options.get(_TCA_BPF_OPS) == _pack(wanted)


def remove_filter(host: Socket, link: Link, unwanted: Filter) -> bool:
    """Take the filter away, whatever its program. False if it is not there."""
    what = f"removing the filter {unwanted.name} from {link.name}"
    try:
        host.ask(_RTM_DELTFILTER, 0, _message(link, unwanted), what)
    except NetlinkError as error:
        if error.errno in _ABSENT:
            return False
        raise
    return True


def _message(link: Link, filter_: Filter) -> bytes:
    info = filter_.preference << 16 | _ETH_P_ALL
    header = _TCMSG.pack(0, link.ifindex, filter_.handle, _INGRESS, info)
    return header + string(_TCA_KIND, "bpf")


def _pack(filter_: Filter) -> bytes:
    return b"".join(_SOCK_FILTER.pack(*instruction) for instruction in filter_.program)
