"""From port mappings to firewall entries: pure, no kernel here."""

from __future__ import annotations

from cni import TYPE_CHECKING
from cni.net.addresses import IPInterface
from cni.result import Result
from cni_plugins.portmap.config import PortmapConfig, PortMapping
from pycni.firewall import HostPort, SourceNat, Translation

if TYPE_CHECKING:
    from collections.abc import Iterator


def container_addresses(result: Result, ifname: str) -> list[IPInterface]:
    """The addresses to publish ports of: the first of each family that `ifname` has.

    Addresses on other interfaces are left alone; an address that names no interface counts.
    """
    first: dict[int, IPInterface] = {}
    for ip in result.ips:
        if ip.interface is not None and ip.interface < len(result.interfaces):
            interface = result.interfaces[ip.interface]
            if interface.name != ifname or not interface.sandbox:
                continue
        first.setdefault(ip.address.version, ip.address)
    return list(first.values())


def entries(config: PortmapConfig, addresses: list[IPInterface]) -> list[Translation]:
    """What the firewall has to do, each thing once."""
    wanted = (
        entry
        for address in addresses
        for mapping in config.mappings
        for entry in _entries_of(config, mapping, address)
    )
    return list(dict.fromkeys(wanted))


def _entries_of(
    config: PortmapConfig, mapping: PortMapping, address: IPInterface
) -> Iterator[Translation]:
    if address.version not in mapping.families:
        return
    protocol, host_address, host_port, container_port, _ = mapping
    conditions = config.conditions[address.version]
    yield HostPort(protocol, host_address, host_port, address.ip, container_port, conditions)
    if config.source_nat:
        everyone = config.masquerade_everyone
        yield SourceNat(protocol, address, container_port, everyone, config.mark)
