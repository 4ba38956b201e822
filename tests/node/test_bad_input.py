"""Everything that can be wrong with what a plugin is told, on a node where a pod is attached."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.node import Answer, Node

HOST_LOCAL = {"type": "host-local", "subnet": "10.22.0.0/24"}
GOOD: dict[str, dict[str, Any]] = {
    "bridge": {"bridge": "br0", "isGateway": True, "ipMasq": True, "ipam": HOST_LOCAL},
    "host-local": {"ipam": HOST_LOCAL},
    "portmap": {
        "runtimeConfig": {"portMappings": [{"hostPort": 8081, "containerPort": 80}]},
        "prevResult": {
            "interfaces": [{"name": "eth0", "sandbox": "/run/netns/pod"}],
            "ips": [{"address": "10.22.0.77/24", "interface": 0}],
        },
    },
    "loopback": {},
}

UNREACHABLE = {"dst": "0.0.0.0/0", "gw": "192.0.2.77"}

# A file, a pipe, and IPAM plugins that are none.
_SETUP = """
touch /run/file
mkfifo /run/pipe
mkdir /run/bin
cd /run/bin
echo '#!/bin/sh\necho "{\\"code\\": 11, \\"msg\\": \\"come back later\\"}"; exit 1' > busy
echo '#!/bin/sh' > silent
echo '#!/bin/sh\necho panic: nil map; exit 2' > talkative
echo '#!/bin/sh\necho "{\\"ips\\": [{\\"address\\": \\"10.22.0.9\\"}]}"' > wrong
chmod +x *
ip link add veth0 type veth peer name veth1
"""

# All that an ADD may change. What was leased last may change, for the next one to begin after it,
# and so may the time that seals the index of leases.
_STATE = """
for netns in healthy pod; do ip -j -n $netns link; ip -j -n $netns -4 address; done
ip -j link; ip -j -4 address; ip -j -4 route show table all
nft -j list ruleset
find /run/cni /var/lib/cni -printf '%p %y %l\\n' | sort
find /run/cni /var/lib/cni -type f ! -name 'last_reserved_ip.*' ! -name '*.seal' \\
    -exec grep -H '' {} + | sort
"""


class Broken(NamedTuple):
    """A request with something wrong: the error's code, a word that the error has to have."""

    code: int
    word: str
    plugin: str
    config: dict[str, Any] | str
    environ: dict[str, Any]


def broken(
    plugin: str,
    code: int,
    word: str,
    config: Mapping[str, Any] | str = "",
    **environ: str | None,
) -> Broken:
    """The plugin's good configuration with other keys, or another one as text."""
    if isinstance(config, str):
        return Broken(code, word, plugin, config, environ)
    common = {"cniVersion": "1.1.0", "name": "net", "type": plugin}
    return Broken(code, word, plugin, {**common, **GOOD[plugin], **config}, environ)


def bridge(code: int, word: str, **keys: Any) -> Broken:
    return broken("bridge", code, word, keys)


def portmap(code: int, word: str, **keys: Any) -> Broken:
    return broken("portmap", code, word, keys)


def port(code: int, word: str, **mapping: Any) -> Broken:
    good = {"hostPort": 8081, "containerPort": 80}
    return portmap(code, word, runtimeConfig={"portMappings": [good | mapping]})


def told(code: int, word: str, plugin: str = "bridge", **environ: str | None) -> Broken:
    """A good configuration in a wrong environment."""
    return broken(plugin, code, word, {}, **environ)


