"""The protocol: variables, verbs and versions, JSON that is none, keys that every plugin shares."""

from __future__ import annotations

from typing import Any

from tests.differential.case import (
    ABSENT,
    ADD,
    CHECK,
    DEL,
    GC,
    STATUS,
    Case,
    Document,
    Step,
    with_keys,
)

VERSIONS = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
VERBS = ("ADD", "CHECK", "DEL", "GC", "STATUS")

_RANGES = [[{"subnet": "10.22.0.0/24"}], [{"subnet": "fd00:22::/64"}]]
_COMMON = {"cniVersion": "1.1.0", "name": "net"}
PLUGINS: dict[str, Document] = {
    "loopback": _COMMON | {"type": "loopback"},
    "host-local": _COMMON
    | {"type": "host-local", "ipam": {"type": "host-local", "ranges": _RANGES}},
    "bridge": _COMMON
    | {
        "type": "bridge",
        "bridge": "br0",
        "isDefaultGateway": True,
        "ipMasq": True,
        "ipam": {"type": "host-local", "ranges": _RANGES},
    },
    "portmap": _COMMON
    | {
        "type": "portmap",
        "runtimeConfig": {
            "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]
        },
    },
}
# portmap follows another plugin, whose result it has to be told.
CHAINS: dict[str, tuple[Document, ...]] = {
    name: (PLUGINS["bridge"], config) if name == "portmap" else (config,)
    for name, config in PLUGINS.items()
}


def _case(name: str, plugin: str, *steps: Step, node: str = "") -> Case:
    return Case(f"{name}/{plugin}", CHAINS[plugin], steps, node)


def _in_each_version() -> list[Case]:
    steps = (ADD, CHECK, STATUS, DEL, GC)
    return [
        _case(f"version/{version}", name, *(with_keys(step, cniVersion=version) for step in steps))
        for name in PLUGINS
        for version in (VERSIONS if name != "portmap" else VERSIONS[1::2])
    ]


_BAD_VERSIONS: dict[str, Any] = {
    "of the future": "9.9.9",
    "of the past": "0.0.1",
    "no number": "one",
    "of two parts": "1.0",
    "a float": 1.0,
    "a list": ["1.0.0"],
}
_GOOD_VERSIONS: dict[str, Any] = {"empty": "", "null": None, "missing": ABSENT}
_BAD_NAMES: dict[str, Any] = {
    "missing": ABSENT,
    "null": None,
    "empty": "",
    "a path": "../net",
    "a number": 5,
    "with a space": "a net",
    "with a newline": "net\n",
    "with a dash first": "-net",
}
_TEXTS = {
    "empty": "",
    "truncated": '{"cniVersion": "1.1.0", "name": "net"',
    "a list": "[]",
    "a number": "5",
    "null": "null",
    "NaN": '{"cniVersion": "1.1.0", "name": "net", "mtu": NaN}',
    "two documents": '{"name": "net"} {"name": "net"}',
    "not UTF-8 escapes": '{"name": "\\ud800"}',
    "trailing comma": '{"cniVersion": "1.1.0", "name": "net",}',
}


def _bad_documents() -> list[Case]:
    bad = [
        _case(
            f"cniVersion/{name}",
            plugin,
            *(Step(v, f"bad {v}", keys={"cniVersion": value}) for v in VERBS),
        )
        for name, value in _BAD_VERSIONS.items()
        for plugin in ("host-local",)
    ]
    good = [
        _case(
            f"cniVersion/{name}",
            "host-local",
            *(with_keys(step, cniVersion=value) for step in (ADD, DEL)),
        )
        for name, value in _GOOD_VERSIONS.items()
    ]
    names = [
        _case(
            f"name/{name}",
            "bridge",
            *(Step(v, f"bad {v}", keys={"name": value}) for v in ("ADD", "DEL")),
        )
        for name, value in _BAD_NAMES.items()
    ]
    texts = [
        _case(f"JSON/{name}", "loopback", *(Step(verb, stdin=text) for verb in VERBS))
        for name, text in _TEXTS.items()
    ]
    return [*bad, *good, *names, *texts]


