"""The protocol: variables and standard input, one JSON document and an exit code."""

from __future__ import annotations

import errno
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from cni import plugin
from cni.errors import AlreadyExists, CniError, NotAvailable
from cni.request import Add, Check, Delete, Gc, Status
from cni.result import Result
from cni.versions import SUPPORTED

Document = dict[str, Any]

ENVIRON = {"CNI_CONTAINERID": "pod", "CNI_NETNS": "/run/netns/pod", "CNI_IFNAME": "eth0"}
CONFIG: Document = {"cniVersion": "1.0.0", "name": "net", "type": "fake", "prevResult": {}}
VALID = "cni.dev/valid-attachments"
NETWORK: Document = {"cniVersion": "1.1.0", "name": "net", "type": "fake", VALID: []}
OWN_NETNS = ["/proc/self/ns/net", "/proc/thread-self/ns/net"]

SCHEMA: Document = {
    "properties": {
        "mtu": {"type": "integer"},
        "runtimeConfig": {
            "properties": {
                "portMappings": {
                    "type": "array",
                    "items": {"properties": {"hostPort": {"type": "integer"}}},
                }
            }
        },
    }
}


class Answer(NamedTuple):
    code: int
    stdout: str
    stderr: str

    @property
    def document(self) -> Any:
        """Standard output, which has to be one JSON document: two would be a syntax error."""
        return json.loads(self.stdout)

    @property
    def error(self) -> Document:
        assert self.code == 1
        assert set(self.document) <= {"cniVersion", "code", "msg", "details"}
        return {"details": "", **self.document}


class Fake:
    """A plugin that remembers its requests. `failure` is what its verbs raise."""

    def __init__(self, schema: Path) -> None:
        schema.write_text(json.dumps(SCHEMA))
        self.requests: list[Any] = []
        self.failure: Exception | None = None
        verbs = (self._verb, self._verb, self._verb, self._verb)
        self.plugin = plugin.Plugin("fake", str(schema), self._add, *verbs)

    def _add(self, request: Add) -> Result:
        self._verb(request)
        return request.prev_result or Result()

    def _verb(self, request: Add | Check | Delete | Gc | Status) -> None:
        self.requests.append(request)
        if self.failure:
            raise self.failure

    def __call__(
        self,
        verb: str | None,
        config: Document | str = CONFIG,
        *,
        stdout: io.BytesIO | None = None,
        **environ: str | None,
    ) -> Answer:
        variables = {**ENVIRON, "CNI_COMMAND": verb, **environ}
        present = {name: value for name, value in variables.items() if value is not None}
        stdin = config if isinstance(config, str) else json.dumps(config)
        stdout, stderr = stdout or io.BytesIO(), io.StringIO()
        code = plugin.run(self.plugin, present, io.BytesIO(stdin.encode()), stdout, stderr)
        return Answer(code, stdout.getvalue().decode(), stderr.getvalue())


@pytest.fixture
def fake(tmp_path: Path) -> Fake:
    return Fake(tmp_path / "schema.json")


# What goes well


def test_add_prints_the_result(fake: Fake) -> None:
    """ADD prints its result in the configuration's version, and exits with 0."""
    answer = fake("ADD", CONFIG | {"prevResult": {"ips": [{"address": "10.1.0.5/16"}]}})
    assert answer.code == 0
    assert answer.document == {"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.5/16"}]}


@pytest.mark.parametrize("verb", ["CHECK", "DEL"])
def test_check_and_delete_print_nothing(fake: Fake, verb: str) -> None:
    """CHECK and DEL print nothing if all is well."""
    assert fake(verb) == Answer(0, "", "")


def test_the_request_says_who_owns_what(fake: Fake) -> None:
    """A plugin is told network, container ID and interface, and where the namespace is."""
    fake("ADD")
    (request,) = fake.requests
    assert request.owner == ("net", "pod", "eth0")
    assert request.netns == "/run/netns/pod"


@pytest.mark.parametrize("verb", ["ADD", "CHECK", "DEL"])
def test_cni_path_is_optional(fake: Fake, verb: str) -> None:
    """CNI_PATH is not needed by a plugin that runs no other."""
    assert fake(verb, CNI_PATH=None).code == 0
    assert fake.requests[0].path == ()


