"""A host port that is taken: by an attachment, by a process of the node, by nobody any more."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.node import Answer, Node, Outside
from tests.support.pod import Pod
from tests.support.ports import add_pod, port, portmap, publish, remains, withdraw
from tests.support.rulesets import published

# A socket of the node: PROTOCOL ADDRESS PORT, and for a client PEER-ADDRESS PEER-PORT.
_SOCKET = """
import socket, sys
protocol, address, port, *peer = sys.argv[1:]
family = socket.AF_INET6 if ":" in address else socket.AF_INET
kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
s = socket.socket(family, kind)
s.bind((address, int(port)))
if peer:
    s.connect((peer[0], int(peer[1])))
elif protocol == "tcp":
    s.listen()
print("ready", flush=True)
sys.stdin.read()
"""


def hold(node: Node, *socket: str, program: str | Path = sys.executable) -> int:
    """Have a process of the node hold a socket. Returns its process identifier."""
    process = node.start(program, "-ISc", _SOCKET, *socket)
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process.pid


def is_taken(answer: Answer, *words: str) -> bool:
    """Whether an ADD failed for a taken port, and says so in these words."""
    document = answer.document
    return document["code"] == 101 and all(word in document["msg"] for word in words)


@pytest.fixture
def pod(node: Node) -> Pod:
    return add_pod(node, 2)


@pytest.fixture
def other(node: Node) -> Pod:
    return add_pod(node, 3)


# By an attachment


def test_taken_by_a_live_attachment(node: Node, outside: Outside, pod: Pod, other: Pod) -> None:
    """A port that a pod has is refused to another one, which is told whose it is."""
    node.serve("tcp", 80, pod.netns, name="first")
    publish(node, pod, port())
    before = remains(node), published(node)
    answer = portmap(node, "ADD", other, port(9000), port())
    assert is_taken(answer, "0.0.0.0:8080/tcp", "net/pod2/eth0")
    assert (remains(node), published(node)) == before
    assert portmap(node, "CHECK", pod, port()).ok
    assert node.ask("tcp", outside.node_ipv4, 8080, outside.netns) == "first 192.0.2.2"


def test_refused_and_deleted(node: Node, pod: Pod, other: Pod) -> None:
    """The DEL after a refused ADD takes nothing from who has the port."""
    publish(node, pod, port())
    assert not portmap(node, "ADD", other, port()).ok
    withdraw(node, other)
    assert portmap(node, "CHECK", pod, port()).ok


def test_other_protocols_and_addresses_are_free(node: Node, pod: Pod, other: Pod) -> None:
    """The same number for another protocol, or at another address, is another port."""
    publish(node, pod, port(), port(hostIP="192.0.2.1", host_port=8081))
    publish(node, other, port(protocol="udp"), port(hostIP="192.0.2.2", host_port=8081))
    assert len(published(node)) == 6


def test_two_at_once(node: Node, pod: Pod) -> None:
    """Of several pods that ask for a port at the same time, one gets it."""
    pods = [pod, *(add_pod(node, number) for number in range(3, 9))]
    with ThreadPoolExecutor(len(pods)) as pool:
        answers = list(pool.map(lambda pod: portmap(node, "ADD", pod, port()), pods))
    (winner,) = [pod for pod, answer in zip(pods, answers, strict=True) if answer.ok]
    assert all(answer.ok or is_taken(answer, winner.name) for answer in answers)
    assert portmap(node, "CHECK", winner, port()).ok


def test_taken_by_a_dead_attachment(node: Node, outside: Outside, pod: Pod, other: Pod) -> None:
    """A port of a pod whose namespace is gone goes to who asks for it."""
    node.serve("tcp", 80, other.netns, name="second")
    publish(node, pod, port())
    node.run("ip", "netns", "delete", pod.name)
    publish(node, other, port())
    assert node.ask("tcp", outside.node_ipv4, 8080, outside.netns) == "second 192.0.2.2"


def test_late_delete(node: Node, outside: Outside, pod: Pod, other: Pod) -> None:
    """A DEL that comes after another pod got the port leaves it alone."""
    node.serve("tcp", 80, other.netns, name="second")
    publish(node, pod, port(), port(9000))
    node.run("ip", "netns", "delete", pod.name)
    publish(node, other, port())
    withdraw(node, pod)
    assert published(node) == {"ip tcp 8080": "10.77.0.3 80", "ip6 tcp 8080": "fd00:77::3 80"}
    assert portmap(node, "CHECK", other, port()).ok
    assert node.ask("tcp", outside.node_ipv4, 8080, outside.netns) == "second 192.0.2.2"


def test_late_delete_of_an_address(node: Node, pod: Pod) -> None:
    """So does one after another pod got the address and the port."""
    publish(node, pod, port())
    node.run("ip", "netns", "delete", pod.name)
    heir = pod._replace(name="heir", netns=node.add_netns("heir"))
    publish(node, heir, port())
    withdraw(node, pod)
    assert portmap(node, "CHECK", heir, port()).ok
    withdraw(node, heir)
    assert not remains(node)


def test_dead_and_live_holders(node: Node, pod: Pod, other: Pod) -> None:
    """An ADD that is refused for one port leaves the dead pod's other port to its DEL."""
    dead = add_pod(node, 4)
    publish(node, dead, port(9000))
    publish(node, other, port())
    node.run("ip", "netns", "delete", dead.name)
    assert not portmap(node, "ADD", pod, port(9000), port()).ok
    withdraw(node, dead)
    assert published(node) == {"ip tcp 8080": "10.77.0.3 80", "ip6 tcp 8080": "fd00:77::3 80"}


