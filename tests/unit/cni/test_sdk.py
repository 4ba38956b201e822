"""The SDK: its names are there, say what they do, and stand in docs/sdk.md as they are called."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import types
from collections.abc import Iterator
from typing import Any

import pytest

import cni
from cni.errors import CniError
from cni.formats import FORMATS
from tests.support.pages import DOCS

CORE = ["errors", "net.netlink.socket", "plugin", "request", "result"]
# What a plugin's author imports beside the names of `cni`.
MODULES = [
    *("cni.client", "cni.config", "cni.delegate", "cni.formats", "cni.log"),
    *("cni.net.addresses", "cni.net.interface", "cni.net.namespace", "cni.net.sysctl"),
    *("cni.net.netlink.conntrack", "cni.net.netlink.route", "cni.net.netlink.sock_diag"),
    *("pycni.firewall", "pycni.state.attachments"),
]
FOUND = [module.name for module in pkgutil.walk_packages(cni.__path__, "cni.")]
ALL_MODULES = [name for name in FOUND if not name.endswith("__main__")]
# What these do is this project's own idea.
WITHOUT_A_SOURCE = {"cni.log", "pycni.firewall", "pycni.state.attachments"}

PAGE = (DOCS / "sdk.md").read_text()
ON_THE_PAGE = re.findall(r"`((?:cni|pycni)\.[\w.]+)(?:\((.*?)\))?`", PAGE)


def public(owner: Any, home: str) -> Iterator[tuple[str, Any]]:
    """The functions and classes that are defined in a module, or the methods of a class."""
    for name, value in vars(owner).items():
        code = value.fget if isinstance(value, property) else value
        is_code = isinstance(code, (type, types.FunctionType))
        if not name.startswith("_") and is_code and code.__module__ == home:
            yield name, code


def public_names(module: str) -> set[str]:
    """The public functions and classes of a module of the SDK, and what it gets from within."""
    value = importlib.import_module(module)
    names = getattr(value, "__all__", None) or dict(public(value, value.__name__))
    return {f"{module}.{name}" for name in names}


def find(name: str) -> Any:
    """What a dotted name leads to: a module, or something in one."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        parent, _, last = name.rpartition(".")
        return getattr(find(parent), last)


@pytest.mark.parametrize("name", cni.__all__)
def test_every_name_is_there(name: str) -> None:
    """Every public name leads to a class or a function of the SDK."""
    assert getattr(cni, name).__module__.split(".")[0] == "cni"


def test_names_are_told_apart() -> None:
    """Every public name is there once."""
    assert len(cni.__all__) == len(set(cni.__all__))


def test_no_other_names() -> None:
    """A name that there is not is an AttributeError, as with any module."""
    with pytest.raises(AttributeError, match="has no attribute 'ladd'"):
        _ = cni.ladd


@pytest.mark.parametrize("name", ["IOFailure", "NetlinkError", "run_all"])
def test_names_are_loaded_once(name: str) -> None:
    """A name that was used is found without looking it up again."""
    assert getattr(cni, name) is vars(cni)[name]


@pytest.mark.parametrize("name", ALL_MODULES)
def test_docstrings(name: str) -> None:
    """Every module, function, class and method that is public says what it is for."""
    module = importlib.import_module(name)
    assert module.__doc__
    for owner_name, owner in public(module, name):
        assert owner.__doc__, owner_name
        methods = public(owner, name) if isinstance(owner, type) else ()
        assert not [f"{owner_name}.{method}" for method, code in methods if not code.__doc__]


@pytest.mark.parametrize("name", [*(f"cni.{name}" for name in CORE), *MODULES])
def test_sources(name: str) -> None:
    """A module of the SDK names what it goes by: the specification, a kernel's header, an RFC."""
    module = importlib.import_module(name)
    assert ("Source: " in (module.__doc__ or "")) != (name in WITHOUT_A_SOURCE)


def test_all_errors_are_public() -> None:
    """A plugin can raise, and tell apart, every error of the specification."""
    codes = re.findall(r"^\| `cni\.(\w+)` \| (\d+) \|", PAGE, re.MULTILINE)
    errors: list[type[CniError]] = [CniError, *CniError.__subclasses__()]
    public_errors = {e.__name__: str(e.code) for e in errors if e.__name__ in cni.__all__}
    assert dict(codes) == public_errors
    assert set(public_errors) >= {e.__name__ for e in errors if e.__module__ == "cni.errors"}


@pytest.mark.parametrize("module", MODULES)
def test_the_page_lists_each_module(module: str) -> None:
    """What a module of the SDK has stands in docs/sdk.md."""
    assert public_names(module) - {name for name, _ in ON_THE_PAGE} == set()


def test_the_page_lists_each_name() -> None:
    """So does what `cni` itself has."""
    assert {f"cni.{name}" for name in cni.__all__} - {name for name, _ in ON_THE_PAGE} == set()


@pytest.mark.parametrize(("name", "parameters"), ON_THE_PAGE)
def test_the_page_is_true(name: str, parameters: str) -> None:
    """What stands on the page is there, and is called so."""
    value = find(name)
    if isinstance(value, types.FunctionType):
        told = [item.partition("=")[0].strip() for item in parameters.split(",") if item]
        real = inspect.signature(value).parameters.values()
        assert told == [("*" if p.kind == p.VAR_POSITIONAL else "") + p.name for p in real]


def test_the_page_lists_each_format() -> None:
    """What a schema's `format` may be stands on the page."""
    (line,) = [line for line in PAGE.splitlines() if "`cni.formats.FORMATS`" in line]
    assert set(re.findall(r"`([a-z-]+)`", line.split("|")[2])) - {"format"} == set(FORMATS)
