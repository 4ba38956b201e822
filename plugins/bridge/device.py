"""The bridge itself, as a device of the node: made by whoever needs it first, shared by all."""

from __future__ import annotations

import errno
from contextlib import ExitStack

from cni import TYPE_CHECKING, log
from cni.errors import AlreadyExists, CheckFailed, CniError, NotAvailable
from cni.net import sysctl
from cni.net.addresses import IPInterface, IPNetwork, random_mac
from cni.net.netlink.route import Link, Netlink
from cni.net.netlink.socket import NetlinkError
from cni_plugins.bridge.config import BridgeConfig
from cni_plugins.bridge.gateway import conflicting, gateway_addresses, unaddressed_subnets
from cni_plugins.bridge.port import (
    check_router_advertisements,
    prepare_gateway,
    refuse_router_advertisements,
    router_advertisements,
)
from pycni.attach.rollback import made
from pycni.state import attachments, parameters

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cni.result import IPConfig

_NO_MAC = "00:00:00:00:00:00"
FORWARDING = {4: "net/ipv4/ip_forward", 6: "net/ipv6/conf/all/forwarding"}


def ensure_bridge(host: Netlink, config: BridgeConfig, undo: ExitStack) -> Link:
    """The bridge, up. Raises AlreadyExists if its name is another kind of device's.

    It keeps VLANs apart if they are configured. A bridge that is made here goes again with `undo`,
    unless somebody else uses it by then. So the state is to be locked until a port has been added.
    """
    link = find_bridge(host, config.bridge)
    is_new = link is None
    if link is None:
        # With a MAC that is set, the bridge does not take on the lowest of its ports' as they
        # come and go, so its neighbours' caches and the results that name it stay right.
        try:
            with made(undo, f"removing {config.bridge}", _remove_unused, host, config.bridge):
                host.add_bridge(config.bridge, mac=random_mac(), mtu=config.mtu)
            parameters.forget_gone()  # bridges come and go with networks that people make
        except NetlinkError as error:
            if error.errno != errno.EEXIST:  # somebody else's first ADD was faster
                raise
        link = find_bridge(host, config.bridge)
        if link is None:
            raise CniError(f"the bridge {config.bridge} was deleted at the moment it was made")
    if config.filters_vlans:
        from cni_plugins.bridge.vlan import ensure_filtering

        ensure_filtering(host, link, config)
    if link.is_up:
        refuse_router_advertisements(config.bridge)  # it may be somebody else's
    else:
        prepare_gateway(config.bridge, is_new=is_new)
    promiscuous = True if config.promiscuous and not link.is_promiscuous else None
    if promiscuous or not link.is_up:
        host.set_link(link, up=True, promiscuous=promiscuous)
    return link


def keep_mac(host: Netlink, before: Link, now: Link) -> Link:
    """The bridge as it is, with the MAC that it had before it got a port.

    A bridge whose MAC nobody has set takes the lowest of its ports'. Whoever made it, with an
    uplink perhaps, shall not see it change as pods come and go. Without ports it may have none.
    """
    if before.mac in (now.mac, _NO_MAC):
        return now
    host.set_link(now, mac=before.mac)
    return now._replace(mac=before.mac)


def require_possible(config: BridgeConfig) -> None:
    """Raise NotAvailable if `ensure_bridge` could not work now, with the reason."""
    try:
        with Netlink() as host:
            find_bridge(host, config.bridge)
        if config.filters_vlans:
            from cni_plugins.bridge.vlan import require_filtering

            require_filtering(config)
    except CniError as error:
        raise NotAvailable(error.message, error.details) from None


def require_gateway_possible(config: BridgeConfig, families: Iterable[int]) -> None:
    """Raise NotAvailable that names the parameter by which a gateway could not be one."""
    for family in sorted(families):
        name = FORWARDING[family]
        if sysctl.read(name) == "0" and not sysctl.is_writable(name):
            raise NotAvailable(
                f"{name.replace('/', '.')} is 0 and cannot be set",
                "a gateway needs it: set it to 1, or let /proc/sys be written",
            )
    if 6 not in families:
        return
    gateway = config.vlan_gateway if config.vlan else config.bridge
    for interface in (gateway, "default"):
        name = f"net/ipv6/conf/{interface}/disable_ipv6"
        value = sysctl.read(name)
        if value == "1":
            raise NotAvailable(
                f"{name.replace('/', '.')} is 1: the gateway {gateway} can have no IPv6 address",
                "set it to 0, or leave IPv6 out of the network",
            )
        if value is not None:
            break  # a gateway that is there; a new one would be as the default says


