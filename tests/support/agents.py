"""Ways to see whether an agent ran a request, and what the request's process had."""

from __future__ import annotations

import subprocess
from pathlib import Path

from pycni.launcher import EXECUTABLES
from tests.support.network import write_plugin
from tests.support.node import Node

# So many of an agent's children wait when all is quiet.
STANDBYS = 4

# An IPAM plugin that tells what it, and the process that the request runs in, have from the
# runtime; and which process started that one.
_PROBE = """
cd {directory}
grep ^PPid: /proc/$PPID/status > parent
{{
    cat
    env | sort
    readlink /proc/$PPID/cwd /proc/$PPID/root /proc/$PPID/ns/*
    stat --dereference --format %d:%i /proc/$PPID/root
    ulimit -a
    grep -E '^(Uid|Gid|Groups|Umask|SigBlk|SigIgn|SigCgt|Cap|NoNew|Seccomp)' /proc/$PPID/status
    ls /proc/$$/fd
}} > seen
"""

_REQUEST = {"CNI_COMMAND": "DEL", "CNI_CONTAINERID": "pod", "CNI_IFNAME": "eth0", "EXTRA": "\x01ü"}

_CONFIG = '{"cniVersion": "1.0.0", "name": "net", "type": "bridge", "ipam": {"type": "probe"}}'


def probe(
    node: Node, directory: Path, caller: str = "exec CALL", **environ: str
) -> tuple[str, int]:
    """What a DEL has when `caller`, a line of shell, starts it as CALL; its process's parent."""
    write_plugin(directory, "probe", _PROBE.format(directory=directory))
    command = caller.replace("CALL", f"{node.bin_dir}/bridge")
    variables = _REQUEST | {"CNI_PATH": str(directory)} | environ
    done = node.run("sh", "-c", command, env=variables, stdin=_CONFIG, check=False)
    seen = f"{done.returncode}\n{done.stdout}\n{done.stderr}\n{(directory / 'seen').read_text()}"
    return seen, int((directory / "parent").read_text().split()[1])


def takes_requests(agent: subprocess.Popen[str], node: Node, directory: Path) -> bool:
    return probe(node, directory)[1] == agent.pid


def running(agent: subprocess.Popen[str]) -> list[int]:
    """The children of an agent that run a request."""
    return [pid for pid in children(agent) if name_of(pid) in EXECUTABLES]


def standbys(agent: subprocess.Popen[str]) -> list[int]:
    """The children of an agent that wait for a launcher."""
    return [pid for pid in children(agent) if name_of(pid) == "pycni-standby"]


def children(agent: subprocess.Popen[str]) -> list[int]:
    path = Path(f"/proc/{agent.pid}/task/{agent.pid}/children")
    return [int(pid) for pid in path.read_text().split()]


def name_of(pid: int) -> str:
    """What a child calls itself: the agent's name until it does, none once it has ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""
