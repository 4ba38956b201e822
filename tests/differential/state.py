"""The state of a node and its pods, as iproute2 and the file system tell it, made comparable.

What no plugin chooses is left out (indices, timers, counters, what the kernel derives from
addresses), and names and MAC addresses that a plugin draws at random are replaced by what they are
the names of. A MAC address that the case itself mentions stays.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from tests.differential.case import Document
from tests.support.node import Node

_HOST = "host"

_SYSCTLS = " ".join(
    f"/proc/sys/net/{path}"
    for path in (
        "ipv4/ip_forward",
        "ipv6/conf/all/forwarding",
        "ipv4/conf/*/route_localnet",
        "ipv4/conf/*/arp_notify",
        "ipv6/conf/*/accept_ra",
        "ipv6/conf/*/autoconf",
        "ipv6/conf/*/accept_dad",
        "ipv6/conf/*/disable_ipv6",
        "ipv6/conf/*/ndisc_notify",
        "ipv6/conf/*/keep_addr_on_down",
    )
)

# Every section begins with a line that names it.
_SCRIPT = f"""
echo "= host links"; ip -j -d address
echo "= host routes"; ip -j -d route show table all
echo "= host sysctls"; grep -H . {_SYSCTLS}
for path in /run/netns/*; do
    name=${{path##*/}}
    [ -e "$path" ] && [ "$name" != outside ] || continue
    echo "= $name links"; ip -n "$name" -j -d address
    echo "= $name routes"; ip -n "$name" -j -d route show table all
    echo "= $name sysctls"; nsenter --net="$path" sh -c "grep -H . {_SYSCTLS}"
