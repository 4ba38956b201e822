"""The operator's tool, as a person runs it."""

from __future__ import annotations

import sys

import pytest

from tests.support.network import Network
from tests.support.node import Node

PYCNI = f"{sys.prefix}/bin/pycni"
NOBODY = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")


def test_reader_that_has_enough(node: Node) -> None:
    """A reader that ends early, as `head` does, is no error, however much is left to say."""
    network = Network(node)
    network.attach()
    records = "/run/cni/pycni/attachments/net"
    more = f"for i in $(seq 1500); do cp -r {records}/a {records}/a$i; done"
    node.run("sh", "-ec", more)
    script = f"({PYCNI} list; echo $? > /run/code) | head -1"
    done = node.run("sh", "-c", script)
    assert done.stdout.startswith("net/a")
    assert done.stderr == ""
    assert node.run("cat", "/run/code").stdout == "0\n"


@pytest.mark.parametrize("command", ["list", "repair"])
def test_not_root(node: Node, command: str) -> None:
    """Whoever is not root is told that it takes root."""
    Network(node).attach()
    done = node.run(*NOBODY, PYCNI, command, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"pycni: {command} needs root\n"


@pytest.mark.parametrize("argument", ["--help", "-h", "help"])
def test_help(node: Node, argument: str) -> None:
    """Help that was asked for is on standard output."""
    done = node.run(*NOBODY, PYCNI, argument)
    assert "pycni repair" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("arguments", [[], ["lits"], ["list", "net"]])
def test_no_such_command(node: Node, arguments: list[str]) -> None:
    """A command that there is not has code 2, and help is on standard error."""
    done = node.run(PYCNI, *arguments, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "pycni repair" in done.stderr


@pytest.mark.parametrize("command", ["list", "repair"])
def test_state_that_cannot_be_read(node: Node, command: str) -> None:
    """What goes wrong with files is said in a line."""
    done = node.run(PYCNI, command, env={"PYCNI_STATE": "state"}, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("pycni: PYCNI_STATE: 'state' is not allowed")
