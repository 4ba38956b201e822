"""What the reference plugins left in the firewall for an attachment: checked, and removed.

An attachment that they made goes on when their executables are replaced by ours. There is no record
of it, but whatever they make is named after the attachment:

    made for             iptables chain, and the one that leads to it
    ipMasq               CNI-<hash>, from POSTROUTING
    portmap              CNI-DN-<hash>, from CNI-HOSTPORT-DNAT
    portmap, long ago    CNI-SN-<hash>, from CNI-HOSTPORT-SNAT

    made for             nftables table
    ipMasq               inet cni_plugins_masquerade: rules whose comment begins with a hash
    portmap              ip and ip6 cni_hostport: rules whose comment is the container id
    macspoofchk          bridge nat: chains cni-br-iface-<container id>-<ifname> and …-mac

What attachments share (all other chains, and the tables) stays, as after their own DEL. Source:
the reference plugins v1.1.1 and v1.9.1: pkg/utils, pkg/ip, pkg/link, plugins/meta/portmap.
"""

from __future__ import annotations

from functools import partial
from operator import itemgetter

from cni import TYPE_CHECKING
from cni.errors import CheckFailed, run_all
from cni.namedtuple import NamedTuple
from cni.net.addresses import IPAddress
from cni.request import Attachment
from pycni.firewall.entries import (
    Entry,
    HostPort,
    MacGuard,
    Masquerade,
    SourceNat,
    Translation,
    split,
)
from pycni.migrate.legacy import LegacyRule, LegacyRules
from pycni.migrate.rules import Chain, Rule, Rules

try:  # hashlib would load OpenSSL, which takes longer than all that is done here
    from _sha2 import sha512  # type: ignore[import-not-found]
except ImportError:
    from _sha512 import sha512  # type: ignore[import-not-found]

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from typing import Any, Protocol

    class _Tables(Protocol):
        """nftables, or what iptables had before it."""

        def has(self, chain: Chain) -> bool: ...
        def of(self, chain: Chain) -> Sequence[Rule | LegacyRule]: ...
        def delete(self, rules: Sequence[Any], chains: Sequence[Chain]) -> None: ...


_FAMILIES = {4: "ip", 6: "ip6"}
_ENTRIES = {"CNI-": "POSTROUTING", "CNI-DN-": "CNI-HOSTPORT-DNAT", "CNI-SN-": "CNI-HOSTPORT-SNAT"}
_PREFIXES = {"bridge": ("CNI-",), "portmap": ("CNI-DN-", "CNI-SN-")}

_MASQUERADING = Chain("inet", "cni_plugins_masquerade", "masq_checks")
_SPOOFING = Chain("bridge", "nat", "PREROUTING")


class _Need(NamedTuple):
    """So many rules that a chain has to have: those that fit all that is given."""

    chain: Chain
    target: str | None = None
    address: IPAddress | None = None
    mark: str | None = None
    number: int = 1

    def is_met(self, tables: _Tables) -> bool:
        fitting = [
            rule
            for rule in tables.of(self.chain)
            if (self.target is None or rule.target == self.target)
            and (self.address is None or rule.mentions(self.address))
            and (self.mark is None or _mark(rule) == self.mark)
        ]
        return len(fitting) >= self.number

    def __str__(self) -> str:
        words = [f"{self.chain} has fewer than {self.number} rules"]
        words += [f"to {self.target}"] if self.target else []
        words += [f"with {self.address}"] if self.address else []
        words += [f'commented "{self.mark}"'] if self.mark else []
        return " ".join(words)


# Removing


def remove(owner: Attachment, plugin: str) -> None:
    """Remove what the reference plugin of that name left, if anything.

    Raises CniError, at the end, for what cannot be removed.
    """
    container = owner.network, owner.container_id
    with Rules() as nftables:
        steps: list[Callable[[], object]] = [
            partial(_remove_chains, nftables, prefix, *container) for prefix in _PREFIXES[plugin]
        ]
        if plugin == "bridge":
            steps.append(partial(_remove_marked, nftables, [_MASQUERADING], _instance(owner)))
            steps.append(partial(_remove_own, nftables, _SPOOFING, _spoof_chains(owner)))
        else:
            for family in _FAMILIES.values():
                chains = _hostport_chains(family)
                steps.append(partial(_remove_marked, nftables, chains, owner.container_id))
        run_all(steps)


