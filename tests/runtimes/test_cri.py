"""What a kubelet asks of containerd, and is told."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.runtimes.client import CONFLIST, Port
from tests.runtimes.cri import Cri
from tests.runtimes.machine import NET_D
from tests.runtimes.runtimes import LOST_NAMESPACE, every
from tests.support.network import wait_until

each = pytest.mark.parametrize("client", every("cri", "cri2"), indirect=True)


@each
def test_status_of_a_pod(client: Cri) -> None:
    """A pod's status has its addresses, IPv4 first."""
    pod = client.run("pod")
    network = client.status("pod")["status"]["network"]
    assert network == {"ip": pod.ipv4, "additional_ips": [{"ip": pod.ipv6}]}


@each
def test_status_of_the_runtime(client: Cri) -> None:
    """The network is ready, before the first pod and with it."""
    assert client.condition("NetworkReady")["status"]
    client.run("pod")
    assert client.condition("NetworkReady")["status"]


@pytest.mark.parametrize("client", every("cri2", plugins=["pycni"]), indirect=True)
def test_network_that_is_not_ready(client: Cri) -> None:
    """With version 1.1.0 the network is not ready while STATUS fails, and the message says why."""
    conflist = json.loads(CONFLIST) | {"cniVersion": "1.1.0"}
    client.machine.write(f"{NET_D}/10-pycni.conflist", json.dumps(conflist))
    client.machine.run("ip", "link", "add", "cni0", "type", "veth", "peer", "name", "other")
    wait_until(lambda: not client.condition("NetworkReady")["status"])
    assert "cni0" in client.condition("NetworkReady")["message"]
    client.machine.run("ip", "link", "delete", "cni0")
    wait_until(lambda: bool(client.condition("NetworkReady")["status"]))


@each
def test_loopback(client: Cri) -> None:
    """A pod has its loopback interface up."""
    pod = client.run("pod")
    assert client.machine.addresses(pod.netns, "lo", scope="host") == {
        "ipv4": "127.0.0.1",
        "ipv6": "::1",
    }


@each
def test_stopping_twice(client: Cri) -> None:
    """A pod may be stopped again, which frees nothing that another pod has by now."""
    client.run("first", Port(8080))
    client.remove("first")
    before = client.machine.holdings()
    client.run("pod", Port(8080))
    client.stop("pod")
    assert client.machine.changes(before) == []
    client.run("next", Port(8080))
    with_next = client.machine.holdings()
    client.stop("pod")
    client.remove("pod")
    assert client.machine.changes(with_next) == []
    assert len(client.pods()) == 1


@pytest.mark.parametrize("client", every("cri", "cri2", fails=LOST_NAMESPACE), indirect=True)
def test_removal_of_a_pod_without_namespace(client: Cri) -> None:
    """Nothing is left of a pod whose namespace somebody else removed."""
    client.run("first", Port(8080))
    client.remove("first")
    before = client.machine.holdings()
    pod = client.run("pod", Port(8080))
    script = f"umount {pod.netns}; rm {pod.netns}; kill -KILL {client.info('pod')['pid']}"
    client.machine.run("sh", "-ec", script)
    client.remove("pod")
    assert client.machine.changes(before) == []


@each
def test_removal_after_containerd_was_killed(client: Cri) -> None:
    """A pod outlives containerd, and nothing is left of it when the next one removes it."""
    client.run("first", Port(8080))
    client.remove("first")
    before = client.machine.holdings()
    pod = client.run("pod", Port(8080))
    client.machine.kill_daemon()
    client.start()
    assert client.status("pod")["status"]["network"]["ip"] == pod.ipv4
    client.remove("pod")
    assert client.machine.changes(before) == []


@each
def test_ten_with_ports_at_once(client: Cri) -> None:
    """Ten pods that start at once have a host port each, which leads to that pod."""
    machine = client.machine
    ports = range(8000, 8010)
    with ThreadPoolExecutor(len(ports)) as pool:
        pods = list(pool.map(lambda port: client.run(f"pod{port}", Port(port)), ports))
    for pod, port in zip(pods, ports, strict=True):
        machine.serve("tcp", 80, pod.netns, name=pod.name)
        answer = machine.ask("tcp", machine.outside.node_ipv4, port, machine.outside.netns)
        assert answer == f"pod{port} {machine.outside.ipv4}"
