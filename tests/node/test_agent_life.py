"""Launchers and agents that end, are killed, are full, or are upgraded; strangers who knock."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from pycni.launcher import LIFELINE, SOCKET, WAITING
from tests.support.agents import (
    STANDBYS,
    name_of,
    probe,
    running,
    standbys,
    takes_requests,
)
from tests.support.network import Network, SlowIpam, remains, wait_until
from tests.support.node import AGENT, Node

# What is installed, whatever the tests import.
PACKAGE = Path(sysconfig.get_path("purelib"), "pycni")

# Connects, prints the answer, which is a child's pid; writes to that, and prints its answer.
_STRANGER = """
import os, socket, sys
agent = socket.socket(socket.AF_UNIX)
agent.connect(sys.argv[1])
child = agent.recv(64).decode().partition(".")[0]
print(child)
for said in sys.argv[2:]:
    with open(f"/proc/{child}/fd/60", "r+b", 0) as line, open(f"/proc/{child}/fd/61") as answer:
        line.write(said.encode())
        print(repr(answer.readline()))
"""

_ECHO_NOTIFICATIONS = """
import socket, sys
messages = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
messages.bind(sys.argv[1])
print("ready", flush=True)
while True:
    print(messages.recv(4096).decode(), flush=True)
"""


@pytest.fixture
def node(bin_dir: Path, tmp_path: Path) -> Iterator[Node]:
    with Node(bin_dir, tmp_path, agent=False) as node:
        yield node


@pytest.fixture
def network(node: Node) -> Network:
    return Network(node)


def start_slow_add(network: Network, directory: Path) -> tuple[SlowIpam, subprocess.Popen[str]]:
    """An ADD that waits in the middle, for as long as its IPAM plugin is not let go."""
    ipam = SlowIpam(network.node, directory, "ADD")
    network.node.add_netns("a")
    process = network.start("ADD", "a", **ipam.environ)
    ipam.wait(1)
    return ipam, process


def find_running(agent: subprocess.Popen[str]) -> int:
    """The child that runs the slow ADD. That of the IPAM plugin's request takes time to end."""
    wait_until(lambda: len(running(agent)) == 1)
    (child,) = running(agent)
    return child


def knock(node: Node, *said: str, caller: tuple[str, ...] = ()) -> list[str]:
    """What a stranger gets who says this."""
    command = (*caller, sys.executable, "-IS", "-c", _STRANGER, SOCKET, *said)
    return node.run(*command).stdout.splitlines()


# Ends of a launcher, and of its child


def test_killed_launcher(network: Network, node: Node, tmp_path: Path) -> None:
    """A launcher that is killed takes its request along; the DEL behind it leaves nothing."""
    agent = node.start_agent()
    ipam, process = start_slow_add(network, tmp_path / "slow")
    find_running(agent)
    process.kill()
    wait_until(lambda: running(agent) == [])
    ipam.go()
    assert network.delete("a").ok
    assert remains(node) == []


