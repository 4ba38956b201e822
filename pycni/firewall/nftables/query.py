"""Ask nftables about one element or one chain, at a cost that does not grow with the ruleset.

libnftables reads all elements of all sets before it answers anything, so these questions are
put to the kernel directly. Source: include/uapi/linux/netfilter/{nfnetlink,nf_tables}.h.
"""

from __future__ import annotations

import errno
import struct

from cni import TYPE_CHECKING
from cni.namedtuple import NamedTuple
from cni.net import protocols
from cni.net.netlink.attributes import attribute, nested, parse, string
from cni.net.netlink.socket import NLM_F_DUMP, NetlinkError, Socket
from pycni.firewall.nftables.ruleset import Element, Field

if TYPE_CHECKING:
    from collections.abc import Iterable

NETLINK_NETFILTER = 12
_SUBSYSTEM = 10 << 8  # NFNL_SUBSYS_NFTABLES
_GETTABLE, _GETCHAIN = _SUBSYSTEM | 1, _SUBSYSTEM | 4
_GETRULE, _GETSETELEM = _SUBSYSTEM | 7, _SUBSYSTEM | 13
FAMILIES = {"inet": 1, "ip": 2, "bridge": 7, "ip6": 10}  # NFPROTO_*

_TABLE_NAME, _TABLE_USERDATA = 1, 6
_CHAIN_TABLE, _CHAIN_NAME, _CHAIN_HOOK, _CHAIN_POLICY, _CHAIN_USE = 1, 3, 4, 5, 6
_HOOK_NUMBER = 1
_NF_INET_FORWARD, _NF_DROP = struct.pack("!I", 2), struct.pack("!I", 0)
_RULE_TABLE, _RULE_CHAIN = 1, 2
ELEMENTS_TABLE, ELEMENTS_SET, ELEMENTS = 1, 2, 3
LIST_ELEMENT = 1
ELEMENT_KEY, ELEMENT_DATA = 1, 2
DATA_VALUE, DATA_VERDICT = 1, 2
VERDICT_CODE, VERDICT_CHAIN = 1, 2

# include/uapi/linux/if.h
_IFNAMSIZ = 16

# enum nft_verdicts
VERDICTS = {-3: "jump", -4: "goto"}


class Chain(NamedTuple):
    """A chain. `uses` is the number of its rules and of those that lead to it, together."""

    table: str
    name: str
    drops_by_policy: bool
    uses: int
    is_at_forward: bool


class Query(Socket):
    """A connection to the kernel's nftables, for questions about one table."""

    def __init__(self, table: str, family: str = "inet") -> None:
        super().__init__(NETLINK_NETFILTER)
        self._table = table
        self._family = FAMILIES[family]

    def has_table(self) -> bool:
        """Whether there is the table."""
        return bool(self._ask(_GETTABLE, 0, string(_TABLE_NAME, self._table)))

    def comment(self) -> str:
        """The table's comment, empty without one."""
        for answer in self._ask(_GETTABLE, 0, string(_TABLE_NAME, self._table)):
            # libnftnl's type, length, and a text that ends with a NUL (udata.h)
            data = parse(answer[4:]).get(_TABLE_USERDATA, b"")
            if data[:1] == b"\0":
                return data[2 : 2 + data[1]].rstrip(b"\0").decode(errors="replace")
        return ""

    def has(self, element: Element) -> bool:
        """Whether the element is in its set, or in its map with just this value."""
        answers = self._elements(element.holder, pack(element.key))
        return any(_value(answer) == _expected(element) for answer in answers)

    def guards(self, ifname: str) -> bool:
        """Whether the interface is in the set `localnet`."""
        return self.contains("localnet", pack_ifname(ifname))

    def contains(self, name: str, packed_key: bytes) -> bool:
        """Whether a key is in a set."""
        return bool(self._elements(name, packed_key))

    def find_chain(self, name: str) -> Chain | None:
        """The chain of this name."""
        answers = self._ask(
            _GETCHAIN, 0, string(_CHAIN_TABLE, self._table), string(_CHAIN_NAME, name)
        )
        return _parse_chain(answers[0]) if answers else None

    def all_chains(self) -> list[Chain]:
        """The chains of all tables of the family: for what is not asked for every pod."""
        return [_parse_chain(answer) for answer in self._ask(_GETCHAIN, NLM_F_DUMP)]

    def count_rules(self, chain: str) -> int:
        """How many rules a chain has; 0 also if there is no such chain."""
        return len(self.rules(chain))

    def rules(self, chain: str) -> list[bytes]:
        """A chain's rules, as the kernel writes them; none also if there is no such chain."""
        table = string(_RULE_TABLE, self._table)
        return self._ask(_GETRULE, NLM_F_DUMP, table, string(_RULE_CHAIN, chain))

    def _elements(self, name: str, packed_key: bytes) -> list[bytes]:
        key = nested(ELEMENT_KEY, attribute(DATA_VALUE, packed_key))
        return self._ask(
            _GETSETELEM,
            0,
            string(ELEMENTS_TABLE, self._table),
            string(ELEMENTS_SET, name),
            nested(ELEMENTS, nested(LIST_ELEMENT, key)),
        )

    def _ask(self, kind: int, flags: int, *attributes: bytes) -> list[bytes]:
        header = struct.pack("=BBH", self._family, 0, 0)
        try:
            return self.ask(kind, flags, header + b"".join(attributes), "asking nftables")
        except NetlinkError as error:
            if error.errno == errno.ENOENT:
                return []
            raise


