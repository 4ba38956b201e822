"""The bridge itself, as a device of the node: made by whoever needs it first, shared by all."""

from __future__ import annotations

import errno
from contextlib import ExitStack

from cni import TYPE_CHECKING, attachments, interface, log, sysctl
from cni.addresses import IPInterface, random_mac
from cni.errors import AlreadyExists, CniError
from cni.netlink import Link, Netlink
from cni.nlsocket import NetlinkError
from cni_plugins.bridge.config import BridgeConfig
from cni_plugins.bridge.gateway import conflicting

if TYPE_CHECKING:
    from collections.abc import Sequence

_FORWARDING = {4: "net/ipv4/ip_forward", 6: "net/ipv6/conf/all/forwarding"}


def ensure_bridge(host: Netlink, config: BridgeConfig, undo: ExitStack) -> Link:
    """The bridge, up. Raises AlreadyExists if its name is another kind of device's.

    A bridge that is made here goes again with `undo`, unless somebody else uses it by then. So
    the state is to be locked until a port has been added.
    """
    link = find_bridge(host, config.bridge)
    if link is None:
        # With a MAC that is set, the bridge does not take on the lowest of its ports' as they
        # come and go, so its neighbours' caches and the results that name it stay right.
        try:
            host.add_bridge(config.bridge, mac=random_mac(), mtu=config.mtu)
            what = f"removing {config.bridge}"
            undo.callback(log.attempt, what, _remove_unused, host, config.bridge)
        except NetlinkError as error:
            if error.errno != errno.EEXIST:  # somebody else's first ADD was faster
                raise
        link = find_bridge(host, config.bridge)
        if link is None:
            raise CniError(f"the bridge {config.bridge} was deleted at the moment it was made")
    interface.refuse_router_advertisements(config.bridge)
    if not link.is_up:
        # For a second or two, nothing could be forwarded to the network's first container.
        sysctl.try_write(f"net/ipv6/conf/{config.bridge}/accept_dad", "0")
    promiscuous = True if config.promiscuous and not link.is_promiscuous else None
    if promiscuous or not link.is_up:
        host.set_link(link, up=True, promiscuous=promiscuous)
    return link


def _remove_unused(host: Netlink, name: str) -> None:
    with attachments.all_locked():
        bridge = find_bridge(host, name)
        if bridge is not None and not host.has_ports(bridge):
            host.remove_link(name)


def find_bridge(host: Netlink, name: str) -> Link | None:
    """The bridge, None if nothing has its name. Raises AlreadyExists for another kind of device."""
    link = host.find_link(name)
    if link is not None and link.kind != "bridge":
        raise AlreadyExists(
            f"bridge: {name!r} is not allowed",
            f"a device of that name exists and is no bridge but {link.kind or 'a device'}",
        )
    return link


def ensure_gateway(
    host: Netlink, bridge: Link, wanted: Sequence[IPInterface], *, force: bool
) -> None:
    """Address the bridge, and have the node forward. Raises AlreadyExists for other addresses."""
    present = [address.address for address in host.addresses(bridge)]
    for address in conflicting(wanted, present):
        if not force:
            raise AlreadyExists(
                f"the bridge {bridge.name} already has an IP address different from"
                f" {', '.join(map(str, wanted))}: {address}",
                f"remove it (ip address delete {address} dev {bridge.name}), use another bridge,"
                " or set forceAddress to have it replaced",
            )
        host.remove_address(bridge, address)
    for address in wanted:
        if address not in present:
            try:
                host.add_address(bridge, address)
            except NetlinkError as error:
                if error.errno != errno.EEXIST:  # somebody else's first ADD was faster
                    raise
            # Also a bridge that somebody else made shall keep its MAC as ports come and go.
            host.set_link(bridge, mac=bridge.mac)
    for family in {address.version for address in wanted}:
        sysctl.write(_FORWARDING[family], "1")
