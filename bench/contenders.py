"""Who is measured, each on a throw-away node of its own, and how a pod comes and goes there.

A pod is attached by the chain of bridge (with host-local) and portmap, with masquerading and two
published ports: driven by cnitool, or by running the executables one after the other as it would.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from subprocess import Popen
from types import TracebackType
from typing import Any, NamedTuple, Self

from tests.support.node import ROOT, Node, find_cnitool

REFERENCE = ROOT / ".cache/reference-v1.9.1"
PYCNI = ROOT / ".cache/cni-bin"


class Contender(NamedTuple):
    """A suite of plugins and the way it is run; `backend` None is what it takes by itself."""

    name: str
    directory: Path
    backend: str | None = None
    with_agent: bool = False
    firewall: bool = True


WITH_AGENT = Contender("pycni, agent", PYCNI, with_agent=True)
ALONE = Contender("pycni", PYCNI)
REFERENCE_DEFAULT = Contender("reference, iptables", REFERENCE, "iptables")
REFERENCE_NFTABLES = Contender("reference, nftables", REFERENCE, "nftables")
# What makes the interfaces and leases of pods whose rules come from elsewhere.
WIRING = Contender("wiring", PYCNI, firewall=False)

# What any plugin in Python takes, even one that does nothing.
NOTHING = Contender("Python that does nothing", ROOT / ".cache/bench-nothing")

OURS = (WITH_AGENT, ALONE)
ALL = (*OURS, REFERENCE_DEFAULT, REFERENCE_NFTABLES)


class Network(NamedTuple):
    """A network of the bench; a bridge has 1,023 ports at most, so that many pods need several."""

    name: str
    bridge: str
    subnet: str


class Pod(NamedTuple):
    """A container's place on a network, and what is published of it."""

    name: str
    netns: str
    ports: Sequence[Mapping[str, object]]


_VERSION = "1.0.0"

_NOTHING = f"""#!{Path(sys.executable).resolve()} -IS
import posix
posix.write(1, b'{{"cniVersion": "{_VERSION}"}}')
posix._exit(0)
"""

_CONNECTION = (
    *("--proto", "tcp", "--src", "192.0.2.1", "--sport", "1025", "--dst", "192.0.2.2"),
    *("--dport", "1024", "--state", "ESTABLISHED", "--timeout", "86400"),
)

BENCH = Network("bench", "cni0", "10.22.0.0/16")
# What else there may be on the node is not on its bridge.
APART = Network("apart", "cni9", "10.30.0.0/16")


class Place(NamedTuple):
    """Where a pod is attached."""

    host: Host
    network: Network = BENCH


def ports(first: int) -> list[Mapping[str, object]]:
    """Two mappings, of host ports `first` and the one after it."""
    return [{"hostPort": first + i, "containerPort": 80 + i, "protocol": "tcp"} for i in range(2)]


def write_nothing() -> None:
    """Write the executables of NOTHING."""
    NOTHING.directory.mkdir(parents=True, exist_ok=True)
    for name in ("bridge", "portmap"):
        path = NOTHING.directory / name
        path.write_text(_NOTHING)
        path.chmod(0o755)