def warn_of_changes(config: BridgeConfig) -> None:
    """Warn of parameters that an ADD has set and somebody has changed: the next ADD sets them."""
    for name in (*FORWARDING.values(), *router_advertisements(config.bridge)):
        try:
            parameters.check(name)
        except CheckFailed as error:
            log.warn(f"{error}, and so does the next ADD")


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


def ensure_gateway_interface(
    host: Netlink, bridge: Link, config: BridgeConfig, undo: ExitStack
) -> Link:
    """What carries the gateway's addresses: the bridge, or an interface of its own in a VLAN."""
    if not config.vlan:
        return bridge
    from cni_plugins.bridge.vlan import ensure_gateway

    return ensure_gateway(host, bridge, config, undo)


def ensure_gateway(host: Netlink, device: Link, ips: Sequence[IPConfig], *, force: bool) -> None:
    """Address the network's gateway, the bridge or one in a VLAN of it, and have the node forward.

    Raises AlreadyExists for other addresses.
    """
    wanted = gateway_addresses(ips)
    present = dict.fromkeys(address.address for address in host.addresses(device))
    for address in conflicting(wanted, present):
        if not force:
            raise AlreadyExists(
                f"{device.name} already has an IP address different from"
                f" {', '.join(map(str, wanted))}: {address}",
                f"remove it (ip address delete {address} dev {device.name}), use another bridge,"
                " or set forceAddress to have it replaced",
            )
        host.remove_address(device, address)
    for address in wanted:
        if address not in present:
            try:
                host.add_address(device, address)
            except NetlinkError as error:
                if error.errno != errno.EEXIST:  # somebody else's first ADD was faster
                    raise
            # Also a bridge that somebody else made shall keep its MAC as ports come and go.
            host.set_link(device, mac=device.mac)
    for subnet in unaddressed_subnets(ips):
        _add_route(host, device, subnet)
    for family in {address.version for address in wanted}:
        if family == 6:
            _keep_routers(host)
        parameters.ensure(FORWARDING[family], "1")


def _add_route(host: Netlink, device: Link, subnet: IPNetwork) -> None:
    try:
        host.add_route(device, subnet)
    except NetlinkError as error:
        if error.errno != errno.EEXIST:
            raise


def _keep_routers(host: Netlink) -> None:
    """Have the node's interfaces take router advertisements though it is to forward IPv6.

    When forwarding is switched on the kernel drops the default routes of interfaces whose accept_ra
    is 1, and takes no more advertisements there (Documentation/networking/ip-sysctl.rst). As
    forwarding stays on after the node's last DEL, so does this.
    """
    if sysctl.read(FORWARDING[6]) == "1":
        return
    for link in map(host.find_link_by_index, host.advertised_routers()):
        name = f"net/ipv6/conf/{link.name}/accept_ra" if link else ""
        if name and sysctl.read(name) == "1":
            parameters.ensure(name, "2", keep=True)
            log.warn(f"{name.replace('/', '.')} is 2 now, so that the node keeps its router")


def keep_parameters(config: BridgeConfig, gateway: Link, ips: Iterable[IPConfig]) -> None:
    """Set again what a DEL may have reset that was the node's last until this ADD had a record."""
    for name in {config.bridge, gateway.name}:
        refuse_router_advertisements(name)
    if config.is_gateway:
        for family in {ip.address.version for ip in ips}:
            parameters.ensure(FORWARDING[family], "1")


def check_gateway(
    host: Netlink, bridge: Link, wanted: Sequence[IPInterface], config: BridgeConfig
) -> None:
    """Raise CheckFailed that names what the gateway lacks."""
    device: Link | None = bridge
    if config.vlan:
        device = host.find_link(config.vlan_gateway)
    if device is None or not device.is_up:
        state = "missing" if device is None else "down"
        raise CheckFailed(f"the gateway {config.vlan_gateway} is {state}")
    present = {address.address for address in host.addresses(device)}
    for address in wanted:
        if address not in present:
            raise CheckFailed(f"the gateway {device.name} lacks the address {address}")
    check_router_advertisements(device.name)
    for family in sorted({address.version for address in wanted}):
        _check_forwarding(device, FORWARDING[family])


def _check_forwarding(gateway: Link, name: str) -> None:
    """Also of pods that the reference plugin has attached there is no record, so none is asked."""
    value = sysctl.read(name)
    if value in (None, "0"):
        raise CheckFailed(
            f"{name.replace('/', '.')} is {value}, and {gateway.name} is a gateway",
            "`pycni repair` sets it again",
        )
