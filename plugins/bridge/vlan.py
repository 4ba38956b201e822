"""The bridge's VLANs: what a port is in, and the node's gateway in a VLAN.

The bridge itself stays in its default VLAN. So a gateway in another one is an interface of its own,
`<bridge>.<vlan>`: one side of a veth pair whose other side is a port in that VLAN. It belongs to
the node as the bridge does, and is shared by all containers of the VLAN.
"""

from __future__ import annotations

import errno
from contextlib import ExitStack

from cni.errors import CheckFailed, CniError
from cni.net import interface, namespace
from cni.net.addresses import random_mac
from cni.net.netlink import bridge_vlan
from cni.net.netlink.route import Link, Netlink
from cni.net.netlink.socket import NetlinkError
from cni_plugins.bridge.config import BridgeConfig
from cni_plugins.bridge.port import prepare_gateway, random_port_mac, wait_until_running
from pycni.attach.rollback import made
from pycni.state import attachments
from pycni.state.names import port_ifname

# The VLAN of a trunk's frames without a tag if none is configured: the reference plugin's choice.
_NATIVE_VLAN_OF_TRUNK = 1


def port_vlans(config: BridgeConfig) -> bridge_vlan.PortVlans:
    """What VLANs the container's port has to be in, besides the default VLAN if it is kept."""
    trunk = config.trunk or frozenset()
    native = config.vlan or (_NATIVE_VLAN_OF_TRUNK if trunk else None)
    return bridge_vlan.PortVlans(native, bridge_vlan.ranges(trunk - {native}))


def require_filtering(config: BridgeConfig) -> None:
    """Raise CniError that names the key if the kernel cannot filter VLANs: by trying."""
    with namespace.passing(), Netlink() as nowhere:
        nowhere.add_bridge("br0", mac=random_mac(), mtu=None)
        bridge = nowhere.find_link("br0")
        if bridge is not None:
            ensure_filtering(nowhere, bridge, config)


def ensure_filtering(host: Netlink, bridge: Link, config: BridgeConfig) -> None:
    """Have the bridge keep VLANs apart. Raises CniError that names the key if it cannot."""
    if bridge_vlan.is_filtering(host, bridge):
        return
    try:
        bridge_vlan.set_filtering(host, bridge)
    except NetlinkError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        key = f"vlan: {config.vlan}" if config.vlan else "vlanTrunk"
        raise CniError(
            f"{key} is not possible on this node",
            "its kernel cannot filter VLANs on a bridge (CONFIG_BRIDGE_VLAN_FILTERING)",
        ) from None


def set_vlans(
    host: Netlink, port: Link, wanted: bridge_vlan.PortVlans, config: BridgeConfig
) -> None:
    """Put a new port, which is to be down, into its VLANs, and out of the default one."""
    if wanted == bridge_vlan.PortVlans():
        return
    if not config.keeps_default_vlan:
        bridge_vlan.remove_all(host, port)
    bridge_vlan.add(host, port, wanted)


def ensure_gateway(host: Netlink, bridge: Link, config: BridgeConfig, undo: ExitStack) -> Link:
    """The gateway in the container's VLAN, up.

    If it is made here it goes again with `undo`, unless somebody else uses it by then. So the state
    is to be locked until the container's port has been added.
    """
    link = host.find_link(config.vlan_gateway)
    if link is None:
        with made(undo, f"removing {config.vlan_gateway}", _remove_unused, host, bridge, config):
            _add_pair(host, bridge, config)
        link = host.find_link(config.vlan_gateway)
        if link is None:
            raise CniError(f"{config.vlan_gateway} was deleted at the moment it was made")
    if not link.is_up:
        _set_up(host, link, config)
    return link


def _add_pair(host: Netlink, bridge: Link, config: BridgeConfig) -> None:
    name = config.vlan_gateway
    host.add_veth(
        port_ifname(name),
        name,
        mac=random_port_mac(),
        peer_mac=random_mac(),
        mtu=bridge.mtu,
        master=bridge.ifindex,
    )


def _set_up(host: Netlink, link: Link, config: BridgeConfig) -> None:
    """... last of all, so that an interface that is up is complete."""
    port = host.find_link(port_ifname(link.name))
    if port is None or port.ifindex != link.peer:  # somebody else made it, in another way
        host.set_link(link, up=True)
        return
    set_vlans(host, port, bridge_vlan.PortVlans(config.vlan), config)
    interface.refuse_ipv6_addresses(port.name)
    host.set_link(port, up=True, alias=f"pycni: {link.name}")
    prepare_gateway(link.name, is_new=True)
    host.set_link(link, up=True)
    wait_until_running(host, port.name)


def _remove_unused(host: Netlink, bridge: Link, config: BridgeConfig) -> None:
    with attachments.all_locked():
        port = host.find_link(port_ifname(config.vlan_gateway))
        own = {port.ifindex} if port else set()
        if not set(bridge_vlan.ports_in(host, bridge, config.vlan)) - own:
            host.remove_link(config.vlan_gateway)


def check(host: Netlink, bridge: Link, port: Link, config: BridgeConfig) -> None:
    """Raise CheckFailed that names a VLAN that the container's port lacks."""
    if not bridge_vlan.is_filtering(host, bridge):
        raise CheckFailed(f"the bridge {bridge.name} does not filter VLANs")
    missing = bridge_vlan.find_missing(host, port, port_vlans(config))
    if missing:
        raise CheckFailed(f"{port.name} is not in {missing}")