class Host:
    """A contender's node."""

    def __init__(self, contender: Contender, scratch: Path) -> None:
        self.contender = contender
        self._stack = ExitStack()
        self.node = self._stack.enter_context(Node(contender.directory, scratch, agent=False))
        self.node.add_outside()  # before all pods, as its wire asks for certain indices
        # No node in use is without a connection. With none, a DEL has no table to go through, and
        # of what happens here the kernel forgets the last one after ten minutes.
        self.node.run("conntrack", "-I", *_CONNECTION)
        self._driver = self.start_inside("-m", "bench.driver")
        self.agent = self.node.start_agent() if contender.with_agent else None
        self._scratch = scratch
        self._results: dict[str, Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def start_inside(self, *arguments: str, netns: str | None = None) -> Popen[str]:
        """Start a Python program of the bench and wait until it says that it is ready."""
        python = str(ROOT / ".venv/bin/python")
        process = self.node.start(python, *arguments, netns=netns, env={"PYTHONPATH": str(ROOT)})
        assert process.stdout
        if process.stdout.readline() != "ready\n":
            raise SystemExit(f"{arguments}: {process.communicate()[1]}")
        return process

    # Pods

    def pod(self, name: str, first_port: int) -> Pod:
        """A pod with a namespace of its own."""
        return Pod(name, self.node.add_netns(name), ports(first_port))

    def run(self, verb: str, pod: Pod, *, through: str = "exec", network: Network = BENCH) -> float:
        """Run a verb of the chain for a pod. Returns milliseconds."""
        return self.run_at_once(verb, [pod], through=through, network=network)

    def run_at_once(
        self,
        verb: str,
        pods: Sequence[Pod],
        *,
        through: str,
        network: Network = BENCH,
        suite: Contender | None = None,
    ) -> float:
        """Run a verb for several pods at once. Returns milliseconds until the last is done.

        `through` is "cnitool" or "exec"; `suite` stands in for the host's own contender.
        """
        programs = self._cnitool if through == "cnitool" else self._executables
        suite = suite or self.contender
        answer = self._drive([programs(verb, pod, network, suite) for pod in pods])
        for pod, chain in zip(pods, answer["chains"], strict=True):
            if "error" in chain:
                raise SystemExit(f"{suite.name}: {verb} of {pod.name}: {chain['error']}")
            if verb == "ADD":
                self._results[pod.name] = chain["results"][-1]
        # One chain's time is that of its programs, without the driver's.
        return float(answer["ms"] if len(pods) > 1 else answer["chains"][0]["ms"])

    def trace(self, pod: Pod) -> str:
        """Where the time of an ADD goes, as PYCNI_TRACE tells it of each of the chain's plugins."""
        traces = []
        result = None
        for program in self._executables("ADD", pod, BENCH, self.contender):
            document = program["stdin"] | ({"prevResult": result} if result else {})
            environ = program["env"] | {"PYCNI_TRACE": "1"}
            done = self.node.run(*program["argv"], env=environ, stdin=json.dumps(document))
            result = json.loads(done.stdout)
            traces.append(f"{document['type']}\n\n{done.stderr}")
        return "\n".join(traces)

    def addresses(self, pods: Iterable[Pod]) -> list[str]:
        """What the pods' ADDs returned."""
        return [ip["address"] for pod in pods for ip in self._results[pod.name]["ips"]]

    def _cnitool(
        self, verb: str, pod: Pod, network: Network, suite: Contender
    ) -> list[dict[str, Any]]:
        cnitool = find_cnitool()
        if cnitool is None:
            raise SystemExit("there is no cnitool: scripts/environment builds it")
        self._write_conflist(network, suite)
        environ = {
            "NETCONFPATH": str(self._scratch),
            "CNI_PATH": str(suite.directory),
            "CAP_ARGS": json.dumps({"portMappings": pod.ports}),
        }
        argv = [cnitool, verb.lower(), network.name, pod.netns]
        return [{"argv": argv, "env": environ}]

    def _write_conflist(self, network: Network, suite: Contender) -> None:
        document = {
            "cniVersion": _VERSION,
            "name": network.name,
            "plugins": plugins(suite, network),
        }
        (self._scratch / f"{network.name}.conflist").write_text(json.dumps(document))

    def _executables(
        self, verb: str, pod: Pod, network: Network, suite: Contender
    ) -> list[dict[str, Any]]:
        environ = {
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": pod.name,
            "CNI_NETNS": pod.netns,
            "CNI_IFNAME": "eth0",
            "CNI_PATH": str(suite.directory),
        }
        programs: list[dict[str, Any]] = []
        for plugin in plugins(suite, network):
            capabilities = plugin.pop("capabilities", None)
            document = {"cniVersion": _VERSION, "name": network.name} | plugin
            if capabilities:
                document["runtimeConfig"] = {"portMappings": pod.ports}
            if verb != "ADD":
                document["prevResult"] = self._results.get(pod.name)
            elif programs:
                document["prevResult"] = "previous"
            argv = [str(suite.directory / plugin["type"])]
            programs.append({"argv": argv, "env": environ, "stdin": document})
        return programs[::-1] if verb == "DEL" else programs

    def _drive(self, chains: Sequence[Sequence[Mapping[str, Any]]]) -> Any:
        assert self._driver.stdin
        assert self._driver.stdout
        self._driver.stdin.write(json.dumps(chains) + "\n")
        self._driver.stdin.flush()
        return json.loads(self._driver.stdout.readline())


def plugins(contender: Contender, network: Network) -> list[dict[str, Any]]:
    """The network's chain as the contender is configured."""
    ipam = {"type": "host-local", "ranges": [[{"subnet": network.subnet}]]}
    bridge = {
        "type": "bridge",
        "bridge": network.bridge,
        "isGateway": True,
        "isDefaultGateway": True,
        "ipMasq": contender.firewall,
        "ipam": ipam,
    }
    if not contender.firewall:
        return [bridge]
    portmap: dict[str, Any] = {"type": "portmap", "capabilities": {"portMappings": True}}
    if contender.backend:
        bridge["ipMasqBackend"] = portmap["backend"] = contender.backend
    return [bridge, portmap]
