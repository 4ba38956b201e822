"""Without root: an unprivileged user, who is root of a user namespace."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.node import ROOT

NOBODY = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
PRIVATE_RUN = "mount -t tmpfs tmpfs /run; mkdir /run/cni"
LEASES = {"type": "host-local", "subnet": "10.22.0.0/24", "dataDir": "/mnt/leases"}
NETWORK = {
    "cniVersion": "1.1.0",
    "name": "net",
    "type": "bridge",
    "bridge": "br0",
    "isDefaultGateway": True,
    "ipMasq": True,
    "ipam": LEASES,
}
PUBLISHED = {
    "prevResult": {"cniVersion": "1.1.0", "ips": [{"address": "10.22.0.2/24"}]},
    "runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80}]},
}

# One request for a pod's namespace, with /mnt to write to.
_REQUEST = """
mount -t tmpfs tmpfs /mnt
{setup}
unshare --net sleep 60 & pod=$!
until [ "$(readlink /proc/$pod/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.01; done
CNI_NETNS=/proc/$pod/ns/net {plugin} || code=$?
kill $pod
exit ${{code:-0}}
"""


class Answer(NamedTuple):
    code: int
    document: Any
    stderr: str

    @property
    def said(self) -> str:
        return f"{self.document['msg']}: {self.document.get('details', '')}"


def request(
    plugin: Path, *namespaces: str, verb: str = "ADD", setup: str = "", **environ: str
) -> Answer:
    """What a plugin answers to root of a user namespace that has such others, too."""
    script = _REQUEST.format(plugin=plugin, setup=setup)
    variables = {"CNI_COMMAND": verb, "CNI_CONTAINERID": "a", "CNI_IFNAME": "eth0"}
    found = {"CNI_PATH": str(plugin.parent), "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    apart = ("unshare", "--user", "--map-root-user", "--mount", *namespaces)
    done = subprocess.run(
        [*NOBODY, *apart, "sh", "-c", script],
        env=variables | found | environ,
        input=json.dumps(NETWORK | (PUBLISHED if plugin.name == "portmap" else {})),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Answer(done.returncode, json.loads(done.stdout or "null"), done.stderr)


@pytest.mark.usefixtures("bin_dir")
def test_demo() -> None:
    """The demo runs to its end for an unprivileged user."""
    done = subprocess.run(
        [*NOBODY, ROOT / "scripts/demo"],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        cwd="/",
    )
    assert done.stdout.endswith("All of it went as it should.\n"), done.stdout + done.stderr
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("setup", "environ"), [(PRIVATE_RUN, {}), ("", {"PYCNI_STATE": "/mnt/state"})]
)
def test_a_place_for_state(bin_dir: Path, setup: str, environ: dict[str, str]) -> None:
    """A pod is attached with a private /run, or with a state directory of one's own."""
    answer = request(bin_dir / "bridge", "--net", setup=setup, **environ)
    assert answer.code == 0, answer
    assert answer.document["ips"][0]["address"] == "10.22.0.2/24"
    assert answer.stderr == ""


@pytest.mark.parametrize(("verb", "code"), [("ADD", 5), ("STATUS", 50)])
@pytest.mark.parametrize("plugin", ["bridge", "portmap"])
def test_no_place_for_state(bin_dir: Path, plugin: str, verb: str, code: int) -> None:
    """Without either, the error says what cannot be written, why, and what to do."""
    done = request(bin_dir / plugin, "--net", verb=verb)
    assert done.code == 1
    assert done.document["code"] == code
    assert "state cannot be kept in /run/cni/pycni: /run" in done.said
    assert "Permission denied" in done.said
    assert "PYCNI_STATE" in done.said
    assert done.stderr == ""


@pytest.mark.parametrize("plugin", ["bridge", "portmap", "loopback"])
def test_network_namespace_of_another_user(bin_dir: Path, plugin: str) -> None:
    """In a network namespace of another user's, the error says so, and what to do."""
    done = request(bin_dir / plugin, setup=PRIVATE_RUN)
    assert done.code == 1
    assert "Operation not permitted: the network namespace belongs to another user" in done.said
    assert "unshare --user --map-root-user --net" in done.said
