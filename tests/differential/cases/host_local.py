"""host-local by itself: ranges, requested addresses, routes, resolv.conf, leases on disk."""

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
    STATUS,
    Case,
    Document,
    Step,
)

_SUBNET = "10.22.0.0/24"
_V4 = [{"subnet": _SUBNET}]
_V6 = [{"subnet": "fd00:22::/64"}]
_LEASES = "/var/lib/cni/networks/net"


def config(**ipam: Any) -> Document:
    given = {"type": "host-local"} | (
        {} if ipam.keys() & {"subnet", "ranges"} else {"ranges": [_V4]}
    )
    return {
        "cniVersion": "1.1.0",
        "name": "net",
        "type": "host-local",
        "ipam": {key: value for key, value in (given | ipam).items() if value is not ABSENT},
    }


def _pods(count: int, verb: str = "ADD") -> tuple[Step, ...]:
    return tuple(
        Step(verb, f"{verb} {n}", container_id=f"pod{n}", hand_on=False) for n in range(count)
    )


_GOOD: dict[str, Document] = {
    "subnet": {"subnet": _SUBNET},
    "range": {"subnet": _SUBNET, "rangeStart": "10.22.0.10", "rangeEnd": "10.22.0.12"},
    "gateway": {"subnet": _SUBNET, "gateway": "10.22.0.254"},
    "gateway first": {"subnet": _SUBNET, "rangeStart": "10.22.0.9", "gateway": "10.22.0.9"},
    "gateway outside": {"subnet": _SUBNET, "gateway": "10.99.0.1"},
    "dual stack": {"ranges": [_V4, _V6]},
    "IPv6 first": {"ranges": [_V6, _V4]},
    "IPv6 only": {"ranges": [_V6]},
    "IPv6 range": {"ranges": [[_V6[0] | {"rangeStart": "fd00:22::100", "gateway": "fd00:22::ff"}]]},
    "IPv6 written long": {"ranges": [[{"subnet": "fd00:0022:0000::/64"}]]},
    "two IPv4 sets": {"ranges": [_V4, [{"subnet": "10.33.0.0/24"}]]},
    "two ranges in a set": {"ranges": [[*_V4, {"subnet": "10.33.0.0/24"}]]},
    "subnet and ranges": {"subnet": _SUBNET, "ranges": [[{"subnet": "10.33.0.0/24"}]]},
    "two sets in a subnet": {
        "ranges": [
            [{"subnet": _SUBNET, "rangeEnd": "10.22.0.99"}],
            [{"subnet": _SUBNET, "rangeStart": "10.22.0.100"}],
        ]
    },
    "prefix 30": {"subnet": "10.22.0.0/30"},
    "prefix 16": {"subnet": "10.22.0.0/16"},
    "prefix 126": {"subnet": "fd00:22::/126"},
    "rangeStart at the network": {"subnet": _SUBNET, "rangeStart": "10.22.0.0"},
    "rangeEnd at the broadcast": {
        "subnet": _SUBNET,
        "rangeStart": "10.22.0.254",
        "rangeEnd": "10.22.0.255",
    },
    "empty texts": {"subnet": _SUBNET, "rangeStart": "", "rangeEnd": "", "gateway": ""},
    "nulls": {
        "subnet": _SUBNET,
        "rangeStart": None,
        "gateway": None,
        "routes": None,
        "ranges": None,
    },
    "other case": {"SUBNET": _SUBNET, "RangeStart": "10.22.0.7", "ranges": ABSENT},
    "unknown keys": {"subnet": _SUBNET, "color": "blue"},
    "dataDir": {"dataDir": "/run/leases"},
    "dataDir empty": {"dataDir": ""},
    "no type": {"type": ABSENT},
    "another type": {"type": "dhcp"},
}
_ROUTES: dict[str, Any] = {
    "default": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
    "with gateways": [{"dst": "10.9.0.0/16", "gw": "10.22.0.9"}],
    "with all fields": [
        {
            "dst": "10.9.0.0/16",
            "gw": "10.22.0.9",
            "mtu": 1400,
            "advmss": 1360,
            "priority": 50,
            "table": 100,
            "scope": 0,
        }
    ],
    "with a narrow scope": [{"dst": "10.9.0.0/16", "scope": 253}],
    "with table 0": [{"dst": "10.9.0.0/16", "table": 0}],
    "with host bits": [{"dst": "10.9.1.2/16"}],
    "with null fields": [{"dst": "10.9.0.0/16", "gw": None, "table": None, "scope": None}],
    "other case": [{"DST": "10.9.0.0/16", "Gw": "10.22.0.9"}],
    "empty": [],
}
_BAD: dict[str, Document] = {
    "no ranges": {"ranges": ABSENT},
    "ranges empty": {"ranges": []},
    "a set empty": {"ranges": [[]]},
    "a subnet missing": {"ranges": [[{"gateway": "10.22.0.1"}]]},
    "subnet a name": {"subnet": "net"},
    "subnet without length": {"subnet": "10.22.0.0"},
    "subnet too long": {"subnet": "10.22.0.0/33"},
    "subnet a number": {"subnet": 10},
    "subnet with host bits": {"subnet": "10.22.0.5/24"},
    "prefix 31": {"subnet": "10.22.0.0/31"},
    "prefix 32": {"subnet": "10.22.0.0/32"},
    "prefix 127": {"subnet": "fd00:22::/127"},
    "multicast subnet": {"subnet": "224.0.0.0/24"},
    "mapped subnet": {"subnet": "::ffff:10.22.0.0/120"},
    "rangeStart outside": {"subnet": _SUBNET, "rangeStart": "10.23.0.1"},
    "rangeEnd outside": {"subnet": _SUBNET, "rangeEnd": "10.23.0.1"},
    "rangeStart a name": {"subnet": _SUBNET, "rangeStart": "first"},
    "rangeEnd before rangeStart": {
        "subnet": _SUBNET,
        "rangeStart": "10.22.0.9",
        "rangeEnd": "10.22.0.8",
    },
    "gateway a name": {"subnet": _SUBNET, "gateway": "router"},
    "gateway of the other family": {"subnet": _SUBNET, "gateway": "fd00::1"},
    "two families in a set": {"ranges": [[*_V4, *_V6]]},
    "overlapping sets": {"ranges": [_V4, _V4]},
    "overlapping ranges": {"ranges": [[*_V4, *_V4]]},
    "overlapping subnet and ranges": {"subnet": _SUBNET, "ranges": [_V4]},
    "ranges an object": {"ranges": {}},
    "ranges flat": {"ranges": _V4},
    "ranges text": {"ranges": _SUBNET},
    "routes an object": {"routes": {}},
    "route without dst": {"routes": [{"gw": "10.22.0.9"}]},
    "route to a name": {"routes": [{"dst": "default"}]},
    "route by a name": {"routes": [{"dst": "10.9.0.0/16", "gw": "router"}]},
    "route metric text": {"routes": [{"dst": "10.9.0.0/16", "priority": "7"}]},
    "route mtu negative": {"routes": [{"dst": "10.9.0.0/16", "mtu": -1}]},
    "route scope large": {"routes": [{"dst": "10.9.0.0/16", "scope": 256}]},
    "route table negative": {"routes": [{"dst": "10.9.0.0/16", "table": -1}]},
    "dataDir a number": {"dataDir": 5},
    "dataDir a file": {"dataDir": "/run/file"},
    "resolvConf missing file": {"resolvConf": "/run/none"},
    "resolvConf a directory": {"resolvConf": "/run"},
    "resolvConf a number": {"resolvConf": 5},
}
_TOP: dict[str, Document] = {
    "ipam missing": {"ipam": ABSENT},
    "ipam null": {"ipam": None},
    "ipam text": {"ipam": "host-local"},
    "runtimeConfig a list": {"runtimeConfig": []},
    "ips text": {"runtimeConfig": {"ips": "10.22.0.5"}},
    "ips a name": {"runtimeConfig": {"ips": ["first"]}},
    "ips a number": {"runtimeConfig": {"ips": [5]}},
    "ips outside": {"runtimeConfig": {"ips": ["10.99.0.5"]}},
    "ips the gateway": {"runtimeConfig": {"ips": ["10.22.0.1"]}},
    "ips the network": {"runtimeConfig": {"ips": ["10.22.0.0"]}},
    "ips the broadcast": {"runtimeConfig": {"ips": ["10.22.0.255"]}},
    "ips two of a set": {"runtimeConfig": {"ips": ["10.22.0.5", "10.22.0.6"]}},
    "ips IPv6": {"runtimeConfig": {"ips": ["fd00:22::5"]}},
    "ipRanges an object": {"runtimeConfig": {"ipRanges": {}}},
    "ipRanges overlapping": {"runtimeConfig": {"ipRanges": [_V4]}},
    "ipRanges broken": {"runtimeConfig": {"ipRanges": [[{"subnet": "10.55.0.0/31"}]]}},
    "args a list": {"args": []},
    "args.cni text": {"args": {"cni": "ips"}},
    "args.cni.ips a name": {"args": {"cni": {"ips": ["first"]}}},
}
_ASKED: dict[str, tuple[Document, str]] = {
    "runtimeConfig": ({"runtimeConfig": {"ips": ["10.22.0.50"]}}, ""),
    "runtimeConfig with length": ({"runtimeConfig": {"ips": ["10.22.0.50/24"]}}, ""),
    "runtimeConfig with another length": ({"runtimeConfig": {"ips": ["10.22.0.50/16"]}}, ""),
    "runtimeConfig in capitals": ({"RuntimeConfig": {"IPs": ["10.22.0.50"]}}, ""),
    "args.cni": ({"args": {"cni": {"ips": ["10.22.0.51"]}}}, ""),
    "CNI_ARGS": ({}, "IP=10.22.0.52"),
    "CNI_ARGS with length": ({}, "IP=10.22.0.52/24"),
    "CNI_ARGS among others": ({}, "IgnoreUnknown=1;K8S_POD_NAME=web;IP=10.22.0.52"),
    "CNI_ARGS ignoring": ({}, "IgnoreUnknown=true;K8S_POD_NAME=web"),
    "CNI_ARGS in small letters": ({}, "ip=10.22.0.52"),
    "CNI_ARGS with an empty IP": ({}, "IP="),
    "IPv6": ({"runtimeConfig": {"ips": ["fd00:22::50"]}}, ""),
    "both families": ({"runtimeConfig": {"ips": ["fd00:22::50", "10.22.0.50"]}}, ""),
    "one address twice": ({"runtimeConfig": {"ips": ["10.22.0.50", "10.22.0.50"]}}, ""),
    "two ways, one address": ({"args": {"cni": {"ips": ["10.22.0.50"]}}}, "IP=10.22.0.50"),
    "two ways, two families": ({"args": {"cni": {"ips": ["fd00:22::50"]}}}, "IP=10.22.0.50"),
    "ipRanges": ({"runtimeConfig": {"ipRanges": [[{"subnet": "10.55.0.0/24"}]]}}, ""),
    "ipRanges and ips": (
        {"runtimeConfig": {"ipRanges": [[{"subnet": "10.55.0.0/24"}]], "ips": ["10.55.0.9"]}},
        "",
    ),
    "empty lists": ({"runtimeConfig": {"ips": [], "ipRanges": []}}, ""),
    "nulls": ({"runtimeConfig": {"ips": None, "ipRanges": None}, "args": None}, ""),
    "unknown capabilities": ({"runtimeConfig": {"bandwidth": {"ingressRate": 1}}}, ""),
}
_BAD_ARGS = {
    "no pair": "IgnoreUnknown=1;IP",
    "unknown": "COLOR=blue",
    "not ignoring": "IgnoreUnknown=false;COLOR=blue",
    "IgnoreUnknown odd": "IgnoreUnknown=maybe",
    "IP a name": "IP=first",
    "IP outside": "IP=10.99.0.1",
    "trailing semicolon": "IP=10.22.0.52;",
    "two equals signs": "IgnoreUnknown=1;K=V=W",
    "empty key": "IgnoreUnknown=1;=V",
}
_RESOLV_CONF = """
cat > /run/resolv.conf <<'END'
# of the node
nameserver 192.0.2.53 extra
nameserver 2001:db8::53
domain example.com
domain example.org
search a.example b.example
search c.example
options ndots:5
; a comment
options edns0 timeout:1
sortlist 1.2.3.4
END
"""


