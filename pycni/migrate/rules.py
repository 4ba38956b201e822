"""Rules of any nftables table, whoever made them: found by their chain, deleted by their handle.

The rules of iptables-nft are among them. They are written in expressions that only iptables knows
how to read, but to find where a rule leads, and to delete it, nobody has to read them. So this
needs neither iptables nor libnftables, and its cost grows with the chains that are asked for only.

Source: include/uapi/linux/netfilter/{nfnetlink,nf_tables}.h; for comments, libnftnl/udata.h.
"""

from __future__ import annotations

import errno
import struct

from cni import TYPE_CHECKING
from cni.namedtuple import NamedTuple
from cni.net.addresses import IPAddress
from cni.net.netlink.attributes import attribute, parse, parse_list, string
from cni.net.netlink.socket import NLM_F_DUMP, NetlinkError, Socket

if TYPE_CHECKING:
    from collections.abc import Iterable

_NETLINK_NETFILTER = 12
_NFNL_SUBSYS_NFTABLES = 10
_BATCH_BEGIN, _BATCH_END = 16, 17
_SUBSYSTEM = _NFNL_SUBSYS_NFTABLES << 8
_GETCHAIN, _DELCHAIN, _GETRULE, _DELRULE = (_SUBSYSTEM | kind for kind in (4, 5, 7, 8))
_FAMILIES = {"inet": 1, "ip": 2, "bridge": 7, "ip6": 10}

_CHAIN_TABLE, _CHAIN_NAME = 1, 3
_RULE_TABLE, _RULE_CHAIN, _RULE_HANDLE, _RULE_EXPRESSIONS, _RULE_USERDATA = 1, 2, 3, 4, 7
_EXPRESSION_NAME, _EXPRESSION_DATA = 1, 2
_IMMEDIATE_DATA = 2
_DATA_VERDICT = 2
_VERDICT_CHAIN = 2
_UDATA_COMMENT = 0

# How the kernel says that there is no such chain, no such family or no nftables at all; and that
# there can be none, as this process has no right to a firewall.
_NONE = (errno.ENOENT, errno.EAFNOSUPPORT, errno.EINVAL, errno.EPERM)


# The kernel's NFT_NAME_MAXLEN is 256, with the NUL: of longer names there is nothing to be found.
_LONGEST_NAME = 255


class Chain(NamedTuple):
    """A chain; `family` is ip, ip6, inet or bridge."""

    family: str
    table: str
    name: str

    def __str__(self) -> str:
        return f"the chain {self.name} of table {self.family} {self.table}"


class Rule(NamedTuple):
    """A rule. `target` is the chain that it jumps or goes to; `comment` is nft's, not iptables'."""

    chain: Chain
    handle: bytes
    target: str | None
    comment: str
    expressions: bytes

    def mentions(self, address: IPAddress) -> bool:
        """Whether the address, in network order, is among what the rule compares or sets."""
        return address.packed in self.expressions


class Rules(Socket):
    """A connection to the kernel's nftables. Raises NetlinkError for what it refuses."""

    def __init__(self) -> None:
        super().__init__(_NETLINK_NETFILTER)

    def has(self, chain: Chain) -> bool:
        """Whether there is such a chain."""
        if len(chain.name) > _LONGEST_NAME:
            return False
        try:
            self.ask(_GETCHAIN, 0, _name(chain), f"looking for {chain}")
        except NetlinkError as error:
            if error.errno in _NONE:
                return False
            raise
        return True

    def of(self, chain: Chain) -> list[Rule]:
        """The rules of a chain, in their order; none if there is no such chain."""
        if len(chain.name) > _LONGEST_NAME:
            return []
        try:
            bodies = self.ask(_GETRULE, NLM_F_DUMP, _rule(chain), f"listing {chain}")
        except NetlinkError as error:
            if error.errno in _NONE:
                return []
            raise
        return [_parse_rule(chain, body) for body in bodies]

    def delete(self, rules: Iterable[Rule], chains: Iterable[Chain]) -> None:
        """Delete rules, and chains with all that is in them, in one transaction.

        Raises NetlinkError, ENOENT if one of them is gone, EBUSY if a rule that stays leads to one
        of the chains; then nothing was deleted.
        """
        chains = list(chains)
        requests = [
            (_DELRULE, _rule(rule.chain) + attribute(_RULE_HANDLE, rule.handle)) for rule in rules
        ]
        requests += [(_DELRULE, _rule(chain)) for chain in chains]
        requests += [(_DELCHAIN, _name(chain)) for chain in chains]
        if not requests:
            return
        limit = struct.pack("!BBH", 0, 0, _NFNL_SUBSYS_NFTABLES)
        batch = [(kind, 0, payload) for kind, payload in requests]
        self.tell([(_BATCH_BEGIN, 0, limit), *batch, (_BATCH_END, 0, limit)], "deleting rules")


def _header(chain: Chain) -> bytes:
    return struct.pack("=BBH", _FAMILIES[chain.family], 0, 0)


def _name(chain: Chain) -> bytes:
    return _header(chain) + string(_CHAIN_TABLE, chain.table) + string(_CHAIN_NAME, chain.name)


def _rule(chain: Chain) -> bytes:
    return _header(chain) + string(_RULE_TABLE, chain.table) + string(_RULE_CHAIN, chain.name)


def _parse_rule(chain: Chain, body: bytes) -> Rule:
    attributes = parse(body[4:])
    expressions = attributes.get(_RULE_EXPRESSIONS, b"")
    return Rule(
        chain,
        attributes[_RULE_HANDLE],
        _find_target(expressions),
        _find_comment(attributes.get(_RULE_USERDATA, b"")),
        expressions,
    )


def _find_target(expressions: bytes) -> str | None:
    for expression in map(parse, parse_list(expressions)):
        if expression[_EXPRESSION_NAME] != b"immediate\0":
            continue
        data = parse(parse(expression[_EXPRESSION_DATA]).get(_IMMEDIATE_DATA, b""))
        target = parse(data.get(_DATA_VERDICT, b"")).get(_VERDICT_CHAIN)
        if target is not None:
            return target.rstrip(b"\0").decode()
    return None


def _find_comment(userdata: bytes) -> str:
    """Userdata is a sequence of a type, a length, both of a byte, and so many bytes."""
    while len(userdata) > 2:
        kind, length = userdata[:2]
        if kind == _UDATA_COMMENT:
            return userdata[2 : 2 + length].rstrip(b"\0").decode(errors="replace")
        userdata = userdata[2 + length :]
    return ""
