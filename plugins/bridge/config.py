"""The bridge plugin's configuration, typed."""

from __future__ import annotations

from cni import TYPE_CHECKING
from cni.errors import InvalidConfig, InvalidEnvironment
from cni.formats import parse_ifname
from cni.namedtuple import NamedTuple
from cni.net.addresses import parse_mac
from cni.request import Add, Check, Status, take_args
from cni.result import DNS, parse_dns

if TYPE_CHECKING:
    from typing import Any

_IPV6_MIN_MTU = 1280  # RFC 8200, section 5

# Of host-local and static, in `ipam`; of `args.cni` and `runtimeConfig`.
_ADDRESS_KEYS = ("address", "ips", "subnet")


class BridgeConfig(NamedTuple):
    """What the network's bridge and the container's interface shall be like.

    `mtu`, `mac` and `masquerade_backend` are None where the kernel, or the plugin, chooses. `vlan`
    is 0 without one;
    `trunk` are the IDs of the VLANs that the container tags itself, None without `vlanTrunk`.
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
    vlan: int
    trunk: frozenset[int] | None
    keeps_default_vlan: bool
    checks_macs: bool
    mac: str | None
    dns: DNS

    @property
    def filters_vlans(self) -> bool:
        """Whether the bridge has to keep VLANs apart."""
        return self.vlan != 0 or self.trunk is not None

    @property
    def vlan_gateway(self) -> str:
        """The name of the interface by which the node is a gateway in the container's VLAN."""
        return f"{self.bridge}.{self.vlan}"


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
        vlan=document.get("vlan", 0),
        trunk=_parse_trunk(document["vlanTrunk"]) if "vlanTrunk" in document else None,
        keeps_default_vlan=document.get("preserveDefaultVlan", False),
        checks_macs=document.get("macspoofchk", False),
        mac=_requested_mac(request),
        dns=parse_dns(document.get("dns", {})),
    )
    if config.hairpin and config.promiscuous:
        raise InvalidConfig(
            "hairpinMode: true is not allowed", "allowed: false, since promiscMode is true"
        )
    has_ipam = bool(document.get("ipam", {}).get("type"))
    if config.leave_container_down and has_ipam:
        raise InvalidConfig(
            "disableContainerInterface: true is not allowed",
            "allowed: false, since ipam.type asks for addresses",
        )
    if config.vlan and config.is_gateway and has_ipam:
        _require_room_for_gateway(config)
    if 6 in address_families(document):
        require_mtu_for_ipv6(config)
    return config


def require_mtu_for_ipv6(config: BridgeConfig) -> None:
    """Raise InvalidConfig if interfaces with this MTU can have no IPv6 addresses.

    The kernel takes IPv6 away from such an interface: addrconf_notify in net/ipv6/addrconf.c.
    """
    if config.mtu is not None and config.mtu < _IPV6_MIN_MTU:
        raise InvalidConfig(
            f"mtu: {config.mtu} is not allowed",
            f"IPv6 needs {_IPV6_MIN_MTU}: allowed are {_IPV6_MIN_MTU} to 65535, or 0 for the"
            " kernel's default, unless all addresses are IPv4",
        )


def address_families(document: dict[str, Any]) -> set[int]:
    """The IP versions of addresses and subnets that the configuration itself asks for."""
    places = [document.get(key) for key in ("ipam", "runtimeConfig", "args")]
    marks = {4: ".", 6: ":"}
    return {version for version, mark in marks.items() if _names_address(places, mark)}


def _names_address(value: object, mark: str, key: str = "", depth: int = 7) -> bool:
    """Whether one of the places where addresses are asked for has one with this mark in it."""
    if isinstance(value, dict) and depth:
        items = value.items()
        return any(_names_address(inner, mark, name, depth - 1) for name, inner in items)
    if isinstance(value, list) and depth:
        return any(_names_address(inner, mark, key, depth - 1) for inner in value)
    return isinstance(value, str) and key.lower() in _ADDRESS_KEYS and mark in value


def _require_room_for_gateway(config: BridgeConfig) -> None:
    try:
        parse_ifname(config.vlan_gateway)
    except ValueError as error:
        raise InvalidConfig(
            f'bridge: "{config.bridge}" is not allowed',
            f"allowed: a shorter name, since the gateway in VLAN {config.vlan} is named"
            f" after it: {error}",
        ) from None


def _parse_trunk(items: list[dict[str, int]]) -> frozenset[int]:
    """The VLAN IDs of a list of `id`, and of `minID` and `maxID`; an item may have all of them."""
    ids: set[int] = set()
    for position, item in enumerate(items):
        where = f"vlanTrunk[{position}]"
        for key, other in (("minID", "maxID"), ("maxID", "minID")):
            if key in item and other not in item:
                raise InvalidConfig(f"{where}.{other}: missing", f"{where}.{key} needs it")
        if "minID" in item:
            first, last = item["minID"], item["maxID"]
            if first > last:
                raise InvalidConfig(
                    f"{where}.minID: {first} is not allowed",
                    f"allowed: a whole number from 1 to {last}, which is maxID",
                )
            ids.update(range(first, last + 1))
        if "id" in item:
            ids.add(item["id"])
    return frozenset(ids)


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
