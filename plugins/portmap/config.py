"""The portmap plugin's configuration, typed."""

from __future__ import annotations

from typing import NamedTuple

from cni.addresses import IPAddress, parse_address
from cni.errors import InvalidConfig
from cni.request import Add, Check


class PortMapping(NamedTuple):
    """A port to publish. `host_address` None stands for all addresses of the node."""

    protocol: str
    host_address: IPAddress | None
    host_port: int
    container_port: int


class PortmapConfig(NamedTuple):
    """What to publish, and for whose traffic the node puts in its own address as the source.

    source_nat            for the container's own subnet and the node's 127.0.0.0/8
    masquerade_everyone   for all others as well
    """

    mappings: tuple[PortMapping, ...]
    source_nat: bool
    masquerade_everyone: bool


def parse_config(request: Add | Check) -> PortmapConfig:
    """The validated configuration. Raises InvalidConfig for a host port that is asked for twice."""
    document = request.config
    mappings = tuple(
        PortMapping(
            protocol=(fields.get("protocol") or "tcp").lower(),
            host_address=_parse_host_address(fields.get("hostIP", "")),
            host_port=fields["hostPort"],
            container_port=fields["containerPort"],
        )
        for fields in document.get("runtimeConfig", {}).get("portMappings", [])
    )
    _refuse_ambiguous(mappings)
    return PortmapConfig(mappings, document.get("snat", True), document.get("masqAll", False))


def _parse_host_address(text: str) -> IPAddress | None:
    """0.0.0.0 is any IPv4 address, :: any IPv6 address, nothing at all any address."""
    return parse_address(text) if text else None


def _refuse_ambiguous(mappings: tuple[PortMapping, ...]) -> None:
    targets: dict[tuple[str, IPAddress | None, int], int] = {}
    for number, mapping in enumerate(mappings):
        where = (mapping.protocol, mapping.host_address, mapping.host_port)
        if targets.setdefault(where, mapping.container_port) != mapping.container_port:
            raise InvalidConfig(
                f"runtimeConfig.portMappings[{number}].hostPort: {mapping.host_port} is not"
                f" allowed",
                f"it is published to container port {targets[where]} already",
            )
