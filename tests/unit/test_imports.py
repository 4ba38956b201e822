"""The start-up discipline: what a plugin does not need, it does not load.

A module that creeps into these lists costs every pod of every node some time. Before allowing it,
see what it costs: `python3 -IS -X importtime -c 'import …'`.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cni.agent import calls
from cni.install import script
from cni.launcher import ANSWER, EXECUTABLES
from tests.unit.launchers import receive

# What an executable does, and what it has loaded by then.
PROGRAM = """
import os, posix, sys
name, path, state = sys.argv[1:]
sys.path[:] = path.split(":")
if state:
    from cni import attachments
    attachments.STATE = state
end = posix._exit
posix._exit = lambda code: (os.write(2, " ".join(sys.modules).encode()), end(code))
from cni.launcher import run
run(name)
"""

# What an executable loads beyond what the interpreter has anyway, when an agent answers.
_LAUNCHER = """
import sys
path, address = sys.argv[1:]
sys.path[:] = path.split(":")
before = set(sys.modules)
from cni import launcher
launcher.SOCKET = address
launcher._end_as = lambda status: print(*(set(sys.modules) - before)) or sys.exit(status)
launcher.run("bridge")
"""

# Each takes longer to load than a plugin takes to answer.
FORBIDDEN = {
    *("argparse", "ast", "asyncio", "attr", "concurrent", "ctypes", "dataclasses", "datetime"),
    *(
        "decimal",
        "email",
        "hashlib",
        "hypothesis",
        "http",
        "importlib.metadata",
        "importlib.resources",
    ),
    *("enum", "json", "re", "selectors", "socket", "typing", "warnings"),
    *("importlib.util", "inspect", "jsonschema", "logging", "multiprocessing", "pathlib"),
    *("pickle", "platform", "pyroute2", "random", "referencing", "rpds", "shutil", "site", "ssl"),
    *("subprocess", "sysconfig", "tempfile", "textwrap", "threading", "tokenize", "traceback"),
    *("typing_extensions", "unittest", "urllib", "uuid", "xml"),
}

PROTOCOL = {
    *(
        "cni",
        "cni.addresses",
        "cni.bundle",
        "cni.config",
        "cni.errors",
        "cni.jsontext",
        "cni.launcher",
    ),
    *(
        "cni.namedtuple",
        "cni.netns",
        "cni.request",
        "cni.result",
        "cni.skel",
        "cni.versions",
        "cni_plugins",
    ),
}
BRIDGE = {
    *("cni.names", "cni_plugins.bridge", "cni_plugins.bridge.config", "cni_plugins.bridge.main"),
    "cni_plugins.bridge.names",
}
HOST_LOCAL = {
    *("cni_plugins.host_local", "cni_plugins.host_local.config", "cni_plugins.host_local.main"),
    *(
        "cni_plugins.host_local.index",
        "cni_plugins.host_local.ranges",
        "cni_plugins.host_local.store",
    ),
}
LOOPBACK = {"cni_plugins.loopback", "cni_plugins.loopback.main"}
PORTMAP = {"cni_plugins.portmap", "cni_plugins.portmap.main"}
RECORDS = {
    *("cni.attachments", "cni.firewall", "cni.firewall.backend", "cni.firewall.entries"),
    *("cni.firewall.enforcement", "cni.firewall.holdings", "cni.locks", "cni.log"),
}
# What asks whether the reference plugins left anything.
LEFTOVERS = {
    *("cni.firewall.legacy", "cni.firewall.reference", "cni.firewall.rules"),
    *("cni.nlattributes", "cni.nlsocket"),
}

FOR_VERSION = {
    "bridge": PROTOCOL | BRIDGE,
    "host-local": PROTOCOL | HOST_LOCAL,
    "loopback": PROTOCOL | LOOPBACK,
    "portmap": PROTOCOL | PORTMAP,
}
NETWORK = {"cniVersion": "1.1.0", "name": "net", "cni.dev/valid-attachments": []}
FOR_REMOVING_NOTHING = {
    "bridge": PROTOCOL
    | BRIDGE
    | RECORDS
    | LEFTOVERS
    | HOST_LOCAL
    | {"cni.delegate", "cni_plugins.bridge.reference"},
    "host-local": PROTOCOL | HOST_LOCAL,
    "loopback": PROTOCOL | LOOPBACK,
    "portmap": PROTOCOL | PORTMAP | RECORDS | LEFTOVERS,
}


def loaded(name: str, stdin: str = "", state: str = "", **environ: str) -> set[str]:
    """Run a plugin in an interpreter of its own; the modules that it has loaded at the end."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", PROGRAM, name, ":".join(sys.path), state],
        input=stdin,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return set(done.stderr.split())


