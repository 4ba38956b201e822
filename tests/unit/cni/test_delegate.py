"""Delegation: how one plugin runs another."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from cni import delegate
from cni.errors import CniError, InvalidConfig, InvalidEnvironment
from cni.request import Add, Check, Delete, parse_request
from pycni.install import script

RESULT = {"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.5/16"}]}


def write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


class Network:
    """A network whose IPAM plugin `ipam` is searched in the directories `first` and `second`."""

    def __init__(self, directory: Path) -> None:
        self.first, self.second = directory / "first", directory / "second"
        self.config: dict[str, Any] = {
            "cniVersion": "1.0.0",
            "name": "net",
            "ipam": {"type": "ipam"},
            "prevResult": {},
        }
        self.environ = {
            "CNI_CONTAINERID": "pod",
            "CNI_NETNS": "/run/netns/pod",
            "CNI_IFNAME": "eth0",
            "CNI_PATH": f"{self.first}:{self.second}",
        }

    def answer(self, document: object, *, code: int = 0) -> None:
        """Have the plugin answer so. What it is told is found in `told`."""
        text = document if isinstance(document, str) else json.dumps(document)
        program = f"env > {self.first}/environ\ncat > {self.first}/stdin"
        write(self.first / "ipam", f"#!/bin/sh\n{program}\necho '{text}'\nexit {code}\n")

    @property
    def told(self) -> tuple[dict[str, str], dict[str, Any]]:
        lines = (self.first / "environ").read_text().splitlines()
        stdin = json.loads((self.first / "stdin").read_text())
        return dict(line.split("=", 1) for line in lines), stdin

    def request(self, verb: str) -> Any:
        return parse_request({**self.environ, "CNI_COMMAND": verb}, self.config)

    def add(self) -> Any:
        request = self.request("ADD")
        assert isinstance(request, Add)
        return delegate.add_ipam(request).to_document(request.version)

    def failure(self) -> CniError:
        with pytest.raises(CniError) as caught:
            self.add()
        return caught.value


@pytest.fixture
def network(tmp_path: Path) -> Network:
    return Network(tmp_path)


# Finding it


def test_the_first_on_cni_path(network: Network) -> None:
    """Of several executables of that name, the first on CNI_PATH is run."""
    network.answer(RESULT)
    write(network.second / "ipam", "#!/bin/sh\nexit 1\n")
    assert network.add() == RESULT


@pytest.mark.parametrize("kind", ["missing", "directory", "not executable"])
def test_the_second_on_cni_path(network: Network, kind: str) -> None:
    """What is no executable is passed over, for one in a later directory."""
    if kind == "directory":
        (network.second / "ipam").mkdir(parents=True)
    elif kind == "not executable":
        write(network.second / "ipam", "#!/bin/sh\nexit 1\n")
        (network.second / "ipam").chmod(0o644)
    network.environ["CNI_PATH"] = f"{network.second}:{network.first}"
    network.answer(RESULT)
    assert network.add() == RESULT


@pytest.mark.parametrize("plugin_type", ["nothing", "..", "."])
def test_it_is_nowhere(network: Network, plugin_type: str) -> None:
    """If there is none, the error names it, and where it was searched."""
    network.answer(RESULT)
    network.config["ipam"]["type"] = plugin_type
    error = network.failure()
    assert isinstance(error, InvalidConfig)
    assert error.message.startswith(f"ipam.type: {plugin_type!r}")
    assert error.details == network.environ["CNI_PATH"]


@pytest.mark.parametrize("plugin_type", ["../first/ipam", "/bin/true", "a/b", "ipam/"])
def test_a_path_is_refused(network: Network, plugin_type: str) -> None:
    """A type with a slash is refused, so that nothing outside of CNI_PATH is run."""
    network.answer(RESULT)
    network.config["ipam"]["type"] = plugin_type
    error = network.failure()
    assert isinstance(error, InvalidConfig)
    assert plugin_type in error.message
    assert not (network.first / "stdin").exists()


@pytest.mark.parametrize("path", [None, "", ":"])
def test_no_cni_path(network: Network, path: str | None) -> None:
    """Without CNI_PATH nothing is searched, least of all in the working directory."""
    del network.environ["CNI_PATH"]
    network.environ |= {} if path is None else {"CNI_PATH": path}
    error = network.failure()
    assert isinstance(error, InvalidEnvironment)
    assert "CNI_PATH" in error.message


@pytest.mark.parametrize("ipam", [None, {}, {"type": ""}, {"type": None}, []])
def test_none_is_wanted(network: Network, ipam: object) -> None:
    """A network without `ipam.type` has no IPAM plugin."""
    network.config["ipam"] = ipam
    assert not delegate.has_ipam(network.request("DEL"))


def test_one_is_wanted(network: Network) -> None:
    """One with it has."""
    assert delegate.has_ipam(network.request("DEL"))


# Running it


def test_what_it_is_told(network: Network) -> None:
    """It gets the whole configuration, and the environment it would get from the runtime."""
    network.answer(RESULT)
    network.config["unknown"] = {"key": ["ä", None]}
    network.environ |= {"CNI_ARGS": "A=1", "HOME": "/root"}
    network.add()
    environ, stdin = network.told
    assert stdin == network.config
    assert environ.items() >= {**network.environ, "CNI_COMMAND": "ADD"}.items()


@pytest.mark.parametrize("verb", ["CHECK", "DEL"])
def test_other_verbs(network: Network, verb: str) -> None:
    """CHECK and DEL reach it as such."""
    network.answer("")
    request = network.request(verb)
    if isinstance(request, Check):
        delegate.check_ipam(request)
    elif isinstance(request, Delete):
        delegate.delete_ipam(request)
    assert network.told[0]["CNI_COMMAND"] == verb


def test_rollback(network: Network) -> None:
    """What an ADD rolls back is a DEL."""
    network.answer("")
    delegate.delete_ipam(network.request("ADD"))
    assert network.told[0]["CNI_COMMAND"] == "DEL"


def test_much_to_tell(network: Network) -> None:
    """A configuration that is larger than a pipe holds gets through to one that does not read."""
    write(network.first / "ipam", f"#!/bin/sh\necho '{json.dumps(RESULT)}'\n")
    network.config["unknown"] = "x" * 1_000_000
    assert network.add() == RESULT


def test_an_answer_of_another_version(network: Network) -> None:
    """An answer in another version is understood by the version that it names."""
    network.answer({"cniVersion": "0.2.0", "ip4": {"ip": "10.1.0.5/16"}})
    assert network.add() == RESULT


def test_an_answer_without_a_version(network: Network) -> None:
    """An answer that names no version is one in the configuration's."""
    network.answer({"ips": RESULT["ips"]})
    assert network.add() == RESULT


