"""Containers wired by hand, and portmap for them: it follows any plugin that gives addresses."""

from __future__ import annotations

from typing import Any

from tests.support import rulesets
from tests.support.node import Answer, Node
from tests.support.pod import Pod

# What is published of pod 2 with port 8080, of pod 3 with port 9000.
BOTH = {"ip tcp 8080": "10.77.0.2 80", "ip6 tcp 8080": "fd00:77::2 80"}
OTHERS = {"ip tcp 9000": "10.77.0.3 80", "ip6 tcp 9000": "fd00:77::3 80"}

# What portmap may leave behind beside rules. Claims are links in a directory that stays.
_REMAINS = """
find /run/cni/pycni -mindepth 1 ! -path /run/cni/pycni/claims
"""


def wired(name: str, netns: str, number: int) -> Pod:
    """A container of network `net`, on the bridge br0 that is its gateway."""
    ips = [
        {"address": f"10.77.0.{number}/24", "gateway": "10.77.0.1", "interface": 0},
        {"address": f"fd00:77::{number}/64", "gateway": "fd00:77::1", "interface": 0},
    ]
    interfaces = [{"name": "eth0", "sandbox": netns}]
    return Pod(name, netns, {"cniVersion": "1.0.0", "interfaces": interfaces, "ips": ips})


def add_pod(node: Node, number: int = 2) -> Pod:
    """Wire a container, whose name and addresses come from its number; the first brings br0."""
    pod = wired(f"pod{number}", f"/run/netns/pod{number}", number)
    script = f"""
        if ! ip link show br0 >/dev/null 2>&1; then
            ip link add br0 type bridge
            echo 0 > /proc/sys/net/ipv6/conf/br0/accept_dad
            ip address add 10.77.0.1/24 dev br0
            ip address add fd00:77::1/64 dev br0 nodad
            ip link set br0 up
            echo 1 > /proc/sys/net/ipv4/ip_forward
            echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
        fi
        ip netns add {pod.name}
        ip link add port{number} master br0 type veth peer name eth0 netns {pod.name}
        ip link set port{number} up
        alias inside='ip -n {pod.name}'
        inside address add {pod.ipv4}/24 dev eth0
        inside address add {pod.ipv6}/64 dev eth0 nodad
        inside link set lo up
        inside link set eth0 up
        inside route add default via 10.77.0.1
        inside route add default via fd00:77::1
    """
    node.run("sh", "-ec", script)
    return pod


def port(
    host_port: int = 8080, container_port: int = 80, protocol: str = "tcp", **more: Any
) -> dict[str, Any]:
    """A port mapping, as runtimes write it."""
    return {"hostPort": host_port, "containerPort": container_port, "protocol": protocol} | more


def portmap(
    node: Node,
    verb: str,
    pod: Pod,
    *ports: dict[str, Any],
    network: str = "net",
    ifname: str = "eth0",
    args: str = "",
    **keys: Any,
) -> Answer:
    """Run portmap as a runtime does; `keys` are added to its configuration, None removes one."""
    config = {
        "cniVersion": "1.0.0",
        "name": network,
        "type": "portmap",
        "runtimeConfig": {"portMappings": ports},
        "prevResult": pod.result,
        "backend": node.backend,
    } | keys
    given = {key: value for key, value in config.items() if value is not None}
    return node.cni(verb, "portmap", given, pod.name, pod.netns, ifname=ifname, args=args)


def publish(node: Node, pod: Pod, *ports: dict[str, Any], **keys: Any) -> None:
    """An ADD that has to go well."""
    answer = portmap(node, "ADD", pod, *ports, **keys)
    assert answer.ok, answer


def withdraw(node: Node, pod: Pod) -> None:
    """A DEL that has to go well, and knows no more than it must."""
    config = {"cniVersion": "1.0.0", "name": "net", "type": "portmap"}
    answer = node.cni("DEL", "portmap", config, pod.name)
    assert answer.ok, answer


def remains(node: Node) -> list[str]:
    """What is there of attachments: the firewall's rules, records, claims."""
    script = _REMAINS + rulesets.remains(node)
    return node.run("sh", "-c", script, check=False).stdout.splitlines()


def rules(node: Node) -> dict[str, list[Any]]:
    """What is done in each chain."""
    found: dict[str, list[Any]] = {}
    for item in node.json("nft", "-j", "list", "ruleset")["nftables"]:
        if "rule" in item:
            found.setdefault(item["rule"]["chain"], []).append(item["rule"]["expr"])
    return found


def route_localnet(node: Node) -> str:
    """Whether loopback traffic may leave by br0."""
    return node.run("cat", "/proc/sys/net/ipv4/conf/br0/route_localnet").stdout.strip()


def fails(answer: Answer, *words: str) -> bool:
    """Whether a CHECK failed, and says so in these words."""
    document = answer.document
    return document["code"] == 100 and all(word in document["msg"] for word in words)
