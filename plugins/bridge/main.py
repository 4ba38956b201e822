"""bridge: put a container on a Linux bridge, by a veth pair.

What it owns on the node: the bridge and the gateways in its VLANs, which stay when the last
container has left, as others may use them; for each attachment a veth pair, whose host side has a
name made from the attachment and an alias that spells it out, and the firewall's entries. Addresses
come from an IPAM plugin.

A DEL does not enter the container's namespace, which may be gone or be another one by now: the host
side takes its peer along. Of what the reference plugin made, reference.py tells.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from functools import partial

import cni
from cni import TYPE_CHECKING, delegate, log
from cni.errors import run_all
from cni.net import interface, namespace
from cni.net.addresses import random_mac
from cni.net.netlink.route import Netlink, both_sides
from cni.net.netlink.socket import NetlinkError
from cni_plugins.bridge.config import (
    BridgeConfig,
    address_families,
    parse_config,
    require_mtu_for_ipv6,
)
from pycni import firewall
from pycni.attach.rollback import made
from pycni.state import attachments, location
from pycni.state.names import host_ifname, lasting_ifname

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from cni.net.netlink.route import Link, Sides


def add(request: cni.Add) -> cni.Result:
    """Wire the container, completely or not at all."""
    from cni_plugins.bridge.device import (
        ensure_bridge,
        ensure_gateway,
        ensure_gateway_interface,
        keep_parameters,
    )
    from cni_plugins.bridge.gateway import with_gateways

    config = parse_config(request)
    mac = config.mac or random_mac()
    with (
        attachments.locked(request.owner),
        both_sides(request.netns) as sides,
        ExitStack() as undo,
    ):
        undo.callback(log.attempt, "restoring parameters", firewall.restore_parameters)
        _require_absent(request.owner, sides)
        result = with_gateways(_add_ipam(request, undo), config)
        if any(ip.address.version == 6 for ip in result.ips):
            require_mtu_for_ipv6(config)  # not every IPAM plugin's addresses are foreseen
        with attachments.all_locked():
            before = gateway = ensure_bridge(sides.host, config, undo)
            if config.is_gateway and result.ips:
                gateway = ensure_gateway_interface(sides.host, before, config, undo)
            bridge, interfaces = _add_pair(request, config, sides, before, undo, mac=mac)
            if gateway == before:
                gateway = bridge  # it had no MAC if it had no ports
        _configure_container(request, config, sides, result)
        if config.is_gateway and result.ips:
            ensure_gateway(sides.host, gateway, result.ips, force=config.force_address)
        entries = _entries(request.owner, config, result, mac)
        backend = config.masquerade_backend
        entries += [firewall.Address(request.owner.network, ip.address.ip) for ip in result.ips]
        install = partial(firewall.install, backend=backend, pod=request.pod)
        undo.callback(install(request.owner, "bridge", request.netns, entries))
        firewall.let_pass(_forwarding(config))
        keep_parameters(config, gateway, result.ips)
        if gateway != bridge:
            interfaces += (cni.Interface(gateway.name, gateway.mac),)
        ips = tuple(ip._replace(interface=2) for ip in result.ips)
        dns = config.dns if config.dns.to_document() else result.dns
        result = result._replace(interfaces=interfaces, ips=ips, dns=dns)
        request.require_reader()
        undo.pop_all()
    return result


def check(request: cni.Check) -> None:
    """Name the first thing that an ADD built and that is no longer as it was."""
    config = parse_config(request)
    if delegate.has_ipam(request):
        delegate.check_ipam(request)
    with both_sides(request.netns) as sides:
        link = sides.container.find_link(request.owner.ifname)
        if link is None or link.kind != "veth":
            raise cni.CheckFailed(f"{request.owner.ifname} is missing in {request.netns}")
        _check_link(request, config, link)
        _check_port(request, config, sides, link)
        ips = tuple(ip for ip in request.prev_result.ips if _is_ours(ip, request))
        interface.check(sides.container, link, ips, request.prev_result.routes)
    entries = _entries(request.owner, config, cni.Result(ips=ips), link.mac)
    firewall.check(request.owner, "bridge", entries)
    if attachments.has_record(request.owner, "bridge"):  # the reference's see to it themselves
        firewall.check_passes(_forwarding(config))


def delete(request: cni.Delete) -> None:
    """Remove the attachment; a step that fails does not keep the others from being done."""
    steps = _removal(request.owner)
    if not attachments.has_record(request.owner, "bridge"):
        from pycni.migrate import bridge

        steps.append(partial(bridge.remove_pair, request))
    if delegate.has_ipam(request):
        steps.append(partial(delegate.delete_ipam, request))
    attachments.remove_locked(request.owner, partial(run_all, steps))


def gc(request: cni.Gc) -> None:
    """Remove the attachments that the runtime does not know any more, as their DELs would have."""
    stale = attachments.find_stale(request.network, request.valid)
    steps: list[Callable[[], object]] = [partial(_remove, owner) for owner in stale]
    steps.append(partial(firewall.remove_stale, request.network, request.valid, "bridge"))
    if delegate.has_ipam(request):
        steps.append(partial(delegate.gc_ipam, request))
    run_all(steps)


def status(request: cni.Status) -> None:
    """Say whether there can be such a bridge, a firewall if it is needed, and addresses."""
    from cni_plugins.bridge.device import (
        require_gateway_possible,
        require_possible,
        warn_of_changes,
    )

    config = parse_config(request)
    location.require_usable()
    require_possible(config)
    if config.is_gateway:
        require_gateway_possible(config, address_families(request.config))
    warn_of_changes(config)
    if config.masquerade:
        firewall.require_usable({firewall.Masquerade}, config.masquerade_backend)
    if config.checks_macs:
        firewall.require_mac_guard()
    firewall.require_passable(_forwarding(config))
    if delegate.has_ipam(request):
        delegate.status_ipam(request)


def _require_absent(owner: cni.Attachment, sides: Sides) -> None:
    """A second ADD must not touch, let alone roll back, what the first one built.

    The pair may have been renamed meanwhile, on either side; then the record still tells of it.
    """
    if sides.container.find_link(owner.ifname) is not None:
        raise cni.AlreadyExists(f"CNI_IFNAME: {owner.ifname} exists in the container already")
    if sides.host.find_link(host_ifname(owner)) is not None:
        raise cni.AlreadyExists(
            f"{attachments.describe(owner)} is attached already",
            f"{host_ifname(owner)} exists; a DEL for {owner} removes it",
        )
    record = attachments.find_record(owner, "bridge")
    if record is not None and record.is_live:
        raise cni.AlreadyExists(
            f"{attachments.describe(owner)} is attached already", f"a DEL for {owner} removes it"
        )


def _add_ipam(request: cni.Add, undo: ExitStack) -> cni.Result:
    if not delegate.has_ipam(request):
        return cni.Result()
    result = delegate.add_ipam(request)
    undo.callback(log.attempt, "releasing addresses", delegate.delete_ipam, request)
    return result._replace(interfaces=())


def _add_pair(
    request: cni.Add,
    config: BridgeConfig,
    sides: Sides,
    bridge: Link,
    undo: ExitStack,
    *,
    mac: str,
) -> tuple[Link, tuple[cni.Interface, ...]]:
    """Make the pair, its host side a port of the bridge, which keeps its MAC.

    Returns the bridge as it is now, and the result's interfaces.
    """
    from cni_plugins.bridge.device import keep_mac
    from cni_plugins.bridge.port import random_port_mac
    from pycni.firewall import loopback_filter

    name, ifname = host_ifname(request.owner), request.owner.ifname
    port_mac = random_port_mac()
    with made(undo, f"removing {name}", sides.host.remove_link, name):
        sides.host.add_veth(
            name,
            ifname,
            peer_netns=sides.netns,
            mac=port_mac,
            peer_mac=mac,
            mtu=config.mtu,
            master=bridge.ifindex,
        )
    port, bridge_now = sides.host.find_link(name), sides.host.find_link(bridge.name)
    if port is None or bridge_now is None:
        raise cni.CniError(f"{name} was deleted at the moment it was made")
    with suppress(NetlinkError):  # before Linux 5.5
        sides.host.add_alternative_name(port, lasting_ifname(request.owner))
    bridge_now = keep_mac(sides.host, bridge, bridge_now)
    if config.filters_vlans:
        from cni_plugins.bridge.vlan import port_vlans, set_vlans

        set_vlans(sides.host, port, port_vlans(config), config)
    interface.refuse_ipv6_addresses(name)
    loopback_filter.add_to_new_port(sides.host, port)
    sides.host.set_link(
        port,
        up=True,
        alias=f"pycni: {request.owner}"[:254],
        hairpin=config.hairpin,
        isolated=config.isolated,
    )
    return bridge_now, (
        cni.Interface(bridge.name, bridge_now.mac),
        cni.Interface(name, port_mac),
        cni.Interface(ifname, mac, request.netns),
    )


def _configure_container(
    request: cni.Add, config: BridgeConfig, sides: Sides, result: cni.Result
) -> None:
    """Set the container's side up and address it, unless it shall stay down."""
    from cni_plugins.bridge.port import wait_until_running

    ifname, is_addressed = request.owner.ifname, delegate.has_ipam(request)
    if is_addressed:  # on layer 2, the container makes of its link what it likes
        with namespace.entered(sides.netns):
            interface.prepare(ifname, ipv6=any(ip.address.version == 6 for ip in result.ips))
    link = sides.container.find_link(ifname)
    if link is None:
        raise cni.CniError(f"{ifname} was deleted at the moment it was made")
    if not config.leave_container_down:
        sides.container.set_link(link, up=True)
        wait_until_running(sides.host, host_ifname(request.owner))
    if is_addressed:
        interface.configure(sides.container, link, result, dad=config.dad)


