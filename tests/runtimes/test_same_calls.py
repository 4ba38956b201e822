"""cni.client calls plugins exactly as the real cnitool does."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.node import ROOT, Node, find_cnitool

NETNS = "/run/netns/pod"
OWN = (sys.executable, "-m", "cni.client")
RESULTS = {
    "0.3.1": {
        "cniVersion": "0.3.1",
        "ips": [{"version": "4", "address": "10.1.0.5/16", "gateway": "10.1.0.1"}],
    },
    "0.4.0": {
        "cniVersion": "0.4.0",
        "interfaces": [{"name": "eth0", "mac": "0a:58:0a:01:00:05", "sandbox": NETNS}],
        "ips": [{"version": "4", "interface": 0, "address": "10.1.0.5/16", "gateway": "10.1.0.1"}],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dns": {"nameservers": ["10.1.0.1"]},
    },
    "1.0.0": {
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "eth0", "mac": "0a:58:0a:01:00:05", "sandbox": NETNS}],
        "ips": [{"interface": 0, "address": "10.1.0.5/16"}, {"address": "fd00:1::5/64"}],
        "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}, {"dst": "::/0"}],
    },
    "1.1.0": {
        "interfaces": [{"name": "eth0", "sandbox": NETNS, "mtu": 1400}],
        "ips": [{"interface": 0, "address": "10.1.0.5/16"}],
        "routes": [{"dst": "10.0.0.0/8", "mtu": 1300, "priority": 7}],
    },
}


def conflist(version: str, **more: Any) -> dict[str, Any]:
    """A chain of two plugins, of which the first answers and the second hands on."""
    first = {"type": "first", "answer": RESULTS[version], "capabilities": {"mac": True}}
    second = {"type": "second", "capabilities": {"portMappings": True, "ips": False}}
    plugins = [first, second]
    return {"cniVersion": version, "name": "net", "plugins": plugins} | more


class Bench(NamedTuple):
    """Two runtimes, a place for configurations, and the recorder under the names of plugins."""

    node: Node
    directory: Path
    cnitool: tuple[str, ...]

    def configure(self, config: dict[str, Any], file: str = "10-net.conflist") -> None:
        path = self.directory / "net.d" / file
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(config))

    def record(self, *steps: tuple[tuple[str, ...], str], **environ: str) -> list[Any]:
        """Run each step's verb by its runtime: every call, and what the runtimes print."""
        record = self.directory / "record"
        record.write_text("")
        variables = {
            "PYTHONPATH": str(ROOT),
            "RECORD": str(record),
            "NETCONFPATH": str(self.directory / "net.d"),
            "CNI_PATH": f"{self.directory}:{self.directory}/bin",
        }
        seen: list[Any] = []
        for runtime, verb in steps:
            done = self.node.run(*runtime, verb, "net", NETNS, env=variables | environ, check=False)
            assert "Traceback" not in done.stderr
            assert bool(done.stderr) == bool(done.returncode)
            seen.append((verb, done.returncode, json.loads(done.stdout or "null")))
            seen.append(self.cached())
        return seen + [json.loads(line) for line in record.read_text().splitlines()]

    def cached(self) -> dict[str, Any]:
        """What runtimes keep of results, by file name."""
        listing = self.node.run("find", "/var/lib/cni", "-path", "*/results/*")
        files = {path: self.node.json("cat", path) for path in listing.stdout.split()}
        for file in files.values():
            file["config"] = json.loads(base64.b64decode(file["config"]))
        return files

    def assert_same(self, *verbs: str, **environ: str) -> list[Any]:
        """Run verbs by cnitool, by us, and by both in turn. Returns what was seen."""
        expected = self.record(*((self.cnitool, verb) for verb in verbs), **environ)
        assert self.record(*((OWN, verb) for verb in verbs), **environ) == expected
        for first, second in ((self.cnitool, OWN), (OWN, self.cnitool)):
            steps = ((second if n % 2 else first, verb) for n, verb in enumerate(verbs))
            assert self.record(*steps, **environ) == expected
        return expected


