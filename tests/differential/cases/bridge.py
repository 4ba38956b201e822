"""bridge: every key, right and wrong, what an ADD meets on the node, and who reaches whom."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cni.versions import SUPPORTED
from tests.differential.case import (
    ABSENT,
    ADD,
    CHECK,
    DEL,
    DEL_AGAIN,
    GC,
    LIFE,
    OTHER,
    POD,
    STATUS,
    Case,
    Document,
    Probe,
    Step,
    configure,
    in_pod,
)

_V4 = [{"subnet": "10.22.0.0/24"}]
_V6 = [{"subnet": "fd00:22::/64"}]
IPV4 = {"type": "host-local", "ranges": [_V4]}
IPV6 = {"type": "host-local", "ranges": [_V6]}
DUAL = {"type": "host-local", "ranges": [_V4, _V6]}
MAC = "0a:58:0a:16:00:05"


def config(**keys: Any) -> Document:
    given: Document = {"isGateway": True, "ipam": IPV4}
    base = {"cniVersion": "1.1.0", "name": "net", "type": "bridge", "bridge": "br0"}
    return configure(base | given, keys)


_GOOD: dict[str, Document] = {
    "bridge": {"bridge": "br-long-name-15"},
    "bridge default": {"bridge": ABSENT},
    "bridge empty": {"bridge": ""},
    "bridge with dots": {"bridge": "br.0-1_2"},
    "isGateway": {},
    "no gateway": {"isGateway": False},
    "isDefaultGateway": {"isDefaultGateway": True},
    "isDefaultGateway alone": {"isGateway": ABSENT, "isDefaultGateway": True},
    "isDefaultGateway false": {"isGateway": ABSENT, "isDefaultGateway": False},
    "dual stack": {"isDefaultGateway": True, "ipMasq": True, "ipam": DUAL},
    "IPv6 only": {"isDefaultGateway": True, "ipMasq": True, "ipam": IPV6},
    "IPv6 without gateway": {"isGateway": False, "ipam": IPV6},
    "IPv6 first": {
        "isDefaultGateway": True,
        "ipam": {"type": "host-local", "ranges": [_V6, _V4]},
    },
    "ipMasq": {"ipMasq": True},
    "ipMasq without gateway": {"isGateway": False, "ipMasq": True},
    "ipMasqBackend nftables": {"ipMasq": True, "ipMasqBackend": "nftables"},
    "ipMasqBackend iptables": {"ipMasq": True, "ipMasqBackend": "iptables"},
    "ipMasqBackend null": {"ipMasq": True, "ipMasqBackend": None},
    "mtu 1400": {"mtu": 1400},
    "mtu 9000": {"mtu": 9000},
    "mtu 68": {"mtu": 68, "ipam": IPV4},
    "mtu 65535": {"mtu": 65535},
    "mtu 0": {"mtu": 0},
    "mtu null": {"mtu": None},
    "mtu 1400 with IPv6": {"mtu": 1400, "ipam": DUAL},
    "hairpinMode": {"hairpinMode": True},
    "promiscMode": {"promiscMode": True},
    "portIsolation": {"portIsolation": True},
    "enabledad": {"enabledad": True, "ipam": DUAL},
    "enabledad with IPv4": {"enabledad": True},
    "forceAddress": {"forceAddress": True},
    "disableContainerInterface": {"disableContainerInterface": True, "ipam": {}},
    "layer 2": {"isGateway": False, "ipam": {}},
    "layer 2 without ipam": {"ipam": ABSENT},
    "layer 2 with ipam null": {"ipam": None},
    "layer 2 masquerading": {"ipMasq": True, "ipam": {}},
    "dns": {
        "dns": {"nameservers": ["192.0.2.53"], "domain": "a", "search": ["b"], "options": ["c"]}
    },
    "dns empty": {"dns": {}},
    "dns of empty lists": {"dns": {"nameservers": [], "search": []}},
    "dns null": {"dns": None},
    "vlan 0": {"vlan": 0},
    "vlanTrunk null": {"vlanTrunk": None},
    "preserveDefaultVlan without VLAN": {"preserveDefaultVlan": True},
    "macspoofchk": {"macspoofchk": True},
    "macspoofchk false": {"macspoofchk": False},
    "layer 2 with macspoofchk": {"macspoofchk": True, "ipam": {}},
    "unknown keys": {"color": "blue", "capabilities": {"ips": True}, "keyA": ["some"]},
    "other case": {"BRIDGE": "br1", "bridge": ABSENT, "ISGATEWAY": True, "MtU": 1400},
    "nulls": {"isGateway": None, "ipMasq": None, "hairpinMode": None, "args": None},
    "gateway of another": {
        "ipam": {"type": "host-local", "ranges": [[{**_V4[0], "gateway": "10.22.0.99"}]]}
    },
    "two IPv4 subnets": {
        "ipam": {"type": "host-local", "ranges": [_V4, [{"subnet": "10.33.0.0/24"}]]},
    },
    "routes": {
        "ipam": IPV4
        | {"routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.9.0.0/16", "gw": "10.22.0.9"}]},
    },
    "default route and isDefaultGateway": {
        "isDefaultGateway": True,
        "ipam": IPV4 | {"routes": [{"dst": "0.0.0.0/0"}]},
    },
    "default route by another": {
        "isDefaultGateway": True,
        "ipam": IPV4 | {"routes": [{"dst": "0.0.0.0/0", "gw": "10.22.0.9"}]},
    },
    "route metric": {
        "ipam": IPV4 | {"routes": [{"dst": "10.9.0.0/16", "gw": "10.22.0.9", "priority": 50}]}
    },
    "route table": {
        "ipam": IPV4 | {"routes": [{"dst": "10.9.0.0/16", "gw": "10.22.0.9", "table": 100}]}
    },
    "route table 0": {
        "ipam": IPV4 | {"routes": [{"dst": "10.9.0.0/16", "gw": "10.22.0.9", "table": 0}]}
    },
    "route scope": {
        "isGateway": False,
        "ipam": IPV4 | {"routes": [{"dst": "10.9.0.0/16", "scope": 253}]},
    },
    "route mtu": {"ipam": IPV4 | {"routes": [{"dst": "10.9.0.0/16", "mtu": 1400, "advmss": 1360}]}},
    "route to the subnet": {"ipam": IPV4 | {"routes": [{"dst": "10.22.0.0/24"}]}},
    "routes of IPv6": {
        "ipam": DUAL
        | {"routes": [{"dst": "::/0"}, {"dst": "fd00:9::/64", "gw": "fd00:22::9", "priority": 7}]},
    },
    "two equal routes": {"ipam": IPV4 | {"routes": [{"dst": "10.9.0.0/16"}] * 2}},
    "two ways": {
        "ipam": IPV4 | {"routes": [{"dst": "10.9.0.0/16", "gw": f"10.22.0.{n}"} for n in (8, 9)]},
    },
    "dataDir": {"ipam": IPV4 | {"dataDir": "/run/leases"}},
    "mac in runtimeConfig": {"runtimeConfig": {"mac": MAC}},
    "mac in capitals": {"runtimeConfig": {"mac": MAC.upper()}},
    "mac with dashes": {"runtimeConfig": {"mac": MAC.replace(":", "-")}},
    "mac in args.cni": {"args": {"cni": {"mac": MAC}}},
    "mac twice": {"args": {"cni": {"mac": "0a:58:0a:16:00:06"}}, "runtimeConfig": {"mac": MAC}},
    "mac empty": {"runtimeConfig": {"mac": ""}},
    "ips in runtimeConfig": {"runtimeConfig": {"ips": ["10.22.0.50/24"]}},
    "ips in args.cni": {"args": {"cni": {"ips": ["10.22.0.51"]}}},
    "ipRanges": {"runtimeConfig": {"ipRanges": [[{"subnet": "10.55.0.0/24"}]]}},
    "runtimeConfig of others": {"runtimeConfig": {"portMappings": [], "bandwidth": {}}},
}
_ARGS = {
    "MAC": f"MAC={MAC}",
    "MAC among others": f"IgnoreUnknown=1;K8S_POD_NAME=web;MAC={MAC}",
    "MAC and IP": f"IgnoreUnknown=1;MAC={MAC};IP=10.22.0.50",
    "ignoring": "IgnoreUnknown=true;K8S_POD_NAME=web",
}
_BAD_ARGS = {
    "MAC a name": "MAC=blue",
    "MAC of a group": "MAC=01:00:5e:00:00:01",
    "unknown": "COLOR=blue",
    "no pair": "IgnoreUnknown=1;MAC",
    "IP of no range": "IgnoreUnknown=1;IP=10.99.0.1",
}
_WRONG: dict[str, Document] = {
    "bridge a number": {"bridge": 5},
    "bridge long": {"bridge": "0123456789abcdef"},
    "bridge a path": {"bridge": "../br0"},
    "bridge with a space": {"bridge": "br 0"},
    "bridge lo": {"bridge": "lo"},
    "isGateway text": {"isGateway": "true"},
    "isGateway a number": {"isGateway": 1},
    "isDefaultGateway text": {"isDefaultGateway": "yes"},
    "forceAddress text": {"forceAddress": "yes"},
    "ipMasq a number": {"ipMasq": 1},
    "ipMasqBackend unknown": {"ipMasq": True, "ipMasqBackend": "pf"},
    "ipMasqBackend empty": {"ipMasq": True, "ipMasqBackend": ""},
    "ipMasqBackend a number": {"ipMasqBackend": 5},
    "mtu text": {"mtu": "1500"},
    "mtu a fraction": {"mtu": 1500.5},
    "mtu a float": {"mtu": 1500.0},
    "mtu negative": {"mtu": -1},
    "mtu 67": {"mtu": 67},
    "mtu 65536": {"mtu": 65536},
    "hairpinMode text": {"hairpinMode": "yes"},
    "promiscMode a list": {"promiscMode": []},
    "enabledad text": {"enabledad": "no"},
    "portIsolation text": {"portIsolation": "no"},
    "hairpinMode and promiscMode": {"hairpinMode": True, "promiscMode": True},
    "disableContainerInterface text": {"disableContainerInterface": "no"},
    "disableContainerInterface and ipam": {"disableContainerInterface": True},
    "vlan negative": {"vlan": -1},
    "vlan 4095": {"vlan": 4095},
    "vlan text": {"vlan": "10"},
    "vlanTrunk text": {"vlanTrunk": "all"},
    "vlanTrunk minID 0": {"vlanTrunk": [{"minID": 0, "maxID": 10}]},
    "vlanTrunk maxID 4095": {"vlanTrunk": [{"minID": 1, "maxID": 4095}]},
    "vlanTrunk maxID missing": {"vlanTrunk": [{"minID": 1}]},
    "vlanTrunk minID missing": {"vlanTrunk": [{"maxID": 1}]},
    "vlanTrunk minID above maxID": {"vlanTrunk": [{"minID": 9, "maxID": 8}]},
    "vlanTrunk id 0": {"vlanTrunk": [{"id": 0}]},
    "vlanTrunk id 4095": {"vlanTrunk": [{"id": 4095}]},
    "preserveDefaultVlan text": {"preserveDefaultVlan": "no"},
    "macspoofchk text": {"macspoofchk": "yes"},
    "dns a list": {"dns": []},
    "dns.search text": {"dns": {"search": "local"}},
    "dns.nameservers of numbers": {"dns": {"nameservers": [5]}},
    "args text": {"args": "MAC"},
    "args.cni.mac a name": {"args": {"cni": {"mac": "blue"}}},
    "mac a name": {"runtimeConfig": {"mac": "blue"}},
    "mac a number": {"runtimeConfig": {"mac": 5}},
    "mac of a group": {"runtimeConfig": {"mac": "01:00:5e:00:00:01"}},
    "mac of zeros": {"runtimeConfig": {"mac": "00:00:00:00:00:00"}},
    "mac of 8 bytes": {"runtimeConfig": {"mac": "0a:58:0a:16:00:05:06:07"}},
    "ips a name": {"runtimeConfig": {"ips": ["first"]}},
    "ips of no range": {"runtimeConfig": {"ips": ["10.99.0.1"]}},
    "runtimeConfig a list": {"runtimeConfig": []},
    "ipam text": {"ipam": "host-local"},
    "ipam.type a number": {"ipam": {"type": 5}},
    "ipam.type unknown": {"ipam": {"type": "nothing"}},
    "ipam.type a path": {"ipam": {"type": "../host-local"}},
    "ipam.type a full path": {"ipam": {"type": "/bin/true"}},
    "ipam without ranges": {"ipam": {"type": "host-local"}},
    "ipam of a bad subnet": {"ipam": {"type": "host-local", "subnet": "10.22.0.0/33"}},
    "ipam of a small subnet": {"ipam": {"type": "host-local", "subnet": "10.22.0.0/31"}},
    "route by nobody": {"ipam": IPV4 | {"routes": [{"dst": "10.9.0.0/16", "gw": "192.0.2.77"}]}},
    "another subnet": {"ipam": {"type": "host-local", "subnet": "10.33.0.0/24"}},
    "prevResult text": {"prevResult": "none"},
    "prevResult a list": {"prevResult": []},
    "prevResult empty": {"prevResult": {}},
    "prevResult with a bad address": {"prevResult": {"ips": [{"address": "10.22.0.2"}]}},
    "prevResult of the future": {"prevResult": {"cniVersion": "9.9.9"}},
}


def _keys() -> Iterator[Case]:
    for name, keys in _GOOD.items():
        yield Case(f"bridge/{name}", (config(**keys),), (ADD, CHECK))
    for name, args in _ARGS.items():
        yield Case(f"bridge/args/{name}", (config(),), tuple(s._replace(args=args) for s in LIFE))
    for name, keys in _WRONG.items():
        yield Case(f"bridge/wrong/{name}", (config(**keys),), (ADD,), node=_BRIDGE)
    for name, args in _BAD_ARGS.items():
        yield Case(f"bridge/wrong/args: {name}", (config(),), (ADD._replace(args=args),), _BRIDGE)


def _misled() -> Iterator[Case]:
    """CHECK and DEL told something wrong about a pod that is attached."""
    told: dict[str, Document] = {
        "a wrong type": {"mtu": "1500"},
        "a wrong ipam": {"ipam": {"type": "host-local", "subnet": "10.22.0.0/33"}},
        "an unknown ipam": {"ipam": {"type": "nothing"}},
        "a contradiction": {"hairpinMode": True, "promiscMode": True},
        "a prevResult that is text": {"prevResult": "none"},
        "a prevResult that is empty": {"prevResult": {}},
        "a prevResult of the future": {"prevResult": {"cniVersion": "9.9.9"}},
        "a prevResult with a bad address": {"prevResult": {"ips": [{"address": "nonsense"}]}},
    }
    for name, keys in told.items():
        for verb in ("CHECK", "DEL"):
            steps = (ADD, Step(verb, keys=keys))
            yield Case(f"bridge/misled/{verb} by {name}", (config(),), steps)
    for verb in ("CHECK", "DEL"):
        steps = (ADD, Step(verb, args="COLOR=blue"))
        yield Case(f"bridge/misled/{verb} by bad args", (config(),), steps)


_BRIDGE = "ip link add br0 type bridge; ip link set br0 up"
_FAILED = {"ipam": {"type": "nothing"}}
_FOUND: dict[str, tuple[Document, str]] = {
    "a bridge": ({}, _BRIDGE),
    "a bridge that is down": ({}, "ip link add br0 type bridge"),
    "a bridge with the address": ({}, f"{_BRIDGE}; ip address add 10.22.0.1/24 dev br0"),
    "a bridge with another address": ({}, f"{_BRIDGE}; ip address add 10.22.0.77/24 dev br0"),
    "another address, forced": (
        {"forceAddress": True},
        f"{_BRIDGE}; ip address add 10.22.0.77/24 dev br0",
    ),
    "another subnet": ({}, f"{_BRIDGE}; ip address add 10.99.0.1/16 dev br0"),
    "another subnet, forced": (
        {"forceAddress": True},
        f"{_BRIDGE}; ip address add 10.99.0.1/16 dev br0",
    ),
    "another subnet of IPv6": (
        {"ipam": DUAL},
        f"{_BRIDGE}; ip address add fd00:99::1/64 dev br0 nodad",
    ),
    "another address of IPv6": (
        {"ipam": DUAL},
        f"{_BRIDGE}; ip address add fd00:22::77/64 dev br0 nodad",
    ),
    "another address of IPv6, forced": (
        {"ipam": DUAL, "forceAddress": True},
        f"{_BRIDGE}; ip address add fd00:22::77/64 dev br0 nodad",
    ),
    "a bridge with an MTU": ({}, f"{_BRIDGE}; ip link set br0 mtu 1400"),
    "a bridge with another MTU": ({"mtu": 1300}, f"{_BRIDGE}; ip link set br0 mtu 1400"),
    "a promiscuous bridge": ({}, f"{_BRIDGE}; ip link set br0 promisc on"),
    "a veth of the bridge's name": ({}, "ip link add br0 type veth peer name br1"),
    "the interface": ({}, "ip -n pod link add eth0 type veth peer name eth9"),
    "IPv6 switched off": (
        {"ipam": DUAL},
        in_pod(
            "for c in lo default all; do echo 1 > /proc/sys/net/ipv6/conf/$c/disable_ipv6; done"
        ),
    ),
    "forwarding": ({"ipam": DUAL}, "echo 1 > /proc/sys/net/ipv4/ip_forward"),
    "router advertisements": (
        {"ipam": DUAL},
        "for c in default all; do echo 2 > /proc/sys/net/ipv6/conf/$c/accept_ra; done",
    ),
}


def _found() -> Iterator[Case]:
    for name, (keys, script) in _FOUND.items():
        yield Case(f"bridge/found/{name}", (config(**keys),), LIFE, node=script)


def _lives() -> Iterator[Case]:
    """Several pods and interfaces, verbs in odd orders, namespaces that are gone."""
    again = ADD._replace(label="ADD again")
    other = OTHER
    second = Step("ADD", "second ADD", container_id="b", netns=other)
    masquerading = config(isDefaultGateway=True, ipMasq=True, ipam=DUAL)
    plain = (config(),)
    full = (masquerading,)
    yield Case(
        "bridge/life/two pods", full, (ADD, second, DEL._replace(container_id="b", netns=other))
    )
    yield Case(
        "bridge/life/two interfaces", plain, (ADD, again._replace(ifname="eth1"), DEL, DEL_AGAIN)
    )
    yield Case("bridge/life/ADD again", plain, (ADD, again, CHECK, DEL))
    yield Case("bridge/life/ADD again elsewhere", plain, (ADD, again._replace(netns=other)))
    yield Case("bridge/life/ADD after DEL", full, (ADD, DEL, again, CHECK))
    yield Case(
        "bridge/life/no address left",
        (config(ipam={"type": "host-local", "subnet": "10.22.0.0/30"}),),
        (ADD, second),
    )
    yield Case("bridge/life/ADD fails", plain, (ADD._replace(keys=_FAILED),))
    yield Case("bridge/life/DEL before ADD", full, (DEL, DEL_AGAIN))
    yield Case("bridge/life/DEL untold", full, (ADD, DEL._replace(hand_on=False)))
    yield Case("bridge/life/DEL without namespace", full, (ADD, DEL._replace(netns=None)))
    yield Case("bridge/life/DEL with an empty namespace", plain, (ADD, DEL._replace(netns="")))
    # The kernel takes its time to remove what was in a namespace.
    until_gone = "while ip -o link show master br0 | grep -q .; do sleep 0.01; done"
    gone = DEL._replace(script=f"ip netns del pod; {until_gone}")
    yield Case("bridge/life/DEL with the namespace gone", full, (ADD, gone, DEL_AGAIN))
    file = DEL._replace(script="ip netns del pod; touch /run/netns-file", netns="/run/netns-file")
    yield Case("bridge/life/DEL with a file", full, (ADD, file))
    lost = DEL._replace(script="ip -n pod link del eth0")
    yield Case("bridge/life/DEL without interface", full, (ADD, lost))
    yield Case(
        "bridge/life/DEL without bridge", full, (ADD, DEL._replace(script="ip link del br0"))
    )
    moved = {"ipam": {"type": "host-local", "subnet": "10.33.0.0/24"}}
    yield Case("bridge/life/DEL in another subnet", plain, (ADD, DEL._replace(keys=moved)))
    yield Case(
        "bridge/life/DEL by another bridge", plain, (ADD, DEL._replace(keys={"bridge": "br7"}))
    )
    yield Case(
        "bridge/life/DEL of another", plain, (ADD, DEL._replace(container_id="b", netns=other))
    )
    flushed = DEL._replace(script="nft flush ruleset")
    yield Case("bridge/life/DEL after a flush", full, (ADD, flushed))
    yield Case("bridge/life/CHECK before ADD", plain, (CHECK,))
    yield Case("bridge/life/CHECK untold", plain, (ADD, CHECK._replace(hand_on=False)))
    yield Case("bridge/life/CHECK of layer 2", (config(ipam={}),), LIFE)
    old = config(ipam={}, isGateway=False, cniVersion="0.2.0")
    yield Case("bridge/layer 2 at 0.2.0", (old,), (ADD, DEL))
    yield Case("bridge/life/STATUS", plain, (STATUS, ADD, STATUS))
    yield Case("bridge/life/STATUS without ipam", (config(ipam={}),), (STATUS,))
    yield Case("bridge/life/STATUS of an unknown ipam", (config(ipam={"type": "none"}),), (STATUS,))
    yield Case(
        "bridge/life/STATUS of a wrong ipam", (config(ipam={"type": "host-local"}),), (STATUS,)
    )
    valid = {"cni.dev/valid-attachments": [{"containerID": "pod", "ifname": "eth0"}]}
    yield Case("bridge/life/GC", plain, (ADD, GC))
    yield Case("bridge/life/GC of nothing", plain, (ADD, GC._replace(keys=valid)))
    yield Case("bridge/life/GC untold", plain, (ADD, GC._replace(keys={})))
    for name, value in {"null": None, "text": "pod", "broken": [{"containerID": 5}]}.items():
        untrue = GC._replace(keys={"cni.dev/valid-attachments": value})
        yield Case(f"bridge/life/GC told {name}", (config(ipam={}),), (untrue,))


_PORT = "$(ls /sys/class/net | grep veth)"
_DAMAGE = {
    "the interface is gone": "ip -n pod link del eth0",
    "the interface is down": "ip -n pod link set eth0 down",
    "the MAC is another": "ip -n pod link set eth0 address 0a:00:00:00:00:01",
    "the address is gone": "ip -n pod address del 10.22.0.2/24 dev eth0",
    "the default route is gone": "ip -n pod route del default",
    "another address came": "ip -n pod address add 10.22.0.99/24 dev eth0",
    "another route came": "ip -n pod route add 10.44.0.0/16 via 10.22.0.1",
    "the bridge is gone": "ip link del br0",
    "the bridge is down": "ip link set br0 down",
    "the bridge is promiscuous": "ip link set br0 promisc on",
    "the bridge has lost its address": "ip address del 10.22.0.1/24 dev br0",
    "the bridge has another MAC": "ip link set br0 address 0a:00:00:00:00:02",
    "the port has left": f"ip link set {_PORT} nomaster",
    "the port is down": f"ip link set {_PORT} down",
    "the lease is gone": "rm /var/lib/cni/networks/net/10.22.0.2",
    "the rules are gone": "nft flush ruleset",
    "the MTU is another": "ip -n pod link set eth0 mtu 1300",
}


# A bridge that takes the lowest of its ports' MAC addresses, as nobody has set one.
_UPLINK = """
ip link add br0 type bridge
ip link add uplink address fe:ff:ff:ff:ff:01 master br0 type veth peer name far
ip link set uplink up; ip link set far up; ip link set br0 up
"""


def _macs() -> Iterator[Case]:
    """Whatever the version, the bridge keeps its MAC address."""
    for family, ipam in {"IPv4": IPV4, "IPv6": IPV6}.items():
        for version in SUPPORTED:
            document = config(cniVersion=version, isGateway=True, ipam=ipam)
            name = f"bridge/MAC of a bridge with an uplink/{version} {family}"
            yield Case(name, (document,), (ADD, DEL), _UPLINK)


def _damage() -> Iterator[Case]:
    document = config(isDefaultGateway=True, ipMasq=True)
    for name, script in _DAMAGE.items():
        steps = (ADD, CHECK._replace(label="bad CHECK", script=script), DEL)
        yield Case(f"bridge/CHECK/{name}", (document,), steps)


_TRAFFIC = (
    Probe("gateway", "ping", "10.22.0.1", netns=POD),
    Probe("gateway of IPv6", "ping", "fd00:22::1", netns=POD),
    Probe("the node", "ping", "192.0.2.1", netns=POD),
    Probe("outside", "tcp", "192.0.2.2", 9000, POD),
    Probe("outside by IPv6", "tcp", "2001:db8::2", 9000, POD),
    Probe("from the node", "tcp", "10.22.0.2", 80),
    Probe("from the node by IPv6", "tcp", "fd00:22::2", 80),
    Probe("from another pod", "tcp", "10.22.0.2", 80, OTHER),
)


# A node where FORWARD has the policy DROP, with a container of Docker's that publishes nothing.
_DOCKER = """
iptables -P FORWARD DROP; ip6tables -P FORWARD DROP
ip route add default via 192.0.2.2; ip -6 route add default via 2001:db8::2
ip netns add docker
ip link add docker0 type bridge
ip link add docker-port master docker0 type veth peer name eth0 netns docker
ip address add 172.17.0.1/16 dev docker0
ip link set docker-port up; ip link set docker0 up
ip -n docker address add 172.17.0.2/16 dev eth0
ip -n docker link set eth0 up
ip -n docker route add default via 172.17.0.1
"""
_CONTAINER = Probe("a container of Docker's", "ping", "172.17.0.2", netns=POD)


def _traffic() -> Iterator[Case]:
    gateway = {"isDefaultGateway": True, "ipam": DUAL}
    settings: dict[str, Document] = {
        "masqueraded": gateway | {"ipMasq": True},
        "masqueraded by nftables": gateway | {"ipMasq": True, "ipMasqBackend": "nftables"},
        "masqueraded by iptables": gateway | {"ipMasq": True, "ipMasqBackend": "iptables"},
        "not masqueraded": gateway,
        "without gateway": {"isGateway": False, "ipam": DUAL},
        "isolated": gateway | {"portIsolation": True},
        "down": {"disableContainerInterface": True, "ipam": {}},
        "layer 2": {"isGateway": False, "ipam": {}},
    }
    second = Step("ADD", "second ADD", container_id="b", netns=OTHER)
    document = config(**gateway, ipMasq=True)
    yield Case("bridge/traffic/policy DROP", (document,), (ADD,), _DOCKER, (*_TRAFFIC, _CONTAINER))
    for name, keys in settings.items():
        yield Case(f"bridge/traffic/{name}", (config(**keys),), (ADD, second), probes=_TRAFFIC)


CASES: tuple[Case, ...] = (
    *_keys(),
    *_misled(),
    *_found(),
    *_lives(),
    *_macs(),
    *_damage(),
    *_traffic(),
)


# Where the kernel can filter VLANs.
_VLANS: dict[str, Document] = {
    "vlan": {"vlan": 10},
    "vlan without default": {"vlan": 10, "preserveDefaultVlan": True},
    "vlanTrunk": {"vlanTrunk": [{"minID": 10, "maxID": 12}, {"id": 20}]},
    "vlanTrunk empty": {"vlanTrunk": []},
    "vlan and vlanTrunk": {"vlan": 10, "vlanTrunk": [{"id": 20}]},
}
VLANS: tuple[Case, ...] = tuple(
    Case(f"bridge/{name}", (config(**keys),), LIFE) for name, keys in _VLANS.items()
)
