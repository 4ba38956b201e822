"""portmap: publish ports of a container on the node. Chained behind a plugin that gives addresses.

What it owns on the node: entries of the firewall, one for each port and address family (and one
for the source NAT that goes with it), each claimed in the attachment's name. It hands on the
result that it was given.
"""

from __future__ import annotations

import functools
import os
from contextlib import ExitStack

import cni
from cni import TYPE_CHECKING, jsontext, log
from cni.errors import run_all
from cni.net.addresses import IPInterface, parse_address
from cni.net.netlink import conntrack
from cni.net.netlink.route import Netlink
from pycni import firewall
from pycni.state import attachments, location

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from typing import NoReturn

    from cni.net.addresses import IPAddress
    from cni.net.netlink.conntrack import Flow
    from cni.net.netlink.route import Netlink
    from cni_plugins.portmap.config import PortmapConfig


_ANYWHERE = {4: parse_address("0.0.0.0"), 6: parse_address("::")}


def add(request: cni.Add) -> cni.Result:
    """Publish all ports, or none."""
    from cni_plugins.portmap.config import parse_config
    from cni_plugins.portmap.rules import container_addresses, entries

    if request.prev_result is None:
        raise cni.InvalidConfig("prevResult: missing", "portmap has to follow another plugin")
    config = parse_config(request)
    if not config.mappings:
        return request.prev_result
    addresses = container_addresses(request.prev_result, request.owner.ifname)
    wanted = entries(config, addresses)
    ports = [entry for entry in wanted if isinstance(entry, firewall.HostPort)]
    if not ports:
        log.warn(
            f"no port is published: prevResult has no address of {request.owner.ifname} to which"
            " one of the mappings could lead"
        )
    _refuse_wrong_conditions(config, ports)
    log.attempt("listening processes are not known", _warn_of_listeners, ports)
    localnet = _localnet(config, addresses)
    install = functools.partial(firewall.install, backend=config.backend, pod=request.pod)
    with attachments.locked(request.owner), ExitStack() as undo:
        undo.callback(install(request.owner, "portmap", request.netns, wanted, localnet))
        log.attempt("connections may be stale", _forget_overtaken, ports)
        request.require_reader()
        undo.pop_all()
    return request.prev_result


def check(request: cni.Check) -> None:
    """Name the first port that is no longer published for this attachment."""
    from cni_plugins.portmap.config import parse_config
    from cni_plugins.portmap.rules import container_addresses, entries

    config = parse_config(request)
    addresses = container_addresses(request.prev_result, request.owner.ifname)
    wanted = entries(config, addresses)
    firewall.check(request.owner, "portmap", wanted, _localnet(config, addresses))


def delete(request: cni.Delete) -> None:
    """Withdraw what was published, by the record that the ADD left."""
    _withdraw(request.owner)


def gc(request: cni.Gc) -> None:
    """Withdraw what was published for attachments that the runtime does not know any more."""
    stale = attachments.find_stale(request.network, request.valid)
    steps: list[Callable[[], object]] = [functools.partial(_withdraw, owner) for owner in stale]
    remove_stale = firewall.remove_stale
    steps.append(functools.partial(remove_stale, request.network, request.valid, "portmap"))
    run_all(steps)


def status(request: cni.Status) -> None:
    """Say whether the firewall can be used, and state kept."""
    from cni_plugins.portmap.config import parse_config

    config = parse_config(request)
    location.require_usable()
    firewall.require_usable({firewall.HostPort}, config.backend)
    firewall.warn_of_damage()


def _withdraw(owner: cni.Attachment) -> None:
    remove = functools.partial(firewall.remove, owner, "portmap", then=_forget_withdrawn)
    attachments.remove_locked(owner, remove)


def _refuse_wrong_conditions(config: PortmapConfig, ports: Sequence[firewall.HostPort]) -> None:
    """What a user wrote becomes a part of rules, so the firewall is asked about it beforehand."""
    from cni_plugins.portmap.config import CONDITION_KEYS

    # The same words are asked about once, however many ports they are for.
    kinds = {(p.protocol, p.address.version, p.host_address is None): p for p in ports}
    for port in kinds.values():
        if not port.conditions:
            continue
        refusal = firewall.find_refusal(port, config.backend)
        if refusal:
            key, value = CONDITION_KEYS[port.address.version], jsontext.dumps(port.conditions)
            raise cni.InvalidConfig(f"{key}: {value} is not allowed", refusal)