# By a process of the node


@pytest.mark.parametrize(
    ("address", "where"),
    [
        ("0.0.0.0", "0.0.0.0:8080/tcp"),
        ("192.0.2.1", "0.0.0.0:8080/tcp"),
        ("127.0.0.53", "0.0.0.0:8080/tcp"),
        ("::", "0.0.0.0:8080/tcp"),
        ("2001:db8::1", "[::]:8080/tcp"),
        ("0.0.0.0", "0.0.0.0:8080/udp"),
        ("::1", "[::]:8080/udp"),
    ],
)
@pytest.mark.usefixtures("backend")
def test_taken_by_a_process(
    node: Node, outside: Outside, pod: Pod, address: str, where: str
) -> None:
    """A port that a process of the node listens on is published, and a warning names it."""
    protocol = where.rpartition("/")[2]
    node.serve(protocol, 80, pod.netns, name="pod")
    pid = hold(node, protocol, address, "8080")
    answer = portmap(node, "ADD", pod, port(protocol=protocol))
    assert answer.ok
    name = node.run("cat", f"/proc/{pid}/comm").stdout.strip()
    assert where in answer.stderr
    assert f"{name} ({pid})" in answer.stderr
    assert node.ask(protocol, outside.node_ipv4, 8080, outside.netns) == "pod 192.0.2.2"
    assert node.ask(protocol, outside.node_ipv6, 8080, outside.netns) == "pod 2001:db8::2"
    assert str(node.ask(protocol, outside.node_ipv4, 8080)).startswith("pod ")


@pytest.mark.parametrize(("listens", "host_ip"), [("192.0.2.1", "192.0.2.9"), ("::1", "0.0.0.0")])
@pytest.mark.usefixtures("outside")
def test_a_process_elsewhere(node: Node, pod: Pod, listens: str, host_ip: str) -> None:
    """A process that listens at other addresses than the port's hostIP is not warned of."""
    hold(node, "tcp", listens, "8080")
    answer = portmap(node, "ADD", pod, port(hostIP=host_ip))
    assert answer.ok
    assert not answer.stderr


def test_a_process_at_the_host_ip(node: Node, outside: Outside, pod: Pod) -> None:
    """A process that listens at all addresses is warned of for a port with a hostIP, too."""
    hold(node, "tcp", "0.0.0.0", "8080")
    answer = portmap(node, "ADD", pod, port(hostIP=outside.node_ipv4))
    assert answer.ok
    assert "192.0.2.1:8080/tcp" in answer.stderr


def test_a_reserving_process(node: Node, pod: Pod) -> None:
    """A runtime that listens on every port it publishes is named once, with all the ports."""
    pids = {hold(node, "tcp", "0.0.0.0", str(number)) for number in (8080, 8081)}
    answer = portmap(node, "ADD", pod, port(), port(8081))
    assert answer.ok
    assert all(f"({pid})" in answer.stderr for pid in pids)


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_client(node: Node, outside: Outside, pod: Pod, protocol: str) -> None:
    """A client whose own port happens to be the host port is not warned of."""
    node.serve(protocol, 9000, outside.netns)
    hold(node, protocol, outside.node_ipv4, "8080", outside.ipv4, "9000")
    answer = portmap(node, "ADD", pod, port(protocol=protocol))
    assert answer.ok
    assert not answer.stderr


def test_conmon(node: Node, tmp_path: Path, pod: Pod) -> None:
    """podman's conmon, which listens on the ports that podman publishes, is not warned of."""
    conmon = tmp_path / "conmon"
    conmon.symlink_to(sys.executable)
    hold(node, "tcp", "0.0.0.0", "8080", program=conmon)
    answer = portmap(node, "ADD", pod, port())
    assert answer.ok
    assert not answer.stderr


def test_a_process_in_the_pod(node: Node, pod: Pod) -> None:
    """What processes in pods listen at is no matter of the node's."""
    node.serve("tcp", 8080, pod.netns)
    publish(node, pod, port())
