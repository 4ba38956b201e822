"""Add and delete elements of the table's sets and maps in one transaction, as nft would.

This is what an ADD or DEL does when the rest of the table is there already. It says to the kernel
just what the commands of `ruleset.add` and `ruleset.delete` say, and tests compare; but loading
libnftables, and having it parse text and list sets, takes longer than the rest of the plugin.

Source: include/uapi/linux/netfilter/{nfnetlink,nf_tables}.h, nfnetlink_rcv_batch in
net/netfilter/nfnetlink.c.
"""

from __future__ import annotations

import errno
import struct

from cni import TYPE_CHECKING
from cni.net.netlink.attributes import attribute, nested, string
from cni.net.netlink.socket import NLM_F_CREATE, NetlinkError, Socket, leave_open
from pycni.firewall.nftables import query, ruleset

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pycni.firewall.nftables.ruleset import Element, Field

_NFNL_SUBSYS_NFTABLES = 10
_NFNL_MSG_BATCH_BEGIN, _NFNL_MSG_BATCH_END = 0x10, 0x11
_NFT_MSG_DELTABLE, _NFT_MSG_NEWSETELEM, _NFT_MSG_DELSETELEM = 2, 12, 14
_TABLE_NAME = 1  # NFTA_TABLE_NAME

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
    if messages:
        _tell(messages, "changing nftables elements")


def delete_table(family: str, table: str) -> None:
    """Delete a table with all that is in it; that there is none is no error. Raises NetlinkError.

    This needs no library, so the last DEL leaves no rules where that was removed.
    """
    named = _NFGENMSG.pack(query.FAMILIES[family], 0, 0) + string(_TABLE_NAME, table)
    try:
        _tell([(_message_kind(_NFT_MSG_DELTABLE), 0, named)], f"deleting the table {table}")
    except NetlinkError as error:
        if error.errno != errno.ENOENT:
            raise


def _tell(messages: Sequence[tuple[int, int, bytes]], what: str) -> None:
    """Send a transaction. Raises NetlinkError."""
    border = _NFGENMSG.pack(0, 0, _NFNL_SUBSYS_NFTABLES)
    begin, end = (_NFNL_MSG_BATCH_BEGIN, 0, border), (_NFNL_MSG_BATCH_END, 0, border)
    connection = Socket(query.NETLINK_NETFILTER)
    leave_open(connection.close)
    connection.tell([begin, *messages, end], what)


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
