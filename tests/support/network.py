"""A bridge network on a test's node, as a runtime has it configured, and ways to look at it."""

from __future__ import annotations

import fcntl
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support import rulesets
from tests.support.node import Answer, Node
from tests.support.pod import Pod

IPV4 = {"type": "host-local", "subnet": "10.22.0.0/24"}
IPV6 = {"type": "host-local", "subnet": "fd00:22::/64"}
DUAL = {
    "type": "host-local",
    "ranges": [[{"subnet": "10.22.0.0/24"}], [{"subnet": "fd00:22::/64"}]],
}

# Claims are links in a directory that stays; leases are files named like an address.
_REMAINS = """
ls /sys/class/net | grep veth
find /run/cni -mindepth 2 ! -path /run/cni/pycni/claims
find /var/lib/cni -regextype egrep -regex '.*/[0-9a-f]+[.:][0-9a-f.:]+'
"""

# What may have become of a record: sed scripts.
DAMAGE = {
    "empty": "d",
    "half": "s/.*/{/",
    "null": "s/.*/null/",
    "list": "s/.*/[]/",
    "netns": 's/"netns": "[^"]*"/"netns": null/',
    "identity": 's/"identity": .*, "owned"/"identity": [1], "owned"/',
    "owned": 's/"owned": .*/"owned": null}/',
    "number": 's/"owned": .*/"owned": [7]}/',
    "nothing": 's/"owned": .*/"owned": [[]]}/',
    "kind": 's/"owned": .*/"owned": [["Nonsense"]]}/',
    "address": 's/"owned": .*/"owned": [["Masquerade", "nonsense"]]}/',
    "deep": f"s/.*/{'[' * 100_000}/",
    "NUL": 's/"netns": "/"netns": "\\\\u0000/',
    "no address": 's/"owned": .*/"owned": [["Masquerade", null]]}/',
}


class Network:
    """A network of the bridge plugin; `keys` are added to its configuration."""

    def __init__(self, node: Node, **keys: Any) -> None:
        self.node = node
        self.config: dict[str, Any] = {
            "cniVersion": "1.1.0",
            "name": "net",
            "type": "bridge",
            "bridge": "br0",
            "isDefaultGateway": True,
            "ipMasq": True,
            "ipam": DUAL,
        } | keys
        if node.backend:
            self.config.setdefault("ipMasqBackend", node.backend)

    def add(self, name: str = "a", netns: str | None = None, **request: Any) -> Answer:
        """ADD for a container of that name; without `netns`, in a namespace made for it."""
        path = netns or self.node.add_netns(name)
        return self.node.cni("ADD", "bridge", self.config, name, path, **request)

    def attach(self, name: str = "a", netns: str | None = None, **request: Any) -> Pod:
        """An ADD that has to go well."""
        answer = self.add(name, netns, **request)
        assert answer.ok, answer
        return Pod(name, netns or f"/run/netns/{name}", answer.document)

    def check(self, pod: Pod, **keys: Any) -> Answer:
        """CHECK with what ADD returned."""
        config = self.config | {"prevResult": pod.result} | keys
        return self.node.cni("CHECK", "bridge", config, pod.name, pod.netns)

    def start(self, verb: str, name: str, **environ: str) -> subprocess.Popen[str]:
        """Start an ADD or DEL for a container of that name, in namespace `name`, and go on."""
        variables = {
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": name,
            "CNI_NETNS": f"/run/netns/{name}",
            "CNI_IFNAME": "eth0",
            "CNI_PATH": str(self.node.bin_dir),
        }
        process = self.node.start(self.node.bin_dir / "bridge", env=variables | environ)
        assert process.stdin
        process.stdin.write(json.dumps(self.config))
        process.stdin.close()
        return process

    def delete(self, name: str = "a", netns: str | None = None, **request: Any) -> Answer:
        """DEL for a container of that name, with neither namespace nor prevResult if not given."""
        return self.node.cni("DEL", "bridge", self.config, name, netns, **request)


def wait_until(condition: Callable[[], bool]) -> None:
    """For what happens a little later; a minute is for ever."""
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it never came true")