def test_version(fake: Fake) -> None:
    """VERSION lists all versions, and needs neither variables nor a configuration."""
    answer = fake("VERSION", "", CNI_CONTAINERID=None, CNI_NETNS=None, CNI_IFNAME=None)
    assert answer.code == 0
    assert answer.document["supportedVersions"] == [
        *("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
    ]
    assert answer.document["cniVersion"] in SUPPORTED


@pytest.mark.parametrize("command", [None, ""])
def test_no_command(fake: Fake, command: str | None) -> None:
    """Without CNI_COMMAND, a person is told on standard error what this is."""
    answer = fake(command)
    assert answer.code == 0
    assert answer.stdout == ""
    assert "fake" in answer.stderr
    assert ", ".join(SUPPORTED) in answer.stderr


# Variables


@pytest.mark.parametrize("command", ["add", "gc", "PATCH"])
def test_unknown_command(fake: Fake, command: str) -> None:
    """A CNI_COMMAND that there is not has code 4, and is told those that there are."""
    error = fake(command).error
    assert error["code"] == 4
    assert command in error["msg"]
    assert error["details"] == "allowed: ADD, CHECK, DEL, GC, STATUS, VERSION"


@pytest.mark.parametrize(
    ("verb", "needed"),
    [
        ("ADD", {"CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"}),
        ("CHECK", {"CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"}),
        ("DEL", {"CNI_CONTAINERID", "CNI_IFNAME"}),
    ],
)
@pytest.mark.parametrize("value", [None, ""])
def test_all_missing_variables_at_once(
    fake: Fake, verb: str, needed: set[str], value: str | None
) -> None:
    """Variables that are missing or empty are named in one error, code 4."""
    error = fake(verb, CNI_CONTAINERID=value, CNI_NETNS=value, CNI_IFNAME=value).error
    assert error["code"] == 4
    assert {name for name in ENVIRON if name in error["msg"]} == needed


@pytest.mark.parametrize("container_id", ["a", "0", "A.b_c-9", "x" * 255])
def test_container_ids(fake: Fake, container_id: str) -> None:
    """A container ID consists of letters, digits, dots, underscores and dashes."""
    assert fake("DEL", CNI_CONTAINERID=container_id).code == 0


@pytest.mark.parametrize("container_id", ["pod\n", "\npod", "-a", ".a", "_a", "a/b", "..", "a b"])
def test_wrong_container_ids(fake: Fake, container_id: str) -> None:
    """Any other container ID has code 4, one with a newline at its end included."""
    error = fake("DEL", CNI_CONTAINERID=container_id).error
    assert error["code"] == 4
    assert "CNI_CONTAINERID" in error["msg"]
    assert not fake.requests


@pytest.mark.parametrize("ifname", ["e", "123456789012345", "eth0.5", "a-b_c@d", "ä" * 7])
def test_ifnames(fake: Fake, ifname: str) -> None:
    """An interface's name has up to 15 bytes."""
    assert fake("DEL", CNI_IFNAME=ifname).code == 0


@pytest.mark.parametrize(
    "ifname", [".", "..", "a/b", "a:b", "a b", "a\n", "\ta", "1234567890123456", "ä" * 8]
)
def test_wrong_ifnames(fake: Fake, ifname: str) -> None:
    """A name that the kernel refuses has code 4."""
    error = fake("DEL", CNI_IFNAME=ifname).error
    assert error["code"] == 4
    assert "CNI_IFNAME" in error["msg"]
    assert not fake.requests


@pytest.mark.parametrize("verb", ["ADD", "CHECK"])
@pytest.mark.parametrize("netns", OWN_NETNS)
def test_own_namespace(fake: Fake, verb: str, netns: str) -> None:
    """A CNI_NETNS that is the plugin's own namespace has code 8, before anything is touched."""
    error = fake(verb, CNI_NETNS=netns).error
    assert error["code"] == 8
    assert netns in error["msg"]
    assert not fake.requests


@pytest.mark.parametrize("netns", OWN_NETNS)
@pytest.mark.parametrize("override", ["1", "true", "True"])
def test_own_namespace_on_purpose(fake: Fake, netns: str, override: str) -> None:
    """CNI_NETNS_OVERRIDE lets a plugin work in its own namespace."""
    assert fake("ADD", CNI_NETNS=netns, CNI_NETNS_OVERRIDE=override).code == 0


@pytest.mark.parametrize("override", ["0", "false", "yes", ""])
def test_no_override(fake: Fake, override: str) -> None:
    """Another value of CNI_NETNS_OVERRIDE does not."""
    assert fake("ADD", CNI_NETNS=OWN_NETNS[0], CNI_NETNS_OVERRIDE=override).error["code"] == 8


@pytest.mark.parametrize("netns", [None, "", *OWN_NETNS])
def test_delete_knows_no_namespace(fake: Fake, netns: str | None) -> None:
    """DEL goes on without a namespace, also if the path now leads to the plugin's own one."""
    assert fake("DEL", CNI_NETNS=netns).code == 0
    assert fake.requests[0].netns is None


@pytest.mark.parametrize("verb", ["ADD", "CHECK", "DEL"])
def test_malformed_args(fake: Fake, verb: str) -> None:
    """A plugin that has no use for CNI_ARGS does not refuse those that are not pairs."""
    assert fake(verb, CNI_ARGS="IgnoreUnknown").code == 0


# The configuration


@pytest.mark.parametrize("verb", ["ADD", "CHECK", "DEL"])
@pytest.mark.parametrize("stdin", ["", "{", "[]", '"text"', "null", '{"mtu": NaN}', "{} {}"])
def test_no_json_object(fake: Fake, verb: str, stdin: str) -> None:
    """Standard input that is no JSON object has code 6."""
    assert fake(verb, stdin).error["code"] == 6


def test_deeply_nested_json(fake: Fake) -> None:
    """JSON that is nested too deep is not the end of the plugin, but code 6."""
    assert fake("ADD", "[" * 100_000).error["code"] == 6


def test_undecodable_input(fake: Fake) -> None:
    """Standard input that is not UTF-8 has code 6."""
    stdout = io.BytesIO()
    environ = {**ENVIRON, "CNI_COMMAND": "ADD"}
    plugin.run(fake.plugin, environ, io.BytesIO(b'{"name": "\xff"}'), stdout, io.StringIO())
    assert json.loads(stdout.getvalue())["code"] == 6


@pytest.mark.parametrize("verb", ["ADD", "CHECK", "DEL"])
@pytest.mark.parametrize("name", [None, "", "a/b", "..", "net\n", "-net", 5, ["net"]])
def test_wrong_network_names(fake: Fake, verb: str, name: object) -> None:
    """A network without a name, or with one that could not be a file's, has code 7."""
    error = fake(verb, CONFIG | {"name": name}).error
    assert error["code"] == 7
    assert error["msg"].startswith("name:")


@pytest.mark.parametrize("version", ["0.5.0", "1.1", "2.0.0", 1, ["1.0.0"]])
def test_unsupported_versions(fake: Fake, version: object) -> None:
    """A cniVersion that is not supported has code 1, and is told those that are."""
    error = fake("ADD", CONFIG | {"cniVersion": version}).error
    assert error["code"] == 1
    assert error["details"] == f"allowed: {', '.join(SUPPORTED)}"


@pytest.mark.parametrize("version", ["", None])
def test_no_version(fake: Fake, version: str | None) -> None:
    """An empty or absent cniVersion means 0.1.0."""
    assert fake("ADD", CONFIG | {"cniVersion": version}).document["cniVersion"] == "0.1.0"


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0", "0.3.0", "0.3.1"])
def test_check_of_an_old_version(fake: Fake, version: str) -> None:
    """CHECK came with 0.4.0: for an older configuration it has code 1."""
    error = fake("CHECK", CONFIG | {"cniVersion": version}).error
    assert error["code"] == 1
    assert "CHECK" in error["msg"]


@pytest.mark.parametrize("version", ["0.4.0", "1.0.0", "1.1.0"])
def test_check_of_a_newer_version(fake: Fake, version: str) -> None:
    """From 0.4.0 on there is a CHECK."""
    assert fake("CHECK", CONFIG | {"cniVersion": version}).code == 0


def test_unknown_keys(fake: Fake) -> None:
    """Keys that nobody knows are left alone, as runtimes add some."""
    assert fake("ADD", CONFIG | {"cni.dev/attachments": [{"x": 1}]}).code == 0


@pytest.mark.parametrize("verb", ["ADD", "CHECK"])
def test_wrong_value(fake: Fake, verb: str) -> None:
    """A value that the schema does not allow has code 7; the error names key, value and why."""
    error = fake(verb, CONFIG | {"mtu": "1500"}).error
    assert error["code"] == 7
    assert error["msg"] == 'mtu: "1500" is not allowed'
    assert error["details"] == "allowed: a whole number"
    assert not fake.requests


def test_delete_takes_any_configuration(fake: Fake) -> None:
    """A configuration that became invalid does not keep a DEL from cleaning up."""
    assert fake("DEL", CONFIG | {"mtu": "1500"}).code == 0


def test_keys_of_any_case(fake: Fake) -> None:
    """Keys are known in any spelling, as containerd writes them with capitals."""
    ports = {"runtimeconfig": {"PortMappings": [{"HostPort": 80}]}}
    assert fake("ADD", CONFIG | {"MTU": 1500} | ports).code == 0
    config = fake.requests[0].config
    assert config["mtu"] == 1500
    assert config["runtimeConfig"] == {"portMappings": [{"hostPort": 80}]}


def test_the_exact_spelling_wins(fake: Fake) -> None:
    """Of several spellings of a key, the schema's own counts, wherever it stands."""
    for keys in ({"MTU": 1, "mtu": 2, "Mtu": 3}, {"mtu": 2, "MTU": 1}):
        fake("ADD", CONFIG | keys)
    assert [request.config["mtu"] for request in fake.requests] == [2, 2]


def test_null_is_absent(fake: Fake) -> None:
    """A key that is null is one that is not there."""
    assert fake("ADD", CONFIG | {"mtu": None, "runtimeConfig": None, "prevResult": None}).code == 0
    assert "mtu" not in fake.requests[0].config


def test_check_needs_a_previous_result(fake: Fake) -> None:
    """CHECK without a prevResult has nothing to compare with: code 7."""
    error = fake("CHECK", CONFIG | {"prevResult": None}).error
    assert error["code"] == 7
    assert error["msg"] == "prevResult: missing"


@pytest.mark.parametrize("verb", ["ADD", "CHECK"])
@pytest.mark.parametrize(
    ("broken", "key"),
    [
        ({"ips": [{"address": "10.1.0.5"}]}, "prevResult.ips[0].address"),
        ({"ips": [{"address": "10.1.0.5/16", "interface": -1}]}, "prevResult.ips[0].interface"),
        ({"ips": [{}]}, "prevResult.ips[0].address"),
        ({"ips": {}}, "prevResult.ips"),
        ({"routes": [{"dst": "everywhere"}]}, "prevResult.routes[0].dst"),
        ({"interfaces": [{"mac": ""}]}, "prevResult.interfaces[0].name"),
        ({"dns": {"search": "local"}}, "prevResult.dns.search"),
        ("text", "prevResult"),
    ],
)
def test_corrupt_previous_result(fake: Fake, verb: str, broken: object, key: str) -> None:
    """ADD and CHECK name what is wrong in a prevResult, with code 7."""
    error = fake(verb, CONFIG | {"prevResult": broken}).error
    assert error["code"] == 7
    assert error["msg"].startswith(f"{key}: ")
    assert not fake.requests


@pytest.mark.parametrize("broken", [{"ips": [{}]}, "text", 5, []])
def test_delete_with_a_corrupt_previous_result(fake: Fake, broken: object) -> None:
    """DEL goes on without a prevResult that it cannot read."""
    assert fake("DEL", CONFIG | {"prevResult": broken}).code == 0
    request = fake.requests[0]
    assert isinstance(request, Delete)
    assert request.prev_result is None


def test_previous_result_of_another_version(fake: Fake) -> None:
    """A prevResult is read in the configuration's version, whatever version it names."""
    previous = {"cniVersion": "0.2.0", "ips": [{"address": "10.1.0.5/16"}]}
    answer = fake("ADD", CONFIG | {"prevResult": previous})
    assert answer.document == previous | {"cniVersion": "1.0.0"}


# About a network: GC and STATUS


@pytest.mark.parametrize("verb", ["GC", "STATUS"])
def test_about_a_network(fake: Fake, verb: str) -> None:
    """GC and STATUS need no attachment and print nothing; a plugin is told the network."""
    nobody = dict.fromkeys([*ENVIRON, "CNI_PATH"])
    assert fake(verb, NETWORK, **nobody) == Answer(0, "", "")
    (request,) = fake.requests
    assert (request.network, request.version) == ("net", "1.1.0")


@pytest.mark.parametrize("verb", ["GC", "STATUS"])
def test_variables_of_no_attachment(fake: Fake, verb: str) -> None:
    """Variables that are another verb's are not looked at."""
    answer = fake(
        verb,
        NETWORK,
        CNI_CONTAINERID="a/b",
        CNI_NETNS=OWN_NETNS[0],
        CNI_IFNAME="a b",
        CNI_ARGS="K",
    )
    assert answer.code == 0


@pytest.mark.parametrize("verb", ["GC", "STATUS"])
@pytest.mark.parametrize("version", SUPPORTED[:-1])
def test_verbs_of_the_newest_version(fake: Fake, verb: str, version: str) -> None:
    """GC and STATUS came with 1.1.0: for an older configuration they have code 1."""
    error = fake(verb, NETWORK | {"cniVersion": version}).error
    assert error["code"] == 1
    assert f"{verb} needs 1.1.0 or later" in f"{error['msg']} {error['details']}"
    assert not fake.requests


@pytest.mark.parametrize("verb", ["GC", "STATUS"])
def test_a_plugin_without_these_verbs(fake: Fake, verb: str) -> None:
    """A plugin that holds nothing, and can always serve, has nothing to do for GC and STATUS."""
    fake.plugin = fake.plugin._replace(gc=None, status=None)
    assert fake(verb, NETWORK) == Answer(0, "", "")


@pytest.mark.parametrize("verb", ["GC", "STATUS"])
def test_a_network_without_a_name(fake: Fake, verb: str) -> None:
    """A network without a name has code 7: nobody knows what is its own."""
    error = fake(verb, NETWORK | {"name": ""}).error
    assert (error["code"], error["msg"]) == (7, "name: missing")


@pytest.mark.parametrize("verb", ["GC", "STATUS"])
def test_their_errors(fake: Fake, verb: str) -> None:
    """What a plugin raises in GC and STATUS is printed as that of other verbs."""
    fake.failure = NotAvailable("no address is left", "of 10.1.0.0/16")
    assert fake(verb, NETWORK).error == {
        "cniVersion": "1.1.0",
        "code": 50,
        "msg": "no address is left",
        "details": "of 10.1.0.0/16",
    }


def test_valid_attachments(fake: Fake) -> None:
    """GC is told which of the network's attachments are valid."""
    listed = [{"containerID": "a", "ifname": "eth0"}, {"containerID": "b", "ifname": "net1"}]
    assert fake("GC", NETWORK | {VALID: listed}).code == 0
    assert fake.requests[0].valid == {("net", "a", "eth0"), ("net", "b", "net1")}


@pytest.mark.parametrize("nobody", [[], None])
def test_no_valid_attachments(fake: Fake, nobody: object) -> None:
    """An empty list means that none is valid, and so does null, as Go writes an empty list."""
    assert fake("GC", NETWORK | {VALID: nobody}).code == 0
    assert fake.requests[0].valid == set()


def test_unknown_valid_attachments(fake: Fake) -> None:
    """Where nobody says which attachments are valid, none is removed, and GC has code 7."""
    error = fake("GC", {key: value for key, value in NETWORK.items() if key != VALID}).error
    assert (error["code"], error["msg"]) == (7, f"{VALID}: missing")
    assert not fake.requests


@pytest.mark.parametrize(
    ("listed", "key"),
    [
        ({}, VALID),
        ("pod", VALID),
        (["pod"], f"{VALID}[0]"),
        ([{"containerID": "pod", "ifname": "eth0"}, {"containerID": "pod"}], f"{VALID}[1]"),
        ([{"containerID": "", "ifname": "eth0"}], f"{VALID}[0]"),
        ([{"containerID": "pod", "ifname": 0}], f"{VALID}[0]"),
    ],
)
def test_wrong_valid_attachments(fake: Fake, listed: object, key: str) -> None:
    """A list that cannot be understood has code 7 and names the place; none is removed."""
    error = fake("GC", NETWORK | {VALID: listed}).error
    assert error["code"] == 7
    assert error["msg"].startswith(f"{key}: ")
    assert not fake.requests


def test_gc_takes_any_configuration(fake: Fake) -> None:
    """A configuration that became invalid does not keep a GC from cleaning up."""
    assert fake("GC", NETWORK | {"mtu": "1500"}).code == 0


def test_status_of_a_wrong_value(fake: Fake) -> None:
    """STATUS names a value that the schema does not allow, as ADD would."""
    error = fake("STATUS", NETWORK | {"mtu": "1500"}).error
    assert (error["code"], error["msg"]) == (7, 'mtu: "1500" is not allowed')
    assert not fake.requests


# What goes wrong


@pytest.mark.parametrize("verb", ["ADD", "CHECK", "DEL"])
def test_an_error_is_printed(fake: Fake, verb: str) -> None:
    """A plugin's error is printed in the configuration's version; the exit code is 1."""
    fake.failure = AlreadyExists("eth0 is taken", "by somebody")
    assert fake(verb).error == {
        "cniVersion": "1.0.0",
        "code": 101,
        "msg": "eth0 is taken",
        "details": "by somebody",
    }


def test_no_empty_details(fake: Fake) -> None:
    """An error without details does not have the key."""
    fake.failure = CniError("no")
    assert fake("ADD").document == {"cniVersion": "1.0.0", "code": 999, "msg": "no"}


@pytest.mark.parametrize("verb", ["ADD", "CHECK", "DEL"])
def test_an_unforeseen_exception(fake: Fake, verb: str) -> None:
    """A bug in a plugin is one JSON document, too, and a traceback on standard error."""
    fake.failure = ZeroDivisionError("oops")
    answer = fake(verb)
    assert answer.error["code"] == 999
    assert answer.error["details"] == "ZeroDivisionError: oops"
    assert "Traceback" in answer.stderr


def test_an_operating_system_error(fake: Fake) -> None:
    """What goes wrong with files has code 5, and no traceback: the file and the reason say all."""
    fake.failure = OSError(errno.ENOSPC, "No space left on device", "/run/x")
    answer = fake("ADD")
    assert answer.error["code"] == 5
    assert answer.error["msg"] == "/run/x: No space left on device"
    assert answer.stderr == ""


class _Full(io.BytesIO):
    """Standard output that cannot be written."""

    def write(self, _: object) -> int:
        raise OSError(errno.EPIPE, "Broken pipe")


class _Broken(io.BytesIO):
    """Standard input that cannot be read."""

    def read(self, _: int | None = -1) -> bytes:
        raise OSError(errno.EIO, "Input/output error")


@pytest.mark.parametrize("verb", ["VERSION", "ADD"])
def test_nobody_listens(fake: Fake, verb: str) -> None:
    """If the answer cannot be written, the exit code says that something went wrong."""
    assert fake(verb, stdout=_Full()).code == 1


def test_unreadable_input(fake: Fake) -> None:
    """Standard input that cannot be read has code 5."""
    stdout = io.BytesIO()
    environ = {**ENVIRON, "CNI_COMMAND": "ADD"}
    assert plugin.run(fake.plugin, environ, _Broken(), stdout, io.StringIO()) == 1
    assert json.loads(stdout.getvalue())["code"] == 5


# A process

TALKATIVE = """
import os, sys
import cni
def add(request):
    print("by mistake", flush=True)
    os.system("echo a child")
    return cni.Result()
cni.main(cni.Plugin("talkative", sys.argv[1], add, add, add))
"""


def test_what_is_printed_by_mistake(fake: Fake) -> None:
    """A plugin's own prints, and its children's, do not get between runtime and result."""
    done = subprocess.run(
        [sys.executable, "-c", TALKATIVE, fake.plugin.schema],
        input=json.dumps(CONFIG).encode(),
        env={**ENVIRON, "CNI_COMMAND": "ADD", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        check=True,
    )
    assert json.loads(done.stdout) == {"cniVersion": "1.0.0"}
    assert done.stderr.splitlines() == [b"by mistake", b"a child"]