def loaded_by_removal(verb: str, name: str, directory: Path) -> set[str]:
    """... for a DEL of what was never added, or a GC where nothing was."""
    executable = directory / "host-local"
    executable.write_text(script("host-local", sys.executable, None))
    executable.chmod(0o755)
    ipam = {"type": "host-local", "dataDir": str(directory / "leases")}
    has_state = "cni.attachments" in FOR_REMOVING_NOTHING[name]
    return loaded(
        name,
        json.dumps(NETWORK | {"ipam": ipam}),
        str(directory / "state") if has_state else "",
        CNI_COMMAND=verb,
        CNI_CONTAINERID="pod",
        CNI_IFNAME="eth0",
        CNI_PATH=str(directory),
    )


def creeping(modules: set[str], allowed: set[str]) -> list[str]:
    """Modules that should not have been loaded."""
    ours = {name for name in modules if name.partition(".")[0] in ("cni", "cni_plugins")}
    parents = {name: {name, name.partition(".")[0]} for name in modules}
    forbidden = {name for name in modules if parents[name] & FORBIDDEN}
    return sorted((ours - allowed) | forbidden)


@pytest.mark.parametrize("name", EXECUTABLES)
def test_version(name: str) -> None:
    """VERSION loads what speaks the protocol, and the plugin's own main module."""
    modules = loaded(name, CNI_COMMAND="VERSION")
    assert f"cni_plugins.{name.replace('-', '_')}.main" in modules
    assert creeping(modules, FOR_VERSION[name]) == []


@pytest.mark.parametrize("verb", ["DEL", "GC"])
@pytest.mark.parametrize("name", EXECUTABLES)
def test_nothing_to_remove(verb: str, name: str, tmp_path: Path) -> None:
    """A DEL or GC that finds nothing to remove loads neither pyroute2 nor libnftables."""
    modules = loaded_by_removal(verb, name, tmp_path)
    assert creeping(modules, FOR_REMOVING_NOTHING[name]) == []


@pytest.mark.usefixtures("standby")
def test_handing_over(tmp_path: Path) -> None:
    """A launcher that an agent serves loads next to nothing, and nothing of the plugin."""
    address = str(tmp_path / "agent.sock")
    with socket.socket(socket.AF_UNIX) as listener, ThreadPoolExecutor() as pool:
        listener.bind(address)
        listener.listen()
        agent = pool.submit(take_request, listener)
        command = [sys.executable, "-I", "-S", "-c", _LAUNCHER, ":".join(sys.path), address]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        agent.result()
    allowed = {"cni", "cni.launcher", "_socket", "gc"}
    assert set(done.stdout.split()) <= allowed


def take_request(listener: socket.socket) -> None:
    """Be a child of an agent's, and say of a request that it ended well."""
    receive(listener)
    calls.say(ANSWER, "taken", os.getpid())
    calls.say(ANSWER, "ended", 0)


@pytest.mark.parametrize("module", ["jsonschema", "pathlib", "importlib.metadata", "cni.netlink"])
def test_creeping_modules_are_noticed(module: str) -> None:
    """A module that is forbidden, or ours and not allowed, is named."""
    assert creeping({"os", "cni", module}, {"cni"}) == [module]


def test_importing_the_sdk() -> None:
    """`import cni` by itself loads nothing."""
    program = f"import sys; sys.path[:] = {sys.path!r}; import cni; print(*sys.modules)"
    command = [sys.executable, "-I", "-S", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert creeping(set(done.stdout.split()), {"cni"}) == []
