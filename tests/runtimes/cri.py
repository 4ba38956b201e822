"""containerd as a kubelet uses it: pod sandboxes, by the Container Runtime Interface."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.runtimes.client import CONF, CONFLIST, Client, Container, Port, start_containerd
from tests.runtimes.grpc_service import Service
from tests.runtimes.image import IMAGE
from tests.runtimes.machine import NET_D, Machine

# Beside the sample of README: the image that holds a pod's namespaces, and not to be killed less
# readily than others, which takes a capability that not every machine gives.
_CONFIG = f"""
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{IMAGE}"
restrict_oom_score_adj = true
"""


class Cri(Client):
    """The CRI of containerd."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        machine.write(f"{NET_D}/10-pycni.conflist", CONFLIST)
        self.start()
        socket = machine.path("/run/containerd/containerd.sock")
        proto = Path(__file__).with_name("cri.proto")
        self._service = Service(socket, proto, "runtime.v1.RuntimeService")
        self._ids: dict[str, str] = {}

    def start(self) -> None:
        """Start containerd, which may have run before."""
        config = (CONF / "containerd.toml").read_text() + _CONFIG
        start_containerd(self.machine, config, "k8s.io")

    def run(self, name: str, *ports: Port) -> Container:
        config = {
            "metadata": {"name": name, "uid": f"{name}-uid", "namespace": "default"},
            "linux": {"cgroup_parent": f"/{self.machine.cgroup}"},
            "port_mappings": [
                {
                    "protocol": port.protocol.upper(),
                    "container_port": port.container,
                    "host_port": port.host,
                    "host_ip": port.address,
                }
                for port in ports
            ],
        }
        self._ids[name] = self._service.call("RunPodSandbox", config=config)["pod_sandbox_id"]
        namespaces = self.info(name)["runtimeSpec"]["linux"]["namespaces"]
        (netns,) = (space["path"] for space in namespaces if space["type"] == "network")
        return self.find(name, netns)

    def status(self, name: str) -> Any:
        """What a kubelet is told of a pod."""
        return self._of("PodSandboxStatus", name, verbose=True)

    def info(self, name: str) -> Any:
        """What containerd says of a pod beyond the CRI."""
        return json.loads(self.status(name)["info"]["info"])

    def stop(self, name: str) -> None:
        self._of("StopPodSandbox", name)

    def remove(self, name: str) -> None:
        self.stop(name)
        self._of("RemovePodSandbox", name)

    def pods(self) -> list[str]:
        """The IDs of all pods."""
        return [item["id"] for item in self._service.call("ListPodSandbox")["items"]]

    def condition(self, kind: str) -> Any:
        """A condition of the runtime, such as NetworkReady."""
        conditions = self._service.call("Status")["status"]["conditions"]
        return next(condition for condition in conditions if condition["type"] == kind)

    def _of(self, method: str, name: str, **more: Any) -> Any:
        return self._service.call(method, pod_sandbox_id=self._ids[name], **more)
