"""The result of an ADD: typed in memory, any version of the specification at the edge.

`parse_result` and `Result.to_document` are the only places that know how the format changed:

    0.1.0, 0.2.0    one address a family, as `ip4` and `ip6` with their routes inside; no interfaces
    0.3.0 … 0.4.0   `interfaces`, `ips` (each with a `version`), `routes`, `dns` always there
    1.0.0           `ips` without `version`; an empty `dns` is left out
    1.1.0           interfaces gain `mtu`, `socketPath`, `pciID`; routes gain `mtu`, `advmss`,
                    `priority`, `table`, `scope`; those of routes are understood from 0.3.0 on, as
                    the reference plugins do, for networks configure them whatever their version

Keys that a version does not know are kept in `extra` where they stood and written out again, so
that a chained plugin hands on what others put there.

A Result stays as it is: `result._replace(routes=(*result.routes, cni.Route(…)))` is another one.
Source: CNI specification, section "Result Types", of each version.
"""

from __future__ import annotations

from ipaddress import ip_network
from types import MappingProxyType

from cni import TYPE_CHECKING
from cni.errors import InvalidConfig
from cni.namedtuple import NamedTuple
from cni.net.addresses import IPAddress, IPInterface, IPNetwork, parse_address, parse_prefixed
from cni.versions import at_least

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, TypeVar

    _Value = TypeVar("_Value")

NOTHING: Mapping[str, Any] = MappingProxyType({})


class Interface(NamedTuple):
    """An interface that an ADD made or used; `sandbox` is the path of its namespace, if any.

    `mac` is text such as 0a:58:0a:16:00:05, `mtu` a number of bytes; 0 and None are not written.
    """

    name: str
    mac: str | None = None
    sandbox: str | None = None
    mtu: int | None = None
    socket_path: str | None = None
    pci_id: str | None = None
    extra: Mapping[str, Any] = NOTHING


class IPConfig(NamedTuple):
    """An address with its prefix length; `interface` is an index into the result's interfaces."""

    address: IPInterface
    gateway: IPAddress | None = None
    interface: int | None = None
    extra: Mapping[str, Any] = NOTHING


class Route(NamedTuple):
    """A route; without `gateway` it goes by that of the first address of its family.

    `mtu` and `advmss` are bytes, `priority` is the metric; `table` and `scope` are numbers as in
    rtnetlink(7).
    """

    destination: IPNetwork
    gateway: IPAddress | None = None
    mtu: int | None = None
    advmss: int | None = None
    priority: int | None = None
    table: int | None = None
    scope: int | None = None
    extra: Mapping[str, Any] = NOTHING


class DNS(NamedTuple):
    """Resolver settings, as in resolv.conf(5)."""

    nameservers: tuple[str, ...] = ()
    domain: str = ""
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    extra: Mapping[str, Any] = NOTHING

    def to_document(self) -> dict[str, Any]:
        """As JSON, with only the keys that are set."""
        return _filled(
            nameservers=list(self.nameservers),
            domain=self.domain,
            search=list(self.search),
            options=list(self.options),
        ) | dict(self.extra)


class Result(NamedTuple):
    """What an ADD built. A chained plugin returns the one it was given, perhaps with more."""

    interfaces: tuple[Interface, ...] = ()
    ips: tuple[IPConfig, ...] = ()
    routes: tuple[Route, ...] = ()
    dns: DNS = DNS()
    extra: Mapping[str, Any] = NOTHING

    def to_document(self, version: str) -> dict[str, Any]:
        """As JSON in the format of `version`, one of `cni.versions.SUPPORTED`."""
        if not at_least(version, "0.3.0"):
            return self._to_document_by_family(version)
        document: dict[str, Any] = {"cniVersion": version} | _filled(
            interfaces=[_interface_to_document(i, version) for i in self.interfaces],
            ips=[_ip_to_document(ip, version) for ip in self.ips],
            routes=[_route_to_document(route, version) for route in self.routes],
        )
        dns = self.dns.to_document()
        if dns or not at_least(version, "1.0.0"):
            document["dns"] = dns
        return document | dict(self.extra)

    def _to_document_by_family(self, version: str) -> dict[str, Any]:
        """0.1.0 and 0.2.0 have room for the first address of each family only."""
        document: dict[str, Any] = {"cniVersion": version}
        for family, key in ((4, "ip4"), (6, "ip6")):
            first = next((ip for ip in self.ips if ip.address.version == family), None)
            if first is None:
                continue
            routes = [r for r in self.routes if r.destination.version == family]
            document[key] = _filled(
                ip=str(first.address),
                gateway=_text(first.gateway),
                routes=[_route_to_document(route, version) for route in routes],
            ) | dict(first.extra)
        return document | {"dns": self.dns.to_document()} | dict(self.extra)


