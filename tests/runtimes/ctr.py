"""containerd's own tool, `ctr`."""

from __future__ import annotations

import json
import subprocess

from tests.runtimes.client import CONFLIST, Client, Container, Port, start_containerd
from tests.runtimes.image import COMMAND, IMAGE
from tests.runtimes.machine import NET_D, Machine
from tests.support.network import wait_until


class Ctr(Client):
    """`ctr run --cni`. It has no option for ports: a conflist says which there are."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        start_containerd(machine, "version = 2\n", "default")
        self._running: dict[str, subprocess.Popen[str]] = {}

    def run(self, name: str, *ports: Port) -> Container:
        conflist = json.loads(CONFLIST)
        mappings = [
            {
                "hostPort": port.host,
                "containerPort": port.container,
                "protocol": port.protocol,
                "hostIP": port.address,
            }
            for port in ports
        ]
        conflist["plugins"][1]["runtimeConfig"] = {"portMappings": mappings}
        self.machine.write(f"{NET_D}/10-pycni.conflist", json.dumps(conflist))
        return self.find(name, f"/proc/{self._start(name)}/ns/net")

    def _start(self, name: str) -> str:
        """Start a container in the foreground: others keep their network when they are removed."""
        options = ("--rm", "--cni", "--cgroup", f"/{self.machine.cgroup}/{name}")
        process = self.machine.start("ctr", "run", *options, IMAGE, name, *COMMAND)
        self._running[name] = process
        wait_until(lambda: process.poll() is not None or self._find_process(name) != "")
        assert process.poll() is None, process.communicate()
        return self._find_process(name)

    def _find_process(self, name: str) -> str:
        """The ID of a container's process, once it runs."""
        lines = self.machine.run("ctr", "task", "ls").stdout.splitlines()
        tasks = [line.split() for line in lines]
        return next((pid for task, pid, status in tasks if (task, status) == (name, "RUNNING")), "")

    def remove(self, name: str) -> None:
        self.machine.run("ctr", "task", "kill", name)
        _, stderr = self._running.pop(name).communicate(timeout=60)
        assert "level=error" not in stderr, stderr
