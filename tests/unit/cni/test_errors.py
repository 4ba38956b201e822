"""Errors: their codes, and how several become one."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from cni import errors
from cni.errors import AlreadyExists, CniError, run_all


def test_the_drawn_tree_is_the_real_one() -> None:
    """The module's docstring draws all errors, in the order of their codes."""
    drawn = re.findall(r"^ *(├─|└─)? *(\w+) +(\d+)$", errors.__doc__ or "", re.MULTILINE)
    real = sorted(CniError.__subclasses__(), key=lambda error: error.code)
    ours = [error for error in real if error.__module__ == "cni.errors"]
    branches = ["├─"] * (len(ours) - 1) + ["└─"]
    assert drawn == [
        ("", "CniError", "999"),
        *((b, error.__name__, str(error.code)) for b, error in zip(branches, ours, strict=True)),
    ]


def test_there_is_nothing_else() -> None:
    """Every exception of the module is CniError or one of its children."""
    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    assert {c for c in classes if c.__module__ == "cni.errors"} == {
        CniError,
        *(error for error in CniError.__subclasses__() if error.__module__ == "cni.errors"),
    }


def test_every_error_says_what_it_is() -> None:
    """Every error has a docstring."""
    for error in CniError.__subclasses__():
        assert error.__doc__


@pytest.mark.parametrize(("details", "text"), [("", "no"), ("it is late", "no: it is late")])
def test_text(details: str, text: str) -> None:
    """An error's text is its message and its details."""
    assert str(CniError("no", details)) == text


def test_a_code_of_its_own() -> None:
    """An error may have another code than its class, which keeps its own."""
    assert CniError("no", code=12).code == 12
    assert CniError("no").code == 999


def _failing(error: Exception) -> Callable[[], None]:
    def step() -> None:
        raise error

    return step


def test_no_errors() -> None:
    """Every step is run, and nothing raised if none fails."""
    done: list[int] = []
    run_all([lambda: done.append(1), lambda: done.append(2)])
    assert done == [1, 2]


def test_the_only_error() -> None:
    """The only error is raised as it is, after the other steps."""
    done: list[int] = []
    only = AlreadyExists("taken")
    with pytest.raises(AlreadyExists) as caught:
        run_all([_failing(only), lambda: done.append(1)])
    assert caught.value is only
    assert done == [1]


def test_several_errors() -> None:
    """Of several errors all are told, under the code of the first; a system's error is I/O."""
    with pytest.raises(CniError) as caught:
        run_all([_failing(OSError(28, "disk full")), _failing(AlreadyExists("b"))])
    assert caught.value.message == "disk full; b"
    assert caught.value.code == 5
