"""The scripts around cnitool, with a stand-in for it that prints how it is called."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
CNITOOL = """#!/bin/sh
printf '%s\\n' "$*" "$CNI_PATH" "$NETCONFPATH" "${CAP_ARGS:-null}"
"""


def call(directory: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    cnitool = directory / "cnitool"
    cnitool.write_text(CNITOOL)
    cnitool.chmod(0o755)
    env = {"PATH": f"{directory}:{os.environ['PATH']}"} | environ
    return subprocess.run(arguments, env=env, capture_output=True, text=True, check=False)


def mappings(directory: Path, *ports: str) -> Any:
    options = [word for port in ports for word in ("-p", port)]
    done = call(directory, f"{SCRIPTS}/cnitool-add", "net", "pod", *options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[3])["portMappings"]


@pytest.mark.parametrize("verb", ["add", "check", "del"])
def test_call(tmp_path: Path, verb: str) -> None:
    """A name is that of a namespace below /run/netns; directories are the usual ones."""
    done = call(tmp_path, f"{SCRIPTS}/cnitool-{verb}", "net", "pod")
    expected = [f"{verb} net /run/netns/pod", "/opt/cni/bin", "/etc/cni/net.d", "null"]
    assert done.stdout.splitlines() == expected


def test_paths(tmp_path: Path) -> None:
    """A path of a namespace is left alone, and so are directories that are set."""
    environ = {"CNI_PATH": "/b", "NETCONFPATH": "/n"}
    done = call(tmp_path, f"{SCRIPTS}/cnitool-add", "net", "/proc/7/ns/net", **environ)
    assert done.stdout.splitlines() == ["add net /proc/7/ns/net", "/b", "/n", "null"]


def test_ports(tmp_path: Path) -> None:
    """-p may be repeated; tcp is the protocol if none is given."""
    assert mappings(tmp_path, "8080:80", "5353:053/udp") == [
        {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
        {"hostPort": 5353, "containerPort": 53, "protocol": "udp"},
    ]


@pytest.mark.parametrize(("text", "address"), [("192.0.2.1", "192.0.2.1"), ("[::1]", "::1")])
def test_host_address(tmp_path: Path, text: str, address: str) -> None:
    """A mapping may be bound to an address of the host; one of IPv6 stands in brackets."""
    (mapping,) = mappings(tmp_path, f"{text}:8080:80/sctp")
    assert mapping["hostIP"] == address
    assert mapping["protocol"] == "sctp"


@pytest.mark.parametrize(
    "port",
    ["80", "0:80", "80:65536", "80:", "80:80/icmp", "::1:80:80", "x:80:80", '1.1.1.1":80:80', ""],
)
def test_bad_port(tmp_path: Path, port: str) -> None:
    """A mapping that cannot be understood is quoted, and cnitool is not called."""
    done = call(tmp_path, f"{SCRIPTS}/cnitool-add", "net", "pod", "-p", port)
    assert done.returncode == 1
    assert done.stdout == ""
    assert f"cnitool-add: -p {port}: " in done.stderr


@pytest.mark.parametrize("arguments", [[], ["net"], ["net", "pod", "-p"], ["net", "pod", "-x"]])
def test_bad_arguments(tmp_path: Path, arguments: list[str]) -> None:
    """What is missing or unknown is said."""
    done = call(tmp_path, f"{SCRIPTS}/cnitool-del", *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith("cnitool-del: ")