def _good() -> Iterator[Case]:
    for name, keys in _GOOD.items():
        yield Case(f"host-local/{name}", (config(**keys),), LIFE)
    for name, routes in _ROUTES.items():
        yield Case(f"host-local/routes/{name}", (config(routes=routes),), LIFE)
    for version in ("0.2.0", "0.4.0", "1.0.0"):
        document = config(routes=_ROUTES["with all fields"]) | {"cniVersion": version}
        yield Case(f"host-local/routes/with all fields in {version}", (document,), (ADD, DEL))
    two = config(ranges=[_V4, [{"subnet": "10.33.0.0/24"}]]) | {"cniVersion": "0.2.0"}
    yield Case("host-local/wrong/two of a family in 0.2.0", (two,), (ADD,))
    document = config(resolvConf="/run/resolv.conf")
    yield Case("host-local/resolvConf", (document,), LIFE, node=_RESOLV_CONF)
    for name, (keys, args) in _ASKED.items():
        document = config(ranges=[_V4, _V6])
        steps = tuple(step._replace(args=args) for step in LIFE)
        yield Case(f"host-local/asked/{name}", (document | keys,), steps)


def _bad() -> Iterator[Case]:
    for name, keys in _BAD.items():
        bad = {"ipam": config(**keys)["ipam"]}
        yield _wrong(f"wrong/{name}", Step("ADD", keys=bad))
    for name, keys in _TOP.items():
        yield _wrong(f"wrong/{name}", Step("ADD", keys=keys))
    for name, args in _BAD_ARGS.items():
        yield _wrong(f"bad args/{name}", Step("ADD", args=args))
    for verb in ("CHECK", "DEL"):
        bad = {"ipam": config(subnet="10.22.0.0/33")["ipam"]}
        yield _wrong(f"misled/{verb} by a bad range", ADD, Step(verb, keys=bad))
        yield _wrong(f"misled/{verb} by no ranges", ADD, Step(verb, keys={"ipam": {}}))
        yield _wrong(f"misled/{verb} without ipam", ADD, Step(verb, keys={"ipam": ABSENT}))
        yield _wrong(f"misled/{verb} by bad args", ADD, Step(verb, args="COLOR=blue"))
        told = {"prevResult": {"ips": [{"address": "nonsense"}]}}
        yield _wrong(f"misled/{verb} by a bad prevResult", ADD, Step(verb, keys=told))


