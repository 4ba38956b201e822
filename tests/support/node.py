"""A throw-away host for tests: network and mount namespaces of its own, in which plugins run.

Its /run, /var/lib, /sys and /proc are its own, too, so nothing that happens there reaches the
machine, and nothing of it is left when the node is closed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from pycni.launcher import SOCKET

ROOT = Path(__file__).parents[2]

AGENT = f"{sys.prefix}/bin/pycni-agent"

_ECHO = Path(__file__).with_name("echo.py")

# A node without forwarding, as a machine is before its first pod. `cat` ends with its standard
# input, so the node ends with the test run, however that ends. As the first process of a PID
# namespace it inherits orphans; with SIGCHLD ignored none of them becomes a zombie.
_SETUP = """
mount -t tmpfs tmpfs /run
mkdir /run/netns /run/cni
mount -t tmpfs tmpfs /var/lib
mkdir /var/lib/cni
mount -t sysfs sysfs /sys
mount -t proc proc /proc
echo 0 > /proc/sys/net/ipv4/ip_forward
echo 0 > /proc/sys/net/ipv6/conf/all/forwarding
echo 0 > /proc/sys/net/ipv6/conf/all/disable_ipv6
echo 0 > /proc/sys/net/ipv6/conf/default/disable_ipv6
ip link set lo up
echo ready
exec env --ignore-signal=CHLD cat
"""

# The same in a user namespace, whose root may not mount /proc without processes of its own.
_ROOTLESS = _SETUP.replace("mount -t proc proc /proc\n", "")

# A link-local address on probation could not ask for a neighbour's hardware address.
_WIRE = """
ip link set lo up
ip address add {ipv4}/24 dev eth0
ip address add {ipv6}/64 dev eth0 nodad
echo 0 > /proc/sys/net/ipv6/conf/eth0/accept_dad
ip link set eth0 up
"""


class Answer(NamedTuple):
    """What a plugin or a runtime answered: `document` is its standard output, None if empty."""

    code: int
    document: Any
    stderr: str

    @property
    def ok(self) -> bool:
        return self.code == 0


class Outside(NamedTuple):
    """A machine beside the node. It knows the node's addresses, and no way to any pod."""

    netns: str = "/run/netns/outside"
    ipv4: str = "192.0.2.2"
    ipv6: str = "2001:db8::2"
    node_ipv4: str = "192.0.2.1"
    node_ipv6: str = "2001:db8::1"


