"""The host that faults are put into: pods of bridge and portmap, and what there is of them."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

from tests.faults import supervised
from tests.faults.supervised import Outcome
from tests.support.network import DUAL
from tests.support.node import Answer, Node

# What there is of attachments, in lines. Claims are links; an index of leases may be made anew.
_SNAPSHOT = r"""
for pod in $(ls /run/netns); do
    ip -n $pod -br address | sed "s/^/$pod has /"
done
ip -br link
grep -Hs 1 /proc/sys/net/ipv4/conf/*/route_localnet
find /run/cni -mindepth 1 ! -path '/run/cni/pycni/leases*' -printf '%p %y %l\n' |
    grep -Ev '^/run/cni/pycni( |/claims d|/[a-z]*\.json f)'
find /run/cni/pycni/leases -mindepth 2 -path '*/a/*' 2>/dev/null
grep -Hs '' /run/cni/pycni/*tables.json
find /var/lib/cni -type f ! -name lock ! -name unfinished ! -name 'last_reserved_ip.*'
nft -s list table inet pycni 2>/dev/null
nft -s list table bridge pycni 2>/dev/null
"""
_IN_BETWEEN = re.compile(
    r" ?127.0.0.1/8 ::1/128"
    r"|(@\S+)? +(UP|DOWN|LOWERLAYERDOWN|UNKNOWN) .*?(?=\d+\.|fd00|$)"
    r"|^\s*elements = \{|,$| ?\}$"
)

_IPTABLES = r"""
{ iptables-save; ip6tables-save; } | grep PYCNI
ipset save
"""

_REMOVE_BRIDGES = r"""
for kind in bridge vlan; do
    for name in $(ip -br link show type $kind | sed -E 's/[@ ].*//'); do
        [ $name = br0 ] || ip link delete $name
    done