REQUESTS = {
    "no JSON": broken("bridge", 6, "JSON", "{"),
    "nothing": broken("portmap", 6, "JSON", ""),
    "two documents": broken("host-local", 6, "JSON", "{} {}"),
    "a list": broken("loopback", 6, "object", "[]"),
    "NaN": broken("bridge", 6, "NaN", '{"mtu": NaN}'),
    "no name": bridge(7, "name", name=None),
    "a name that is a path": bridge(7, "name", name="../net"),
    "a name that is a number": bridge(7, "name", name=5),
    "a name that is long": bridge(7, "name: 'nnn", name="n" * 256),
    "a version of the future": bridge(1, "cniVersion", cniVersion="9.9.9"),
    "a version that is a number": bridge(1, "cniVersion", cniVersion=1.0),
    "loopback without name": broken("loopback", 7, "name", {"name": ""}),
    "portmap without name": portmap(7, "name", name=None),
    # Variables
    "no container": told(4, "CNI_CONTAINERID", CNI_CONTAINERID=None),
    "a container that is a path": told(4, "CNI_CONTAINERID", CNI_CONTAINERID="../pod"),
    "a container with a newline": told(4, "CNI_CONTAINERID", CNI_CONTAINERID="pod\n"),
    "a container with a long name": told(4, "CNI_CONTAINERID", CNI_CONTAINERID="c" * 256),
    "no interface": told(4, "CNI_IFNAME", CNI_IFNAME=None),
    "an interface that is a directory": told(4, "CNI_IFNAME", CNI_IFNAME=".."),
    "an interface with a long name": told(4, "CNI_IFNAME", CNI_IFNAME="0123456789abcdef"),
    "an interface with a space": told(4, "CNI_IFNAME", CNI_IFNAME="eth 0"),
    "a verb of the future": told(4, "CNI_COMMAND", CNI_COMMAND="PATCH"),
    "no namespace": told(4, "CNI_NETNS", CNI_NETNS=None),
    "a namespace that is gone": told(4, "/run/netns/gone", CNI_NETNS="/run/netns/gone"),
    "a namespace that is a file": told(4, "/run/file", CNI_NETNS="/run/file"),
    "a namespace that is a directory": told(4, "/run/netns", CNI_NETNS="/run/netns"),
    "a namespace of mounts": told(4, "/proc/self/ns/mnt", CNI_NETNS="/proc/self/ns/mnt"),
    "a namespace that is a pipe": told(4, "/run/pipe", CNI_NETNS="/run/pipe"),
    "the node's namespace": told(8, "CNI_NETNS", CNI_NETNS="/proc/self/ns/net"),
    "the thread's namespace": told(8, "CNI_NETNS", CNI_NETNS="/proc/thread-self/ns/net"),
    "lo in the node's namespace": told(8, "CNI_NETNS", "loopback", CNI_NETNS="/proc/self/ns/net"),
    "lo in no namespace": told(4, "/run/netns/gone", "loopback", CNI_NETNS="/run/netns/gone"),
    "lo in a file": told(4, "/run/file", "loopback", CNI_NETNS="/run/file"),
    "an interface that is there": told(101, "lo", CNI_IFNAME="lo"),
    "a container that is attached": told(
        101, "eth0", CNI_CONTAINERID="healthy", CNI_NETNS="/run/netns/healthy"
    ),
    "a container that is attached elsewhere": told(
        101, "net/healthy/eth0", CNI_CONTAINERID="healthy"
    ),
    "args that are no pairs": told(4, "CNI_ARGS", CNI_ARGS="IgnoreUnknown=1;MAC"),
    "unknown args": told(4, "COLOR", CNI_ARGS="COLOR=blue"),
    "a MAC in args that is none": told(4, "MAC", CNI_ARGS="MAC=blue"),
    "an IP in args that is none": told(4, "IP", "host-local", CNI_ARGS="IP=blue"),
    "no CNI_PATH": told(4, "CNI_PATH", CNI_PATH=None),
    "an empty CNI_PATH": told(7, "ipam.type", CNI_PATH="/run/netns"),
    # bridge
    "a type that is a path": bridge(7, "type", type="../../bin/sh"),
    "a bridge that is a number": bridge(7, "bridge", bridge=5),
    "a bridge that is a path": bridge(7, "bridge", bridge="../br0"),
    "a bridge with a long name": bridge(7, "bridge", bridge="0123456789abcdef"),
    "a bridge with a quote": bridge(7, "bridge", bridge='a"b'),
    "a bridge with a star": bridge(7, "bridge", bridge="a*"),
    "a bridge with a backslash": bridge(7, "bridge", bridge="a\\b"),
    "a bridge that is lo": bridge(101, "bridge", bridge="lo"),
    "a bridge that is a veth": bridge(101, "bridge", bridge="veth0"),
    "an MTU that is text": bridge(7, "mtu", mtu="1500"),
    "an MTU that is broken": bridge(7, "mtu", mtu=1500.5),
    "an MTU that is a float": bridge(7, "mtu", mtu=1500.0),
    "an MTU that is true": bridge(7, "mtu", mtu=True),
    "an MTU that is small": bridge(7, "mtu", mtu=67),
    "an MTU that is large": bridge(7, "mtu", mtu=65536),
    "an MTU that is negative": bridge(7, "mtu", mtu=-1),
    "a truth that is text": bridge(7, "isGateway", isGateway="true"),
    "a truth that is a number": bridge(7, "ipMasq", ipMasq=1),
    "a backend that is none": bridge(7, "ipMasqBackend", ipMasqBackend="pf"),
    "a VLAN that is large": bridge(7, "vlan", vlan=4095),
    "a VLAN that is text": bridge(7, "vlan", vlan="10"),
    "a trunk that is text": bridge(7, "vlanTrunk", vlanTrunk="all"),
    "a MAC check that is text": bridge(7, "macspoofchk", macspoofchk="yes"),
    "hairpin and promiscuous": bridge(7, "hairpinMode", hairpinMode=True, promiscMode=True),
    "down and addressed": bridge(7, "disableContainerInterface", disableContainerInterface=True),
    "dns that is a list": bridge(7, "dns", dns=[]),
    "dns.search that is text": bridge(7, "dns.search", dns={"search": "local"}),
    "a nameserver that is a number": bridge(7, "dns.nameservers[1]", dns={"nameservers": ["a", 5]}),
    "args that are text": bridge(7, "args", args="MAC=x"),
    "a MAC in args.cni that is none": bridge(7, "args.cni.mac", args={"cni": {"mac": "blue"}}),
    "a MAC of a group": bridge(7, "runtimeConfig.mac", runtimeConfig={"mac": "01:00:5e:00:00:01"}),
    "runtimeConfig that is a list": bridge(7, "runtimeConfig", runtimeConfig=[]),
    "a prevResult that is text": bridge(7, "prevResult", prevResult="none"),
    "a prevResult without address": bridge(7, "prevResult.ips[0]", prevResult={"ips": [{}]}),
    "another subnet": bridge(101, "forceAddress", ipam=HOST_LOCAL | {"subnet": "10.33.0.0/24"}),
    "a route by nobody": bridge(999, "192.0.2.77", ipam=HOST_LOCAL | {"routes": [UNREACHABLE]}),
    # IPAM plugins
    "ipam that is text": bridge(7, "ipam", ipam="host-local"),
    "ipam.type that is a number": bridge(7, "ipam.type", ipam={"type": 5}),
    "ipam.type that is a path": bridge(7, "ipam.type", ipam={"type": "../bin/host-local"}),
    "ipam.type that is a full path": bridge(7, "ipam.type", ipam={"type": "/bin/true"}),
    "ipam.type that is a directory": bridge(7, "ipam.type", ipam={"type": ".."}),
    "ipam.type that is nowhere": bridge(7, "nothing", ipam={"type": "nothing"}),
    "ipam that is busy": bridge(11, "come back later", ipam={"type": "busy"}),
    "ipam that is silent": bridge(999, "silent", ipam={"type": "silent"}),
    "ipam that is talkative": bridge(999, "panic", ipam={"type": "talkative"}),
    "ipam that is wrong": bridge(7, "ips[0].address", ipam={"type": "wrong"}),
    # portmap
    "no prevResult": portmap(7, "prevResult", prevResult=None),
    "a prevResult with a wrong index": portmap(
        7, "interface", prevResult={"ips": [{"address": "10.22.0.77/24", "interface": -1}]}
    ),
    "no host port": port(7, "portMappings[0].hostPort", hostPort=None),
    "no container port": port(7, "portMappings[0].containerPort", containerPort=None),
    "host port 0": port(7, "portMappings[0].hostPort", hostPort=0),
    "host port -1": port(7, "portMappings[0].hostPort", hostPort=-1),
    "host port 65536": port(7, "portMappings[0].hostPort", hostPort=65536),
    "container port 0": port(7, "portMappings[0].containerPort", containerPort=0),
    "a port that is text": port(7, "portMappings[0].hostPort", hostPort="80"),
    "a port that is broken": port(7, "portMappings[0].containerPort", containerPort=80.5),
    "a protocol without ports": port(7, "portMappings[0].protocol", protocol="icmp"),
    "a protocol that is a number": port(7, "portMappings[0].protocol", protocol=6),
    "a protocol with a newline": port(7, "portMappings[0].protocol", protocol="tcp\n"),
    "a protocol and more": port(
        7, "portMappings[0].protocol", protocol="tcp . 1 : 10.22.0.2 . 1 }; flush ruleset; {"
    ),
    "a host address that is a name": port(7, "portMappings[0].hostIP", hostIP="localhost"),
    "a host address that is short": port(7, "portMappings[0].hostIP", hostIP="127.1"),
    "a host address that is a number": port(7, "portMappings[0].hostIP", hostIP=2130706433),
    "a host address with a zone": port(7, "portMappings[0].hostIP", hostIP="fe80::1%lo"),
    "a host address and more": port(
        7, "portMappings[0].hostIP", hostIP="127.0.0.1 }; flush ruleset"
    ),
    "mappings that are an object": portmap(
        7, "runtimeConfig.portMappings", runtimeConfig={"portMappings": {"hostPort": 80}}
    ),
    "a mapping that is a number": portmap(
        7, "runtimeConfig.portMappings[0]", runtimeConfig={"portMappings": [80]}
    ),
    "a port with two targets": portmap(
        7,
        "portMappings[1].hostPort",
        runtimeConfig={
            "portMappings": [
                {"hostPort": 8081, "containerPort": 80},
                {"hostPort": 8081, "containerPort": 81},
            ]
        },
    ),
    "a port of another container": port(101, "net/healthy/eth0", hostPort=8080),
    "portmap's backend that is none": portmap(7, "backend", backend="pf"),
    "a mark bit that is large": portmap(7, "markMasqBit", markMasqBit=32),
    "a mark bit that is text": portmap(7, "markMasqBit", markMasqBit="14"),
    "snat that is text": portmap(7, "snat", snat="yes"),
    "masqAll that is a number": portmap(7, "masqAll", masqAll=1),
    "conditions that are text": portmap(7, "conditionsV4", conditionsV4="; flush ruleset"),
    "a chain that is a number": portmap(7, "externalSetMarkChain", externalSetMarkChain=5),
}

