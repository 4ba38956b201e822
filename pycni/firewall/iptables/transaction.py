"""What one iptables-restore has to do to a table: pure functions to the lines that it reads.

Lines that expect a rule (`-C`) stand beside those that change something, so that nothing is changed
where something is missing.
"""

from __future__ import annotations

from cni import TYPE_CHECKING
from pycni.firewall.iptables import chains
from pycni.firewall.iptables.chains import discard, empty

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from cni.net.addresses import IPNetwork
    from pycni.firewall.iptables.chains import Rule
    from pycni.firewall.static import Static
    from pycni.firewall.vocabulary import EntryUpdate, PluginEntries

# The tables that we have chains in. 127.0.0.0/8, which raw is for, has no IPv6 counterpart.
TABLES = {4: ("raw", "nat"), 6: ("nat",)}

_STATIC_CHAINS = (chains.HOSTPORTS, chains.SOURCENAT, chains.MASQUERADE)


# A change


def static_changes(known: Static, wanted: Static, version: int) -> list[str]:
    """Expect the static part of nat, and add to it what more is wanted."""
    old, new = known.mark_bits, wanted.mark_bits - known.mark_bits
    there = [*chains.jumps(version), *chains.source_nat(old)]
    return [*(rule.want for rule in there), *(rule.put for rule in chains.source_nat(new))]


def network_changes(known: Static, wanted: Static, network: str, version: int) -> list[str]:
    """Make a network's chain anew, expect it, or delete it."""
    had, has = (_subnets(static, network, version) for static in (known, wanted))
    jump = chains.network_jump(network, version)
    rules = chains.network_rules(network, version, has)
    if not had and not has:
        return []
    if not has:
        return [jump.drop, *discard(jump.target)]
    if had == has:
        return [rule.want for rule in (jump, *rules)]
    entrance = jump.want if had else jump.put
    return [empty(jump.target), *(rule.put for rule in rules), entrance]


def attachment_changes(change: EntryUpdate, version: int) -> list[str]:
    """Make an attachment's chains, and the rules that lead to them, anew, or delete them.

    A chain is complete before anything leads to it, also where this takes several transactions.
    """
    owner, plugin, before, after = change
    old, new = (chains.attachment_jumps(owner, plugin, each, version) for each in (before, after))
    rules = chains.attachment_rules(owner, plugin, after, version)
    if set(before) == set(after):
        return [rule.want for rule in (*rules, *new)]
    has = dict.fromkeys(rule.target for rule in new)
    gone = dict.fromkeys(rule.target for rule in old if rule.target not in has)
    return [
        *(rule.drop for rule in old),
        *map(empty, has),
        *(rule.put for rule in rules),
        *(rule.put for rule in new),
        *(line for chain in gone for line in discard(chain)),
    ]


def guard_changes(known: Static, wanted: Static) -> list[str]:
    """Expect the guard, and have it guard what more is wanted."""
    if not wanted.localnet:
        return []
    more = [rule.put for rule in chains.guard(wanted.localnet - known.localnet)]
    if not known.localnet:
        return [empty(chains.LOCALNET), *more, chains.guard_jump().put]
    there = [*chains.guard(known.localnet), chains.guard_jump()]
    return [*(rule.want for rule in there), *more]


# All anew


def rebuilt(
    wanted: Static, shares: Sequence[PluginEntries], version: int, listing: str
) -> list[str]:
    """Make all of nat's rules anew, and delete chains that nobody needs."""
    rules = [*chains.jumps(version), *chains.source_nat(wanted.mark_bits)]
    for network in wanted.subnets:
        nets = _subnets(wanted, network, version)
        if nets:
            rules += chains.network_rules(network, version, nets)
            rules.append(chains.network_jump(network, version))
    for owner, plugin, entries in shares:
        rules += chains.attachment_rules(owner, plugin, entries, version)
        rules += chains.attachment_jumps(owner, plugin, entries, version)
    return _replaced(rules, _STATIC_CHAINS, listing)


def rebuilt_guard(wanted: Static, listing: str) -> list[str]:
    """Make raw's rules anew."""
    if not wanted.localnet:
        return everything_removed(listing)
    return _replaced([*chains.guard(wanted.localnet), chains.guard_jump()], (), listing)


def everything_removed(listing: str) -> list[str]:
    """Delete all our chains of a table, and what leads to them."""
    return _replaced([], (), listing)


def _replaced(rules: Sequence[Rule], more_chains: Iterable[str], listing: str) -> list[str]:
    """Have these rules, and no others, in chains of ours and in front of them."""
    ours = {rule.chain for rule in rules if rule.chain.startswith(chains.PREFIX)}
    wanted = dict.fromkeys((*more_chains, *sorted(ours)))
    unwanted = [chain for chain in chains.listed_chains(listing) if chain not in wanted]
    return [
        *chains.listed_jumps(listing),
        *map(empty, (*wanted, *unwanted)),
        *(rule.put for rule in rules),
        *(f"-X {chain}" for chain in unwanted),
    ]


# What there should be


def expected(known: Static, share: PluginEntries, version: int) -> list[Rule]:
    """The rules of nat by which what an attachment has is in force."""
    owner, plugin, entries = share
    rules = chains.attachment_rules(owner, plugin, entries, version)
    if any(address.version == version for address in chains.masqueraded(entries)):
        network = owner.network
        nets = _subnets(known, network, version)
        rules += chains.network_rules(network, version, nets)
        rules.append(chains.network_jump(network, version))
    rules += chains.source_nat(known.mark_bits)
    rules += chains.attachment_jumps(owner, plugin, entries, version)
    return [*rules, *chains.jumps(version)]


def expected_guard(localnet: Collection[str]) -> list[Rule]:
    """The rules of raw."""
    return [*chains.guard(localnet), chains.guard_jump()] if localnet else []


def _subnets(static: Static, network: str, version: int) -> set[IPNetwork]:
    nets = static.subnets.get(network, frozenset())
    return {subnet for subnet in nets if subnet.version == version}