@pytest.fixture
def bench(node: Node, tmp_path: Path) -> Bench:
    cnitool = find_cnitool()
    if cnitool is None:
        pytest.fail("there is no cnitool to compare with: scripts/environment could not build it")
    recorder = Path(__file__).with_name("recorder.py").read_text()
    (tmp_path / "bin").mkdir()
    for name in ("first", "second"):
        plugin = tmp_path / "bin" / name
        plugin.write_text(f"#!{sys.executable} -IS\n{recorder}")
        plugin.chmod(0o755)
    return Bench(node, tmp_path, (cnitool,))


@pytest.mark.parametrize("version", RESULTS)
def test_versions(bench: Bench, version: str) -> None:
    """A chain of two is called the same in every version, and results are kept the same."""
    bench.configure(conflist(version))
    seen = bench.assert_same("add", "check", "del", "del")
    commands = [call["environ"]["CNI_COMMAND"] for call in seen if "environ" in call]
    checks = ["CHECK"] * 2 if version != "0.3.1" else []
    assert commands == ["ADD"] * 2 + checks + ["DEL"] * 4


def test_capabilities(bench: Bench) -> None:
    """Each plugin gets the capability arguments that it declares, instead of its runtimeConfig."""
    config = conflist("1.0.0")
    config["plugins"][1]["runtimeConfig"] = {"static": True}
    bench.configure(config)
    asked = {
        "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}],
        "ips": ["10.1.0.9"],
        "bandwidth": {"ingressRate": 1.5},
    }
    seen = bench.assert_same("add", "check", "del", CAP_ARGS=json.dumps(asked))
    calls = [call["stdin"] for call in seen if "stdin" in call]
    assert "runtimeConfig" not in calls[0]
    assert calls[1]["runtimeConfig"] == {"portMappings": asked["portMappings"]}


def test_arguments(bench: Bench) -> None:
    """CNI_ARGS and CNI_IFNAME reach the plugins as they are."""
    bench.configure(conflist("1.0.0"))
    args = "IgnoreUnknown=1;K8S_POD_NAME=web;IP=10.1.0.9"
    seen = bench.assert_same("add", "check", "del", CNI_ARGS=args, CNI_IFNAME="net1")
    environ = seen[-1]["environ"]
    assert environ["CNI_ARGS"] == args
    assert environ["CNI_IFNAME"] == "net1"


@pytest.mark.parametrize("args", ["K", "K=", "=V", "K=V;", "K=V=W"])
def test_bad_arguments(bench: Bench, args: str) -> None:
    """Pairs in CNI_ARGS that are none are refused before any plugin runs."""
    bench.configure(conflist("1.0.0"))
    seen = bench.assert_same("add", CNI_ARGS=args)
    assert seen == [("add", 1, None), {}]


@pytest.mark.parametrize("flag", [True, "True", False])
def test_disable_check(bench: Bench, flag: bool | str) -> None:
    """A network may do without CHECK."""
    bench.configure(conflist("1.0.0", disableCheck=flag))
    bench.assert_same("add", "check", "del")


@pytest.mark.parametrize("offered", [["0.4.0", "1.0.0"], ["1.1.0", "9.9.9"], ["0.3.1"]])
def test_offered_versions(bench: Bench, offered: list[str]) -> None:
    """Of several cniVersions the newest counts that the runtime knows."""
    bench.configure(conflist("0.4.0", cniVersions=offered))
    bench.assert_same("add", "del")


@pytest.mark.parametrize("alone", [True, False, "false"])
def test_plugins_in_files(bench: Bench, alone: bool | str) -> None:
    """Plugins in files beside the list come after those in it, unless the list says otherwise."""
    bench.configure(conflist("1.1.0", loadOnlyInlinedPlugins=alone))
    (bench.directory / "net.d/net").mkdir()
    bench.configure({"type": "second", "mark": 2}, "net/20.conf")
    bench.configure({"type": "first", "mark": 1, "answer": RESULTS["1.1.0"]}, "net/10.conf")
    seen = bench.assert_same("add", "check", "del")
    marks = [call["stdin"].get("mark") for call in seen if "stdin" in call]
    assert marks[:2] == [None, None]
    assert marks[2:4] == ([None, None] if alone is True else [1, 2])


def test_single_plugin(bench: Bench) -> None:
    """A file of one plugin is a network, too."""
    plugin = {"cniVersion": "1.0.0", "name": "net", "type": "first", "answer": RESULTS["1.0.0"]}
    bench.configure(plugin, "10-net.conf")
    bench.configure(plugin | {"name": "another"}, "05-another.json")
    bench.assert_same("add", "check", "del")