def _wrong(name: str, *steps: Step) -> Case:
    return Case(f"host-local/{name}", (config(),), steps, node="touch /run/file")


def _leases() -> Iterator[Case]:
    """Who gets which address, and what becomes of it."""
    small = config(subnet="10.22.0.0/29", rangeStart="10.22.0.2", rangeEnd="10.22.0.4")
    again = ADD._replace(label="ADD again")
    yield Case("host-local/leases/one after the other", (config(),), _pods(3))
    yield Case("host-local/leases/exhausted", (small,), (*_pods(4), STATUS))
    failing = {**small, "ipam": {**small["ipam"], "statusOnExhaustion": "fail"}}
    yield Case("host-local/leases/reported exhausted", (failing,), (*_pods(3), STATUS))
    yield Case(
        "host-local/leases/the second set exhausted",
        (config(ranges=[_V4, [{"subnet": "10.33.0.0/30"}]]),),
        _pods(2),
    )
    yield Case("host-local/leases/round robin", (small,), (*_pods(2), *_pods(1, "DEL"), ADD, again))
    yield Case("host-local/leases/twice", (config(),), (ADD, again, DEL))
    asked = again._replace(keys={"runtimeConfig": {"ips": ["10.22.0.50"]}})
    yield Case("host-local/leases/twice, asked", (config(),), (ADD, asked, DEL))
    second, check = (Step(verb, f"second {verb}", ifname="eth1") for verb in ("ADD", "CHECK"))
    yield Case("host-local/leases/two interfaces", (config(),), (ADD, second, check, DEL))
    taken = Step("ADD", container_id="b", keys={"runtimeConfig": {"ips": ["10.22.0.2"]}})
    yield Case("host-local/leases/taken", (config(),), (*_pods(1), taken))
    taken = taken._replace(keys={"runtimeConfig": {"ips": ["10.33.0.2"]}})
    sets = (config(ranges=[_V4, [{"subnet": "10.33.0.0/24"}]]),)
    yield Case("host-local/leases/taken in the second set", sets, (*_pods(1), taken))
    yield Case("host-local/leases/CHECK before ADD", (config(),), (CHECK,))
    yield Case("host-local/leases/CHECK after DEL", (config(),), (ADD, DEL, CHECK))
    yield Case("host-local/leases/CHECK untold", (config(),), (ADD, CHECK._replace(hand_on=False)))
    lost = CHECK._replace(script=f"rm {_LEASES}/10.22.0.2")
    yield Case("host-local/leases/CHECK without lease", (config(),), (ADD, lost))
    given = CHECK._replace(script=f"printf 'b\\r\\neth0' > {_LEASES}/10.22.0.2")
    yield Case("host-local/leases/CHECK of another's lease", (config(),), (ADD, given))
    yield Case("host-local/leases/DEL before ADD", (config(),), (DEL, DEL_AGAIN))
    yield Case(
        "host-local/leases/DEL of another", (config(),), (ADD, DEL._replace(container_id="b"))
    )
    moved = {"ipam": config(subnet="10.99.0.0/24")["ipam"]}
    yield Case(
        "host-local/leases/DEL in another subnet", (config(),), (ADD, DEL._replace(keys=moved))
    )
    yield Case("host-local/leases/GC", (config(),), (ADD, GC))
    valid = [{"containerID": "pod", "ifname": "eth0"}]
    kept = GC._replace(keys={"cni.dev/valid-attachments": valid})
    yield Case("host-local/leases/GC of nothing", (config(),), (ADD, kept))
    yield Case("host-local/leases/STATUS", (config(),), (STATUS, ADD, STATUS))


def _found() -> Iterator[Case]:
    """What an ADD finds on disk."""
    files = {
        "an old lease": "printf other > 10.22.0.2",
        "an old lease of the pod": "printf pod > 10.22.0.2",
        "an empty lease": ": > 10.22.0.2",
        "a torn lease": "printf '\\r\\n' > 10.22.0.2",
        "a last address": "printf 10.22.0.77 > last_reserved_ip.0",
        "a last address elsewhere": "printf 10.99.0.77 > last_reserved_ip.0",
        "a broken last address": "printf nonsense > last_reserved_ip.0",
        "an empty last address": ": > last_reserved_ip.0",
        "the last address of the range": "printf 10.22.0.254 > last_reserved_ip.0",
        "a stranger's file": "printf nonsense > README",
        "a lock": ": > lock; chmod 600 lock",
    }
    for name, script in files.items():
        node = f"mkdir -p {_LEASES}; cd {_LEASES}; {script}"
        yield Case(f"host-local/found/{name}", (config(),), LIFE, node=node)


CASES: tuple[Case, ...] = (*_good(), *_bad(), *_leases(), *_found())
