"""Configurations: what a schema allows, and how a refusal reads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from cni.config import load_schema, match_keys, validate
from cni.errors import InvalidConfig
from cni.formats import FORMATS
from tests.support.node import ROOT

Document = dict[str, Any]

OWN_SCHEMAS = sorted(ROOT.glob("plugins/*/schema.json"))
ALL_SCHEMAS = [ROOT / "cni/network.schema.json", *OWN_SCHEMAS]
PORTMAP = ROOT / "plugins/portmap/schema.json"
BRIDGE = ROOT / "plugins/bridge/schema.json"
HOST_LOCAL = ROOT / "plugins/host-local/schema.json"
PORT = {"hostPort": 8080, "containerPort": 80}


def ports(*mappings: Any) -> Document:
    return {"runtimeConfig": {"portMappings": list(mappings)}}


def refusal(document: Document, schema: Path) -> tuple[str, str]:
    with pytest.raises(InvalidConfig) as caught:
        validate(document, load_schema(str(schema)))
    return caught.value.message, caught.value.details


@pytest.mark.parametrize(
    ("schema", "document", "message", "details"),
    [
        (BRIDGE, {"mtu": "1500"}, 'mtu: "1500"', "a whole number from 68 to 65535, or 0"),
        (BRIDGE, {"mtu": 67}, "mtu: 67", "a whole number from 68 to 65535, or 0"),
        (BRIDGE, {"mtu": 65536}, "mtu: 65536", "a whole number from 68 to 65535, or 0"),
        (BRIDGE, {"mtu": -1}, "mtu: -1", "a whole number from 68 to 65535, or 0"),
        (BRIDGE, {"ipMasq": "true"}, 'ipMasq: "true"', "true or false"),
        (BRIDGE, {"ipMasqBackend": "pf"}, 'ipMasqBackend: "pf"', '"nftables"'),
        (BRIDGE, {"bridge": "a/b"}, 'bridge: "a/b"', "a name of 1 to 15 bytes without '/'"),
        (BRIDGE, {"dns": {"search": "x"}}, 'dns.search: "x"', "a list"),
        (BRIDGE, {"dns": {"search": [1]}}, "dns.search[0]: 1", "a string"),
        (BRIDGE, {"args": 5}, "args: 5", "an object"),
        (BRIDGE, {"args": {"cni": {"mac": "x"}}}, 'args.cni.mac: "x"', "a MAC address"),
        (BRIDGE, {"type": "../bridge"}, 'type: "../bridge"', "the file name of an executable"),
        (BRIDGE, {"ipam": {"type": "/bin/sh"}}, 'ipam.type: "/bin/sh"', "the file name of an"),
        (PORTMAP, {"markMasqBit": 32}, "markMasqBit: 32", "a whole number from 0 to 31"),
        (
            PORTMAP,
            ports(PORT, PORT | {"hostPort": 0}),
            "runtimeConfig.portMappings[1].hostPort: 0",
            "a whole number from 1 to 65535",
        ),
        (
            PORTMAP,
            ports(PORT | {"protocol": "icmp"}),
            'runtimeConfig.portMappings[0].protocol: "icmp"',
            '"tcp", "udp", "sctp"',
        ),
        (
            PORTMAP,
            ports(PORT | {"hostIP": "localhost"}),
            'runtimeConfig.portMappings[0].hostIP: "localhost"',
            "an IPv4 or IPv6 address",
        ),
        (
            HOST_LOCAL,
            {"ipam": {"ranges": [[{"subnet": "10.1.0.0"}]]}},
            'ipam.ranges[0][0].subnet: "10.1.0.0"',
            "an IPv4 or IPv6 subnet, ADDRESS/PREFIX-LENGTH",
        ),
        (HOST_LOCAL, {"ipam": {"routes": [{"dst": "::/0", "mtu": -1}]}}, "mtu: -1", "from 0 to 4"),
    ],
)
def test_a_refusal(schema: Path, document: Document, message: str, details: str) -> None:
    """A refusal names the key's path, quotes its value, and says what is allowed."""
    told, allowed = refusal(document, schema)
    assert f"{message} is not allowed" in told
    assert allowed.startswith("allowed: ")
    assert details in allowed


@pytest.mark.parametrize(
    ("schema", "document", "path"),
    [
        (PORTMAP, ports({"hostPort": 80}), "runtimeConfig.portMappings[0].containerPort"),
        (PORTMAP, ports(PORT, {}), "runtimeConfig.portMappings[1].hostPort"),
        (HOST_LOCAL, {}, "ipam"),
        (HOST_LOCAL, {"ipam": {"ranges": [[{}]]}}, "ipam.ranges[0][0].subnet"),
        (HOST_LOCAL, {"ipam": {"routes": [{}]}}, "ipam.routes[0].dst"),
    ],
)
def test_a_missing_key(schema: Path, document: Document, path: str) -> None:
    """A key that has to be there and is not is named with its path."""
    assert refusal(document, schema)[0] == f"{path}: missing"


@pytest.mark.parametrize("value", [1500.0, 1.5, True, "1500", [1500]])
def test_whole_numbers(value: object) -> None:
    """A whole number has no decimal point and is no truth value."""
    assert refusal({"mtu": value}, BRIDGE)[0] == f"mtu: {json.dumps(value)} is not allowed"


