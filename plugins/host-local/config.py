"""What host-local reads out of a configuration, besides its ranges: see ranges.py."""

from __future__ import annotations

from cni import TYPE_CHECKING
from cni.errors import InvalidConfig, InvalidEnvironment, IOFailure
from cni.net.addresses import IPAddress, parse_address, parse_prefixed
from cni.request import Add, take_args
from cni.result import DNS, Route
from cni_plugins.host_local.ranges import Catalogue, RangeSet

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any


def parse_requested(request: Add, sets: Sequence[RangeSet]) -> Mapping[int, IPAddress]:
    """The addresses that were asked for, by the number of the range set that each belongs to."""
    requested: dict[int, IPAddress] = {}
    keys = {address: key for key, address in _requested(request)}
    catalogue = Catalogue(sets)
    for address, key in keys.items():
        what = f"{key}: {address} is not allowed"
        if address in sets[0].withheld:  # as in all sets
            raise InvalidConfig(what, "it is a range's network, broadcast or gateway address")
        found = catalogue.find(address)
        if found is None:
            allowed = "; ".join(map(str, sets))
            raise InvalidConfig(what, f"allowed: an address in {allowed}")
        if found.number in requested:
            earlier = requested[found.number]
            raise InvalidConfig(what, f"{earlier} was asked for too; a range set gives one address")
        requested[found.number] = address
    return requested


def _requested(request: Add) -> Iterator[tuple[str, IPAddress]]:
    """Addresses and the keys they stand under: CNI_ARGS, `args.cni`, then `runtimeConfig`."""
    text = take_args(request.args, "IP").get("IP")
    if text:  # empty, as any address
        try:
            yield "CNI_ARGS: IP", _parse_address(text)
        except ValueError as error:
            raise InvalidEnvironment(f"CNI_ARGS: IP={text} is not allowed", str(error)) from None
    args = request.config.get("args", {}).get("cni", {})
    runtime = request.config.get("runtimeConfig", {})
    for key, source in (("args.cni.ips", args), ("runtimeConfig.ips", runtime)):
        for n, text in enumerate(source.get("ips", [])):
            yield f"{key}[{n}]", _parse_address(text)


def _parse_address(text: str) -> IPAddress:
    """A requested address; the length of its prefix is the subnet's, whatever is asked for."""
    return parse_prefixed(text).ip if "/" in text else parse_address(text)


def parse_routes(config: Mapping[str, Any]) -> tuple[Route, ...]:
    return tuple(_parse_route(route) for route in config["ipam"].get("routes", []))


def _parse_route(document: Mapping[str, Any]) -> Route:
    return Route(
        parse_prefixed(document["dst"]).network,
        parse_address(document["gw"]) if document.get("gw") else None,
        mtu=document.get("mtu"),
        advmss=document.get("advmss"),
        priority=document.get("priority"),
        table=document.get("table"),
        scope=document.get("scope"),
    )


def read_dns(config: Mapping[str, Any]) -> DNS:
    """What the file that `resolvConf` names says; nothing if it names none."""
    path = config["ipam"].get("resolvConf")
    if not path:
        return DNS()
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return parse_resolv_conf(file.read())
    except OSError as error:
        raise IOFailure(f"ipam.resolvConf: {path} cannot be read", str(error)) from None


def parse_resolv_conf(text: str) -> DNS:
    """resolv.conf(5). Of several `domain` lines the last counts; all other lines add up."""
    said: dict[str, list[str]] = {"nameserver": [], "domain": [], "search": [], "options": []}
    for line in text.splitlines():
        keyword, *values = line.split() or [""]
        if keyword in said:
            single = keyword in ("nameserver", "domain")
            said[keyword] += values[:1] if single else values
    return DNS(
        nameservers=tuple(said["nameserver"]),
        domain=said["domain"][-1] if said["domain"] else "",
        search=tuple(said["search"]),
        options=tuple(said["options"]),
    )