def remove_stale(network: str, valid: Collection[Attachment], plugin: str) -> None:
    """Remove what it left for attachments to the network that are not valid.

    Of portmap's nftables rules nobody can tell which network they were made for, so they stay.
    """
    ids = {owner.container_id for owner in valid}
    with Rules() as nftables:
        prefix = _PREFIXES[plugin][0]
        stale = _find_containers(nftables, prefix, network) - ids
        if stale:
            ways: list[_Tables] = [nftables, LegacyRules()]
            run_all(
                partial(_remove_many, tables, prefix, family, network, sorted(stale))
                for tables in ways
                for family in _FAMILIES.values()
            )
        if plugin == "bridge":
            marks = {_instance(owner) for owner in valid}
            start = f"{_hash('', 16, network)}-"
            rules = [
                rule
                for rule in nftables.of(_MASQUERADING)
                if _mark(rule).startswith(start) and _mark(rule) not in marks
            ]
            nftables.delete(rules, [])


def _remove_chains(nftables: Rules, prefix: str, network: str, container_id: str) -> None:
    """Remove an attachment's iptables chains, of either kind and family, and what leads to them."""
    tables: _Tables
    for tables in (nftables, LegacyRules()):
        for family in _FAMILIES.values():
            chain = _chain(prefix, family, network, container_id)
            _remove_own(tables, _entry(prefix, family), [chain])


def _remove_many(
    tables: _Tables, prefix: str, family: str, network: str, container_ids: Sequence[str]
) -> None:
    """The same for many containers and one family; what leads to their chains is listed once."""
    leading: dict[str | None, list[Any]] = {}
    for rule in tables.of(_entry(prefix, family)):
        leading.setdefault(rule.target, []).append(rule)
    chains = [_chain(prefix, family, network, container_id) for container_id in container_ids]
    run_all(
        partial(tables.delete, leading.get(chain.name, ()), [chain])
        for chain in chains
        if tables.has(chain)
    )


def _remove_own(tables: _Tables, entry: Chain, chains: Sequence[Chain]) -> None:
    """Remove chains, as far as they are there, and the rules of `entry` that lead to the first."""
    found = [chain for chain in chains if tables.has(chain)]
    if found:
        leading = [rule for rule in tables.of(entry) if rule.target == chains[0].name]
        tables.delete(leading, found)


def _remove_marked(nftables: Rules, chains: Sequence[Chain], mark: str) -> None:
    rules = [rule for chain in chains for rule in nftables.of(chain) if _mark(rule) == mark]
    nftables.delete(rules, [])


def _find_containers(nftables: Rules, prefix: str, network: str) -> set[str]:
    """The containers that rules to iptables chains tell of, each proved by its chain's name."""
    start = f'name: "{network}" id: "'.encode()
    found = set()
    tables: _Tables
    for tables in (nftables, LegacyRules()):
        for family in _FAMILIES.values():
            for rule in tables.of(_entry(prefix, family)):
                # iptables-save puts a backslash before a quote.
                rest = rule.expressions.replace(b"\\", b"").partition(start)[2]
                container_id = rest.partition(b'"')[0].decode(errors="replace")
                if rule.target == _chain(prefix, family, network, container_id).name:
                    found.add(container_id)
    return found


# Checking


def check(owner: Attachment, plugin: str, entries: Sequence[Entry]) -> None:
    """Raise CheckFailed if their rules do not carry out all of the entries, with what is missing.

    Rules are counted, and addresses looked for in them; their ports are not compared.
    """
    failures: list[tuple[int, Entry, _Need]] = []
    _, translations = split(entries)
    with Rules() as nftables:
        for guard in entries:
            for need in _spoof_needs(owner) if isinstance(guard, MacGuard) else ():
                if not need.is_met(nftables):
                    raise _failure(plugin, guard, need)
        ways = (
            (nftables, _iptables_needs),
            (LegacyRules(), _iptables_needs),
            (nftables, _nftables_needs),
        )
        for tables, needs_of in ways:
            needs = [
                (like[0], need) for like in _alike(translations) for need in needs_of(owner, like)
            ]
            unmet = [(entry, need) for entry, need in needs if not need.is_met(tables)]
            if not unmet:
                return
            failures.append((len(needs) - len(unmet), *unmet[0]))
    # The way by which most is there is the one that was meant.
    _, entry, need = max(failures, key=itemgetter(0))
    raise _failure(plugin, entry, need)