@pytest.mark.parametrize(
    "document",
    [
        {"mtu": 0},
        {"mtu": 68},
        {"mtu": 65535},
        {"bridge": "", "ipMasqBackend": "", "runtimeConfig": {"mac": ""}, "ipam": {"type": ""}},
        {"unknown": {"mtu": "x"}, "vlan": 0, "macspoofchk": False},
    ],
)
def test_what_is_allowed(document: Document) -> None:
    """Limits belong to what they limit, an empty string is no value, unknown keys are free."""
    validate(document, load_schema(str(BRIDGE)))


# Formats

FITTING = {
    "address": ["", "10.1.0.5", "fd00::5", "::"],
    "subnet": ["10.1.0.0/16", "fd00::/64", "0.0.0.0/0"],
    "requested-address": ["10.1.0.5", "10.1.0.5/16", "fd00::5", "fd00::5/64"],
    "mac": ["", "0a:58:0a:16:00:05", "0A-58-0A-16-00-05"],
    "protocol": ["", "tcp", "UDP", "Sctp"],
    "ifname": ["", "cni0", "br-123456789abc", "eth0.5"],
    "quotable-ifname": ["", "cni0", "eth0.5"],
    "path": ["", "/etc/resolv.conf", "a b"],
    "plugin-type": ["", "host-local", "a.b", "..."],
}
UNFITTING = {
    "address": ["10.1.0", "10.1.0.5/16", "fe80::1%eth0", "localhost"],
    "subnet": ["", "10.1.0.0", "10.1.0.0/255.255.0.0", "10.1.0.0/33"],
    "requested-address": ["", "10.1.0.5/", "10.1.0.5/33", "any"],
    "mac": ["0a:58:0a:16:00", "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00"],
    "protocol": ["icmp", "6", "tcp\n", " tcp", "tcp; flush ruleset", "tcp . 80"],
    "ifname": [".", "..", "a/b", "a b", "a:b", "0123456789abcdef", "a\0"],
    "quotable-ifname": ["a/b", 'a"b', "a*", "a\\b"],
    "path": ["/etc\0"],
    "plugin-type": [".", "..", "/bin/sh", "a/b", "a\0"],
}


@pytest.mark.parametrize("name", FORMATS)
def test_fitting_values(name: str) -> None:
    """Every format takes what it is for."""
    for value in FITTING[name]:
        validate({"key": value}, {"properties": {"key": {"format": name}}})


@pytest.mark.parametrize("name", FORMATS)
def test_unfitting_values(name: str) -> None:
    """Every format refuses what is not its own, and says in words what is."""
    for value in UNFITTING[name]:
        with pytest.raises(InvalidConfig) as caught:
            validate({"key": value}, {"properties": {"key": {"format": name}}})
        assert caught.value.message == f"key: {json.dumps(value)} is not allowed"
        assert caught.value.details == f"allowed: {FORMATS[name][1]}"


# Schemas


def _subschemas(schema: Document) -> Iterator[Document]:
    yield schema
    for below in (*schema.get("properties", {}).values(), schema.get("items")):
        if below is not None:
            yield from _subschemas(below)


@pytest.mark.parametrize("path", ALL_SCHEMAS, ids=lambda path: path.parent.name)
def test_schemas_are_valid(path: Path) -> None:
    """Every schema is one, by itself and with the keys that all share."""
    Draft202012Validator.check_schema(json.loads(path.read_text()))
    Draft202012Validator.check_schema(load_schema(str(path)))


@pytest.mark.parametrize("path", ALL_SCHEMAS, ids=lambda path: path.parent.name)
def test_schemas_use_known_formats(path: Path) -> None:
    """A format that nobody checks would let everything pass."""
    subschemas = list(_subschemas(json.loads(path.read_text())))
    used = {schema["format"] for schema in subschemas if "format" in schema}
    assert used <= set(FORMATS)


@pytest.mark.parametrize("path", OWN_SCHEMAS, ids=lambda path: path.parent.name)
def test_every_value_can_be_described(path: Path) -> None:
    """Whatever a schema refuses, it says what is allowed instead."""
    for schema in _subschemas(load_schema(str(path))):
        assert schema.keys() & {"type", "enum", "format", "allowed"}, schema


def test_a_schema_has_the_shared_keys() -> None:
    """A plugin's schema adds to the keys that all plugins know, also inside of objects."""
    properties = load_schema(str(BRIDGE))["properties"]
    assert {"cniVersion", "prevResult", "ipam", "dns", "mtu"} <= properties.keys()
    assert properties["runtimeConfig"]["type"] == "object"
    assert "mac" in properties["runtimeConfig"]["properties"]


# Spelling

SCHEMA: Document = {
    "properties": {"hostPort": {}, "list": {"items": {"properties": {"aB": {}}}}, "free": {}}
}


@pytest.mark.parametrize(
    ("given", "matched"),
    [
        ({"HostPort": 1}, {"hostPort": 1}),
        ({"hostport": 1, "hostPort": 2, "HOSTPORT": 3}, {"hostPort": 2}),
        ({"hostPort": None}, {}),
        ({"HostPort": None}, {}),
        ({"Unknown": None}, {"Unknown": None}),
        ({"LIST": [{"ab": 1}, {"AB": None}, 5]}, {"list": [{"aB": 1}, {}, 5]}),
        ({"list": {"ab": 1}}, {"list": {"ab": 1}}),
        ({"Free": {"ANY": None}}, {"free": {"ANY": None}}),
        ([], []),
        ("text", "text"),
    ],
)
def test_keys_are_spelled_as_in_the_schema(given: object, matched: object) -> None:
    """Known keys get the schema's spelling and go if they are null; others stay as they are."""
    assert match_keys(given, SCHEMA) == matched