# What a kernel answers that was built without nftables, or without the family's.
_NO_NFTABLES = (errno.EINVAL, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT)


def find_comment(family: str, name: str) -> str:
    """A table's comment; empty if there is none, no table, or if the kernel has no nftables."""
    try:
        with Query(name, family) as query:
            return query.comment()
    except (NetlinkError, OSError) as error:
        if error.errno in _NO_NFTABLES:
            return ""
        raise


def has_table(family: str, name: str) -> bool:
    """Whether there is a table; False also if the kernel has no nftables. Raises OSError."""
    try:
        with Query(name, family) as query:
            return query.has_table()
    except (NetlinkError, OSError) as error:
        if error.errno in _NO_NFTABLES:
            return False
        raise


def find_chain(family: str, table: str, name: str) -> Chain | None:
    """A chain of anybody's; None also if the kernel has no nftables."""
    try:
        with Query(table, family) as query:
            return query.find_chain(name)
    except (NetlinkError, OSError) as error:
        if error.errno in _NO_NFTABLES:
            return None
        raise


def _parse_chain(answer: bytes) -> Chain:
    fields = parse(answer[4:])
    hook = parse(fields.get(_CHAIN_HOOK, b""))
    (uses,) = struct.unpack("!I", fields[_CHAIN_USE])
    return Chain(
        fields[_CHAIN_TABLE].rstrip(b"\0").decode(),
        fields[_CHAIN_NAME].rstrip(b"\0").decode(),
        fields.get(_CHAIN_POLICY) == _NF_DROP,
        uses,
        hook.get(_HOOK_NUMBER) == _NF_INET_FORWARD,
    )


def pack_ifname(ifname: str) -> bytes:
    """An interface's name as the kernel compares it."""
    return ifname.encode().ljust(_IFNAMSIZ, b"\0")


def pack(fields: Iterable[Field]) -> bytes:
    """Fields as the kernel compares them: in network order, each padded to a multiple of 4."""
    packed = b""
    for field in fields:
        if isinstance(field, int):
            value = struct.pack("!H", field)
        elif isinstance(field, str):
            value = bytes([protocols.NUMBERS[field]])
        else:
            value = field.packed
        packed += value + b"\0" * (-len(value) % 4)
    return packed


def _expected(element: Element) -> bytes | tuple[str, ...] | None:
    if element.value is None:
        return None
    if isinstance(element.value, str):
        return tuple(element.value.split())
    return pack(element.value)


def _value(answer: bytes) -> bytes | tuple[str, ...] | None:
    """What an element's key leads to: packed fields, or a verdict's two words."""
    elements = parse(parse(answer[4:])[ELEMENTS])
    data = parse(parse(elements[LIST_ELEMENT]).get(ELEMENT_DATA, b""))
    if DATA_VERDICT in data:
        verdict = parse(data[DATA_VERDICT])
        (code,) = struct.unpack("!i", verdict[VERDICT_CODE])
        return VERDICTS.get(code, ""), verdict[VERDICT_CHAIN].rstrip(b"\0").decode()
    return data.get(DATA_VALUE)
