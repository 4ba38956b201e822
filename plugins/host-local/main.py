"""host-local: lease addresses from ranges of this node's own.

State: files in `<dataDir>/<network>`, one for each leased address; the reference plugin's format,
see store.py. Nothing in the kernel, so no verb looks at the namespace.

Limits: leases are the node's own, so nodes need ranges that do not overlap. A lease that the
reference plugin made stays until its DEL, even over a reboot.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from functools import partial

import cni
from cni import TYPE_CHECKING, log
from cni.errors import IOFailure, run_all
from cni.net.addresses import IPAddress
from cni_plugins.host_local.config import parse_requested, parse_routes, read_dns
from cni_plugins.host_local.ranges import Catalogue, RangeSet, parse_range_sets
from pycni.state import attachments, files
from pycni.state.leases import Lease, Store, find_directory, locked, require_writable

if TYPE_CHECKING:
    from typing import NoReturn


def add(request: cni.Add) -> cni.Result:
    """Lease one address of each range set."""
    sets = parse_range_sets(request.config, request.version)
    requested = parse_requested(request, sets)
    result = cni.Result(routes=parse_routes(request.config), dns=read_dns(request.config))
    with locked(find_directory(request), create=True) as store, ExitStack() as rollback:
        _require_no_lease(store, request.owner)
        for ranges in sets:
            address = _lease(store, ranges, requested.get(ranges.number), request.owner)
            rollback.callback(store.release, address)
            store.remember_last(ranges.number, address)
            result = result._replace(ips=(*result.ips, ranges.describe(address)))
        request.require_reader()
        rollback.pop_all()
    return result


def check(request: cni.Check) -> None:
    """Find out whether the addresses are still leased to the attachment.

    Addresses in prevResult that no range offers are other plugins' business.
    """
    sets = parse_range_sets(request.config, request.version)
    directory = find_directory(request)
    store = Store(directory)
    leases = [lease for lease in store.find_owned(request.owner) if not store.is_over(lease)]
    if not leases:
        who = attachments.describe(request.owner, request.pod)
        raise cni.CheckFailed(f"{who} has no lease", f"looked in {directory}")
    leased = {lease.address for lease in leases}
    catalogue = Catalogue(sets)
    for address in (ip.address.ip for ip in request.prev_result.ips):
        if address not in leased and catalogue.find(address):
            who = attachments.describe(request.owner, request.pod)
            holder = _describe(store.find_lease(address), request.network)
            raise cni.CheckFailed(f"{address} is not leased to {who}", f"it is leased to {holder}")


def delete(request: cni.Delete) -> None:
    """Release all that the attachment has, in whatever range it is."""
    directory = find_directory(request)
    if not files.is_directory(directory) or not Store(directory).find_owned(request.owner):
        return  # nothing is written then, not even a lock
    # The stack goes on past a release that fails, and raises that failure at its end.
    with locked(directory) as store, ExitStack() as releases:
        for lease in store.find_owned(request.owner):
            releases.callback(store.release, lease.address)


def gc(request: cni.Gc) -> None:
    """Release what the runtime's attachments do not hold, whatever the ranges say."""
    directory = find_directory(request)
    valid = {(owner.container_id, owner.ifname) for owner in request.valid}
    valid |= {(owner.container_id, "") for owner in request.valid}  # leases of an old version

    def is_stale(lease: Lease) -> bool:
        return lease.container_id != "" and (lease.container_id, lease.ifname) not in valid

    if not files.is_directory(directory) or not any(map(is_stale, Store(directory).leases())):
        return
    with locked(directory) as store:
        stale = filter(is_stale, store.leases())
        run_all(partial(store.release, lease.address) for lease in stale)


def status(request: cni.Status) -> None:
    """Say whether an address could be leased.

    That none is left is a failure only where it is configured: a runtime may take STATUS for the
    node's readiness (kubelet does), and the pods that have all the addresses are well.
    """
    sets = parse_range_sets(request.config, request.version)
    directory = find_directory(request)
    try:
        read_dns(request.config)
        require_writable(directory)
    except IOFailure as error:
        raise cni.NotAvailable(error.message, error.details) from None
    store = Store(directory)
    for ranges in sets:
        if not any(map(store.is_free, ranges.candidates())):
            _report_exhaustion(request, *_none_left(ranges, request.network))


def _report_exhaustion(request: cni.Status, what: str, details: str) -> None:
    if request.config["ipam"].get("statusOnExhaustion") == "fail":
        raise cni.NotAvailable(what, details)
    log.warn(f"{what}: {details}")


def _require_no_lease(store: Store, owner: cni.Attachment) -> None:
    for lease in store.find_owned(owner):
        if not store.is_over(lease) and not attachments.is_abandoned(owner):
            who = attachments.describe(owner)
            raise cni.AlreadyExists(
                f"{who} has {lease.address} already", f"a DEL for {owner} releases it"
            )
        store.release(lease.address)


def _lease(
    store: Store, ranges: RangeSet, requested: IPAddress | None, owner: cni.Attachment
) -> IPAddress:
    """The requested address, or the next free one behind the one that was leased last."""
    if requested is not None:
        address = store.lease_first([requested], owner, take_over=True)
        if address is None:
            holder = _describe(store.find_lease(requested), owner.network)
            raise cni.AlreadyExists(f"{requested} is leased already", f"to {holder}")
        return address
    last = store.find_last(ranges.number)
    address = store.lease_first(ranges.candidates(last), owner)
    if address is None:
        address = store.lease_first(ranges.candidates(last), owner, take_over=True)
    if address is None:
        raise cni.NoAddressAvailable(*_none_left(ranges, owner.network))
    return address


def _describe(lease: Lease | None, network: str) -> str:
    """Who has a lease, by its pod if that is known."""
    if lease is None:
        return "a live attachment whose lease was lost"
    owner = cni.Attachment(network, lease.container_id, lease.ifname)
    described = attachments.describe(owner) if lease.ifname else ""
    return f"{described}, {lease}" if described.startswith("pod ") else str(lease)


def _none_left(ranges: RangeSet, network: str) -> tuple[str, str]:
    what = f"no address is left in range set {ranges.number} of network {network}"
    return what, f"all of {ranges} are leased"


PLUGIN = cni.Plugin(
    name="host-local",
    schema=os.path.join(os.path.dirname(__file__), "schema.json"),
    add=add,
    check=check,
    delete=delete,
    gc=gc,
    status=status,
)


def main() -> NoReturn:
    """Answer the request that this process was started for."""
    cni.main(PLUGIN)
