"""The runtime's pure parts; tests/runtimes compares what it does with the real cnitool."""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cni.client import (
    Runtime,
    Target,
    find_executable,
    load_network,
    parse_network,
    parse_target,
    plugin_config,
)
from cni.client.__main__ import main
from cni.errors import CniError, IncompatibleVersion, InvalidConfig, InvalidEnvironment

TARGET = Target("id1", "/run/netns/x")
RESULT = {"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.5/16"}]}


def network_document(*types: str, **more: Any) -> dict[str, Any]:
    plugins = [{"type": name} for name in types]
    return {"cniVersion": "1.0.0", "name": "net", "plugins": plugins} | more


class Plugins:
    """In place of executables: notes who is called, and fails for whoever is named in `failing`."""

    def __init__(self, output: object = RESULT, failing: tuple[str, ...] = ()) -> None:
        self.calls: list[str] = []
        self.stdin: list[Any] = []
        self.failing = failing
        self._output = json.dumps(output).encode()

    def __call__(
        self, executable: str, environ: Mapping[str, str], stdin: bytes
    ) -> tuple[int, bytes]:
        call = f"{environ['CNI_COMMAND']} {Path(executable).name}"
        self.calls.append(call)
        self.stdin.append(json.loads(stdin))
        if call in self.failing:
            return 1, b'{"code": 11, "msg": "not today", "details": "but tomorrow"}'
        return 0, self._output if call.startswith("ADD") else b""


@pytest.fixture
def path(tmp_path: Path) -> str:
    (tmp_path / "bin").mkdir()
    for name in ("a", "b"):
        (tmp_path / "bin" / name).touch()
    return str(tmp_path / "bin")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def parse(document: object) -> Any:
    return parse_network(json.dumps(document).encode())


def test_chain(path: str, cache: Path) -> None:
    """ADD and CHECK go along the chain, DEL goes back; all but the first get a prevResult."""
    plugins = Plugins()
    runtime = Runtime(path, str(cache), plugins)
    network = parse(network_document("a", "b"))
    assert runtime.add(network, TARGET) == RESULT
    runtime.check(network, TARGET)
    runtime.delete(network, TARGET)
    assert plugins.calls == ["ADD a", "ADD b", "CHECK a", "CHECK b", "DEL b", "DEL a"]
    assert [call.get("prevResult") for call in plugins.stdin] == [None] + [RESULT] * 5


def test_result_without_a_version(path: str, cache: Path) -> None:
    """A result that names no version has the network's."""
    runtime = Runtime(path, str(cache), Plugins({"ips": [{"address": "10.1.0.5/16"}]}))
    assert runtime.add(parse(network_document("a")), TARGET)["cniVersion"] == "1.0.0"


@pytest.mark.parametrize("output", [[], {"cniVersion": "7.0.0"}, {"ips": [{"address": "x"}]}])
def test_no_result(path: str, cache: Path, output: object) -> None:
    """Output that is no result is an error that names the plugin."""
    runtime = Runtime(path, str(cache), Plugins(output))
    with pytest.raises(CniError, match="plugin a returned no result"):
        runtime.add(parse(network_document("a")), TARGET)


def test_failure(path: str, cache: Path) -> None:
    """A plugin's error is passed on with its code; the rest of the chain does not run."""
    plugins = Plugins(failing=("ADD a",))
    with pytest.raises(CniError, match=r"plugin a failed \(add\): not today: but tom") as caught:
        Runtime(path, str(cache), plugins).add(parse(network_document("a", "b")), TARGET)
    assert caught.value.code == 11
    assert plugins.calls == ["ADD a"]


def test_cache_is_kept_until_all_is_deleted(path: str, cache: Path) -> None:
    """A DEL that fails keeps what the next one needs, and nobody else may read it."""
    plugins = Plugins(failing=("DEL b",))
    runtime = Runtime(path, str(cache), plugins)
    network = parse(network_document("a", "b"))
    runtime.add(network, TARGET)
    (cached,) = (cache / "results").iterdir()
    assert cached.name == "net-id1-eth0"
    assert stat.S_IMODE(cached.stat().st_mode) == 0o600
    with pytest.raises(CniError, match="plugin b failed"):
        runtime.delete(network, TARGET)
    assert plugins.calls[-1] == "DEL a"
    plugins.failing = ()
    runtime.delete(network, TARGET)
    assert plugins.stdin[-1]["prevResult"] == RESULT
    assert not cached.exists()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"kind": "cniCacheV1", "result": 7}'])