done
echo "= node leases"
find /var/lib/cni /run/leases -mindepth 1 ! -type d 2>/dev/null | while read -r file
do printf '%s=' "$file"; head -c 200 "$file" | tr '\\r\\n' '~~'; echo; done
echo "= node ruleset"; nft list ruleset
ip6tables-save -t nat; ipset list  # which nft cannot spell out
"""

# What differs from one run to the next, or follows from something else that is compared.
_LINK_NOISE = {
    "addr_info",
    "address",
    "broadcast",
    "gro_max_size",
    "gso_max_segs",
    "gso_max_size",
    "ifindex",
    "ifname",
    "link",
    "link_index",
    "link_netnsid",
    "operstate",
    "permaddr",
    "qdisc",
    "tso_max_segs",
    "tso_max_size",
}
_BRIDGE_NOISE = {
    "bridge_id",
    "config_pending",
    "designated_bridge",
    "designated_port",
    "forward_delay_timer",
    "gc_timer",
    "hello_timer",
    "hold_timer",
    "id",
    "message_age_timer",
    "no",
    "root_id",
    "tcn_timer",
    "topology_change",
    "topology_change_ack",
    "topology_change_detected",
    "topology_change_timer",
}
# The kernel tells a moment later whether a link carries.
_FLAG_NOISE = {"LOWER_UP", "NO-CARRIER", "M-DOWN"}
_ADDRESS_NOISE = {"dadfailed", "family", "local", "prefixlen", "tentative", "label"}
_ROUTE_NOISE = {"dst", "flags", "gateway", "table", "dev"}


class Names:
    """What the links of a node and of its pods are called in a comparison."""

    def __init__(self, links: dict[str, list[Document]], mentioned: str) -> None:
        self._mentioned = mentioned.lower()
        self._macs = {
            (place, link["ifname"]): link.get("address", "")
            for place, found in links.items()
            for link in found
        }
        self._aliases: dict[str, str] = {}
        ends = [(place, link) for place in links if place != _HOST for link in links[place]]
        for port in links[_HOST]:
            for place, link in ends:
                if link.get("link_index") == port["ifindex"] and "link_netnsid" in port:
                    self._aliases[port["ifname"]] = f"peer-of-{place}-{link['ifname']}"

    def of_link(self, name: str) -> str:
        return self._aliases.get(name, "veth-gone" if name.startswith("veth") else name)

    def of_mac(self, mac: str) -> str:
        return mac if mac.lower() in self._mentioned or mac in ("", _NO_MAC) else "random"

    def in_result(self, document: Any) -> Any:
        """A result with the names and MAC addresses of its interfaces replaced."""
        if not isinstance(document, dict):
            return document
        interfaces = [self._in_interface(i) for i in document.get("interfaces", [])]
        named = {"interfaces": interfaces} if "interfaces" in document else {}
        return _numbered({**document, **named})

    def _in_interface(self, interface: Document) -> Document:
        place = interface.get("sandbox", _HOST).rpartition("/")[2]
        known = self._macs.get((place, interface["name"]))
        mac = interface.get("mac")
        right = {} if mac is None else {"mac": self.of_mac(mac) if mac == known else f"not {known}"}
        return {**interface, "name": self.of_link(interface["name"]), **right}


_NO_MAC = "00:00:00:00:00:00"


def read_state(node: Node, result: Any, mentioned: str) -> tuple[Document, Names]:
    """All that is compared of a node after a step, besides the step's answer.

    `result` is that of the last ADD: of its addresses, the firewall may say something. `mentioned`
    is the case as text.
    """
    sections = dict(_sections(node.run("sh", "-c", _SCRIPT).stdout))
    places = [key.partition(" ")[0] for key in sections if key.endswith(" links")]
    links = {place: json.loads(sections[f"{place} links"]) for place in places}
    names = Names(links, mentioned)
    state: Document = {}
    for place in places:
        sysctls = _sysctls(sections[f"{place} sysctls"])
        routes = json.loads(sections[f"{place} routes"] or "[]")
        state[place] = {
            "link": {names.of_link(i["ifname"]): _link(i, names, sysctls) for i in links[place]},
            "route": dict(_routes(routes, names)),
            "sysctl": {**sysctls["ipv4"], **sysctls["all"]},
        }
    state["leases"] = dict(line.split("=", 1) for line in sections["node leases"].splitlines())
    state["firewall"] = dict(_mentions(sections["node ruleset"], result))
    return state, names


def _sections(text: str) -> Iterator[tuple[str, str]]:
    for section in re.split("^= ", text, flags=re.MULTILINE)[1:]:
        title, _, body = section.partition("\n")
        yield title, body.strip()


def _link(link: Document, names: Names, sysctls: Document) -> Document:
    info = dict(link.get("linkinfo", {}))
    for part in ("info_data", "info_slave_data"):
        info[part] = {k: v for k, v in info.get(part, {}).items() if k not in _BRIDGE_NOISE}
    kept = {key: value for key, value in link.items() if key not in _LINK_NOISE}
    return {
        **kept,
        "flags": " ".join(sorted(set(link["flags"]) - _FLAG_NOISE)),
        "mac": names.of_mac(link.get("address", "")),
        "linkinfo": info,
        "address": dict(_addresses(link)),
        "sysctl": sysctls.get(link["ifname"], {}),
    }


def _addresses(link: Document) -> Iterator[tuple[str, Document]]:
    """All but the link-local ones, which the kernel makes from MAC addresses."""
    for info in link["addr_info"]:
        if info["scope"] != "link":
            name = f"{info['local']}/{info['prefixlen']}"
            yield name, {k: v for k, v in info.items() if k not in _ADDRESS_NOISE}


def _routes(routes: list[Document], names: Names) -> Iterator[tuple[str, Document]]:
    """All but those that follow from addresses."""
    for route in routes:
        local = route.get("table") == "local" and route["protocol"] == "kernel"
        if local or route["dst"] == "fe80::/64":
            continue
        name = f"{route['dst']} via {route.get('gateway', names.of_link(route.get('dev', '-')))}"
        table = route.get("table", "main")
        yield f"{table} {name}", {k: v for k, v in route.items() if k not in _ROUTE_NOISE}


def _sysctls(text: str) -> Document:
    """By the directory that they are in, which most often is that of an interface."""
    found: Document = {}
    for line in text.splitlines():
        path, _, value = line.rpartition(":")
        *_, directory, parameter = path.split("/")
        found.setdefault(directory, {})[parameter] = value
    return found


def _mentions(ruleset: str, result: Any) -> Iterator[tuple[str, bool]]:
    for ip in (result or {}).get("ips", []):
        address = ip["address"].split("/")[0]
        yield address, re.search(rf"(?<![\w.:]){re.escape(address)}(?![\w.])", ruleset) is not None


def _numbered(value: Any) -> Any:
    """Lists as objects whose keys are indices: so a difference has a path."""
    if isinstance(value, list):
        return {str(number): _numbered(item) for number, item in enumerate(value)}
    if isinstance(value, dict):
        return {key: _numbered(item) for key, item in value.items()}
    return value
