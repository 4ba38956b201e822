from __future__ import annotations

import types

import pytest

import cni


@pytest.mark.parametrize("name", cni.__all__)
def test_every_name_is_there(name: str) -> None:
    """Every public name leads to a class, a function or a module of the project."""
    value = getattr(cni, name)
    home = value.__name__ if isinstance(value, types.ModuleType) else value.__module__
    assert home.split(".")[0] == "cni"


def test_names_are_told_apart() -> None:
    """Every public name is there once."""
    assert len(cni.__all__) == len(set(cni.__all__))


def test_no_other_names() -> None:
    """A name that there is not is an AttributeError, as with any module."""
    with pytest.raises(AttributeError, match="has no attribute 'ladd'"):
        _ = cni.ladd