class Node:
    """A host. `netns` is, throughout, a path inside the node as `add_netns` returns it.

    With PYCNI_TEST_AGENT in the environment every host runs an agent, unless it shall not.
    With `pids` it has a PID namespace, too: all that was started in it ends with it.
    """

    def __init__(
        self,
        bin_dir: Path,
        scratch: Path,
        *,
        agent: bool = True,
        rootless: bool = False,
        pids: bool = False,
    ) -> None:
        self.bin_dir = bin_dir
        # Which backend of the firewall networks ask for; None leaves the choice to the plugins.
        self.backend: str | None = None
        self._scratch = scratch
        self._path = os.environ["PATH"]
        self._processes = ExitStack()
        # Root of a user namespace has no privileges on the machine, such as to raise buffers.
        self._user = ("--user", "--map-root-user") if rootless else ()
        self._pids = ("--pid", "--fork", "--kill-child") if pids else ()
        apart = (
            "unshare",
            *self._user,
            *self._pids,
            "--net",
            "--mount",
            "--propagation",
            "private",
        )
        self._holder = self._popen([*apart, "sh", "-ec", _ROOTLESS if rootless else _SETUP])
        _wait_until_ready(self._holder)
        self.agent = self.start_agent() if agent and os.environ.get("PYCNI_TEST_AGENT") else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._processes.close()

    def use_backend(self, name: str) -> None:
        """Have networks ask for nftables, iptables-nft or iptables-legacy."""
        self.backend, _, flavour = name.partition("-")
        if not flavour:
            return
        programs = self._scratch / name
        programs.mkdir()
        for program in ("iptables", "ip6tables"):
            for verb in ("", "-save", "-restore"):
                target = shutil.which(f"{program}-{flavour}{verb}")
                assert target, f"{program}-{flavour}{verb} is missing: run scripts/environment"
                (programs / (program + verb)).symlink_to(target)
        self._path = f"{programs}:{self._path}"

    # Running programs

    def run(
        self,
        *argv: str | Path,
        netns: str | None = None,
        env: Mapping[str, str] | None = None,
        stdin: str | None = None,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program on the node or in one of its namespaces; `env` is added to ours."""
        done = subprocess.run(
            self.inside(netns, argv),
            env=self.environment(env),
            input=stdin or "",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{argv} exits with {done.returncode}: {done.stderr}")
        return done

    def start(
        self,
        *argv: str | Path,
        netns: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[str]:
        """Start a program and go on. What still runs when the node is closed is killed."""
        return self._popen(self.inside(netns, argv), self.environment(env))

    def environment(self, added: Mapping[str, str] | None) -> dict[str, str]:
        """Ours without what is CNI's: a test says itself what a plugin is told."""
        ours = {name: value for name, value in os.environ.items() if not name.startswith("CNI_")}
        return ours | {"PATH": self._path} | dict(added or {})

    def start_agent(
        self, *command: str, env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """Start an agent, by a command of one's own or not. It runs all requests from then on."""
        # It ends with the test run, however that ends.
        leash = ("setpriv", "--pdeathsig", "KILL")
        agent = self.start(*leash, *(command or [AGENT]), env=env)
        # There it is before it answers, so a file that another one left is no sign.
        self.run("sh", "-c", f"until ss -xlH | grep -q {SOCKET}; do sleep 0.01; done")
        return agent

    def restart_agent(self) -> None:
        """Have the node's agent, if there is one, load what it finds there by now."""
        if self.agent:
            self.agent.terminate()
            self.agent.wait()
            self.agent = self.start_agent()

    def _popen(
        self, argv: list[str], env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        process = subprocess.Popen(argv, env=env, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        self._processes.enter_context(process)  # closes its pipes, waits for its end
        self._processes.callback(process.kill)
        return process

    def json(self, *argv: str, netns: str | None = None) -> Any:
        """What `ip -j …` or `nft -j …` prints."""
        return json.loads(self.run(*argv, netns=netns).stdout or "[]")

    def inside(self, netns: str | None, argv: Sequence[str | Path]) -> list[str]:
        proc = f"/proc/{self._holder.pid}"
        # Only inside the node's mount namespace does the path lead to a namespace.
        net = f"{proc}/root{netns}" if netns else f"{proc}/ns/net"
        # The root is named, too: where the tests run in a chroot, that of the namespace is another.
        root = (f"--root={proc}/root", f"--wd={proc}/root")
        user = (f"--user={proc}/ns/user", "--preserve-credentials") if self._user else ()
        # The holder itself is outside of the PID namespace that it made for its child.
        pids = (f"--pid={proc}/ns/pid_for_children",) if self._pids else ()
        enter = ("nsenter", *user, *pids, f"--mount={proc}/ns/mnt", *root, f"--net={net}")
        return [*enter, *map(str, argv)]

    # Namespaces

    def add_netns(self, name: str) -> str:
        """Make a namespace, as a runtime does for a pod. Returns its path."""
        self.run("ip", "netns", "add", name)
        return f"/run/netns/{name}"

    def add_outside(self) -> Outside:
        """Make a machine beside the node, on the same wire as the node's eth0."""
        outside = Outside()
        netns = self.add_netns("outside")
        # The kernel is up to a second late to notice a veth whose peer has the same index.
        peer = ("peer", "name", "eth0", "index", "11", "netns", "outside")
        self.run("ip", "link", "add", "eth0", "index", "10", "type", "veth", *peer)
        ends = (
            (None, outside.node_ipv4, outside.node_ipv6),
            (netns, outside.ipv4, outside.ipv6),
        )
        for end, ipv4, ipv6 in ends:
            self.run("sh", "-ec", _WIRE.format(ipv4=ipv4, ipv6=ipv6), netns=end)
        return outside

    def route_by_outside(self) -> None:
        """Have the machine outside be the node's default router."""
        for family, router in (("-4", Outside().ipv4), ("-6", Outside().ipv6)):
            self.run("ip", family, "route", "add", "default", "via", router)

    # CNI

    def cni(
        self,
        verb: str,
        plugin: str,
        config: Mapping[str, Any] | str,
        container_id: str = "pod",
        netns: str | None = None,
        *,
        ifname: str = "eth0",
        args: str = "",
        path: str | Path | None = None,
        **environ: str | None,
    ) -> Answer:
        """Run a plugin's executable as a runtime does. A variable that is None is not set."""
        directory = path or self.bin_dir
        variables = {
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": container_id,
            "CNI_NETNS": netns,
            "CNI_IFNAME": ifname,
            "CNI_ARGS": args,
            "CNI_PATH": str(directory),
        } | environ
        stdin = config if isinstance(config, str) else json.dumps(config)
        present = {name: value for name, value in variables.items() if value is not None}
        return _answer(self.run(f"{directory}/{plugin}", env=present, stdin=stdin, check=False))

    def cnitool(
        self,
        verb: str,
        conflist: Mapping[str, Any],
        netns: str,
        ports: Sequence[Mapping[str, Any]] = (),
        *,
        path: str | Path | None = None,
        **environ: str,
    ) -> Answer:
        """Run a conflist's chain as cnitool, or what stands in for it, does.

        `ports` are portMappings.
        """
        name = conflist["name"]
        directory = self._scratch / "net.d"
        directory.mkdir(exist_ok=True)
        (directory / f"{name}.conflist").write_text(json.dumps(conflist))
        variables = {"NETCONFPATH": str(directory), "CNI_PATH": str(path or self.bin_dir)}
        if ports:
            variables["CAP_ARGS"] = json.dumps({"portMappings": list(ports)})
        cnitool = find_cnitool()
        command = [cnitool] if cnitool else [sys.executable, "-m", "cni.client"]
        argv = (*command, verb, name, netns)
        return _answer(self.run(*argv, env=variables | environ, check=False))

    # Traffic

    def serve(
        self,
        protocol: str,
        port: int,
        netns: str | None = None,
        *,
        address: str = "::",
        name: str = "",
    ) -> None:
        """Start a server (tcp, udp, sctp) that answers with its name, if any, and its peer."""
        command = (sys.executable, "-IS", _ECHO, "serve")
        process = self.start(*command, protocol, address, str(port), name, netns=netns)
        _wait_until_ready(process)

    def ask(
        self,
        protocol: str,
        address: str,
        port: int,
        netns: str | None = None,
        *,
        source_port: int = 0,
        timeout: float = 2,
    ) -> str | None:
        """What a server answers: `[NAME ]SOURCE`. None if there is a refusal, or no answer."""
        command = (sys.executable, "-IS", _ECHO, "ask", protocol, address, str(port))
        argv = (*command, str(source_port), str(timeout))
        done = self.run(*argv, netns=netns, check=False)
        assert done.returncode in (0, 1), done.stderr
        return done.stdout.rstrip("\n") if done.returncode == 0 else None


def find_cnitool() -> str | None:
    """The real cnitool: where scripts/environment puts it, or on PATH."""
    return shutil.which("cnitool", path=f"{ROOT}/.cache/bin:{os.environ['PATH']}")


def _wait_until_ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout
    if process.stdout.readline() != "ready\n":
        _, stderr = process.communicate()
        raise AssertionError(f"{process.args!r} exits with {process.returncode}: {stderr}")


def _answer(done: subprocess.CompletedProcess[str]) -> Answer:
    return Answer(done.returncode, json.loads(done.stdout or "null"), done.stderr)
