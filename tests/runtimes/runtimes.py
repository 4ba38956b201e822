"""All the runtimes, with our plugins and with the reference's: `every` is what tests go through."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from tests.runtimes.client import Client
from tests.runtimes.cri import Cri
from tests.runtimes.ctr import Ctr
from tests.runtimes.machine import Machine
from tests.runtimes.nerdctl import Nerdctl
from tests.runtimes.podman import Podman
from tests.support.node import ROOT

BUILT = ROOT / ".cache/runtimes"
REFERENCE = ROOT / ".cache/reference-v1.9.1"

# What networks that podman and nerdctl make themselves need, and we have none of.
_FOREIGN = ("firewall", "tuning")


class Runtime(NamedTuple):
    """A client, and whether its programs are built, as Debian has none or an older version."""

    client: type[Client]
    built: bool = False


RUNTIMES = {
    "ctr": Runtime(Ctr),
    "cri": Runtime(Cri),
    "podman": Runtime(Podman),
    "cri2": Runtime(Cri, built=True),
    "nerdctl": Runtime(Nerdctl, built=True),
}


class Kind(NamedTuple):
    """A runtime's name, and whose plugins it runs: `pycni` or `reference`."""

    runtime: str
    plugins: str


# Why tests of what removal leaves fail, where no DEL ever names the namespace.
NO_NAMESPACE = {
    Kind("ctr", "reference"): "rules and chains that masquerade are left",
    Kind("nerdctl", "reference"): "an empty chain is left",
}

# Why they fail for a pod that has lost its namespace.
LOST_NAMESPACE = {
    Kind("cri", "reference"): "rules and chains that masquerade are left",
    Kind("cri2", "reference"): "rules and chains that masquerade are left",
}


def every(
    *names: str,
    plugins: Sequence[str] = ("pycni", "reference"),
    fails: Mapping[Kind, str] = MappingProxyType({}),
    shared: bool = False,
) -> list[Any]:
    """Parameters: the runtimes of these names, or all, with these plugins.

    `fails` says with which of them the test fails, and why; `shared`, that tests share a machine.
    """
    kinds = [Kind(name, owner) for name in names or RUNTIMES for owner in plugins]
    return [
        pytest.param(kind, id="-".join(kind), marks=[*_marks(kind, fails, shared)])
        for kind in kinds
    ]


def _marks(kind: Kind, fails: Mapping[Kind, str], shared: bool) -> Iterator[pytest.MarkDecorator]:
    if kind.plugins == "reference" or RUNTIMES[kind.runtime].built:
        yield pytest.mark.all_only
    if kind in fails:
        yield pytest.mark.xfail(reason=fails[kind])
    if shared:
        yield pytest.mark.xdist_group("-".join(kind))


Start = Callable[[Kind, Path], AbstractContextManager[Any]]


@contextmanager
def started(bin_dir: Path, kind: Kind, scratch: Path) -> Iterator[Any]:
    """A runtime on a machine of its own."""
    runtime = RUNTIMES[kind.runtime]
    own = bin_dir if kind.plugins == "pycni" else REFERENCE
    plugins = {name: REFERENCE / name for name in _FOREIGN}
    plugins |= {path.name: path for path in own.iterdir()}
    with Machine(bin_dir, plugins, scratch, BUILT if runtime.built else None) as machine:
        try:
            yield runtime.client(machine)
        finally:
            print(machine.log())  # pytest shows it if the test fails