def _failure(plugin: str, entry: Entry, need: _Need) -> CheckFailed:
    return CheckFailed(
        f"{plugin}: {entry} is not recorded",
        f"nor do rules of the reference plugins carry it out: {need}",
    )


def publishes_ports() -> bool:
    """Whether the reference plugins publish a port of a pod on the node's IPv4 addresses."""
    chains = (_entry("CNI-DN-", "ip"), _hostport_chains("ip")[0])
    with Rules() as nftables:
        return any(map(nftables.of, chains)) or any(LegacyRules().of(chains[0]))


def _alike(entries: Sequence[Translation]) -> list[list[Translation]]:
    """The entries by kind and address: a pod publishes ports of one address of a family."""
    groups: dict[tuple[type[Translation], object], list[Translation]] = {}
    for entry in entries:
        groups.setdefault((type(entry), entry.address), []).append(entry)
    return list(groups.values())


def _iptables_needs(owner: Attachment, entries: Sequence[Translation]) -> Iterator[_Need]:
    """What carries out entries that are alike."""
    first, number = entries[0], len(entries)
    family = _FAMILIES[first.address.version]
    if isinstance(first, Masquerade):
        chain = _chain("CNI-", family, owner.network, owner.container_id)
        yield _Need(_entry("CNI-", family), chain.name, first.address.ip)
        yield _Need(chain, number=2)
        return
    chain = _chain("CNI-DN-", family, owner.network, owner.container_id)
    shared = _entry("CNI-DN-", family)
    for hook in ("PREROUTING", "OUTPUT"):
        yield _Need(Chain(family, "nat", hook), shared.name)
    yield _Need(shared, chain.name)
    if isinstance(first, HostPort):
        yield _Need(chain, address=first.address, number=number)
    else:
        # A rule that marks what is to be masqueraded goes before each one that redirects.
        yield _Need(chain, number=2 * number)


def _nftables_needs(owner: Attachment, entries: Sequence[Translation]) -> Iterator[_Need]:
    """The same for their other backend."""
    first, number = entries[0], len(entries)
    if isinstance(first, Masquerade):
        yield _Need(_MASQUERADING._replace(name="postrouting"), _MASQUERADING.name)
        yield _Need(_MASQUERADING, address=first.address.ip, mark=_instance(owner))
        return
    hostports, _, masquerading = _hostport_chains(_FAMILIES[first.address.version])
    if isinstance(first, SourceNat):
        yield _Need(masquerading, address=first.address.ip, mark=owner.container_id)
        return
    every = hostports._replace(name="hostports_all")
    for hook in ("prerouting", "output"):
        yield _Need(hostports._replace(name=hook), every.name)
    yield _Need(every, hostports.name)
    yield _Need(hostports, address=first.address, mark=owner.container_id, number=number)


def _spoof_needs(owner: Attachment) -> Iterator[_Need]:
    """What drops frames with another MAC address than the container's."""
    jump, addresses = _spoof_chains(owner)
    yield _Need(_SPOOFING, jump.name)
    yield _Need(jump, addresses.name)
    yield _Need(addresses, number=2)


# Names


def _chain(prefix: str, family: str, network: str, container_id: str) -> Chain:
    return Chain(family, "nat", _hash(prefix, 28, network + container_id))


def _entry(prefix: str, family: str) -> Chain:
    return Chain(family, "nat", _ENTRIES[prefix])


def _hostport_chains(family: str) -> list[Chain]:
    names = ("hostports", "hostip_hostports", "masquerading")
    return [Chain(family, "cni_hostport", name) for name in names]


def _spoof_chains(owner: Attachment) -> list[Chain]:
    name = f"cni-br-iface-{owner.container_id}-{owner.ifname}"
    return [_SPOOFING._replace(name=name), _SPOOFING._replace(name=f"{name}-mac")]


def _instance(owner: Attachment) -> str:
    """What the comments of an attachment's masquerade rules begin with."""
    network = _hash("", 16, owner.network)
    return f"{network}-{_hash('', 16, f'{owner.ifname}:{owner.container_id}')}"


def _mark(rule: Rule | LegacyRule) -> str:
    """A comment without what is there for people to read."""
    return rule.comment.partition(",")[0]


def _hash(prefix: str, length: int, text: str) -> str:
    digest: str = sha512(text.encode()).hexdigest()
    return f"{prefix}{digest}"[:length]
