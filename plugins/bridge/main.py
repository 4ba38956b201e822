"""bridge: put a container on a Linux bridge, by a veth pair.

What it owns on the node: the bridge, which stays when the last container has left, as others
may use it; for each attachment a veth pair, whose host side has a name made from the attachment
and an alias that spells it out, and the firewall's masquerade entries. Addresses come from an IPAM
plugin.

A DEL never enters the container's namespace, which may be gone or be another one by now: the host
side takes its peer along.
"""

from __future__ import annotations

import _socket as socket
import os
import time
from contextlib import ExitStack
from functools import partial

import cni
from cni import TYPE_CHECKING
from cni.errors import run_all
from cni_plugins.bridge.config import BridgeConfig, parse_config

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from cni.netlink import Link, Sides

# A port is up as soon as its peer is, but the kernel tells the bridge a little later.
_PORT_SECONDS = 2.5


def add(request: cni.Add) -> cni.Result:
    """Wire the container, completely or not at all."""
    from cni_plugins.bridge.device import ensure_bridge, ensure_gateway
    from cni_plugins.bridge.gateway import gateway_addresses, with_gateways

    config = parse_config(request)
    with (
        cni.attachments.locked(request.owner),
        cni.netlink.both_sides(request.netns) as sides,
        ExitStack() as undo,
    ):
        _require_absent(request.owner, sides)
        result = with_gateways(_add_ipam(request, undo), config)
        with cni.attachments.all_locked():
            bridge, interfaces = _add_pair(
                request, config, sides, ensure_bridge(sides.host, config, undo), undo
            )
        _configure_container(request, config, sides, result)
        if config.is_gateway and result.ips:
            wanted = gateway_addresses(result.ips)
            ensure_gateway(sides.host, bridge, wanted, force=config.force_address)
        cni.firewall.install(request.owner, "bridge", request.netns, _entries(config, result))
        undo.pop_all()
    ips = tuple(ip._replace(interface=2) for ip in result.ips)
    dns = config.dns if config.dns.to_document() else result.dns
    return result._replace(interfaces=interfaces, ips=ips, dns=dns)


def check(request: cni.Check) -> None:
    """Name the first thing that an ADD built and that is no longer as it was."""
    config = parse_config(request)
    if cni.delegate.has_ipam(request):
        cni.delegate.check_ipam(request)
    with cni.netlink.both_sides(request.netns) as sides:
        link = sides.container.find_link(request.owner.ifname)
        if link is None or link.kind != "veth":
            raise cni.CheckFailed(f"{request.owner.ifname} is missing in {request.netns}")
        _check_link(request, config, link)
        _check_port(request, config, sides, link)
        ips = tuple(ip for ip in request.prev_result.ips if _is_ours(ip, request))
        cni.interface.check(sides.container, link, ips, request.prev_result.routes)
    cni.firewall.check(request.owner, "bridge", _entries(config, cni.Result(ips=ips)))


def delete(request: cni.Delete) -> None:
    """Remove the attachment; a step that fails does not keep the others from being done."""
    steps = _removal(request.owner)
    if cni.delegate.has_ipam(request):
        steps.append(partial(cni.delegate.delete_ipam, request))
    with cni.attachments.locked(request.owner):
        run_all(steps)


def gc(request: cni.Gc) -> None:
    """Remove the attachments that the runtime does not know any more, as their DELs would have."""
    stale = cni.attachments.find_stale(request.network, request.valid)
    steps: list[Callable[[], object]] = [partial(_remove, owner) for owner in stale]
    if cni.delegate.has_ipam(request):
        steps.append(partial(cni.delegate.gc_ipam, request))
    run_all(steps)


def status(request: cni.Status) -> None:
    """Say whether there can be a bridge, a firewall if it is needed, and addresses."""
    from cni_plugins.bridge.device import find_bridge

    config = parse_config(request)
    try:
        with cni.netlink.Netlink() as host:
            find_bridge(host, config.bridge)
    except cni.AlreadyExists as error:
        raise cni.NotAvailable(error.message, error.details) from None
    if config.masquerade:
        cni.firewall.require_usable()
    if cni.delegate.has_ipam(request):
        cni.delegate.status_ipam(request)


def host_ifname(owner: cni.Attachment) -> str:
    """The name of the pair's host side, which can be made again when only the owner is known.

    It is an FNV-1a hash; hashlib would load OpenSSL, which takes longer than making the pair.
    """
    digest = 0xCBF29CE484222325
    for byte in str(owner).encode():
        digest = (digest ^ byte) * 0x100000001B3 % 2**64
    return f"veth{digest % 16**11:011x}"