def _entries(
    owner: cni.Attachment, config: BridgeConfig, result: cni.Result, mac: str
) -> list[firewall.Entry]:
    entries: list[firewall.Entry] = []
    if config.masquerade:
        entries += [firewall.Masquerade(ip.address) for ip in result.ips]
    if config.checks_macs:
        entries.append(firewall.MacGuard(host_ifname(owner), mac))
    return entries


def _forwarding(config: BridgeConfig) -> firewall.Bridge:
    return firewall.Bridge(config.bridge, config.is_gateway or config.masquerade)


def _remove(owner: cni.Attachment) -> None:
    attachments.remove_locked(owner, partial(run_all, _removal(owner)))


def _removal(owner: cni.Attachment) -> list[Callable[[], object]]:
    """The steps that remove what this plugin itself owns."""
    return [partial(firewall.remove, owner, "bridge"), partial(_remove_pair, owner)]


def _remove_pair(owner: cni.Attachment) -> None:
    """Remove the pair, whatever its host side is called by now."""
    names = namespace.find_interfaces((host_ifname(owner), lasting_ifname(owner)))
    if not names:
        return  # the usual case of a repeated DEL, which so does without loading netlink
    with Netlink() as host:
        for name in names:
            host.remove_link(name)


def _is_ours(ip: cni.IPConfig, request: cni.Check) -> bool:
    """Whether an address of the result is one of CNI_IFNAME: other plugins may add interfaces."""
    if ip.interface is None:
        return True
    interfaces = request.prev_result.interfaces
    if ip.interface >= len(interfaces):
        return False
    return interfaces[ip.interface].name == request.owner.ifname