# Of these, what is wrong whatever the verb: DEL goes on past anything else.
WHATEVER_THE_VERB = (
    "no JSON",
    "nothing",
    "two documents",
    "a list",
    "NaN",
    "no name",
    "a name that is a path",
    "a name that is a number",
    "a name that is long",
    "a version of the future",
    "a version that is a number",
    "loopback without name",
    "portmap without name",
    "no container",
    "a container that is a path",
    "a container with a newline",
    "a container with a long name",
    "no interface",
    "an interface that is a directory",
    "an interface with a long name",
    "an interface with a space",
)
VERBS = {
    "CHECK": (
        *WHATEVER_THE_VERB,
        "no namespace",
        "the node's namespace",
        "a bridge that is a number",
        "ipam.type that is a number",
        "a prevResult that is text",
        "no prevResult",
        "host port 0",
    ),
    "DEL": WHATEVER_THE_VERB,
}

# What is wrong with `ipam`, for host-local by itself and as bridge runs it.
IPAM: dict[str, tuple[int, str, dict[str, Any]]] = {
    "no range": (7, "ipam.ranges", {"subnet": None}),
    "a subnet without length": (7, "ipam.subnet", {"subnet": "10.22.0.0"}),
    "a subnet that is long": (7, "ipam.subnet", {"subnet": "10.22.0.0/33"}),
    "a subnet with a netmask": (7, "ipam.subnet", {"subnet": "10.22.0.0/255.255.255.0"}),
    "a subnet that is a number": (7, "ipam.subnet", {"subnet": 10}),
    "a subnet that is an address": (7, "ipam.subnet", {"subnet": "10.22.0.5/24"}),
    "a subnet of one address": (7, "ipam.subnet", {"subnet": "10.22.0.0/32"}),
    "a subnet of two addresses": (7, "ipam.subnet", {"subnet": "10.22.0.0/31"}),
    "a start outside": (7, "ipam.rangeStart", {"rangeStart": "10.23.0.1"}),
    "an end outside": (7, "ipam.rangeEnd", {"rangeEnd": "10.23.0.1"}),
    "an end before the start": (
        7,
        "ipam.rangeEnd",
        {"rangeStart": "10.22.0.9", "rangeEnd": "10.22.0.8"},
    ),
    "a gateway that is a name": (7, "ipam.gateway", {"gateway": "router"}),
    "a gateway of the other family": (7, "ipam.gateway", {"gateway": "fd00::1"}),
    "ranges that are an object": (7, "ipam.ranges", {"ranges": {}}),
    "a set that is an object": (7, "ipam.ranges[0]", {"ranges": [{"subnet": "10.44.0.0/24"}]}),
    "a set that is empty": (7, "ipam.ranges[0]", {"ranges": [[]]}),
    "a range without subnet": (7, "ipam.ranges[0][0].subnet", {"ranges": [[{}]]}),
    "ranges that overlap": (7, "ipam.ranges[0][0]", {"ranges": [[{"subnet": "10.22.0.0/25"}]]}),
    "a set of both families": (
        7,
        "ipam.ranges[0][1].subnet",
        {"ranges": [[{"subnet": "10.44.0.0/24"}, {"subnet": "fd00::/64"}]]},
    ),
    "a route to nowhere": (7, "ipam.routes[0].dst", {"routes": [{"gw": "10.22.0.1"}]}),
    "a route to a name": (7, "ipam.routes[0].dst", {"routes": [{"dst": "default"}]}),
    "a route by a name": (7, "ipam.routes[0].gw", {"routes": [{"dst": "::/0", "gw": "x"}]}),
    "a route with a wrong scope": (
        7,
        "ipam.routes[0].scope",
        {"routes": [{"dst": "::/0", "scope": 256}]},
    ),
    "resolvConf that is missing": (5, "/run/no.conf", {"resolvConf": "/run/no.conf"}),
    "resolvConf that is a number": (7, "ipam.resolvConf", {"resolvConf": 5}),
    "dataDir that is a list": (7, "ipam.dataDir", {"dataDir": []}),
    "dataDir that is a file": (5, "/run/file", {"dataDir": "/run/file"}),
    "dataDir with a NUL": (7, "ipam.dataDir", {"dataDir": "/run/\0"}),
    "no address left": (102, "net", {"rangeStart": "10.22.0.2", "rangeEnd": "10.22.0.2"}),
}
ADDRESSES = {
    "a requested address that is none": (7, "args.cni.ips[0]", ["blue"]),
    "a requested address that is outside": (7, "args.cni.ips[0]", ["10.23.0.1"]),
    "a requested address that is the gateway": (7, "args.cni.ips[0]", ["10.22.0.1"]),
    "a requested address that is taken": (101, "10.22.0.2", ["10.22.0.2"]),
    "two requested addresses": (7, "args.cni.ips[1]", ["10.22.0.8", "10.22.0.9"]),
}


