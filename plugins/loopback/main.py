"""loopback: brings a container's lo up.

It owns nothing: lo comes with its namespace and goes with it. CNI_IFNAME is ignored, for it is
always lo that is meant.
"""

from __future__ import annotations

import contextlib
import os

import cni
from cni import TYPE_CHECKING
from cni.net import namespace
from cni.net.netlink.route import Link, Netlink

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import NoReturn


def add(request: cni.Add) -> cni.Result:
    with _opened(request.netns) as (netlink, lo):
        netlink.set_link(lo, up=True)
        found = [address.address for address in netlink.addresses(lo)]
    if request.prev_result is not None:
        return request.prev_result
    return cni.Result(
        interfaces=(cni.Interface(lo.name, mac=lo.mac, sandbox=request.netns),),
        ips=tuple(cni.IPConfig(address, interface=0) for address in found if address.is_loopback),
    )


def check(request: cni.Check) -> None:
    with _opened(request.netns) as (_, lo):
        if not lo.is_up:
            raise cni.CheckFailed(f"lo is down in {request.netns}")


def delete(_request: cni.Delete) -> None:
    """Nothing: lo goes with its namespace, and CNI_NETNS may lead to another container's by now."""


@contextlib.contextmanager
def _opened(path: str) -> Iterator[tuple[Netlink, Link]]:
    """The namespace's links and addresses, and its lo."""
    with namespace.opened(path) as descriptor:
        with namespace.entered(descriptor):
            netlink = Netlink()
        with netlink:
            lo = netlink.find_link("lo")
            if lo is None:
                raise cni.CniError(f"{path} has no lo")
            yield netlink, lo


PLUGIN = cni.Plugin(
    name="loopback",
    schema=os.path.join(os.path.dirname(__file__), "schema.json"),
    add=add,
    check=check,
    delete=delete,
)


def main() -> NoReturn:
    cni.main(PLUGIN)
