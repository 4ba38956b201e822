"""The bridge plugin with an IPAM plugin that is none of ours."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.support.network import IPV4, Network, addresses, remains, routes, write_plugin
from tests.support.node import Node

RESULT = {
    "cniVersion": "1.1.0",
    "ips": [{"address": "10.22.0.9/24", "gateway": "10.22.0.254"}],
    "routes": [{"dst": "192.0.2.0/24"}],
    "dns": {"nameservers": ["192.0.2.53"]},
}


class Ipam:
    """A plugin named `pool`, which notes what it is called with and answers as it is told."""

    def __init__(self, directory: Path, network: Network) -> None:
        self.directory = directory
        self.network = network
        self.answer("ADD", f"echo {shlex.quote(json.dumps(RESULT))}")
        write_plugin(
            directory,
            "pool",
            f"""
            cd {directory}
            echo $CNI_COMMAND >> calls
            cat > stdin.$CNI_COMMAND
            env > env.$CNI_COMMAND
            if [ -e answer.$CNI_COMMAND ]; then . ./answer.$CNI_COMMAND; fi
            """,
        )

    def answer(self, verb: str, script: str) -> None:
        self.directory.mkdir(exist_ok=True)
        (self.directory / f"answer.{verb}").write_text(script + "\n")

    @property
    def calls(self) -> list[str]:
        return (self.directory / "calls").read_text().split()

    def stdin(self, verb: str) -> Any:
        return json.loads((self.directory / f"stdin.{verb}").read_text())

    def environ(self, verb: str) -> dict[str, str]:
        lines = (self.directory / f"env.{verb}").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)


@pytest.fixture
def network(node: Node) -> Network:
    return Network(node, isDefaultGateway=False, ipMasq=False, ipam={"type": "pool", "size": 7})


@pytest.fixture
def ipam(network: Network, tmp_path: Path) -> Ipam:
    return Ipam(tmp_path / "bin", network)


@pytest.fixture
def path(ipam: Ipam) -> str:
    return str(ipam.directory)


# What it is asked


def test_verbs(network: Network, ipam: Ipam, path: str, node: Node) -> None:
    """ADD, CHECK and DEL reach the IPAM plugin, once each."""
    pod = network.attach(CNI_PATH=path)
    config = network.config | {"prevResult": pod.result}
    assert node.cni("CHECK", "bridge", config, "a", pod.netns, CNI_PATH=path).ok
    assert network.delete(CNI_PATH=path).ok
    assert ipam.calls == ["ADD", "CHECK", "DEL"]
    assert ipam.stdin("CHECK")["prevResult"] == pod.result


@pytest.mark.parametrize("verb", ["ADD", "DEL"])
def test_request(network: Network, ipam: Ipam, path: str, verb: str) -> None:
    """It gets the whole configuration and the whole environment."""
    network.config["color"] = "blue"
    request = {"CNI_PATH": path, "args": "IgnoreUnknown=1;K=V", "COLOR": "blue", "ifname": "net1"}
    network.add(**request)
    network.delete("a", "/run/netns/a", **request)
    assert ipam.stdin(verb) == network.config
    expected = {
        "CNI_COMMAND": verb,
        "CNI_CONTAINERID": "a",
        "CNI_NETNS": "/run/netns/a",
        "CNI_IFNAME": "net1",
        "CNI_ARGS": "IgnoreUnknown=1;K=V",
        "CNI_PATH": path,
        "COLOR": "blue",
    }
    assert expected.items() <= ipam.environ(verb).items()


# What it answers


def test_result(network: Network, path: str, node: Node) -> None:
    """What it answers is put on the interface, and reported for that interface."""
    pod = network.attach(CNI_PATH=path)
    assert addresses(node, "eth0", pod.netns) == ["10.22.0.9/24"]
    (route,) = routes(node, "-4", pod.netns)
    assert (route["dst"], route["gateway"]) == ("192.0.2.0/24", "10.22.0.254")
    assert pod.result["ips"] == [
        {"interface": 2, "address": "10.22.0.9/24", "gateway": "10.22.0.254"}
    ]
    assert pod.result["routes"] == RESULT["routes"]
    assert pod.result["dns"] == RESULT["dns"]


@pytest.mark.parametrize(
    "answer",
    [
        {"cniVersion": "0.2.0", "ip4": {"ip": "10.22.0.9/24"}},
        {"cniVersion": "0.4.0", "ips": [{"version": "4", "address": "10.22.0.9/24"}], "dns": {}},
        {"ips": [{"address": "10.22.0.9/24"}]},
        {"ips": [{"address": "10.22.0.9/24", "interface": 0}], "interfaces": [{"name": "x"}]},
    ],
)
def test_other_results(network: Network, ipam: Ipam, path: str, answer: Any) -> None:
    """Its answer may be of another version, or name interfaces, which are none of its business."""
    ipam.answer("ADD", f"echo {shlex.quote(json.dumps(answer))}")
    pod = network.attach(CNI_PATH=path)
    assert pod.result["ips"] == [{"interface": 2, "address": "10.22.0.9/24"}]
    assert [interface["name"] for interface in pod.result["interfaces"]][::2] == ["br0", "eth0"]


def test_stderr(network: Network, ipam: Ipam, path: str) -> None:
    """What it writes to standard error is passed on, and keeps off standard output."""
    ipam.answer("DEL", "echo a word for the log >&2")
    answer = network.delete(CNI_PATH=path)
    assert (answer.code, answer.document) == (0, None)
    assert "a word for the log" in answer.stderr


def test_delete_ignores_what_is_printed(network: Network, ipam: Ipam, path: str) -> None:
    """A DEL that went well has no answer: whatever is printed is not looked at."""
    ipam.answer("DEL", "echo done")
    answer = network.delete(CNI_PATH=path)
    assert (answer.code, answer.document) == (0, None)


# What may go wrong


@pytest.mark.parametrize(
    ("script", "code", "words"),
    [
        ('echo \'{"code": 11, "msg": "not now", "details": "full"}\'; exit 3', 11, "not now full"),
        ("echo rubbish", 999, "pool (exit code 0) did not answer in JSON rubbish"),
        ("kill -9 $$", 999, "pool failed with exit code -9"),
        ("true", 999, "'pool' returned no address"),
    ],
)
def test_failure(network: Network, ipam: Ipam, script: str, code: int, words: str) -> None:
    """Its failure is passed on, its DEL is called, and nothing is left."""
    ipam.answer("ADD", script)
    answer = network.add(CNI_PATH=str(ipam.directory))
    assert (answer.code, answer.document["code"]) == (1, code)
    said = f"{answer.document['msg']} {answer.document.get('details', '')}"
    assert words in said, said
    assert ipam.calls == ["ADD", "DEL"]
    assert remains(network.node) == []


def test_two_failures(network: Network, ipam: Ipam, path: str) -> None:
    """If its DEL fails, too, it is the ADD's error that the runtime hears."""
    ipam.answer("ADD", 'echo \'{"code": 11, "msg": "not now"}\'; exit 1')
    ipam.answer("DEL", 'echo \'{"code": 12, "msg": "nor then"}\'; exit 1')
    answer = network.add(CNI_PATH=path)
    assert (answer.document["code"], answer.document["msg"]) == (11, "not now")
    assert "nor then" in answer.stderr


