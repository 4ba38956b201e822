from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from pycni.state import location
from tests.runtimes.table import Table
from tests.support import leftovers
from tests.support.kernel import has_feature
from tests.support.node import ROOT, Node, Outside
from tests.support.pod import Pod
from tests.support.ports import add_pod, port, publish

# A slow machine is no failure; a few examples a run are enough, for there are many runs.
settings.register_profile("pycni", deadline=None, max_examples=25, database=None)
settings.load_profile("pycni")


def pytest_addoption(parser: pytest.Parser) -> None:
    text = "run the long tests as well, those marked all_only"
    parser.addoption("--all", action="store_true", help=text)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Table())


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave long tests to --all, and tests that this kernel cannot run to one that can."""
    for item in items:
        for marker in item.iter_markers("kernel"):
            if not has_feature(marker.args[0]):
                item.add_marker(pytest.mark.skip(reason=f"this kernel has no {marker.args[0]}"))
    if not config.getoption("all"):
        long = [item for item in items if item.get_closest_marker("all_only")]
        items[:] = [item for item in items if item not in long]
        config.hook.pytest_deselected(items=long)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test that was skipped looks like one that passed: without root, one of a node fails."""
    if os.geteuid() != 0 and "bin_dir" in getattr(item, "fixturenames", ()):
        pytest.fail("this test makes namespaces: run it as root", pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Only a kernel is a reason to skip a test: a tool that is missing makes a test fail."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and not item.get_closest_marker("kernel"):
        report.outcome = "failed"
        report.longrepr = f"skipped, and not for the kernel: {report.longrepr}"
    return report


@pytest.fixture(scope="session", autouse=True)
def _nothing_left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No interface, mount, file, table or process outlives the tests."""
    temporary = tmp_path_factory.mktemp("temporary")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(temporary))
        mark, before = leftovers.mark_processes(), leftovers.see()
        yield
    left = [*leftovers.see() - before, *leftovers.find_processes(mark), *temporary.iterdir()]
    assert left == []


@pytest.fixture(scope="session", autouse=True)
def _state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """State that the tests' own process keeps is among the tests' own files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(location.VARIABLE, raising=False)
        patch.setattr(location, "SETTINGS", "/nowhere/pycni.toml")
        patch.setattr(location, "DEFAULT", str(tmp_path_factory.mktemp("state") / "pycni"))
        yield


@pytest.fixture(scope="session")
def bin_dir() -> Path:
    """The installed executables: what a runtime would run from /opt/cni/bin."""
    directory = Path(os.environ.get("PYCNI_BIN") or ROOT / ".cache/cni-bin")
    if not (directory / "loopback").is_file():
        pytest.fail(f"no executables in {directory}: run scripts/environment, or set PYCNI_BIN")
    return directory


@pytest.fixture
def node(bin_dir: Path, tmp_path: Path) -> Iterator[Node]:
    """A throw-away host."""
    with Node(bin_dir, tmp_path) as node:
        yield node


@pytest.fixture(params=["nftables", "iptables-nft"])
def backend(request: pytest.FixtureRequest, node: Node) -> str:
    """The firewall's backend that the node's networks ask for; a test runs once with each.

    What holds for iptables-nft is tested with iptables-legacy where that may differ.
    """
    name = str(request.param)
    node.use_backend(name)
    return name


@pytest.fixture
def outside(node: Node) -> Outside:
    """A machine beside the node, in namespace `outside.netns`."""
    return node.add_outside()


@pytest.fixture
def pod(node: Node) -> Pod:
    """A container wired by hand."""
    return add_pod(node)


@pytest.fixture
def other(node: Node) -> Pod:
    """Another one, which has port 9000."""
    other = add_pod(node, 3)
    publish(node, other, port(9000))
    return other
