"""The portmap plugin's configuration, typed."""

from __future__ import annotations

from cni import TYPE_CHECKING, jsontext
from cni.errors import InvalidConfig
from cni.namedtuple import NamedTuple
from cni.net.addresses import IPAddress, parse_address
from cni.request import Request
from pycni.firewall.entries import MARK_BIT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
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
    mark                  how iptables tells whose: see `pycni.firewall.SourceNat`
    conditions            what else a packet to a published port has to meet, by IP version
    backend               what the firewall is to use, None for whatever is usable
    """

    mappings: tuple[PortMapping, ...]
    source_nat: bool
    masquerade_everyone: bool
    conditions: Mapping[int, tuple[str, ...]]
    mark: int | str = MARK_BIT
    backend: str | None = None


def parse_config(request: Request) -> PortmapConfig:
    """The validated configuration.

    Raises InvalidConfig for a host port that is asked for twice, for conditions that are none, and
    for keys that contradict one another.
    """
    document = request.config
    listed = document.get("runtimeConfig", {}).get("portMappings", [])
    mappings = tuple(_parse_mapping(fields) for fields in listed)
    _refuse_ambiguous(mappings)
    backend = _parse_backend(document)
    return PortmapConfig(
        mappings=mappings,
        source_nat=document.get("snat", True),
        masquerade_everyone=document.get("masqAll", False),
        conditions={
            version: _parse_conditions(document, key) for version, key in CONDITION_KEYS.items()
        },
        mark=_parse_mark(document),
        backend=backend,
    )


def _parse_backend(document: dict[str, Any]) -> str | None:
    """The backend that is asked for, or that other keys need. They must agree."""
    wanted = {
        "backend": document.get("backend") or None,
        "externalSetMarkChain": "iptables" if document.get("externalSetMarkChain") else None,
        **{key: _language(document.get(key, ())) for key in CONDITION_KEYS.values()},
    }
    asked = {key: backend for key, backend in wanted.items() if backend}
    for key, backend in asked.items():
        first = next(iter(asked))
        if backend != asked[first]:
            raise InvalidConfig(
                f"{key}: {jsontext.dumps(document[key])} is not allowed",
                f"it is for {backend}, and {first} asks for {asked[first]}",
            )
    return next(iter(asked.values()), None)


def _language(conditions: Sequence[str]) -> str | None:
    """Whose words conditions are, told as the reference plugins do: by the first character."""
    first = next(filter(None, conditions), None)
    if first is None:
        return None
    return "iptables" if first[0] in "-!" else "nftables"


def _parse_mark(document: dict[str, Any]) -> int | str:
    chain, bit = document.get("externalSetMarkChain") or None, document.get("markMasqBit")
    if chain and bit is not None:
        raise InvalidConfig(
            f"markMasqBit: {bit} is not allowed",
            f"allowed: none, since externalSetMarkChain is {jsontext.dumps(chain)}",
        )
    return chain or (MARK_BIT if bit is None else int(bit))


def _parse_conditions(document: dict[str, Any], key: str) -> tuple[str, ...]:
    """Words of a rule."""
    words = tuple(word for word in document.get(key, ()) if word)
    if not words:
        return ()
    if _language(words) == "iptables":
        from pycni.firewall.iptables.arguments import parse_argument as parse
    else:
        from pycni.firewall.nftables.conditions import parse_condition as parse
    for number, word in enumerate(document[key]):
        try:
            parse(word)
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
