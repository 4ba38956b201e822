"""The executable: many requests at once, killed ones, a full disk."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from tests.support.node import Node

# All of the disk is three pages: enough for a lease, its round robin and a file being written.
_ON_A_TINY_DISK = """
mount -t tmpfs -o size=12k tmpfs "$DATA_DIR"
mkdir "$DATA_DIR/pods"
head -c 12288 /dev/zero > "$DATA_DIR/ballast"
"$HOST_LOCAL" < "$CONFIG" > "$OUT/full" || true
ls "$DATA_DIR/pods" > "$OUT/left"
rm "$DATA_DIR/ballast"
"$HOST_LOCAL" < "$CONFIG" > "$OUT/free"
"""

# Nobody can remove a file that something is mounted on.
_WITH_A_LEASE_THAT_STAYS = """
mount --bind "$DATA_DIR/pods/10.22.0.2" "$DATA_DIR/pods/10.22.0.2"
"$HOST_LOCAL" < "$CONFIG" > "$OUT/answer" || true
"""


class Network:
    """A network of the installed executable, whose leases are in a directory of the test's own."""

    def __init__(self, node: Node, data_dir: Path) -> None:
        self.node = node
        self.executable = node.bin_dir / "host-local"
        self.directory = data_dir / "pods"
        self.config: dict[str, Any] = {
            "cniVersion": "1.0.0",
            "name": "pods",
            "ipam": {"dataDir": str(data_dir), "ranges": [[{"subnet": "10.22.0.0/24"}]]},
        }

    def environ(self, verb: str, container_id: str) -> dict[str, str]:
        variables = {"CNI_COMMAND": verb, "CNI_CONTAINERID": container_id, "CNI_IFNAME": "eth0"}
        return variables | {"CNI_NETNS": "/run/netns/none"}

    def start(self, verb: str, container_id: str) -> subprocess.Popen[str]:
        process = self.node.start(self.executable, env=self.environ(verb, container_id))
        assert process.stdin is not None
        process.stdin.write(json.dumps(self.config))
        process.stdin.close()
        process.stdin = None
        return process

    def run(self, verb: str, container_id: str) -> Any:
        process = self.start(verb, container_id)
        stdout, _ = process.communicate()
        assert process.returncode == 0, stdout
        return json.loads(stdout or "null")

    def add(self, container_id: str) -> str:
        (ip,) = self.run("ADD", container_id)["ips"]
        return str(ip["address"].removesuffix("/24"))

    def leases(self) -> list[str]:
        names = os.listdir(self.directory)
        return sorted(name for name in names if re.fullmatch(r"[0-9a-f.:]+", name))

    def add_all(self, container_ids: Sequence[str]) -> list[str]:
        with ThreadPoolExecutor(len(container_ids)) as pool:
            return list(pool.map(self.add, container_ids))


@pytest.fixture
def network(node: Node, tmp_path: Path) -> Network:
    return Network(node, tmp_path)


def test_a_hundred_parallel_adds_get_a_hundred_addresses(network: Network) -> None:
    """All addresses are unique, and each file names its owner."""
    names = [f"pod{n}" for n in range(100)]
    addresses = network.add_all(names)
    assert sorted(addresses, key=ip_address) == [f"10.22.0.{n}" for n in range(2, 102)]
    for name, address in zip(names, addresses, strict=True):
        assert (network.directory / address).read_bytes() == f"{name}\r\neth0".encode()


def test_delete_frees_what_add_leased(network: Network) -> None:
    """By the executable that a runtime would call."""
    assert network.add("a") == "10.22.0.2"
    assert network.run("DEL", "a") is None
    assert network.leases() == []


def test_the_lock_is_the_reference_plugins(network: Network) -> None:
    """ADD and DEL wait for whoever holds flock(2) on the file `lock`."""
    network.add("a")
    with open(network.directory / "lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting = [network.start("ADD", "b"), network.start("DEL", "a")]
        time.sleep(0.5)
        assert [process.poll() for process in waiting] == [None, None]
        assert network.leases() == ["10.22.0.2"]
    assert [process.wait() for process in waiting] == [0, 0]
    assert network.leases() == ["10.22.0.3"]


def test_a_killed_add_holds_no_lock(network: Network) -> None:
    """The kernel takes a dead process's lock away, so others go on."""
    network.add("a")
    with open(network.directory / "lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = network.start("ADD", "b")
        time.sleep(0.5)
        process.kill()
        process.wait()
    assert network.add("c") == "10.22.0.3"


def test_killed_adds_leave_nothing_after_delete(network: Network) -> None:
    """kill -9 at any point of ADD, then DEL: no lease is left, and the next ADD works."""
    fastest = min(seconds_of_an_add(network) for _ in range(5))
    codes = []
    for n in range(20):
        process = network.start("ADD", f"pod{n}")
        time.sleep(fastest * (0.1 + 0.05 * n))
        process.kill()
        codes.append(process.wait())
        network.run("DEL", f"pod{n}")
    assert codes.count(-signal.SIGKILL) >= 5
    assert network.leases() == []
    network.add("last")
    assert sorted(os.listdir(network.directory))[-2:] == ["last_reserved_ip.0", "lock"]


def seconds_of_an_add(network: Network) -> float:
    began = time.monotonic()
    network.add("measured")
    spent = time.monotonic() - began
    network.run("DEL", "measured")
    return spent


def run_script(script: str, network: Network, verb: str, scratch: Path) -> None:
    """Run a shell script in a mount namespace of its own, with the request `verb` prepared."""
    (scratch / "config").write_text(json.dumps(network.config))
    paths = {
        "DATA_DIR": network.directory.parent,
        "HOST_LOCAL": network.executable,
        "CONFIG": scratch / "config",
        "OUT": scratch,
    }
    environ = network.environ(verb, "a") | {key: str(path) for key, path in paths.items()}
    shell = ("sh", "-ec", script)
    network.node.run("unshare", "--mount", "--propagation", "private", *shell, env=environ)


def test_a_full_disk_leaves_nothing_poisoned(node: Node, tmp_path: Path) -> None:
    """ADD fails with code 5 and leaves no lease; with room again it works."""
    (tmp_path / "disk").mkdir()
    network = Network(node, tmp_path / "disk")
    run_script(_ON_A_TINY_DISK, network, "ADD", tmp_path)
    assert json.loads((tmp_path / "full").read_text())["code"] == 5
    assert (tmp_path / "left").read_text().split() == ["lock"]
    (ip,) = json.loads((tmp_path / "free").read_text())["ips"]
    assert ip["address"] == "10.22.0.2/24"


def test_delete_goes_on_past_a_lease_that_stays(network: Network, tmp_path: Path) -> None:
    """The other addresses are freed, and what failed is reported."""
    network.config["ipam"]["ranges"] += [[{"subnet": "10.23.0.0/24"}], [{"subnet": "fd00::/64"}]]
    network.run("ADD", "a")
    (tmp_path / "scratch").mkdir()
    run_script(_WITH_A_LEASE_THAT_STAYS, network, "DEL", tmp_path / "scratch")
    answer = json.loads((tmp_path / "scratch/answer").read_text())
    assert answer["code"] == 5
    assert "10.22.0.2" in answer["details"]
    assert network.leases() == ["10.22.0.2"]