def write_plugin(directory: Path, name: str, script: str) -> None:
    """Write a plugin as a shell script."""
    directory.mkdir(exist_ok=True)
    (directory / name).write_text(f"#!/bin/sh\n{script}\n")
    (directory / name).chmod(0o755)


class SlowIpam:
    """host-local, with a rest behind `verb` that lasts until all who rest are let go at once."""

    def __init__(self, node: Node, directory: Path, verb: str) -> None:
        write_plugin(
            directory,
            "host-local",
            f"""
            cd {directory}
            echo $CNI_COMMAND begins >> log
            answer=$({node.bin_dir}/host-local)
            status=$?
            if [ $CNI_COMMAND = {verb} ]; then
                echo >> resting
                flock --shared gate true
            fi
            echo $CNI_COMMAND ends >> log
            echo "$answer"
            exit $status
            """,
        )
        self.environ = {"CNI_PATH": str(directory)}
        self._directory = directory
        self._gate = (directory / "gate").open("w")
        fcntl.flock(self._gate, fcntl.LOCK_EX)

    def wait(self, number: int) -> None:
        """Wait until so many rest."""
        wait_until(lambda: self._read("resting").count("\n") == number)

    def go(self) -> None:
        self._gate.close()

    @property
    def log(self) -> list[str]:
        return self._read("log").splitlines()

    def _read(self, name: str) -> str:
        path = self._directory / name
        return path.read_text() if path.exists() else ""


def remains(node: Node) -> list[str]:
    """What is there of attachments: host veths, claims, records, leases, the firewall's rules."""
    script = _REMAINS + rulesets.remains(node)
    return node.run("sh", "-c", script, check=False).stdout.splitlines()


def damage_record(node: Node, name: str, damage: str) -> None:
    """Do one of DAMAGE to a record, `<network>/<container id>/<ifname>/<plugin>.json`."""
    path = f"/run/cni/pycni/attachments/{name}"
    before = node.run("cat", path).stdout
    node.run("sed", "-i", DAMAGE[damage], path)
    assert node.run("cat", path).stdout != before


def link(node: Node, name: str, netns: str | None = None) -> Any:
    (found,) = node.json("ip", "-j", "-d", "link", "show", "dev", name, netns=netns)
    return found


def addresses(node: Node, name: str, netns: str | None = None) -> list[str]:
    """The addresses of an interface, without those that the kernel makes itself."""
    (found,) = node.json("ip", "-j", "address", "show", "dev", name, netns=netns)
    infos = (info for info in found["addr_info"] if info["scope"] == "global")
    return [f"{info['local']}/{info['prefixlen']}" for info in infos]


def routes(node: Node, family: str = "-4", netns: str | None = None) -> list[Any]:
    """The routes that somebody added; `family` is -4 or -6."""
    found = node.json("ip", "-j", "-d", family, "route", "show", "table", "all", netns=netns)
    return [route for route in found if route["protocol"] != "kernel"]


def sysctl(node: Node, name: str, netns: str | None = None) -> str:
    return node.run("cat", f"/proc/sys/{name}", netns=netns).stdout.strip()


@contextmanager
def without_firewalls(node: Node, *programs: str) -> Iterator[None]:
    """As on a node without nftables and iptables: what has these names is no library, no program.

    `programs` are some of libnftables, iptables, ip6tables; all of them if none is given.
    """
    found = {
        "libnftables": "$(ldconfig -p | sed -n 's/.*libnftables.so.1.*=> //p')",
        "iptables": "$(readlink -f $(which iptables-restore iptables-save))",
        "ip6tables": "$(readlink -f $(which ip6tables-restore ip6tables-save))",
    }
    files = " ".join(found[name] for name in programs or ("libnftables", "iptables"))
    paths = node.run("sh", "-c", f"ls -1 {files} | sort -u").stdout.split()
    node.run("sh", "-ec", "".join(f"mount --bind /dev/null {path};" for path in paths))
    node.restart_agent()  # which has the library loaded
    try:
        yield
    finally:
        node.run("umount", *paths)
        node.restart_agent()
