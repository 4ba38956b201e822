"""loopback: it has no keys, so what it is told is a pod's state and a prevResult."""

from __future__ import annotations

from typing import Any

from tests.differential.case import ABSENT, ADD, CHECK, DEL, LIFE, Case, Step, in_pod
from tests.differential.cases.requests import CHAINS

_CHAIN = CHAINS["loopback"]

_PREV_RESULT: dict[str, Any] = {
    "cniVersion": "1.1.0",
    "interfaces": [{"name": "eth0", "mac": "0a:58:0a:16:00:05", "sandbox": "/run/netns/pod"}],
    "ips": [{"address": "10.1.0.5/16", "gateway": "10.1.0.1", "interface": 0}],
    "routes": [{"dst": "0.0.0.0/0"}],
    "dns": {"nameservers": ["10.1.0.1"]},
}


def _told(name: str, prev_result: Any) -> Case:
    steps = tuple(Step(verb, keys={"prevResult": prev_result}) for verb in ("ADD", "CHECK", "DEL"))
    return Case(f"loopback/prevResult/{name}", _CHAIN, steps)


CASES: tuple[Case, ...] = (
    Case("loopback/twice", _CHAIN, (ADD, ADD._replace(label="ADD again"), *LIFE[1:])),
    Case("loopback/another name", _CHAIN, tuple(s._replace(ifname="net1") for s in LIFE)),
    Case("loopback/CHECK before ADD", _CHAIN, (CHECK,)),
    Case("loopback/down", _CHAIN, (ADD, CHECK._replace(script="ip -n pod link set lo down"))),
    Case("loopback/up already", _CHAIN, LIFE, node="ip -n pod link set lo up"),
    Case(
        "loopback/another address",
        _CHAIN,
        (ADD, DEL),
        node="ip -n pod address add 127.0.0.9/32 dev lo",
    ),
    Case(
        "loopback/an address of the world",
        _CHAIN,
        (ADD, DEL),
        node="ip -n pod address add 10.9.9.9/32 dev lo",
    ),
    Case(
        "loopback/without IPv6",
        _CHAIN,
        LIFE,
        node=in_pod("echo 1 > /proc/sys/net/ipv6/conf/lo/disable_ipv6"),
    ),
    Case("loopback/unknown keys", _CHAIN, tuple(s._replace(keys={"color": "blue"}) for s in LIFE)),
    Case("loopback/CNI_ARGS", _CHAIN, tuple(s._replace(args="K=V") for s in LIFE)),
    Case("loopback/CNI_ARGS malformed", _CHAIN, tuple(s._replace(args="K;=") for s in LIFE)),
    Case("loopback/CHECK untold", _CHAIN, (ADD, CHECK._replace(hand_on=False))),
    _told("whole", _PREV_RESULT),
    _told("null", None),
    _told("missing", ABSENT),
    _told("empty", {}),
    _told("without version", {k: v for k, v in _PREV_RESULT.items() if k != "cniVersion"}),
    _told("of another version", _PREV_RESULT | {"cniVersion": "0.4.0"}),
    _told("text", "none"),
    _told("a list", []),
    _told("with a bad address", _PREV_RESULT | {"ips": [{"address": "10.1.0.5"}]}),
    _told("with unknown keys", _PREV_RESULT | {"color": "blue"}),
    _told(
        "with 1.1.0 fields",
        _PREV_RESULT
        | {
            "interfaces": [{"name": "eth0", "mtu": 1400, "socketPath": "/s", "pciID": "1"}],
            "routes": [
                {
                    "dst": "10.0.0.0/8",
                    "gw": "10.1.0.9",
                    "mtu": 1300,
                    "advmss": 1200,
                    "priority": 7,
                    "table": 0,
                    "scope": 0,
                }
            ],
        },
    ),
)