@pytest.fixture
def heeded_interrupts() -> Iterator[None]:
    """What a shell runs in the background ignores SIGINT, and so does all that it starts."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)


@pytest.mark.usefixtures("heeded_interrupts")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_signals(network: Network, node: Node, tmp_path: Path, number: signal.Signals) -> None:
    """A signal to the launcher reaches the request, and the launcher ends as the request did."""
    agent = node.start_agent()
    ipam, process = start_slow_add(network, tmp_path / "slow")
    process.send_signal(number)
    assert process.wait() == -number
    ipam.go()
    assert process.stderr
    assert ("KeyboardInterrupt" in process.stderr.read()) == (number == signal.SIGINT)
    wait_until(lambda: running(agent) == [])


def test_killed_child(network: Network, node: Node, tmp_path: Path) -> None:
    """A launcher ends as its request did also if that was killed."""
    agent = node.start_agent()
    _, process = start_slow_add(network, tmp_path / "slow")
    node.run("kill", "-KILL", str(find_running(agent)))
    assert process.wait() == -signal.SIGKILL
    wait_until(lambda: running(agent) == [])


# Children that wait


def test_standbys(network: Network, node: Node, tmp_path: Path) -> None:
    """Some children wait, also while others run requests; what they are called tells them apart."""
    agent = node.start_agent()
    wait_until(lambda: len(standbys(agent)) == STANDBYS)
    ipam, process = start_slow_add(network, tmp_path / "slow")
    wait_until(lambda: len(standbys(agent)) == STANDBYS)
    child = find_running(agent)
    assert Path(f"/proc/{child}/comm").read_text() == "bridge\n"
    ipam.go()
    assert process.wait() == 0


def test_callers_at_once(node: Node, tmp_path: Path) -> None:
    """As many launchers as children wait are all served by these, at the same moment."""
    agent = node.start_agent()
    for attempt in range(5):
        wait_until(lambda: len(standbys(agent)) == STANDBYS)
        directories = [tmp_path / f"{attempt}-{number}" for number in range(STANDBYS)]
        with ThreadPoolExecutor(STANDBYS) as pool:
            parents = [parent for _, parent in pool.map(partial(probe, node), directories)]
        assert parents == [agent.pid] * STANDBYS


def test_killed_standby(node: Node, tmp_path: Path) -> None:
    """A child that is killed while it waits is missed by nobody, and replaced."""
    agent = node.start_agent()
    wait_until(lambda: len(standbys(agent)) == STANDBYS)
    first = standbys(agent)[0]
    node.run("kill", "-KILL", str(first))
    assert takes_requests(agent, node, tmp_path / "bin")
    wait_until(lambda: len({*standbys(agent)} - {first}) == STANDBYS)
    assert agent.poll() is None


def test_standbys_of_a_killed_agent(node: Node) -> None:
    """Children that wait end with their agent."""
    agent = node.start_agent()
    wait_until(lambda: len(standbys(agent)) == STANDBYS)
    pids = standbys(agent)
    agent.kill()
    agent.wait()
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


def test_request_that_cannot_begin(node: Node, tmp_path: Path) -> None:
    """A child that cannot become what the launcher is says so; the launcher does it itself."""
    agent = node.start_agent()
    copy = shutil.copytree(PACKAGE, tmp_path / "pycni")
    # The child finds that out when it is where the launcher is.
    elsewhere = f"exec unshare --mount sh -c 'mount --bind {copy} {PACKAGE} && exec CALL'"
    assert probe(node, tmp_path / "bin", elsewhere)[1] != agent.pid
    assert takes_requests(agent, node, tmp_path / "bin")


def test_launcher_that_ends(node: Node, tmp_path: Path) -> None:
    """A child that somebody took, who then says nothing, is replaced."""
    agent = node.start_agent()
    wait_until(lambda: len(standbys(agent)) == STANDBYS)
    before = {*standbys(agent)}
    for child in before:
        # It may notice at once that nobody has it, and end.
        lifeline = f"true 3<>/proc/{child}/fd/{LIFELINE} || true"
        there = f"until cd {WAITING}/{child}.* 2>/dev/null; do sleep 0.01; done"
        node.run("sh", "-c", f"{there}; touch taken; {lifeline}")
    wait_until(lambda: len({*standbys(agent)} - before) == STANDBYS)
    assert takes_requests(agent, node, tmp_path / "bin")


def test_directories_of_strangers(node: Node, tmp_path: Path) -> None:
    """A launcher takes for a child that waits only what is one; the next agent tidies up."""
    agent = node.start_agent()
    stranger = node.start("sh", "-c", "printf pycni-standby >/proc/$$/comm; exec <&-; sleep 60")
    strangers = [f"{WAITING}/{name}" for name in ("0", "1.1", f"{stranger.pid}.1", "x")]
    node.run("mkdir", *strangers)
    wait_until(lambda: name_of(stranger.pid) == "pycni-standby")
    assert takes_requests(agent, node, tmp_path / "bin")
    assert node.run("find", *strangers, "-type", "f").stdout == ""
    agent.kill()
    agent.wait()
    agent = node.start_agent()
    wait_until(lambda: len(standbys(agent)) == STANDBYS)
    wait_until(lambda: waiting(node) == sorted(map(str, standbys(agent))))


def waiting(node: Node) -> list[str]:
    """The pids that have a directory to be found by."""
    return sorted(name.split(".")[0] for name in node.run("ls", "-A", WAITING).stdout.split())


def test_many_children(node: Node, tmp_path: Path) -> None:
    """Each child has an agent's descriptors more, which are not in the way of a child's own."""
    agent = node.start_agent(AGENT, "--children", "64")
    # They wait for their standard input.
    environ = {"CNI_COMMAND": "DEL", "CNI_CONTAINERID": "pod", "CNI_IFNAME": "eth0"}
    held = [node.start(f"{node.bin_dir}/loopback", env=environ) for _ in range(40)]
    wait_until(lambda: len(running(agent)) == len(held))
    assert takes_requests(agent, node, tmp_path / "bin")
    for process in held:
        assert process.communicate("{}")[0]


# Ends of an agent


def test_killed_agent(network: Network, node: Node, tmp_path: Path) -> None:
    """A request goes on when the agent is killed; the next one's launcher runs it itself."""
    agent = node.start_agent()
    ipam, process = start_slow_add(network, tmp_path / "slow")
    agent.kill()
    agent.wait()
    ipam.go()
    assert process.wait() == 0
    assert network.delete("a").ok
    assert remains(node) == []


