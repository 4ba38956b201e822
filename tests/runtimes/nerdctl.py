"""nerdctl, on containerd 2."""

from __future__ import annotations

from collections.abc import Sequence

from tests.runtimes.client import Client, Container, Port, start_containerd
from tests.runtimes.image import IMAGE
from tests.runtimes.machine import NET_D, PLUGINS, Machine

_CONFIG = f"""
cni_path = "{PLUGINS}"
cni_netconfpath = "{NET_D}"
cgroup_manager = "cgroupfs"
"""


class Nerdctl(Client):
    """nerdctl, with a network that it makes itself: bridge, portmap, firewall and tuning."""

    families = ("ipv4",)

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        machine.write("/etc/nerdctl/nerdctl.toml", _CONFIG)
        start_containerd(machine, "version = 2\n", "default")
        self("network", "create", "pods", "--subnet", "10.66.0.0/16")

    def __call__(self, *arguments: str) -> str:
        """What a command prints."""
        return self.machine.run("nerdctl", *arguments).stdout.strip()

    def run(
        self, name: str, *ports: Port, options: Sequence[str] = ("--network=pods",)
    ) -> Container:
        published = [f"--publish={port}" for port in ports]
        parent = f"--cgroup-parent=/{self.machine.cgroup}"
        self("run", "--detach", "--name", name, parent, *published, *options, IMAGE)
        return self.inspect(name)

    def inspect(self, name: str, ifname: str = "eth0") -> Container:
        process = self("inspect", "--format={{.State.Pid}}", name)
        return self.find(name, f"/proc/{process}/ns/net", ifname)

    def remove(self, name: str) -> None:
        self("rm", "--force", name)
