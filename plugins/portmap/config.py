"""The portmap plugin's configuration, typed."""

from __future__ import annotations

from cni import TYPE_CHECKING, jsontext
from cni.addresses import IPAddress, parse_address
from cni.errors import InvalidConfig
from cni.namedtuple import NamedTuple
from cni.request import Request

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

CONDITION_KEYS = {4: "conditionsV4", 6: "conditionsV6"}


class PortMapping(NamedTuple):
    """A port to publish, at one address of the node or, if None, at all of these families."""

    protocol: str
    host_address: IPAddress | None
    host_port: int
    container_port: int
    families: tuple[int, ...] = (4, 6)


class PortmapConfig(NamedTuple):
    """What to publish, and for whose traffic the node puts in its own address as the source.

    source_nat            for the container's own subnet and the node's 127.0.0.0/8
    masquerade_everyone   if so, for all others as well
    conditions            what else a packet to a published port has to meet, by IP version
    """

    mappings: tuple[PortMapping, ...]
    source_nat: bool
    masquerade_everyone: bool
    conditions: Mapping[int, tuple[str, ...]]


def parse_config(request: Request) -> PortmapConfig:
    """The validated configuration.

    Raises InvalidConfig for a host port that is asked for twice, and for conditions that are none.
    """
    document = request.config
    listed = document.get("runtimeConfig", {}).get("portMappings", [])
    mappings = tuple(_parse_mapping(fields) for fields in listed)
    _refuse_ambiguous(mappings)
    return PortmapConfig(
        mappings=mappings,
        source_nat=document.get("snat", True),
        masquerade_everyone=document.get("masqAll", False),
        conditions={
            version: _parse_conditions(document, key) for version, key in CONDITION_KEYS.items()
        },
    )


def _parse_conditions(document: dict[str, Any], key: str) -> tuple[str, ...]:
    """Words of a rule. The reference plugins tell by the first character whose words they are."""
    words = tuple(word for word in document.get(key, ()) if word)
    if not words:
        return ()
    from cni.firewall.conditions import parse_condition

    if words[0][0] in "-!":
        raise InvalidConfig(
            f"{key}[0]: {jsontext.dumps(words[0])} is not allowed",
            "allowed: an nft expression; this version has no iptables backend yet",
        )
    for number, word in enumerate(document[key]):
        try:
            parse_condition(word)
        except ValueError as error:
            raise InvalidConfig(
                f"{key}[{number}]: {jsontext.dumps(word)} is not allowed", str(error)
            ) from None
    return words


def _parse_mapping(fields: dict[str, Any]) -> PortMapping:
    mapping = PortMapping(
        protocol=(fields.get("protocol") or "tcp").lower(),
        host_address=None,
        host_port=fields["hostPort"],
        container_port=fields["containerPort"],
    )
    if not fields.get("hostIP"):
        return mapping
    # 0.0.0.0 is any IPv4 address, :: any IPv6 address, nothing at all any address.
    address = parse_address(fields["hostIP"])
    host_address = None if address.is_unspecified else address
    return mapping._replace(host_address=host_address, families=(address.version,))


def _refuse_ambiguous(mappings: tuple[PortMapping, ...]) -> None:
    targets: dict[tuple[str, int, IPAddress | None, int], int] = {}
    for number, mapping in enumerate(mappings):
        for family in mapping.families:
            where = (mapping.protocol, family, mapping.host_address, mapping.host_port)
            target = targets.setdefault(where, mapping.container_port)
            if target != mapping.container_port:
                raise InvalidConfig(
                    f"runtimeConfig.portMappings[{number}].hostPort: {mapping.host_port} is not"
                    f" allowed",
                    f"it is published to container port {target} already",
                )