# What goes wrong


def test_its_error_is_passed_on(network: Network) -> None:
    """Its error is passed on, with code, message and details."""
    network.answer({"code": 11, "msg": "busy", "details": "wait"}, code=1)
    error = network.failure()
    assert (error.code, error.message, error.details) == (11, "busy", "wait")


@pytest.mark.parametrize("verb", ["CHECK", "DEL"])
def test_errors_of_other_verbs(network: Network, verb: str) -> None:
    """Its error is passed on from CHECK and DEL, too."""
    network.answer({"code": 11, "msg": "busy"}, code=1)
    with pytest.raises(CniError, match="busy"):
        delegate._run(verb, network.request(verb))


@pytest.mark.parametrize("document", ["", "[]", '"no"', "{}", '{"code": "7"}', "5"])
def test_a_failure_without_an_error(network: Network, document: str) -> None:
    """If it fails without an error document, its exit code is told."""
    network.answer(document, code=3)
    error = network.failure()
    assert (error.code, error.message) == (999, "ipam failed with exit code 3")


@pytest.mark.parametrize("code", [0, 1])
def test_an_answer_that_is_no_json(network: Network, code: int) -> None:
    """What it prints is quoted if it is no JSON."""
    network.answer("panic!", code=code)
    error = network.failure()
    assert error.message == f"ipam (exit code {code}) did not answer in JSON"
    assert error.details == "panic!\n"


def test_it_is_killed(network: Network) -> None:
    """A signal that ends it is told as a negative exit code."""
    write(network.first / "ipam", "#!/bin/sh\nkill -9 $$\n")
    assert network.failure().message == "ipam failed with exit code -9"


@pytest.mark.parametrize("document", ["", "{}", '{"ips": []}'])
def test_no_address(network: Network, document: str) -> None:
    """An ADD that gives no address is a failure."""
    network.answer(document)
    assert network.failure().message == "ipam.type: 'ipam' returned no address"


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"ips": [{"address": "x"}]}, "ipam's result.ips[0].address: 'x' is not allowed"),
        ([], "ipam's result: [] is not allowed"),
    ],
)
def test_a_wrong_answer(network: Network, document: object, message: str) -> None:
    """A result that cannot be read is an error that says what is wrong with whose result."""
    network.answer(document)
    assert network.failure().message == message


@pytest.mark.parametrize("text", ["#!", "#!\n", "#! /missing/interpreter\n", ""])
def test_an_executable_that_cannot_be_run(network: Network, text: str) -> None:
    """What the kernel refuses to run is an error that names it."""
    write(network.first / "ipam", text)
    error = network.failure()
    assert (error.code, error.message) == (5, f"{network.first}/ipam cannot be run")


# One of ours


def test_our_own(network: Network, tmp_path: Path) -> None:
    """An executable of this installation answers in this process as it does in one of its own."""
    write(network.first / "host-local", script("host-local", sys.executable, None))
    network.config["ipam"] = {
        "type": "host-local",
        "Subnet": "10.1.0.0/16",
        "dataDir": str(tmp_path / "leases"),
    }
    assert network.add()["ips"] == [{"address": "10.1.0.2/16", "gateway": "10.1.0.1"}]
    assert (tmp_path / "leases/net/10.1.0.2").is_file()


def test_not_our_own(network: Network) -> None:
    """A program that has the name of one of ours is run as what it is."""
    network.answer(RESULT)
    (network.first / "ipam").rename(network.first / "host-local")
    network.config["ipam"]["type"] = "host-local"
    assert network.add() == RESULT


def test_another_installation(network: Network, tmp_path: Path) -> None:
    """One of another installation, with the same interpreter, is run by exec as what it is."""
    packages = tmp_path / "packages"
    (packages / "pycni").mkdir(parents=True)
    launcher = f"def run(name):\n    print({json.dumps(json.dumps(RESULT))})\n"
    (packages / "pycni/launcher.py").write_text(launcher)
    text = script("host-local", sys.executable, str(packages))
    interpreter = os.path.realpath(sys.executable)
    write(network.first / "host-local", text.replace(interpreter, sys.executable))
    ipam = {"type": "host-local", "subnet": "10.2.0.0/16", "dataDir": str(tmp_path / "leases")}
    network.config["ipam"] = ipam
    assert network.add() == RESULT


def test_our_own_errors(network: Network) -> None:
    """Its errors are those of a process of its own."""
    write(network.first / "host-local", script("host-local", sys.executable, None))
    network.config["ipam"] = {"type": "host-local", "subnet": "10.1.0.0"}
    error = network.failure()
    assert (error.code, error.message) == (7, 'ipam.subnet: "10.1.0.0" is not allowed')