@pytest.mark.parametrize("verb", ["ADD", "CHECK"])
def test_failing_plugin(bench: Bench, verb: str) -> None:
    """A plugin that fails ends the chain, and the runtime's exit code is 1."""
    config = conflist("1.0.0")
    config["plugins"][0]["fail"] = verb
    bench.configure(config)
    bench.assert_same("add", "check", "del")


@pytest.mark.parametrize("version", RESULTS)
def test_gc_and_status(bench: Bench, version: str) -> None:
    """GC deletes what was added, as it was added, and is called, as STATUS is, from 1.1.0 on."""
    bench.configure(conflist(version))
    asked = {"CAP_ARGS": '{"mac": "0a:58:0a:01:00:05"}', "CNI_ARGS": "K=V", "CNI_IFNAME": "eth0.5"}
    seen = bench.assert_same("status", "add", "gc", "gc", **asked)
    commands = [call["environ"]["CNI_COMMAND"] for call in seen if "environ" in call]
    only_new = version == "1.1.0"
    status, gc = ["STATUS"] * 2 * only_new, ["GC"] * 2 * only_new
    assert commands == [*status, "ADD", "ADD", "DEL", "DEL", *gc, *gc]


def test_gc_leaves_other_networks(bench: Bench) -> None:
    """What was added to another network stays."""
    other = {"containerId": "a", "ifName": "eth0", "networkName": "other", "config": "e30="}
    results = "/var/lib/cni/results"
    bench.node.run("mkdir", results)
    file = json.dumps({"kind": "cniCacheV1", **other})
    bench.node.run("tee", f"{results}/other-a-eth0", stdin=file)
    bench.configure(conflist("1.1.0"))
    seen = bench.assert_same("add", "gc")
    assert list(seen[3]) == [f"{results}/other-a-eth0"]


@pytest.mark.parametrize("flag", [True, "True", False])
def test_disable_gc(bench: Bench, flag: bool | str) -> None:
    """A network may do without GC."""
    bench.configure(conflist("1.1.0", disableGC=flag))
    seen = bench.assert_same("add", "gc", "del")
    commands = [call["environ"]["CNI_COMMAND"] for call in seen if "environ" in call]
    assert ("GC" in commands) == (flag is False)


def test_status_ends_with_the_first_failure(bench: Bench) -> None:
    """The first plugin that cannot serve ends a STATUS; a GC goes on."""
    config = conflist("1.1.0")
    for verb in ("STATUS", "GC"):
        config["plugins"][0]["fail"] = verb
        bench.configure(config)
        seen = bench.assert_same(verb.lower())
        called = [call["stdin"]["type"] for call in seen if "stdin" in call]
        assert called == (["first"] if verb == "STATUS" else ["first", "second"])


def test_delete_goes_on_past_a_failing_plugin(bench: Bench) -> None:
    """Where cnitool stops, leaving the rest of the chain, we go on, and fail at the end."""
    config = conflist("1.0.0")
    config["plugins"][1]["fail"] = "DEL"
    bench.configure(config)
    stopped = bench.record((bench.cnitool, "add"), (bench.cnitool, "del"))
    went_on = bench.record((OWN, "add"), (OWN, "del"))
    assert went_on[:-1] == stopped
    assert went_on[-1]["environ"]["CNI_COMMAND"] == "DEL"
    assert went_on[-1]["stdin"]["type"] == "first"


@pytest.mark.parametrize(
    "config",
    [
        {"name": "other", "plugins": [{"type": "first"}]},
        {"name": "net", "plugins": []},
        {"name": "net"},
        {"name": "net", "plugins": [{}]},
        {"name": "net", "plugins": [{"type": "../first"}]},
        {"name": "net", "plugins": [{"type": "missing"}]},
        {"name": "net", "plugins": [{"type": "first"}], "disableCheck": 1},
        {"name": "net", "cniVersion": 1, "plugins": [{"type": "first"}]},
    ],
)
def test_bad_networks(bench: Bench, config: dict[str, Any]) -> None:
    """A network that is missing or not well-formed is refused, and nothing runs."""
    bench.configure(config)
    seen = bench.assert_same("add")
    assert seen == [("add", 1, None), {}]