def test_killed_agent_and_child(network: Network, node: Node, tmp_path: Path) -> None:
    """If nobody can say any more how a request ended, the launcher says that."""
    agent = node.start_agent()
    _, process = start_slow_add(network, tmp_path / "slow")
    child = find_running(agent)
    agent.kill()
    agent.wait()
    node.run("kill", "-KILL", str(child))
    assert process.wait() == 1
    assert process.stdout
    assert '"code": 999' in process.stdout.read()


def test_end_of_all(node: Node) -> None:
    """Told to end at the same time as its children, an agent does that in good order."""
    agent = node.start_agent()
    wait_until(lambda: len(standbys(agent)) == STANDBYS)
    node.run("kill", *map(str, (*standbys(agent), agent.pid)))
    assert agent.wait() == 0
    assert node.run("ls", "/run/pycni").stdout == ""


def test_end_of_an_agent(network: Network, node: Node, tmp_path: Path) -> None:
    """Told to end, an agent finishes what runs, takes nothing new, and removes its socket."""
    agent = node.start_agent()
    ipam, process = start_slow_add(network, tmp_path / "slow")
    agent.terminate()
    wait_until(lambda: standbys(agent) == [])
    assert probe(node, tmp_path / "bin")[1] != agent.pid
    assert running(agent) != []
    ipam.go()
    assert process.wait() == 0
    assert agent.wait() == 0
    assert node.run("ls", "/run/pycni").stdout == ""


def test_next_agent(node: Node, tmp_path: Path) -> None:
    """An agent takes the place of a killed one, but not that of one which answers."""
    first = node.start_agent()
    assert node.run(AGENT, check=False).returncode == 1
    first.kill()
    first.wait()
    second = node.start_agent()
    # A child of the first one's may not have noticed yet.
    wait_until(lambda: takes_requests(second, node, tmp_path / "bin"))


@pytest.mark.parametrize("name", ["state/locks.py", "launcher.py", "executable.sh"])
def test_upgrade(node: Node, tmp_path: Path, name: str) -> None:
    """An agent whose code changes takes nothing more, and starts anew when all is quiet."""
    copy = shutil.copytree(PACKAGE, tmp_path / "pycni")
    node.run("mount", "--bind", str(copy), str(PACKAGE))
    agent = node.start_agent()
    assert takes_requests(agent, node, tmp_path / "bin")
    before = {*standbys(agent)}
    (copy / name).touch()
    wait_until(lambda: not before & {*standbys(agent)})
    assert not takes_requests(agent, node, tmp_path / "bin")
    wait_until(lambda: takes_requests(agent, node, tmp_path / "bin"))


def test_another_installation(node: Node, tmp_path: Path) -> None:
    """An agent takes no requests of another installation."""
    agent = node.start_agent()
    copy = shutil.copytree(PACKAGE, tmp_path / "pycni")
    node.run("mount", "--bind", str(copy), str(PACKAGE))
    assert not takes_requests(agent, node, tmp_path / "bin")


# More than it can do


def test_bound(network: Network, node: Node, tmp_path: Path) -> None:
    """There are never more children than allowed; a launcher that waits too long does without."""
    agent = node.start_agent(AGENT, "--children", "1")
    ipam, process = start_slow_add(network, tmp_path / "slow")
    assert probe(node, tmp_path / "bin")[1] != agent.pid
    assert len(running(agent)) == 1
    ipam.go()
    assert process.wait() == 0
    wait_until(lambda: takes_requests(agent, node, tmp_path / "bin"))


