"""What portmap is told, and what it hands on; nothing of this changes the node."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.node import Answer, Node
from tests.support.ports import port, portmap, remains, wired

VERSIONS = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]
POD = wired("pod", "/run/netns/pod", 2)


@pytest.fixture(scope="module")
def node(bin_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with Node(bin_dir, tmp_path_factory.mktemp("node")) as node:
        node.add_netns("pod")
        yield node


def result(version: str) -> dict[str, Any]:
    """A result with keys that nobody knows."""
    more = {"cniVersion": version, "example.com/color": "blue"}
    if version >= "1.0.0":
        return {**POD.result, **more}
    if version >= "0.3.0":
        ips = [
            {**ip, "version": family} for ip, family in zip(POD.result["ips"], "46", strict=True)
        ]
        return {**POD.result, "ips": ips, "dns": {}, **more}
    ip4 = {"ip": "10.77.0.2/24", "gateway": "10.77.0.1", "routes": [{"dst": "0.0.0.0/0"}]}
    ip6 = {"ip": "fd00:77::2/64"}
    return {"cniVersion": version, "ip4": ip4, "ip6": ip6, "dns": {}, "color": "blue"}


def is_refused(node: Node, answer: Answer, *words: str) -> bool:
    """Whether code 7 and these words are all that came of an ADD."""
    error = answer.document
    text = f"{error['msg']} {error.get('details', '')}"
    return error["code"] == 7 and all(word in text for word in words) and not remains(node)


@pytest.mark.parametrize("version", VERSIONS)
def test_no_mappings(node: Node, version: str) -> None:
    """Without port mappings ADD answers with the prevResult as it is, unknown keys included."""
    keys: dict[str, Any] = {"cniVersion": version, "prevResult": result(version)}
    answer = portmap(node, "ADD", POD, **keys)
    assert answer.document == result(version)
    assert not remains(node)


@pytest.mark.parametrize("runtime_config", [None, {}, {"portMappings": None}])
def test_no_capability_arguments(node: Node, runtime_config: dict[str, Any] | None) -> None:
    """So it does if the runtime sends no portMappings at all."""
    answer = portmap(node, "ADD", POD, runtimeConfig=runtime_config)
    assert answer.document == POD.result
    assert not remains(node)


@pytest.mark.parametrize("version", ["0.2.0", "0.4.0", "1.0.0", "1.1.0"])
def test_mappings(node: Node, version: str) -> None:
    """With port mappings ADD answers with the prevResult as well."""
    keys: dict[str, Any] = {"cniVersion": version, "prevResult": result(version)}
    answer = portmap(node, "ADD", POD, port(), **keys)
    assert answer.document == result(version)
    assert portmap(node, "DEL", POD, port(), **keys).document is None


@pytest.mark.parametrize("ports", [[], [port()]])
def test_first_in_the_chain(node: Node, ports: list[dict[str, Any]]) -> None:
    """ADD without a prevResult is refused: portmap has to follow another plugin."""
    answer = portmap(node, "ADD", POD, *ports, prevResult=None)
    assert is_refused(node, answer, "prevResult: missing", "follow another plugin")


def test_check_needs_a_result(node: Node) -> None:
    """CHECK without a prevResult is refused."""
    answer = portmap(node, "CHECK", POD, port(), prevResult=None)
    assert is_refused(node, answer, "prevResult: missing")


@pytest.mark.parametrize(
    ("key", "value"),
    [*(("hostPort", value) for value in (0, -1, 65536, 80.0, "80", True)), ("containerPort", 0)],
)
def test_ports_out_of_range(node: Node, key: str, value: object) -> None:
    """A port is a whole number from 1 to 65535; anything else is refused by its key's path."""
    answer = portmap(node, "ADD", POD, port(9000), port() | {key: value})
    path = f"runtimeConfig.portMappings[1].{key}"
    assert is_refused(node, answer, path, "a whole number from 1 to 65535")


@pytest.mark.parametrize("key", ["hostPort", "containerPort"])
def test_missing_port(node: Node, key: str) -> None:
    """Both ports have to be there."""
    mapping = {name: value for name, value in port().items() if name != key}
    answer = portmap(node, "ADD", POD, mapping)
    assert is_refused(node, answer, f"runtimeConfig.portMappings[0].{key}: missing")


@pytest.mark.parametrize("protocol", ["icmp", "tcp\n", " tcp", "tcp . 80 }", 6])
def test_protocol(node: Node, protocol: object) -> None:
    """A protocol other than tcp, udp and sctp is refused; nothing of it becomes a rule."""
    answer = portmap(node, "ADD", POD, port() | {"protocol": protocol})
    assert is_refused(node, answer, "portMappings[0].protocol", '"tcp", "udp", "sctp"')


@pytest.mark.parametrize("address", ["localhost", "10.0.0.0/8", "10.1", "fe80::1%eth0", "1.2.3.4 "])
def test_host_ip(node: Node, address: str) -> None:
    """A hostIP that is no address is refused."""
    answer = portmap(node, "ADD", POD, port(hostIP=address))
    assert is_refused(node, answer, "portMappings[0].hostIP", "an IPv4 or IPv6 address")


@pytest.mark.parametrize("everywhere", ["", "0.0.0.0"])
def test_ambiguous(node: Node, everywhere: str) -> None:
    """One host port for two container ports is refused, however its addresses are written."""
    answer = portmap(node, "ADD", POD, port(8080, 80), port(8080, 81, hostIP=everywhere))
    assert is_refused(node, answer, "portMappings[1].hostPort", "container port 80 already")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("backend", "ipvs"),
        ("snat", "yes"),
        ("masqAll", 1),
        ("markMasqBit", 32),
        ("externalSetMarkChain", "KUBE MARK"),
        ("conditionsV4", ["-s", "10.0.0.0/8", "-j", "DROP"]),
        ("conditionsV6", ["!", "-s", "fd00::/8", "--jump=DROP"]),
    ],
)
def test_keys(node: Node, key: str, value: object) -> None:
    """A key with a value that this version does not have is refused by its name."""
    keys: dict[str, Any] = {key: value}
    assert is_refused(node, portmap(node, "ADD", POD, port(), **keys), key)