def parse_result(document: object, version: str, key: str = "prevResult") -> Result:
    """Read a result in the format of `version`. Raises InvalidConfig that names the key's path."""
    fields = _Fields(document, key)
    fields.take("cniVersion", _as_text)
    if at_least(version, "0.3.0"):
        for family in ("ip4", "ip6"):
            if fields.rest.pop(family, None) is not None:
                raise InvalidConfig(
                    f"{key}.{family}: is not allowed in version {version}",
                    "from 0.3.0 on, addresses are listed in `ips`",
                )
        return Result(
            interfaces=fields.take_all("interfaces", lambda at: _parse_interface(at, version)),
            ips=fields.take_all("ips", lambda at: _parse_ip(at, version)),
            routes=fields.take_all("routes", lambda at: _parse_route(at, version)),
            dns=fields.take_object("dns", _parse_dns) or DNS(),
            extra=fields.rest,
        )
    ips: list[IPConfig] = []
    routes: list[Route] = []
    for family in ("ip4", "ip6"):
        at = fields.take_object(family, lambda at: at)
        if at is not None:
            routes += at.take_all("routes", lambda at: _parse_route(at, version))
            address = at.require("ip", _as_prefixed)
            gateway = at.take("gateway", _as_address)
            ips.append(IPConfig(address, gateway, extra=at.rest))
    dns = fields.take_object("dns", _parse_dns) or DNS()
    return Result(ips=tuple(ips), routes=tuple(routes), dns=dns, extra=fields.rest)


class _Fields:
    """The keys of a JSON object that are still to be read, and where the object stands."""

    def __init__(self, document: object, path: str) -> None:
        if not isinstance(document, dict):
            raise InvalidConfig(f"{path}: {document!r} is not allowed", "allowed: an object")
        self.path = path
        self.rest: dict[str, Any] = dict(document)

    def take(self, key: str, convert: Callable[[object], _Value]) -> _Value | None:
        """The converted value, None if the key is absent or null."""
        value = self.rest.pop(key, None)
        if value is None:
            return None
        try:
            return convert(value)
        except ValueError as error:
            raise InvalidConfig(
                f"{self.path}.{key}: {value!r} is not allowed", str(error)
            ) from None

    def require(self, key: str, convert: Callable[[object], _Value]) -> _Value:
        value = self.take(key, convert)
        if value is None:
            raise InvalidConfig(f"{self.path}.{key}: missing")
        return value

    def take_object(self, key: str, parse: Callable[[_Fields], _Value]) -> _Value | None:
        value = self.rest.pop(key, None)
        return None if value is None else parse(_Fields(value, f"{self.path}.{key}"))

    def take_all(self, key: str, parse: Callable[[_Fields], _Value]) -> tuple[_Value, ...]:
        values = self.take(key, _as_list) or ()
        return tuple(
            parse(_Fields(value, f"{self.path}.{key}[{n}]")) for n, value in enumerate(values)
        )


def parse_dns(document: object, key: str = "dns") -> DNS:
    """Read resolver settings. Raises InvalidConfig that names the key's path."""
    return _parse_dns(_Fields(document, key))


def _parse_dns(fields: _Fields) -> DNS:
    return DNS(
        nameservers=fields.take("nameservers", _as_texts) or (),
        domain=fields.take("domain", _as_text) or "",
        search=fields.take("search", _as_texts) or (),
        options=fields.take("options", _as_texts) or (),
        extra=fields.rest,
    )


