"""podman 4 with CNI; later ones have none."""

from __future__ import annotations

from collections.abc import Sequence

from tests.runtimes.client import CONF, CONFLIST, Client, Container, Port
from tests.runtimes.image import IMAGE
from tests.runtimes.machine import IMAGE_FILE, NET_D, Machine

# Beside the network's sample: a machine without systemd, and one OCI runtime.
_CONFIG = """
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
"""


class Podman(Client):
    """podman, whose default network is ours."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        machine.write(f"{NET_D}/10-pycni.conflist", CONFLIST)
        self.use_default_network("pods")
        self("load", "--quiet", "--input", IMAGE_FILE)

    def use_default_network(self, name: str) -> None:
        """Have containers that ask for no network be on this one."""
        config = (CONF / "podman.conf").read_text() + _CONFIG
        config = config.replace('default_network = "pods"', f'default_network = "{name}"')
        self.machine.write("/etc/containers/containers.conf", config)

    def __call__(self, *arguments: str) -> str:
        """What a command prints."""
        return self.machine.run("podman", *arguments).stdout.strip()

    def run(self, name: str, *ports: Port, options: Sequence[str] = ()) -> Container:
        published = [f"--publish={port}" for port in ports]
        parent = f"--cgroup-parent=/{self.machine.cgroup}"
        self("run", "--detach", "--name", name, parent, *published, *options, IMAGE)
        return self.inspect(name)

    def inspect(self, name: str, ifname: str = "eth0") -> Container:
        netns = self("inspect", "--format={{.NetworkSettings.SandboxKey}}", name)
        return self.find(name, netns, ifname)

    def remove(self, name: str) -> None:
        self("rm", "--force", name)