def test_failure_behind_it(network: Network, ipam: Ipam, path: str) -> None:
    """If something else fails after it, its DEL is called."""
    answer = RESULT | {"routes": [{"dst": "192.0.2.0/24", "gw": "172.16.0.1"}]}
    ipam.answer("ADD", f"echo {shlex.quote(json.dumps(answer))}")
    assert not network.add(CNI_PATH=path).ok
    assert ipam.calls == ["ADD", "DEL"]
    assert remains(network.node) == []


def test_failing_check(network: Network, ipam: Ipam, path: str, node: Node) -> None:
    """A CHECK that it fails is passed on."""
    pod = network.attach(CNI_PATH=path)
    ipam.answer("CHECK", 'echo \'{"code": 111, "msg": "not leased"}\'; exit 1')
    config = network.config | {"prevResult": pod.result}
    answer = node.cni("CHECK", "bridge", config, "a", pod.netns, CNI_PATH=path)
    assert (answer.document["code"], answer.document["msg"]) == (111, "not leased")


# One of ours


@pytest.mark.parametrize("requested", ["10.22.0.77", "10.99.0.1"])
def test_the_same_by_either_way(node: Node, tmp_path: Path, requested: str) -> None:
    """host-local answers, well or not, just as it does when it is not called as an executable."""
    write_plugin(tmp_path / "bin", "host-local", f"exec {node.bin_dir}/host-local")
    answers = []
    for directory in (tmp_path / "bin", node.bin_dir):
        macs_and_ips = {"ips": [requested], "mac": "0a:00:00:00:00:01"}
        network = Network(node, ipam=IPV4, runtimeConfig=macs_and_ips)
        answers.append(network.add("a", node.add_netns("a"), CNI_PATH=str(directory)))
        network.delete(CNI_PATH=str(directory))
        node.run("ip", "netns", "delete", "a")
        node.run("sh", "-c", "ip link delete br0 || true")
    first, second = (answer.document for answer in answers)
    assert first.pop("interfaces", [])[2:] == second.pop("interfaces", [])[2:]
    assert first == second
    assert remains(node) == []