def _warn_of_listeners(ports: Sequence[firewall.HostPort]) -> None:
    """Name processes of the node whose packets a published port takes.

    They are no reason to refuse it: publishing works in spite of them, and runtimes listen on
    purpose, so that nobody else takes the port (nerdctl, podman's conmon, Docker).
    """
    from cni.net.netlink import sock_diag

    numbers: dict[str, set[int]] = {}
    for port in ports:
        numbers.setdefault(port.protocol, set()).add(port.host_port)
    found = {name: sock_diag.find_listeners(name, wanted) for name, wanted in numbers.items()}
    taken: dict[int, list[str]] = {}
    for port in ports:
        address = port.host_address or _ANYWHERE[port.address.version]
        for listener in found[port.protocol].get(port.host_port, ()):
            if listener.receives(address):
                taken.setdefault(listener.inode, []).append(port.published)
                break
    published: dict[str, list[str]] = {}
    names = sock_diag.process_names(taken)
    for inode, where in taken.items():
        published.setdefault(names.get(inode, "a process"), []).extend(where)
    for process, where in published.items():
        if not process.startswith("conmon "):
            log.warn(
                f"{', '.join(where)}: {process} of the host listens there and receives nothing"
                " while the port is published"
            )


def _localnet(config: PortmapConfig, addresses: Sequence[IPInterface]) -> list[str]:
    """The interfaces on whose links the published IPv4 addresses are, for use from 127.0.0.1."""
    names = set()
    if not config.mappings or not config.source_nat:
        return []
    with Netlink() as host:
        for address in addresses:
            route = host.find_route(address.ip) if address.version == 4 else None
            if route is None or route.ifindex is None or route.gateway or route.is_local:
                continue
            link = host.find_link_by_index(route.ifindex)
            # nft cannot be told a name with a quote in it, and takes one with a star for many.
            if link is not None and not set(link.name) & set('"*\\'):
                names.add(link.name)
    return sorted(names)


def _forget_overtaken(ports: Sequence[firewall.HostPort]) -> None:
    """Have UDP connections that began before the ports were published decided anew."""
    published: dict[int, dict[int, list[firewall.HostPort]]] = {}
    for port in ports:
        if port.protocol == "udp":
            by_number = published.setdefault(port.address.version, {})
            by_number.setdefault(port.host_port, []).append(port)
    if not published:
        return
    with Netlink() as host:
        is_local = functools.cache(functools.partial(_is_local, host))
        for version, by_number in published.items():
            is_overtaken = functools.partial(_is_overtaken, by_number, is_local)
            where = ("udp", by_number, version)
            _attempt(f"udp ports by IPv{version}", conntrack.forget, *where, is_overtaken)


def _is_overtaken(
    published: Mapping[int, Sequence[firewall.HostPort]],
    is_local: Callable[[IPAddress], bool],
    flow: Flow,
) -> bool:
    """Whether a connection meant a published port, and is answered by something else."""
    ports = {port.host_address: port for port in published[flow.destination_port]}
    port = ports.get(flow.destination) or ports.get(None)
    if port is None or (flow.answered_by, flow.answered_port) == (port.address, port.port):
        return False
    return port.host_address is not None or is_local(flow.destination)


def _is_local(host: Netlink, address: IPAddress) -> bool:
    route = host.find_route(address)
    return route is not None and route.is_local


def _forget_withdrawn(entries: Sequence[firewall.Entry]) -> None:
    """Forget connections to the container, so that the next packet finds who has the port now."""
    ports = [entry for entry in entries if isinstance(entry, firewall.HostPort)]
    for address in {port.address for port in ports}:
        ways = {(p.protocol, p.host_port, p.port) for p in ports if p.address == address}
        is_withdrawn = functools.partial(_leads_one_of, ways)
        _attempt(str(address), conntrack.forget_answered, address, is_withdrawn)


def _leads_one_of(ways: Collection[tuple[str, int, int]], flow: Flow) -> bool:
    """Whether a connection goes one of these ways: protocol, host's port, container's port."""
    return (flow.protocol, flow.destination_port, flow.answered_port) in ways


def _attempt(where: str, forget: Callable[..., int], *arguments: object) -> None:
    """Failure is only told: whether a port is published does not depend on it."""
    log.attempt(f"connections to {where} may be stale", forget, *arguments)


PLUGIN = cni.Plugin(
    name="portmap",
    schema=os.path.join(os.path.dirname(__file__), "schema.json"),
    add=add,
    check=check,
    delete=delete,
    gc=gc,
    status=status,
)


def main() -> NoReturn:
    """Run as an executable."""
    cni.main(PLUGIN)
