"""A request that the agent runs cannot be told from one that a fresh process runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.agents import probe, takes_requests
from tests.support.network import DUAL
from tests.support.node import AGENT, Node
from tests.support.ports import port

# How a runtime may start a plugin.
ALIKE = (
    "exec CALL",
    "cd /var/lib && exec CALL",
    "umask 077 && exec CALL",
    "ulimit -n 100 && ulimit -c 0 && exec CALL",
    "trap '' HUP TERM USR1 && exec CALL",
    "exec env --block-signal=USR2 --default-signal=PIPE CALL",
    "exec env --ignore-signal=INT CALL",
    "exec setpriv --groups 1,2 CALL",
    "exec unshare --net CALL",
    "exec unshare --mount CALL",
    "exec unshare --mount --net CALL",
    "mkdir -p /run/root && mount --rbind / /run/root && exec chroot /run/root CALL",
    "exec CALL argument 'and another'",
    "exec CALL 2>&-",
    # Without the shell's part: not run at all; or it leaves all to Python's, for want of a stream.
    f"exec {os.path.realpath(sys.executable)} -IS CALL",
    "exec CALL <&-",
)

# ... with rights, or in a place, that the agent does not have.
DIFFERENT = (
    "exec setpriv --no-new-privs CALL",
    "exec setpriv --bounding-set -net_raw CALL",
    "exec setpriv --regid 1 --clear-groups CALL",
    "exec unshare --uts CALL",
    "exec unshare --ipc CALL",
    "exec unshare --user --map-root-user CALL",
)

BRIDGE = {
    "cniVersion": "1.1.0",
    "name": "net",
    "type": "bridge",
    "isDefaultGateway": True,
    "ipMasq": True,
    "ipam": DUAL,
}


class Answers(NamedTuple):
    """By caller: what a fresh process had, and what one of the agent's; and whose child it was."""

    fresh: dict[str, str]
    by_agent: dict[str, str]
    parents: dict[str, int]
    agent: int


@pytest.fixture(scope="module")
def answers(bin_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Answers]:
    """All of them at once, since starting a node and an agent takes longer than asking."""
    directory = tmp_path_factory.mktemp("answers")
    with Node(bin_dir, directory, agent=False) as node:
        fresh = {caller: probe(node, directory / "bin", caller)[0] for caller in ALIKE}
        agent = node.start_agent()
        asked = {caller: probe(node, directory / "bin", caller) for caller in (*ALIKE, *DIFFERENT)}
        by_agent = {caller: seen for caller, (seen, _) in asked.items()}
        parents = {caller: parent for caller, (_, parent) in asked.items()}
        yield Answers(fresh, by_agent, parents, agent.pid)


@pytest.fixture
def node(bin_dir: Path, tmp_path: Path) -> Iterator[Node]:
    with Node(bin_dir, tmp_path, agent=False) as node:
        yield node


@pytest.mark.parametrize("caller", ALIKE)
def test_place_of_the_launcher(answers: Answers, caller: str) -> None:
    """All that a process has from its caller, a request has that the agent runs."""
    without_new_namespaces = [
        "\n".join(line for line in seen.splitlines() if not is_new(line, caller))
        for seen in (answers.by_agent[caller], answers.fresh[caller])
    ]
    assert without_new_namespaces[0] == without_new_namespaces[1]
    assert answers.parents[caller] == answers.agent


def is_new(line: str, caller: str) -> bool:
    """Whether a line tells the number of a namespace that the caller made."""
    return "unshare" in caller and line.startswith(("net:", "mnt:"))


@pytest.mark.parametrize("kind", ["net", "mnt"])
def test_namespaces(answers: Answers, kind: str) -> None:
    """A request runs in the caller's namespaces, and each of these callers had new ones."""
    callers = ("exec CALL", "exec unshare --mount --net CALL")
    lines = (answers.by_agent[caller].splitlines() for caller in callers)
    first, second = ([line for line in seen if line.startswith(f"{kind}:")] for seen in lines)
    assert first != second


@pytest.mark.parametrize("caller", DIFFERENT)
def test_other_rights(answers: Answers, caller: str) -> None:
    """A process that may do more or less than the agent runs its request itself."""
    assert answers.parents[caller] != answers.agent


def test_another_shell(node: Node, tmp_path: Path) -> None:
    """What /bin/sh is differs."""
    agent = node.start_agent()
    seen, parent = probe(node, tmp_path / "bin", "exec bash --posix CALL")
    assert seen.startswith("0\n\n\n")
    assert parent == agent.pid


def test_posix_spawn(node: Node, tmp_path: Path) -> None:
    """A launcher of posix_spawn(3), which ignores two signals that only glibc can handle."""
    agent = node.start_agent()
    program = "import os; os.waitpid(os.posix_spawn('CALL', ['CALL'], os.environ), 0)"
    _, parent = probe(node, tmp_path / "bin", f'exec {sys.executable} -c "{program}"')
    assert parent == agent.pid


def test_agent_mode(bin_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With PYCNI_TEST_AGENT a node's agent runs its requests, also after a restart."""
    monkeypatch.setenv("PYCNI_TEST_AGENT", "1")
    with Node(bin_dir, tmp_path) as node:
        first = node.agent
        assert first
        assert takes_requests(first, node, tmp_path / "bin")
        node.restart_agent()
        assert node.agent
        assert node.agent.pid != first.pid
        assert takes_requests(node.agent, node, tmp_path / "bin")


def test_large_environment(node: Node, tmp_path: Path) -> None:
    """An environment may be larger than what a socket holds."""
    agent = node.start_agent()
    large = {f"LARGE_{number}": "x" * 100_000 for number in range(10)}
    seen, parent = probe(node, tmp_path / "bin", **large)
    assert all(f"{name}={value}" in seen for name, value in large.items())
    assert parent == agent.pid


@pytest.mark.parametrize("config", ["{", '{"cniVersion": "1.0.0", "name": "net", "mtu": "x"}'])
def test_errors(node: Node, config: str) -> None:
    """An error is the same document, with the same exit code."""
    netns = node.add_netns("pod")
    expected = node.cni("ADD", "bridge", config, netns=netns)
    node.start_agent()
    assert node.cni("ADD", "bridge", config, netns=netns) == expected
    assert expected.code == 1


def test_imports(node: Node) -> None:
    """A request finds all that it needs imported already."""
    # Python prints to descriptor 2, which in a child is the launcher's.
    node.start_agent(sys.executable, "-X", "importtime", AGENT)
    netns = node.add_netns("pod")
    answer = node.cni("ADD", "bridge", BRIDGE, netns=netns)
    chained = BRIDGE | {"type": "portmap", "prevResult": answer.document}
    chained["runtimeConfig"] = {"portMappings": [port(8080), port(8080, protocol="udp")]}
    said = [answer.stderr]
    for verb, plugin, config in (
        ("ADD", "portmap", chained),
        ("CHECK", "bridge", BRIDGE | {"prevResult": answer.document}),
        ("CHECK", "portmap", chained),
        ("DEL", "portmap", chained),
        ("DEL", "bridge", BRIDGE),
        ("STATUS", "bridge", BRIDGE),
        ("GC", "bridge", BRIDGE | {"cni.dev/valid-attachments": []}),
        ("ADD", "loopback", {"cniVersion": "1.1.0", "name": "net"}),
    ):
        answer = node.cni(
            verb, plugin, config, netns=netns, ifname="lo" if plugin == "loopback" else "eth0"
        )
        assert answer.ok, answer
        said.append(answer.stderr)
    assert said == [""] * len(said)