def test_corrupt_cache(path: str, cache: Path, content: str) -> None:
    """CHECK names a cached result that cannot be read; DEL does without it."""
    plugins = Plugins()
    runtime = Runtime(path, str(cache), plugins)
    network = parse(network_document("a"))
    runtime.add(network, TARGET)
    (cached,) = (cache / "results").iterdir()
    cached.write_text(content)
    with pytest.raises(CniError, match=str(cached)):
        runtime.check(network, TARGET)
    runtime.delete(network, TARGET)
    assert "prevResult" not in plugins.stdin[-1]
    assert not cached.exists()


def test_cache_of_old(path: str, cache: Path) -> None:
    """Older runtimes kept the result alone; it is converted to the network's version."""
    (cache / "results").mkdir(parents=True)
    old = {"cniVersion": "0.2.0", "ip4": {"ip": "10.1.0.5/16"}}
    (cache / "results" / "net-id1-eth0").write_text(json.dumps(old))
    plugins = Plugins()
    Runtime(path, str(cache), plugins).check(parse(network_document("a")), TARGET)
    assert plugins.stdin[0]["prevResult"] == RESULT


def test_check_needs_its_version(path: str, cache: Path) -> None:
    """Networks below 0.4.0 have no CHECK, and get no cached result in DEL."""
    plugins = Plugins()
    runtime = Runtime(path, str(cache), plugins)
    network = parse(network_document("a", cniVersion="0.3.1"))
    runtime.add(network, TARGET)
    with pytest.raises(IncompatibleVersion):
        runtime.check(network, TARGET)
    runtime.delete(network, TARGET)
    assert "prevResult" not in plugins.stdin[-1]


def test_ifname_is_checked(path: str, cache: Path) -> None:
    """No plugin is called with an interface name that the kernel would not take."""
    with pytest.raises(InvalidEnvironment, match="CNI_IFNAME"):
        Runtime(path, str(cache), Plugins()).add(
            parse(network_document("a")), TARGET._replace(ifname="../etc")
        )


def test_plugin_config() -> None:
    """Name and version are the network's; runtimeConfig has what the plugin is capable of."""
    network = parse(network_document("a"))
    capabilities = {"ips": True, "mac": False, "bandwidth": True}
    plugin = {"type": "a", "name": "mine", "cniVersion": "0.1.0", "capabilities": capabilities}
    target = TARGET._replace(capability_args={"ips": ["10.1.0.9"], "mac": "x", "dns": {}})
    assert plugin_config(network, target, plugin, RESULT) == {
        "type": "a",
        "name": "net",
        "cniVersion": "1.0.0",
        "capabilities": capabilities,
        "runtimeConfig": {"ips": ["10.1.0.9"]},
        "prevResult": RESULT,
    }


@pytest.mark.parametrize("plugin_type", ["", ".", "..", "../a", "/bin/sh"])
def test_type_is_no_path(path: str, plugin_type: str) -> None:
    """A plugin's type cannot lead out of CNI_PATH (CVE-2021-20206)."""
    with pytest.raises(InvalidConfig, match="type"):
        find_executable(plugin_type, path)


def test_executables_are_found_in_order(path: str, tmp_path: Path) -> None:
    """The first directory of CNI_PATH that has the executable counts; empty entries are none."""
    (tmp_path / "a").touch()
    assert find_executable("a", f":{tmp_path}/none:{path}:{tmp_path}") == f"{path}/a"
    with pytest.raises(InvalidEnvironment, match="there is no c in"):
        find_executable("c", path)


def test_first_file_of_a_name_counts(tmp_path: Path) -> None:
    """Lists come before single plugins, and files in the order of their names."""
    (tmp_path / "05.conf").write_text('{"name": "net", "type": "single"}')
    for number in ("20", "10"):
        document = network_document(f"from-{number}")
        (tmp_path / f"{number}.conflist").write_text(json.dumps(document))
    assert load_network(str(tmp_path), "net").plugins == ({"type": "from-10"},)


def test_missing_network(tmp_path: Path) -> None:
    """The error names the network and where it was looked for."""
    for directory in (str(tmp_path), str(tmp_path / "none")):
        with pytest.raises(InvalidConfig, match=f"no network 'net' in {directory}"):
            load_network(directory, "net")


def test_unreadable_file_is_named(tmp_path: Path) -> None:
    """A configuration that cannot be read is an error that names its file."""
    (tmp_path / "1.conflist").write_text("{")
    with pytest.raises(InvalidConfig, match=r"1\.conflist: not JSON"):
        load_network(str(tmp_path), "net")


@pytest.mark.parametrize("name", ["", "a/b", None, 7])
def test_names_that_cannot_be_cached(name: object) -> None:
    """A network's name becomes part of a file name."""
    with pytest.raises(InvalidConfig, match="name"):
        parse(network_document("a", name=name))


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("cniVersion", 1, "cniVersion: 1 is not allowed: allowed: a string"),
        ("plugins", {}, "plugins: {} is not allowed: allowed: a list"),
        ("disableCheck", 1, "disableCheck: 1 is not allowed: allowed: true or false"),
    ],
)
def test_wrong_kinds(key: str, value: object, said: str) -> None:
    """The error names the key, the value and what is allowed."""
    with pytest.raises(InvalidConfig) as refusal:
        parse(network_document("a") | {key: value})
    assert str(refusal.value) == said


