"""A runtime, as its users call it: run a container, remove it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

from tests.runtimes.machine import IMAGE_FILE, Machine
from tests.support.network import wait_until
from tests.support.node import ROOT

CONF = ROOT / "conf"
CONFLIST = (CONF / "10-pycni-dual-stack.conflist").read_text()


class Port(NamedTuple):
    """A port that is published at an address of the node, or at all."""

    host: int
    container: int = 80
    protocol: str = "tcp"
    address: str = ""

    def __str__(self) -> str:
        """As it follows `--publish`."""
        at = f"{self.address}:" if self.address else ""
        return f"{at}{self.host}:{self.container}/{self.protocol}"


class Container(NamedTuple):
    """A container that runs; `netns` is a path on its machine."""

    name: str
    netns: str
    ipv4: str
    ipv6: str = ""


class Client(ABC):
    """A runtime that has its machine to itself, and a network, `pods`, of these families."""

    families: Sequence[str] = ("ipv4", "ipv6")

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    @abstractmethod
    def run(self, name: str, *ports: Port) -> Container:
        """Run a container on the network."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Stop and remove it."""

    def find(self, name: str, netns: str, ifname: str = "eth0") -> Container:
        """A container, by its network namespace."""
        path = netns.removeprefix("/var")  # /var/run is a link, and outside it leads elsewhere
        return Container(name, path, **self.machine.addresses(path, ifname))


def start_containerd(machine: Machine, config: str, namespace: str) -> None:
    """Start containerd, and import the image for those who use it by this namespace."""
    machine.write("/etc/containerd/config.toml", config)
    machine.start_daemon("containerd", "--log-level", "warn")
    wait_until(lambda: machine.run("ctr", "version", check=False).returncode == 0)
    machine.run("ctr", "--namespace", namespace, "image", "import", IMAGE_FILE)