def _check_link(request: cni.Check, config: BridgeConfig, link: Link) -> None:
    if not link.is_up and not config.leave_container_down:
        raise cni.CheckFailed(f"{link.name} is down in {request.netns}")
    for entry in request.prev_result.interfaces:
        expected = (entry.mac or link.mac).lower()
        if entry.sandbox and entry.name == link.name and expected != link.mac:
            raise cni.CheckFailed(f"{link.name} has the MAC {link.mac} instead of {expected}")


def _check_port(request: cni.Check, config: BridgeConfig, sides: Sides, link: Link) -> None:
    """The container's peer has to be an up port of the bridge, with its VLANs and gateway."""
    from cni_plugins.bridge.device import check_gateway, find_bridge
    from cni_plugins.bridge.gateway import gateway_addresses

    bridge = find_bridge(sides.host, config.bridge)
    if bridge is None:
        raise cni.CheckFailed(f"the bridge {config.bridge} is missing")
    port = sides.host.find_link_by_index(link.peer) if link.peer else None
    if port is None or port.peer != link.ifindex:
        raise cni.CheckFailed(f"the peer of {link.name} is missing on the host")
    if port.master != bridge.ifindex:
        raise cni.CheckFailed(f"{port.name} is not a port of the bridge {bridge.name}")
    for needed in (bridge, port):
        if not needed.is_up:
            raise cni.CheckFailed(f"{needed.name} is down")
    if config.filters_vlans:
        from cni_plugins.bridge.vlan import check as check_vlans

        check_vlans(sides.host, bridge, port, config)
    if attachments.has_record(request.owner, "bridge"):  # the reference plugin has no filter
        _check_port_settings(config, sides, bridge, port)
    wanted = gateway_addresses(ip for ip in request.prev_result.ips if _is_ours(ip, request))
    if config.is_gateway and wanted:
        check_gateway(sides.host, bridge, wanted, config)


def _check_port_settings(config: BridgeConfig, sides: Sides, bridge: Link, port: Link) -> None:
    from pycni.firewall import loopback_filter

    wanted = {"hairpinMode": config.hairpin, "portIsolation": config.isolated}
    present = sides.host.port_settings(port)
    for (key, expected), found in zip(wanted.items(), present, strict=True):
        if found != expected:
            raise cni.CheckFailed(f"{key} of {port.name} is {found} instead of {expected}")
    if config.promiscuous and not bridge.is_promiscuous:
        raise cni.CheckFailed(f"{bridge.name} is not promiscuous, as promiscMode asks for")
    loopback_filter.check_port(sides.host, port)


PLUGIN = cni.Plugin(
    name="bridge",
    schema=os.path.join(os.path.dirname(__file__), "schema.json"),
    add=add,
    check=check,
    delete=delete,
    gc=gc,
    status=status,
)


def main() -> NoReturn:
    """Run as an executable."""
    cni.main(PLUGIN)
