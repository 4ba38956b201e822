"""A port of the bridge, and an interface that carries a gateway: what both kinds of bridge need."""

from __future__ import annotations

import time

from cni.errors import CniError
from cni.net import interface
from cni.net.addresses import random_mac
from cni.net.netlink.route import Netlink
from pycni.state import parameters

# A port is up as soon as its peer is, but the kernel tells the bridge a little later.
_PORT_SECONDS = 2.5


def prepare_gateway(ifname: str, *, is_new: bool) -> None:
    """Set the parameters of an interface that is to be a gateway, before it is up.

    One that is not new gets them back with the node's last DEL.
    """
    refuse_router_advertisements(ifname, is_new=is_new)
    # For a second or two, nothing could be forwarded to the network's first container.
    parameters.try_ensure(f"net/ipv6/conf/{ifname}/accept_dad", "0", keep=is_new)


def refuse_router_advertisements(ifname: str, *, is_new: bool = False) -> None:
    """As `interface.refuse_router_advertisements`, for a bridge or gateway of the node."""
    for name in router_advertisements(ifname):
        parameters.try_ensure(name, "0", keep=is_new)


def check_router_advertisements(ifname: str) -> None:
    """Raise CheckFailed if an interface takes them that ADD has kept from it."""
    for name in router_advertisements(ifname):
        parameters.check(name)


def router_advertisements(ifname: str) -> tuple[str, ...]:
    """The parameters by which an interface takes them."""
    return tuple(f"net/ipv6/conf/{ifname}/{name}" for name in interface.ROUTER_ADVERTISEMENTS)


def random_port_mac() -> str:
    """A MAC address for a port, higher than any that is not locally administered.

    A bridge whose MAC nobody has set takes the lowest of its ports': not a port's of ours, then, if
    it has an uplink.
    """
    return f"fe{random_mac()[2:]}"


def wait_until_running(host: Netlink, name: str) -> None:
    """What is sent before a port is up is lost, and nobody sends it again."""
    deadline = time.monotonic() + _PORT_SECONDS
    while True:
        port = host.find_link(name)
        if port is not None and port.is_running:
            return
        if time.monotonic() > deadline:
            raise CniError(f"{name} did not come up within {_PORT_SECONDS} s")
        time.sleep(0.001)