def _parse_interface(fields: _Fields, version: str) -> Interface:
    name = fields.require("name", _as_text)
    interface = Interface(
        name, fields.take("mac", _as_text) or None, fields.take("sandbox", _as_text) or None
    )
    if at_least(version, "1.1.0"):
        interface = interface._replace(
            mtu=fields.take("mtu", _as_number),
            socket_path=fields.take("socketPath", _as_text),
            pci_id=fields.take("pciID", _as_text),
        )
    return interface._replace(extra=fields.rest)


def _interface_to_document(interface: Interface, version: str) -> dict[str, Any]:
    document = {"name": interface.name} | _filled(mac=interface.mac, sandbox=interface.sandbox)
    if at_least(version, "1.1.0"):
        document |= _filled(
            mtu=interface.mtu, socketPath=interface.socket_path, pciID=interface.pci_id
        )
    return document | dict(interface.extra)


def _parse_ip(fields: _Fields, version: str) -> IPConfig:
    if not at_least(version, "1.0.0"):
        fields.take("version", _as_text)
    return IPConfig(
        fields.require("address", _as_prefixed),
        fields.take("gateway", _as_address),
        fields.take("interface", _as_index),
        fields.rest,
    )


def _ip_to_document(ip: IPConfig, version: str) -> dict[str, Any]:
    document: dict[str, Any] = {} if ip.interface is None else {"interface": ip.interface}
    if not at_least(version, "1.0.0"):
        document["version"] = str(ip.address.version)
    document["address"] = str(ip.address)
    return document | _filled(gateway=_text(ip.gateway)) | dict(ip.extra)


def _parse_route(fields: _Fields, version: str) -> Route:
    route = Route(fields.require("dst", _as_network), fields.take("gw", _as_address))
    if at_least(version, "0.3.0"):
        route = route._replace(
            mtu=fields.take("mtu", _as_word),
            advmss=fields.take("advmss", _as_word),
            priority=fields.take("priority", _as_word),
            table=fields.take("table", _as_word),
            scope=fields.take("scope", _as_word),
        )
    return route._replace(extra=fields.rest)


def _route_to_document(route: Route, version: str) -> dict[str, Any]:
    document = {"dst": str(route.destination)} | _filled(gw=_text(route.gateway))
    if at_least(version, "0.3.0"):
        document |= _filled(mtu=route.mtu, advmss=route.advmss, priority=route.priority)
        # 0 is a table and a scope of its own (RT_SCOPE_UNIVERSE), so only None is "not set".
        for key, value in (("table", route.table), ("scope", route.scope)):
            if value is not None:
                document[key] = value
    return document | dict(route.extra)


def _filled(**values: Any) -> dict[str, Any]:
    """Without the keys that hold nothing: None, 0, an empty string or list."""
    return {key: value for key, value in values.items() if value}


def _text(address: IPAddress | None) -> str:
    return "" if address is None else str(address)


def _as_text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("allowed: a string")
    return value


def _as_number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("allowed: a whole number")
    return value


def _as_word(value: object) -> int:
    """What netlink has room for."""
    number = _as_number(value)
    if not 0 <= number < 1 << 32:
        raise ValueError("allowed: a whole number from 0 to 4294967295")
    return number


def _as_index(value: object) -> int:
    index = _as_number(value)
    if index < 0:
        raise ValueError("allowed: a whole number, 0 or more")
    return index


def _as_list(value: object) -> Sequence[object]:
    if not isinstance(value, list):
        raise ValueError("allowed: a list")
    return value


def _as_texts(value: object) -> tuple[str, ...]:
    return tuple(_as_text(item) for item in _as_list(value))


def _as_address(value: object) -> IPAddress | None:
    text = _as_text(value)
    return parse_address(text) if text else None


def _as_prefixed(value: object) -> IPInterface:
    return parse_prefixed(_as_text(value))


def _as_network(value: object) -> IPNetwork:
    prefixed = parse_prefixed(_as_text(value))
    return ip_network(prefixed.network)
