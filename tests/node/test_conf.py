"""The sample configuration works as it is."""

from __future__ import annotations

import configparser
import ipaddress
import json
import tomllib
from typing import Any

import pytest

from pycni.launcher import SOCKET
from tests.support.network import remains
from tests.support.node import ROOT, Node, Outside
from tests.support.ports import port

CONF = ROOT / "conf"
CONFLISTS = sorted(path.name for path in CONF.glob("*.conflist"))

UNITS = ("pycni-agent.service", "pycni-agent.socket")

# What the tools whose defaults these are would give their own networks.
OTHERS = {
    "docker": "172.16.0.0/12",
    "kubeadm": "10.96.0.0/12",
    "flannel": "10.244.0.0/16",
    "k3s": "10.42.0.0/15",
    "CRI-O": "10.85.0.0/16",
    "podman": "10.88.0.0/16",
    "nerdctl": "10.4.0.0/16",
    "libvirt and Calico": "192.168.0.0/16",
}


def load(name: str) -> dict[str, Any]:
    conflist = json.loads((CONF / name).read_text())
    assert isinstance(conflist, dict)
    return conflist


def ranges(conflist: dict[str, Any]) -> list[str]:
    ipam = conflist["plugins"][0]["ipam"]
    sets = ipam.get("ranges", [[ipam]])
    return [range_["subnet"] for range_set in sets for range_ in range_set]


def test_every_file_is_tested() -> None:
    """There is nothing in conf/ that no test knows."""
    known = {*CONFLISTS, "containerd.toml", "crio.conf", "podman.conf", "README.md", *UNITS}
    assert {path.name for path in CONF.iterdir()} == known
    assert len(CONFLISTS) == 3


@pytest.mark.parametrize("name", CONFLISTS)
def test_life_of_two_pods(node: Node, outside: Outside, name: str) -> None:
    """Two pods are added, reach one another and the outside, are checked and removed."""
    conflist = load(name)
    first, second = node.add_netns("first"), node.add_netns("second")
    answers = [node.cnitool("add", conflist, netns) for netns in (first, second)]
    node.serve("tcp", 80, first, name="first")
    node.serve("tcp", 80, outside.netns, name="outside")
    for at in range(len(answers[0].document["ips"])):
        address, client = (
            answer.document["ips"][at]["address"].split("/")[0] for answer in answers
        )
        assert node.ask("tcp", address, 80, second) == f"first {client}"
        family = "ipv6" if ":" in address else "ipv4"
        beyond, seen = getattr(outside, family), getattr(outside, f"node_{family}")
        assert node.ask("tcp", beyond, 80, second) == f"outside {seen}"
    for verb in ("check", "del", "del"):
        for netns in (first, second):
            assert node.cnitool(verb, conflist, netns).ok
    assert remains(node) == []


@pytest.mark.parametrize("name", [name for name in CONFLISTS if "portmap" in str(load(name))])
def test_published_port(node: Node, outside: Outside, name: str) -> None:
    """Where there is portmap, ports are published for each family of the network."""
    conflist = load(name)
    pod = node.add_netns("pod")
    assert node.cnitool("add", conflist, pod, [port()]).ok
    node.serve("tcp", 80, pod, name="web")
    for subnet in ranges(conflist):
        family = "ipv6" if ":" in subnet else "ipv4"
        address, client = getattr(outside, f"node_{family}"), getattr(outside, family)
        gateway = ipaddress.ip_network(subnet)[1]
        assert node.ask("tcp", address, 8080, outside.netns, timeout=5) == f"web {client}"
        assert node.ask("tcp", address, 8080, pod, timeout=5) == f"web {gateway}"
    assert node.cnitool("check", conflist, pod, [port()]).ok
    assert node.cnitool("del", conflist, pod, [port()]).ok
    assert remains(node) == []


@pytest.mark.parametrize("name", CONFLISTS)
def test_version(name: str) -> None:
    """The version is the newest that containerd 1.6 and podman 4 take."""
    assert load(name)["cniVersion"] == "1.0.0"


@pytest.mark.parametrize("name", CONFLISTS)
def test_subnets(name: str) -> None:
    """No IPv4 subnet is one that another tool takes by default."""
    mine = [ipaddress.ip_network(subnet) for subnet in ranges(load(name))]
    for other in map(ipaddress.ip_network, OTHERS.values()):
        assert not any(subnet.overlaps(other) for subnet in mine if subnet.version == 4)


@pytest.mark.parametrize("name", CONFLISTS)
def test_default_networks(name: str) -> None:
    """The runtimes' samples name the network that the conflists define."""
    crio = tomllib.loads((CONF / "crio.conf").read_text())
    podman = tomllib.loads((CONF / "podman.conf").read_text())
    named = (crio["crio"]["network"]["cni_default_network"], podman["network"]["default_network"])
    assert named == (load(name)["name"],) * 2


def test_directories() -> None:
    """The runtimes' samples lead to where scripts/install and the README put things."""
    containerd = tomllib.loads((CONF / "containerd.toml").read_text())
    cri = containerd["plugins"]["io.containerd.grpc.v1.cri"]["cni"]
    crio = tomllib.loads((CONF / "crio.conf").read_text())["crio"]["network"]
    podman = tomllib.loads((CONF / "podman.conf").read_text())["network"]
    plugins = [cri["bin_dir"], *crio["plugin_dirs"], *podman["cni_plugin_dirs"]]
    networks = [cri["conf_dir"], crio["network_dir"], podman["network_config_dir"]]
    assert {path.rstrip("/") for path in plugins} == {"/opt/cni/bin"}
    assert {path.rstrip("/") for path in networks} == {"/etc/cni/net.d"}


def test_units() -> None:
    """systemd listens where launchers look, for root only, and runs what scripts/install makes."""
    units = {name: configparser.ConfigParser(strict=False, interpolation=None) for name in UNITS}
    for name, unit in units.items():
        unit.optionxform = str  # type: ignore[assignment,method-assign]
        unit.read_string((CONF / name).read_text())
    listening = units["pycni-agent.socket"]["Socket"]
    assert listening["ListenStream"] == SOCKET
    assert (listening["SocketMode"], listening["DirectoryMode"]) == ("0600", "0700")
    service = units["pycni-agent.service"]["Service"]
    assert service["ExecStart"] == "/opt/pycni/bin/pycni-agent"
    assert (service["Type"], service["KillMode"]) == ("notify", "process")