_VARIABLES: dict[str, dict[str, str | None]] = {
    "CNI_CONTAINERID missing": {"CNI_CONTAINERID": None},
    "CNI_CONTAINERID empty": {"CNI_CONTAINERID": ""},
    "CNI_CONTAINERID a path": {"CNI_CONTAINERID": "../pod"},
    "CNI_CONTAINERID with a newline": {"CNI_CONTAINERID": "pod\n"},
    "CNI_IFNAME missing": {"CNI_IFNAME": None},
    "CNI_IFNAME empty": {"CNI_IFNAME": ""},
    "CNI_IFNAME long": {"CNI_IFNAME": "0123456789abcdef"},
    "CNI_IFNAME a directory": {"CNI_IFNAME": ".."},
    "CNI_IFNAME with a slash": {"CNI_IFNAME": "eth/0"},
    "CNI_IFNAME with a colon": {"CNI_IFNAME": "eth:0"},
    "CNI_IFNAME with a space": {"CNI_IFNAME": "eth 0"},
    "all missing": {"CNI_CONTAINERID": None, "CNI_IFNAME": None, "CNI_NETNS": None},
    "CNI_COMMAND unknown": {"CNI_COMMAND": "PATCH"},
    "CNI_COMMAND lower": {"CNI_COMMAND": "add"},
}
_LENIENT: dict[str, dict[str, str | None]] = {
    "CNI_COMMAND missing": {"CNI_COMMAND": None},
    "CNI_COMMAND empty": {"CNI_COMMAND": ""},
}
_NETNS: dict[str, str | None] = {
    "missing": None,
    "empty": "",
    "gone": "/run/netns/gone",
    "a file": "/run/file",
    "a directory": "/run",
    "a namespace of mounts": "/proc/self/ns/mnt",
}


def _bad_environments() -> list[Case]:
    variables = [
        _case(
            f"environment/{name}",
            "bridge",
            *(Step(verb, f"bad {verb}", environ=environ) for verb in ("ADD", "CHECK", "DEL")),
        )
        for name, environ in (_VARIABLES | _LENIENT).items()
    ]
    return variables + [
        _case(
            f"CNI_NETNS/{name}",
            plugin,
            Step("ADD", "bad ADD", netns=path),
            ADD,
            Step("CHECK", "bad CHECK", netns=path),
            Step("DEL", "bad DEL", netns=path),
            node="touch /run/file",
        )
        for name, path in _NETNS.items()
        for plugin in ("bridge", "loopback", "host-local")
    ]


def _own_namespace() -> list[Case]:
    own = Step("ADD", "bad ADD", netns="/proc/self/ns/net")
    allowed = own._replace(label="", environ={"CNI_NETNS_OVERRIDE": "1"})
    return [
        *(_case("CNI_NETNS/own", plugin, own) for plugin in ("bridge", "loopback", "host-local")),
        _case("CNI_NETNS/own, allowed", "loopback", allowed),
        _case(
            "CNI_NETNS/own, allowed by word",
            "loopback",
            allowed._replace(environ={"CNI_NETNS_OVERRIDE": "True"}),
        ),
        _case(
            "CNI_NETNS/own, in DEL",
            "bridge",
            ADD,
            Step("DEL", "bad DEL", netns="/proc/self/ns/net"),
        ),
        _case("CNI_NETNS/recycled", "bridge", ADD, DEL._replace(netns="/run/netns/other")),
    ]


def _without_path() -> list[Case]:
    return [
        _case(
            f"CNI_PATH/missing, {verb}",
            plugin,
            Step(verb, environ={"CNI_PATH": None}, keys=GC.keys),
        )
        for plugin in ("loopback", "bridge")
        for verb in VERBS
    ]


CASES: tuple[Case, ...] = (
    *_in_each_version(),
    *_bad_documents(),
    *_bad_environments(),
    *_own_namespace(),
    *_without_path(),
    *(_case("VERSION", plugin, Step("VERSION", stdin="")) for plugin in PLUGINS),
    *(_case("VERSION with a document", plugin, Step("VERSION")) for plugin in PLUGINS),
)
