from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance import Watch, needed
from tests.netns.node import ROOT, Node, Outside

_NEED_ROOT = [Path(__file__).with_name(suite) for suite in ("netns", "runtimes")]


def pytest_addoption(parser: pytest.Parser) -> None:
    text = "fail unless every test that docs/conformance.md names has run"
    parser.addoption("--conformance", action="store_true", help=text)


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("conformance"):
        config.pluginmanager.register(Watch(needed()))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A suite that was skipped looks like one that passed: without root these fail."""
    if os.geteuid() != 0 and any(suite in item.path.parents for suite in _NEED_ROOT):
        pytest.fail(f"{item.path.parent} makes namespaces: run it as root", pytrace=False)


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
