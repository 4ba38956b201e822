"""Add and delete elements of the table's sets and maps in one transaction, as nft would.

This is what an ADD or DEL does when the rest of the table is there already. It says to the kernel
just what the commands of `ruleset.add` and `ruleset.delete` say, and tests compare; but loading
libnftables, and having it parse text and list sets, takes longer than the rest of the plugin.

Source: include/uapi/linux/netfilter/{nfnetlink,nf_tables}.h, nfnetlink_rcv_batch in
net/netfilter/nfnetlink.c.
"""

from __future__ import annotations

import struct

from cni import TYPE_CHECKING
from cni.net.netlink.attributes import attribute, nested, string
from cni.net.netlink.socket import NLM_F_CREATE, Socket, leave_open
from pycni.firewall.nftables import query, ruleset

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pycni.firewall.nftables.ruleset import Element, Field

_NFNL_SUBSYS_NFTABLES = 10
_NFNL_MSG_BATCH_BEGIN, _NFNL_MSG_BATCH_END = 0x10, 0x11
_NFT_MSG_NEWSETELEM, _NFT_MSG_DELSETELEM = 12, 14

# struct nfgenmsg: family, version, resource
_NFGENMSG = struct.Struct("!BBH")
_VERDICT_CODES = {word: struct.pack("!i", code) for code, word in query.VERDICTS.items()}


def change(table: str, deleted: Iterable[Element], added: Iterable[Element]) -> None:
    """Delete and add elements of a table of family inet, all or none, see `Socket.tell`.

    Raises NetlinkError: ENOENT for an element to delete, a map, a chain or a table that is
    missing, EBUSY for a key to add that leads somewhere else.
    """
    messages = [
        (_message_kind(_NFT_MSG_DELSETELEM), 0, _message(table, holder, items, with_value=False))
        for holder, items in ruleset.by_holder(deleted)
    ] + [
        (
            _message_kind(_NFT_MSG_NEWSETELEM),
            NLM_F_CREATE,
            _message(table, holder, items, with_value=True),
        )
        for holder, items in ruleset.by_holder(added)
    ]
    if not messages:
        return
    border = _NFGENMSG.pack(0, 0, _NFNL_SUBSYS_NFTABLES)
    begin, end = (_NFNL_MSG_BATCH_BEGIN, 0, border), (_NFNL_MSG_BATCH_END, 0, border)
    connection = Socket(query.NETLINK_NETFILTER)
    leave_open(connection.close)
    connection.tell([begin, *messages, end], "changing nftables elements")


def _message_kind(kind: int) -> int:
    return _NFNL_SUBSYS_NFTABLES << 8 | kind


def _message(table: str, holder: str, items: Iterable[Element], *, with_value: bool) -> bytes:
    elements = (_element(item, with_value=with_value) for item in items)
    return (
        _NFGENMSG.pack(query.FAMILIES["inet"], 0, 0)
        + string(query.ELEMENTS_TABLE, table)
        + string(query.ELEMENTS_SET, holder)
        + nested(query.ELEMENTS, *elements)
    )


def _element(item: Element, *, with_value: bool) -> bytes:
    key = nested(query.ELEMENT_KEY, attribute(query.DATA_VALUE, query.pack(item.key)))
    value = b""
    if with_value and item.value is not None:
        value = nested(query.ELEMENT_DATA, _data(item.value))
    return nested(query.LIST_ELEMENT, key, value)


def _data(value: tuple[Field, ...] | str) -> bytes:
    if not isinstance(value, str):
        return attribute(query.DATA_VALUE, query.pack(value))
    word, chain = value.split()
    code = attribute(query.VERDICT_CODE, _VERDICT_CODES[word])
    return nested(query.DATA_VERDICT, code, string(query.VERDICT_CHAIN, chain))