def all_broken() -> Iterator[Any]:
    for what, request in REQUESTS.items():
        yield pytest.param(request, id=what)
    for verb, whats in VERBS.items():
        for what in whats:
            request = REQUESTS[what]
            environ = request.environ | {"CNI_COMMAND": verb}
            config = request.config
            if verb == "CHECK" and isinstance(config, dict):
                config = {"prevResult": {}} | config
            request = request._replace(config=config, environ=environ)
            yield pytest.param(request, id=f"{verb}: {what}")
    for plugin in ("bridge", "host-local"):
        for what, (code, word, ipam) in IPAM.items():
            request = broken(plugin, code, word, {"ipam": HOST_LOCAL | ipam})
            yield pytest.param(request, id=f"{plugin}: {what}")
        for what, (code, word, addresses) in ADDRESSES.items():
            request = broken(plugin, code, word, {"args": {"cni": {"ips": addresses}}})
            yield pytest.param(request, id=f"{plugin}: {what}")


@pytest.fixture(scope="module")
def node(bin_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node with a pod that has a published port, and an empty namespace for another pod."""
    with Node(bin_dir, tmp_path_factory.mktemp("node")) as node:
        node.run("sh", "-ec", _SETUP)
        node.add_netns("pod")
        node.add_netns("healthy")
        previous = add(node, "bridge", {}, "healthy").document
        ports = {"portMappings": [{"hostPort": 8080, "containerPort": 80}]}
        add(node, "portmap", {"runtimeConfig": ports, "prevResult": previous}, "healthy")
        yield node


def add(node: Node, plugin: str, keys: Mapping[str, Any], name: str) -> Answer:
    """An ADD that goes well."""
    config = broken(plugin, 0, "", keys).config
    answer = node.cni("ADD", plugin, config, name, f"/run/netns/{name}")
    assert answer.ok, answer
    return answer


def state(node: Node) -> list[str]:
    return node.run("sh", "-c", _STATE).stdout.splitlines()


@pytest.mark.parametrize("request_", list(all_broken()))
def test_refusal(node: Node, request_: Broken) -> None:
    """What is wrong is refused by one error that names it, and nothing has changed."""
    before = state(node)
    _, _, plugin, config, environ = request_
    path = {"CNI_PATH": f"{node.bin_dir}:/run/bin"}
    answer = node.cni("ADD", plugin, config, "pod", "/run/netns/pod", **(path | environ))
    assert answer.code == 1
    error = answer.document
    assert set(error) - {"details"} == {"cniVersion", "code", "msg"}
    assert error["code"] == request_.code, error
    assert request_.word in error["msg"] + error.get("details", "")
    assert state(node) == before


@pytest.mark.parametrize("plugin", GOOD)
def test_acceptance(node: Node, plugin: str) -> None:
    """Nothing but what is broken is wrong: as they are, the same configurations are accepted."""
    before = state(node)
    add(node, plugin, {}, "pod")
    changed = state(node)
    config = broken(plugin, 0, "", {}).config
    assert node.cni("DEL", plugin, config, "pod", "/run/netns/pod").ok
    assert changed != before