done
"""
_RESET = r"""
for name in $(ip -br link show type veth | sed -E 's/[@ ].*//'); do ip link delete $name; done
chmod -R u+rwx /run/cni /var/lib/cni
rm -rf /run/cni /var/lib/cni
mkdir -p /run/cni /var/lib/cni
nft delete table inet pycni
nft delete table bridge pycni
ip link delete br0
"""

# How long a request may take before it counts as one that never ends, in seconds.
_AT_MOST = 60.0

# A namespace of its own has a program not find the agent that the others have.
_WITHOUT_AGENT = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /run/pycni; exec "$0"')

NETWORK = {"cniVersion": "1.1.0", "name": "net"}


class Broken(Exception):
    """Something that must not be: it was promised otherwise."""


class World:
    """A node with pod `b`, which nothing may happen to, unless it shall be the first and last."""

    def __init__(self, node: Node, backend: str = "nftables", *, alone: bool = False) -> None:
        self.node, self.backend, self.alone = node, backend, alone
        node.use_backend(backend)
        node.start_agent()  # which all but the supervised requests are left to
        for pod in "abc":
            node.add_netns(pod)
        if not alone:
            self.attach("b", 8002)

    def __str__(self) -> str:
        return f"{self.backend}{'-alone' if self.alone else ''}"

    # Requests

    def config(self, plugin: str, port: int = 8001) -> dict[str, Any]:
        """The configuration of a plugin; `port` is the pod's host port."""
        backend = "iptables" if self.backend.startswith("iptables") else "nftables"
        keys: dict[str, Any] = {}
        if plugin == "bridge":
            keys = {"bridge": "br0", "isDefaultGateway": True, "ipMasq": True, "ipam": DUAL}
            keys |= {"ipMasqBackend": backend, "macspoofchk": True}
        elif plugin == "host-local":
            keys = {"ipam": DUAL}
        elif plugin == "portmap":
            mappings = [
                {"hostPort": port, "containerPort": 80, "protocol": "tcp"},
                {"hostPort": port, "containerPort": 53, "protocol": "udp"},
            ]
            keys = {"runtimeConfig": {"portMappings": mappings}, "backend": backend}
        return NETWORK | {"type": plugin} | keys

    def environ(self, verb: str, pod: str) -> dict[str, str]:
        """The variables of a request."""
        return {
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": pod,
            "CNI_NETNS": f"/run/netns/{pod}",
            "CNI_IFNAME": "eth0",
            "CNI_PATH": str(self.node.bin_dir),
        }

    def ask(self, verb: str, plugin: str, pod: str, config: dict[str, Any]) -> Answer:
        """A request that nothing is done to."""
        return self.node.cni(verb, plugin, config, pod, f"/run/netns/{pod}")

    def require(self, verb: str, plugin: str, pod: str, config: dict[str, Any]) -> Any:
        """... which has to go well."""
        answer = self.ask(verb, plugin, pod, config)
        if not answer.ok:
            raise Broken(f"{verb} of {plugin} fails: {answer}")
        return answer.document

    def start(self, verb: str, plugin: str, pod: str) -> subprocess.Popen[str]:
        """Start a request, and go on."""
        environ = self.environ(verb, pod)
        process = self.node.start(self.node.bin_dir / plugin, env=environ)
        assert process.stdin
        process.stdin.write(json.dumps(self.config(plugin)))
        process.stdin.close()
        process.stdin = None
        return process

    def request(self, verb: str, plugin: str, pod: str, config: dict[str, Any]) -> Outcome:
        """A request, and how it ended."""
        return self.raw(plugin, self.environ(verb, pod), json.dumps(config).encode())

    def raw(self, plugin: str, environ: dict[str, str], stdin: bytes) -> Outcome:
        """A request as bytes, which is killed if it does not end."""
        argv = self.node.inside(None, [self.node.bin_dir / plugin])
        try:
            done = subprocess.run(
                argv,
                env=self.node.environment(environ),
                input=stdin,
                capture_output=True,
                timeout=_AT_MOST,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Outcome(None, "", "", [])
        stdout, stderr = (text.decode(errors="replace") for text in (done.stdout, done.stderr))
        return Outcome(done.returncode, stdout, stderr, [])

    @staticmethod
    def parse(outcome: Outcome) -> Any:
        """The document that a request answered with."""
        return json.loads(outcome.stdout)

    def attach(self, pod: str, port: int = 8001, *plugins: str) -> Any:
        """Run the chain's ADDs, or those of some plugins. Returns the result."""
        result: Any = None
        for plugin in plugins or ("bridge", "portmap"):
            config = self.config(plugin, port)
            result = self.require(
                "ADD", plugin, pod, config | ({"prevResult": result} if result else {})
            )
        return result

    def detach(self, pod: str) -> None:
        """Run the chain's DELs, as a runtime does that knows nothing of the ADD."""
        for plugin in ("portmap", "bridge"):
            self.require("DEL", plugin, pod, self.config(plugin))

    def valid(self) -> dict[str, Any]:
        """What a GC is told: that there is pod `b`, or none."""
        valid = [] if self.alone else [{"containerID": "b", "ifname": "eth0"}]
        return {"cni.dev/valid-attachments": valid}

    def supervised(
        self,
        verb: str,
        plugin: str,
        pod: str,
        config: dict[str, Any],
        decide: supervised.Decision,
    ) -> Outcome:
        """A request whose system calls `decide` is asked about."""
        argv = self.node.inside(None, [*_WITHOUT_AGENT, self.node.bin_dir / plugin])
        environ = self.node.environment(self.environ(verb, pod))
        return supervised.run(argv, environ, json.dumps(config).encode(), decide)

    # What is there

    def reset(self) -> None:
        """Remove all state and all rules, as if nothing had ever been."""
        self.node.run("sh", "-c", _RESET, check=False)

    def remove_bridges(self) -> None:
        """Remove bridges but br0, and VLAN interfaces: they stay when their last pod has left."""
        self.node.run("sh", "-c", _REMOVE_BRIDGES, check=False)

    def snapshot(self) -> set[str]:
        """What there is of attachments, on the node and in the pods."""
        script = _SNAPSHOT + (_IPTABLES if self.backend.startswith("iptables") else "")
        text = self.node.run("sh", "-c", script, check=False).stdout
        # Behind a link's name, `ip -br` says its peer's index, its state and its MAC address; nft
        # prints elements in any order, several to a line.
        words = (" ".join(_IN_BETWEEN.sub(" ", line).split()) for line in text.splitlines())
        return {part for line in words for part in line.split(", ")} - {""}

    def require_same(self, before: set[str], when: str, *, but: str = "") -> None:
        """Raise Broken if there is anything else than before, but for what that pattern matches."""
        now = self.snapshot()
        more, less = (
            sorted(line for line in lines if not re.fullmatch(but, line))
            for lines in (now - before, before - now)
        )
        if more or less:
            raise Broken(f"{when}: left {more}; lost {less}")


def require_one_answer(outcome: Outcome, verb: str, *, strict: bool = True) -> bool:
    """Raise Broken unless it answered as the specification says. Returns whether it succeeded.

    If `strict`, an error has to be one that was foreseen, without a traceback.
    """
    if outcome.code is None:
        raise Broken("it does not end")
    if strict and "Traceback" in outcome.stderr:
        raise Broken(f"traceback: {outcome.stderr[-1500:]}")
    if outcome.code == 0 and verb not in ("ADD", "VERSION"):
        if outcome.stdout:
            raise Broken(f"it says {outcome.stdout!r}")
        return True
    try:
        document = json.loads(outcome.stdout)
    except ValueError:
        raise Broken(f"exit code {outcome.code}, and not one document: {outcome}") from None
    if outcome.code == 0:
        if verb != "VERSION" and not {"ips", "ip4", "ip6", "interfaces"} & set(document):
            raise Broken(f"no result: {document}")
        return True
    if not isinstance(document.get("code"), int) or not document.get("msg"):
        raise Broken(f"no error: {document}")
    if outcome.code != 1 or (strict and "failed unexpectedly" in document["msg"]):
        raise Broken(f"not an error that was foreseen: {outcome.code}, {document}")
    return False