@pytest.mark.parametrize(
    ("versions", "chosen"),
    [
        ({"cniVersion": "0.4.0"}, "0.4.0"),
        ({"cniVersion": "0.4.0", "cniVersions": ["1.0.0", "0.3.1"]}, "1.0.0"),
        ({"cniVersion": "1.0.0", "cniVersions": ["0.4.0"]}, "1.0.0"),
        ({"cniVersion": "", "cniVersions": ["1.1.0", "99.0.0"]}, "1.1.0"),
        ({"cniVersion": "99.0.0"}, "99.0.0"),
        ({"cniVersion": None}, ""),
    ],
)
def test_choice_of_version(versions: dict[str, Any], chosen: str) -> None:
    """The newest one that is known; if there is none, what the network says is left as it is."""
    assert parse(network_document("a", **versions)).version == chosen


def test_target_is_cnitools() -> None:
    """The container's identifier is made from the namespace's path as cnitool makes it."""
    target = parse_target("/run/netns/pod", {"CNI_ARGS": "A=1;B=2", "CAP_ARGS": '{"ips": []}'})
    assert target == Target(
        "cnitool-9539caf00070aeae0bd6",
        "/run/netns/pod",
        args=(("A", "1"), ("B", "2")),
        capability_args={"ips": []},
    )


def test_bad_capability_args() -> None:
    """CAP_ARGS that are not a JSON object are refused by their name."""
    with pytest.raises(InvalidConfig, match="CAP_ARGS: not a JSON object"):
        parse_target("/run/netns/pod", {"CAP_ARGS": "[]"})


@pytest.mark.parametrize("arguments", [[], ["add", "net"], ["gc", "net"], ["list", "net", "/x"]])
def test_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong arguments are answered with how it is done."""
    assert main(arguments, {}) == 1
    assert capsys.readouterr().err.startswith("usage: ")


def test_errors_go_to_standard_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing but a result is printed on standard output."""
    assert main(["add", "net", "/x"], {"NETCONFPATH": str(tmp_path)}) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"there is no network 'net' in {tmp_path}\n"


def test_gc_tells_who_is_valid(path: str, cache: Path) -> None:
    """Attachments that are not valid are deleted; plugins are told those that are."""
    plugins = Plugins()
    runtime = Runtime(path, str(cache), plugins)
    network = parse(network_document("a", "b", cniVersion="1.1.0"))
    for name in ("id1", "id2"):
        runtime.add(network, TARGET._replace(container_id=name))
    plugins.calls.clear()
    runtime.gc(network, [("id2", "eth0")])
    assert plugins.calls == ["DEL b", "DEL a", "GC a", "GC b"]
    valid = [{"containerID": "id2", "ifname": "eth0"}]
    assert plugins.stdin[-1]["cni.dev/valid-attachments"] == valid
    assert [file.name for file in (cache / "results").iterdir()] == ["net-id2-eth0"]


def test_gc_with_nobody_valid(path: str, cache: Path) -> None:
    """An empty list is passed on; if nobody knows who is valid, there is none to pass on."""
    plugins = Plugins()
    network = parse(network_document("a", cniVersion="1.1.0"))
    Runtime(path, str(cache), plugins).gc(network, [])
    Runtime(path, str(cache), plugins).gc(network)
    first, second = plugins.stdin
    assert first["cni.dev/valid-attachments"] == []
    assert "cni.dev/valid-attachments" not in second


def test_gc_goes_on(path: str, cache: Path) -> None:
    """A GC goes on past plugins that fail, and reports all of them."""
    plugins = Plugins(failing=("GC a", "GC b"))
    network = parse(network_document("a", "b", cniVersion="1.1.0"))
    with pytest.raises(CniError, match=r"plugin a failed \(gc\).*plugin b failed \(gc\)"):
        Runtime(path, str(cache), plugins).gc(network)


def test_damaged_cache(path: str, cache: Path) -> None:
    """Files that tell of no attachment do not keep a GC from doing the rest."""
    plugins = Plugins()
    (cache / "results").mkdir(parents=True)
    for number, text in enumerate(("{", "[]", "{}", '{"kind": "cniCacheV1"}')):
        (cache / f"results/{number}").write_text(text)
    network = parse(network_document("a", cniVersion="1.1.0"))
    Runtime(path, str(cache), plugins).gc(network)
    assert plugins.calls == ["GC a"]
