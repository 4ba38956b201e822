"""portmap behind bridge: every key, right and wrong, and who reaches a published port."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.differential.case import (
    ABSENT,
    ADD,
    CHECK,
    DEL,
    DEL_AGAIN,
    GC,
    LIFE,
    OTHER,
    POD,
    STATUS,
    Case,
    Document,
    Probe,
    Step,
    configure,
)
from tests.differential.cases import bridge

_PREV_RESULT: Document = {
    "cniVersion": "1.1.0",
    "interfaces": [{"name": "eth0", "sandbox": POD}],
    "ips": [
        {"address": "10.22.0.77/24", "gateway": "10.22.0.1", "interface": 0},
        {"address": "fd00:22::77/64", "gateway": "fd00:22::1", "interface": 0},
    ],
}
_BRIDGE = bridge.config(isDefaultGateway=True, ipMasq=True, hairpinMode=True, ipam=bridge.DUAL)


def port(**fields: Any) -> Document:
    return configure({"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}, fields)


def config(*ports: Document, **keys: Any) -> Document:
    base = {"cniVersion": "1.1.0", "name": "net", "type": "portmap"}
    return configure(base | {"runtimeConfig": {"portMappings": list(ports)}}, keys)


def alone(name: str, document: Document, *steps: Step, node: str = "") -> Case:
    """portmap by itself, told a prevResult that nobody wired."""
    told = tuple(s._replace(keys={"prevResult": _PREV_RESULT, **s.keys}) for s in steps or LIFE)
    return Case(f"portmap/{name}", (document,), told, node)


_PORTS: dict[str, list[Document]] = {
    "none": [],
    "one": [port()],
    "two": [port(), port(hostPort=8081, containerPort=81)],
    "to one port": [port(), port(hostPort=8081)],
    "tcp and udp": [port(), port(protocol="udp")],
    "sctp": [port(protocol="sctp")],
    "no protocol": [port(protocol=ABSENT)],
    "empty protocol": [port(protocol="")],
    "protocol in capitals": [port(protocol="TCP")],
    "hostIP": [port(hostIP="192.0.2.1")],
    "hostIP empty": [port(hostIP="")],
    "hostIP null": [port(hostIP=None)],
    "hostIP 0.0.0.0": [port(hostIP="0.0.0.0")],
    "hostIP ::": [port(hostIP="::")],
    "hostIP of IPv6": [port(hostIP="2001:db8::1")],
    "hostIP 127.0.0.1": [port(hostIP="127.0.0.1")],
    "hostIP twice": [port(hostIP="192.0.2.1"), port(hostIP="127.0.0.1")],
    "one, twice": [port(), port()],
    "largest": [port(hostPort=65535, containerPort=65535)],
    "in capitals": [{"HostPort": 8080, "ContainerPort": 80, "Protocol": "TCP", "HostIP": ""}],
    "unknown keys": [port(name="web")],
}
_KEYS: dict[str, Document] = {
    "snat": {"snat": True},
    "no snat": {"snat": False},
    "snat null": {"snat": None},
    "masqAll": {"masqAll": True},
    "markMasqBit": {"markMasqBit": 14},
    "markMasqBit 0": {"markMasqBit": 0},
    "backend nftables": {"backend": "nftables"},
    "backend null": {"backend": None},
    "conditions empty": {"conditionsV4": [], "conditionsV6": []},
    "conditions null": {"conditionsV4": None, "conditionsV6": None},
    "externalSetMarkChain null": {"externalSetMarkChain": None},
    "unknown keys": {"color": "blue"},
    "other case": {"SNAT": False, "RUNTIMECONFIG": {"portmappings": [port()]}},
    "no runtimeConfig": {"runtimeConfig": ABSENT},
    "runtimeConfig null": {"runtimeConfig": None},
    "portMappings null": {"runtimeConfig": {"portMappings": None}},
    "runtimeConfig of others": {"runtimeConfig": {"mac": bridge.MAC}},
}
_WRONG_PORTS: dict[str, Document] = {
    "no hostPort": port(hostPort=ABSENT),
    "no containerPort": port(containerPort=ABSENT),
    "hostPort 0": port(hostPort=0),
    "hostPort -1": port(hostPort=-1),
    "hostPort 65536": port(hostPort=65536),
    "hostPort text": port(hostPort="8080"),
    "hostPort a fraction": port(hostPort=80.5),
    "containerPort 0": port(containerPort=0),
    "containerPort 65536": port(containerPort=65536),
    "containerPort text": port(containerPort="80"),
    "protocol icmp": port(protocol="icmp"),
    "protocol a number": port(protocol=6),
    "protocol with a newline": port(protocol="tcp\n"),
    "hostIP a name": port(hostIP="localhost"),
    "hostIP short": port(hostIP="127.1"),
    "hostIP a number": port(hostIP=1),
    "hostIP with length": port(hostIP="192.0.2.1/24"),
}
_WRONG: dict[str, Document] = {
    "prevResult missing": {"prevResult": ABSENT},
    "prevResult null": {"prevResult": None},
    "prevResult text": {"prevResult": "none"},
    "prevResult with a bad address": {"prevResult": {"ips": [{"address": "10.22.0.2"}]}},
    "prevResult of the future": {"prevResult": {"cniVersion": "9.9.9"}},
    "portMappings an object": {"runtimeConfig": {"portMappings": {}}},
    "portMappings of numbers": {"runtimeConfig": {"portMappings": [8080]}},
    "runtimeConfig text": {"runtimeConfig": "ports"},
    "snat text": {"snat": "yes"},
    "masqAll a number": {"masqAll": 1},
    "markMasqBit 32": {"markMasqBit": 32},
    "markMasqBit -1": {"markMasqBit": -1},
    "markMasqBit text": {"markMasqBit": "14"},
    "backend unknown": {"backend": "pf"},
    "backend empty": {"backend": ""},
    "backend a number": {"backend": 5},
    "conditionsV4 text": {"conditionsV4": "-m comment"},
    "conditionsV6 of numbers": {"conditionsV6": [5]},
    "conditions of the other backend": {"backend": "nftables", "conditionsV4": ["-d", "192.0.2.1"]},
    "externalSetMarkChain a number": {"externalSetMarkChain": 5},
    "externalSetMarkChain and markMasqBit": {"externalSetMarkChain": "KUBE", "markMasqBit": 14},
    "a port with two targets": {
        "runtimeConfig": {"portMappings": [port(), port(containerPort=81)]}
    },
}
_RESULTS: dict[str, Document] = {
    "without addresses": {"ips": []},
    "without interfaces": {"interfaces": [], "ips": [{"address": "10.22.0.77/24"}]},
    "of another interface": {"interfaces": [{"name": "eth7", "sandbox": POD}]},
    "of the node": {"interfaces": [{"name": "eth0"}]},
    "of two addresses": {
        "ips": [{"address": f"10.22.0.{n}/24", "interface": 0} for n in (77, 78)],
    },
    "with IPv4 only": {"ips": [{"address": "10.22.0.77/24", "interface": 0}]},
    "with IPv6 only": {"ips": [{"address": "fd00:22::77/64", "interface": 0}]},
    "with an index too large": {"ips": [{"address": "10.22.0.77/24", "interface": 5}]},
    "with an index below 0": {"ips": [{"address": "10.22.0.77/24", "interface": -1}]},
    "with unknown keys": {"color": "blue"},
    "with addresses as of old": {"interfaces": [], "ips": [], "ip4": {"ip": "10.22.0.77/24"}},
}
_RESULTS_OF_OLD: dict[str, Document] = {
    "0.2.0": {"ip4": {"ip": "10.22.0.77/24", "gateway": "10.22.0.1"}, "dns": {}},
    "0.4.0": {
        "interfaces": [{"name": "eth0", "sandbox": POD}],
        "ips": [{"version": "4", "address": "10.22.0.77/24", "interface": 0}],
        "dns": {},
    },
    "1.0.0": {
        "interfaces": [{"name": "eth0", "sandbox": POD}],
        "ips": [{"address": "10.22.0.77/24", "interface": 0}],
    },
}


def _keys() -> Iterator[Case]:
    for name, ports in _PORTS.items():
        yield alone(f"ports/{name}", config(*ports))
    for name, keys in _KEYS.items():
        yield alone(name, config(port(), **keys))
    for name, keys in _RESULTS.items():
        prev = {"prevResult": _PREV_RESULT | keys}
        steps = (step._replace(keys=prev) for step in LIFE)
        yield alone(f"prevResult/{name}", config(port()), *steps)
    for version, result in _RESULTS_OF_OLD.items():
        told = {"cniVersion": version, "prevResult": {"cniVersion": version} | result}
        steps = (step._replace(keys=told) for step in LIFE if step is not CHECK or version > "0.3")
        yield alone(f"prevResult/of {version}", config(port()), *steps)


def _wrong() -> Iterator[Case]:
    wrong = {name: {"runtimeConfig": {"portMappings": [p]}} for name, p in _WRONG_PORTS.items()}
    for name, keys in (wrong | _WRONG).items():
        yield alone(f"wrong/{name}", config(port()), ADD._replace(keys=keys))
    for name in ("hostPort 0", "prevResult text", "prevResult missing", "snat text"):
        for verb in ("CHECK", "DEL"):
            bad = Step(verb, keys=(wrong | _WRONG)[name])
            yield alone(f"misled/{verb} by {name}", config(port()), ADD, bad)


def _lives() -> Iterator[Case]:
    chain = (_BRIDGE, config(port()))
    again = ADD._replace(label="ADD again")
    b = Step("ADD", "second ADD", container_id="b", netns=OTHER)
    yield alone("life/ADD again", config(port()), ADD, again, DEL, DEL_AGAIN)
    yield alone("life/two interfaces", config(port()), ADD, again._replace(ifname="eth1"), DEL)
    yield Case("portmap/life/port taken", chain, (ADD, b))
    yield Case("portmap/life/DEL before ADD", chain, (DEL,))
    yield Case("portmap/life/DEL untold", chain, (ADD, DEL._replace(hand_on=False)))
    yield Case("portmap/life/DEL without namespace", chain, (ADD, DEL._replace(netns=None)))
    yield alone(
        "life/DEL told no ports", config(port()), ADD, DEL._replace(keys={"runtimeConfig": {}})
    )
    flushed = "nft flush ruleset"
    yield alone("life/DEL after a flush", config(port()), ADD, DEL._replace(script=flushed))
    yield alone("life/CHECK after a flush", config(port()), ADD, CHECK._replace(script=flushed))
    yield alone("life/CHECK before ADD", config(port()), CHECK)
    yield alone(
        "life/CHECK with another port",
        config(port()),
        ADD,
        CHECK._replace(keys={"runtimeConfig": {"portMappings": [port(hostPort=8099)]}}),
    )
    yield alone("life/GC", config(port()), ADD, GC)
    yield alone("life/STATUS", config(port()), STATUS)


_TRAFFIC = (
    Probe("from outside", "tcp", "192.0.2.1", 8080, "/run/netns/outside"),
    Probe("from outside by IPv6", "tcp", "2001:db8::1", 8080, "/run/netns/outside"),
    Probe("from outside by UDP", "udp", "192.0.2.1", 8080, "/run/netns/outside"),
    Probe("from the node", "tcp", "192.0.2.1", 8080),
    Probe("from the node by IPv6", "tcp", "2001:db8::1", 8080),
    Probe("from 127.0.0.1", "tcp", "127.0.0.1", 8080),
    Probe("from ::1", "tcp", "::1", 8080),
    Probe("from the pod", "tcp", "192.0.2.1", 8080, POD),
    Probe("from the pod by IPv6", "tcp", "2001:db8::1", 8080, POD),
    Probe("by the bridge's address", "tcp", "10.22.0.1", 8080),
)


def _traffic() -> Iterator[Case]:
    settings: dict[str, Document] = {
        "tcp": config(port(), port(protocol="udp")),
        "no snat": config(port(), snat=False),
        "masqAll": config(port(), masqAll=True),
        "hostIP": config(port(hostIP="192.0.2.1")),
        "hostIP 127.0.0.1": config(port(hostIP="127.0.0.1")),
        "hostIP of IPv6": config(port(hostIP="2001:db8::1")),
        "hostIP ::": config(port(hostIP="::")),
        "backend nftables": config(port(), backend="nftables"),
    }
    for name, document in settings.items():
        yield Case(f"portmap/traffic/{name}", (_BRIDGE, document), (ADD, DEL), probes=_TRAFFIC)
    chain = (_BRIDGE, config(port(), port(protocol="udp")))
    listeners = (("tcp", 8080), ("udp", 8080))
    yield Case("portmap/traffic/listeners", chain, (ADD, DEL), "", _TRAFFIC, listeners)


_CHAIN = "KUBE-MARK-MASQ"
_NODE = f"iptables -t nat -N {_CHAIN}; ip6tables -t nat -N {_CHAIN}"
_BACKENDS: dict[str, Document] = {
    "backend iptables": {"backend": "iptables"},
    "backend iptables, masqAll": {"backend": "iptables", "masqAll": True},
    "backend iptables, no snat": {"backend": "iptables", "snat": False},
    "conditions of iptables": {"conditionsV4": ["-s", "192.0.2.2"]},
    "conditions of iptables, negated": {"conditionsV4": ["!", "-s", "192.0.2.2"]},
    "conditions of nftables": {
        "backend": "nftables",
        "conditionsV4": ["ip", "saddr", "192.0.2.2"],
        "conditionsV6": ["ip6", "saddr", "2001:db8::99"],
    },
    "externalSetMarkChain": {"externalSetMarkChain": _CHAIN},
}


def _backends() -> Iterator[Case]:
    for name, keys in _BACKENDS.items():
        chain = _BRIDGE, config(port(), **keys)
        yield Case(f"portmap/traffic/{name}", chain, LIFE, _NODE, _TRAFFIC)


CASES: tuple[Case, ...] = (*_keys(), *_wrong(), *_lives(), *_traffic(), *_backends())