def _require_absent(owner: cni.Attachment, sides: Sides) -> None:
    """A second ADD must not touch, let alone roll back, what the first one built."""
    if sides.container.find_link(owner.ifname) is not None:
        raise cni.AlreadyExists(f"CNI_IFNAME: {owner.ifname} exists in the container already")
    if sides.host.find_link(host_ifname(owner)) is not None:
        raise cni.AlreadyExists(
            f"{owner} is attached already", f"{host_ifname(owner)} exists; a DEL removes it"
        )


def _add_ipam(request: cni.Add, undo: ExitStack) -> cni.Result:
    if not cni.delegate.has_ipam(request):
        return cni.Result()
    undo.callback(cni.log.attempt, "releasing addresses", cni.delegate.delete_ipam, request)
    return cni.delegate.add_ipam(request)._replace(interfaces=())


def _add_pair(
    request: cni.Add, config: BridgeConfig, sides: Sides, bridge: Link, undo: ExitStack
) -> tuple[Link, tuple[cni.Interface, ...]]:
    """Make the pair, its host side a port of the bridge.

    Returns the bridge, whose MAC may be another now, and the result's interfaces.
    """
    name, ifname = host_ifname(request.owner), request.owner.ifname
    mac, peer_mac = cni.addresses.random_mac(), config.mac or cni.addresses.random_mac()
    undo.callback(cni.log.attempt, f"removing {name}", sides.host.remove_link, name)
    sides.host.add_veth(
        name,
        ifname,
        peer_netns=sides.netns,
        mac=mac,
        peer_mac=peer_mac,
        mtu=config.mtu,
        master=bridge.ifindex,
    )
    port, bridge_now = sides.host.find_link(name), sides.host.find_link(bridge.name)
    if port is None or bridge_now is None:
        raise cni.CniError(f"{name} was deleted at the moment it was made")
    cni.interface.refuse_router_advertisements(name)
    sides.host.set_link(
        port,
        up=True,
        alias=f"pycni: {request.owner}"[:255],
        hairpin=config.hairpin,
        isolated=config.isolated,
    )
    return bridge_now, (
        cni.Interface(bridge.name, bridge_now.mac),
        cni.Interface(name, mac),
        cni.Interface(ifname, peer_mac, request.netns),
    )


def _configure_container(
    request: cni.Add, config: BridgeConfig, sides: Sides, result: cni.Result
) -> None:
    """Set the container's side up and address it, unless it shall stay down."""
    ifname = request.owner.ifname
    with cni.netns.entered(sides.netns):
        cni.interface.prepare(ifname, ipv6=any(ip.address.version == 6 for ip in result.ips))
    link = sides.container.find_link(ifname)
    if link is None:
        raise cni.CniError(f"{ifname} was deleted at the moment it was made")
    if not config.leave_container_down:
        sides.container.set_link(link, up=True)
        _wait_for_port(sides, host_ifname(request.owner))
        cni.interface.configure(sides.container, link, result, dad=config.dad)


def _wait_for_port(sides: Sides, name: str) -> None:
    """What a container sends before its port is up is lost, and nobody sends it again."""
    deadline = time.monotonic() + _PORT_SECONDS
    while True:
        port = sides.host.find_link(name)
        if port is not None and port.is_running:
            return
        if time.monotonic() > deadline:
            raise cni.CniError(f"{name} did not come up within {_PORT_SECONDS} s")
        time.sleep(0.001)


def _entries(config: BridgeConfig, result: cni.Result) -> list[cni.firewall.Entry]:
    return [cni.firewall.Masquerade(ip.address) for ip in result.ips if config.masquerade]


def _remove(owner: cni.Attachment) -> None:
    with cni.attachments.locked(owner):
        run_all(_removal(owner))


def _removal(owner: cni.Attachment) -> list[Callable[[], object]]:
    """The steps that remove what this plugin itself owns."""
    return [partial(cni.firewall.remove, owner, "bridge"), partial(_remove_pair, owner)]


def _remove_pair(owner: cni.Attachment) -> None:
    name = host_ifname(owner)
    try:
        socket.if_nametoindex(name)
    except OSError:
        return  # the usual case of a repeated DEL, which so does without loading netlink
    with cni.netlink.Netlink() as host:
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
    for interface in request.prev_result.interfaces:
        expected = (interface.mac or link.mac).lower()
        if interface.sandbox and interface.name == link.name and expected != link.mac:
            raise cni.CheckFailed(f"{link.name} has the MAC {link.mac} instead of {expected}")


def _check_port(request: cni.Check, config: BridgeConfig, sides: Sides, link: Link) -> None:
    """The container's peer has to be an up port of the bridge, the bridge its gateway."""
    from cni_plugins.bridge.device import find_bridge
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
    if config.is_gateway:
        present = {address.address for address in sides.host.addresses(bridge)}
        ours = (ip for ip in request.prev_result.ips if _is_ours(ip, request))
        for address in gateway_addresses(ours):
            if address not in present:
                raise cni.CheckFailed(f"the bridge {bridge.name} lacks the address {address}")


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
