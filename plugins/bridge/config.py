"""The bridge plugin's configuration, typed."""

from __future__ import annotations

from cni import TYPE_CHECKING
from cni.addresses import parse_mac
from cni.errors import InvalidConfig, InvalidEnvironment
from cni.namedtuple import NamedTuple
from cni.request import Add, Check, Status, take_args
from cni.result import DNS, parse_dns

if TYPE_CHECKING:
    from typing import Any


class BridgeConfig(NamedTuple):
    """What the network's bridge and the container's interface shall be like.

    `mtu`, `mac` and `masquerade_backend` are None where the kernel, or the plugin, chooses.
    """

    bridge: str
    is_gateway: bool
    is_default_gateway: bool
    force_address: bool
    masquerade: bool
    masquerade_backend: str | None
    mtu: int | None
    hairpin: bool
    promiscuous: bool
    dad: bool
    leave_container_down: bool
    isolated: bool
    mac: str | None
    dns: DNS


def parse_config(request: Add | Check | Status) -> BridgeConfig:
    """The validated configuration. Raises InvalidConfig for keys that contradict one another."""
    document = request.config
    config = BridgeConfig(
        bridge=document.get("bridge") or "cni0",
        is_gateway=document.get("isGateway", False) or document.get("isDefaultGateway", False),
        is_default_gateway=document.get("isDefaultGateway", False),
        force_address=document.get("forceAddress", False),
        masquerade=document.get("ipMasq", False),
        masquerade_backend=document.get("ipMasqBackend") or None,
        mtu=document.get("mtu") or None,
        hairpin=document.get("hairpinMode", False),
        promiscuous=document.get("promiscMode", False),
        dad=document.get("enabledad", False),
        leave_container_down=document.get("disableContainerInterface", False),
        isolated=document.get("portIsolation", False),
        mac=_requested_mac(request),
        dns=parse_dns(document.get("dns", {})),
    )
    if config.hairpin and config.promiscuous:
        raise InvalidConfig(
            "hairpinMode: true is not allowed", "allowed: false, since promiscMode is true"
        )
    if config.leave_container_down and document.get("ipam", {}).get("type"):
        raise InvalidConfig(
            "disableContainerInterface: true is not allowed",
            "allowed: false, since ipam.type asks for addresses",
        )
    return config


def _requested_mac(request: Add | Check | Status) -> str | None:
    """The container's MAC address: of the three that may ask for one, the last counts."""
    config: dict[str, Any] = request.config
    args = {} if isinstance(request, Status) else request.args
    in_args = take_args(args, "MAC").get("MAC")
    if in_args:
        try:
            parse_mac(in_args)
        except ValueError as error:
            raise InvalidEnvironment("CNI_ARGS: MAC is not allowed", str(error)) from None
    in_config = config.get("args", {}).get("cni", {}).get("mac")
    from_runtime = config.get("runtimeConfig", {}).get("mac")
    mac = from_runtime or in_config or in_args
    return parse_mac(mac) if mac else None