def state(pid: str) -> str:
    return Path(f"/proc/{pid}/stat").read_text().split()[2]


def waiting_connections(node: Node) -> int:
    (line,) = node.run("ss", "-xlHn", "src", SOCKET).stdout.splitlines()
    return int(line.split()[2])


def test_stopped_agent(node: Node, tmp_path: Path) -> None:
    """An agent that does not answer is not waited for; what it finds later, it leaves alone."""
    agent = node.start_agent()
    wait_until(lambda: len(standbys(agent)) == STANDBYS)
    before = {*standbys(agent)}
    everybody = [str(pid) for pid in (agent.pid, *before)]
    node.run("kill", "-STOP", *everybody)
    wait_until(lambda: {state(pid) for pid in everybody} == {"T"})
    assert not takes_requests(agent, node, tmp_path / "bin")
    (tmp_path / "bin" / "seen").unlink()
    node.run("kill", "-CONT", *everybody)
    wait_until(lambda: waiting_connections(node) == 0)
    assert not (tmp_path / "bin" / "seen").exists()
    assert takes_requests(agent, node, tmp_path / "bin")


# Strangers


@pytest.mark.parametrize(
    "said",
    [
        (),
        ("garbage",),
        ("garbage\t" * 6 + "garbage\n",),
        ("1\t3\t0 1 2\tbridge\t1\t/python\t/packages\n",),
    ],
)
def test_strangers(node: Node, tmp_path: Path, said: tuple[str, ...]) -> None:
    """Whatever somebody says, the agent goes on and keeps nothing of it."""
    agent = node.start_agent()
    wait_until(lambda: len(standbys(agent)) == STANDBYS)
    descriptors = Path(f"/proc/{agent.pid}/fd")
    before = len(list(descriptors.iterdir()))
    child, *answers = knock(node, *said)
    assert answers == [repr("refused 0\n")] * len(said)
    # The child that somebody had is replaced.
    wait_until(lambda: len({*standbys(agent)} - {int(child)}) == STANDBYS)
    assert not Path(f"/proc/{child}").exists()
    wait_until(lambda: len(list(descriptors.iterdir())) == before)
    assert takes_requests(agent, node, tmp_path / "bin")


def test_only_root_may_connect(node: Node) -> None:
    """The socket is root's alone."""
    node.start_agent()
    modes = node.run("stat", "--format", "%a %u", "/run/pycni", SOCKET).stdout
    assert modes.split() == ["700", "0", "600", "0"]


def test_only_root_is_served(node: Node) -> None:
    """Should the file's mode be lost, the kernel still tells who it is."""
    agent = node.start_agent()
    node.run("chmod", "777", "/run/pycni", SOCKET)
    wait_until(lambda: len(standbys(agent)) == STANDBYS)
    before = standbys(agent)
    assert int(knock(node)[0]) in before
    assert knock(node, caller=("setpriv", "--reuid", "65534", "--clear-groups")) == [""]


# systemd


def test_socket_activation(node: Node, tmp_path: Path) -> None:
    """systemd's socket is used, and stays when the agent ends."""
    node.run("mkdir", "--mode", "700", "/run/pycni")
    activate = ("systemd-socket-activate", "--listen", SOCKET, AGENT)
    agent = node.start_agent(*activate)
    assert takes_requests(agent, node, tmp_path / "bin")
    agent.terminate()
    assert agent.wait() == 0
    assert node.run("ls", "/run/pycni").stdout == "agent.sock\n"


def test_notifications(node: Node) -> None:
    """systemd is told when the agent is ready, again and again that it is alive, and its end."""
    address = "/run/notify"
    systemd = node.start(sys.executable, "-IS", "-c", _ECHO_NOTIFICATIONS, address)
    assert systemd.stdout
    assert systemd.stdout.readline() == "ready\n"
    agent = node.start_agent(env={"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "200000"})
    assert systemd.stdout.readline() == "READY=1\n"
    for _ in range(3):
        assert systemd.stdout.readline() == "WATCHDOG=1\n"
        assert systemd.stdout.readline().startswith("STATUS=")
    agent.terminate()
    assert "STOPPING=1\n" in iter(systemd.stdout.readline, "")
    assert agent.wait() == 0
