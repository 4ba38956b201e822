"""cni.namedtuple beside typing's, which it stands in for."""

from __future__ import annotations

import copy
import pickle
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni import namedtuple


class Theirs(NamedTuple):
    """typing's."""

    name: str
    size: int = 3
    rest: tuple[int, ...] = ()

    @property
    def double(self) -> int:
        return self.size * 2


class Ours(namedtuple.NamedTuple):
    """The same class body."""

    name: str
    size: int = 3
    rest: tuple[int, ...] = ()

    @property
    def double(self) -> int:
        return self.size * 2


NAMES = st.sampled_from(["name", "size", "rest", "other"])


def outcome(cls: Any, values: tuple[Any, ...], named: dict[str, Any]) -> Any:
    try:
        return tuple(cls(*values, **named))
    except TypeError:
        return TypeError


@given(st.lists(st.integers(), max_size=4), st.dictionaries(NAMES, st.integers()))
def test_construction(values: list[int], named: dict[str, int]) -> None:
    """Whatever arguments make one of typing's make ours, and no others."""
    assert outcome(Ours, tuple(values), named) == outcome(Theirs, tuple(values), named)


@given(st.text(), st.integers())
def test_same_in_use(name: str, size: int) -> None:
    """Items by name, methods, comparison and the methods that named tuples have."""
    ours: Any = Ours(name, size)
    theirs = Theirs(name, size)
    assert (ours.name, ours.size, ours.rest, ours.double) == (name, size, (), size * 2)
    assert ours == theirs
    assert hash(ours) == hash(theirs)
    assert repr(ours) == repr(theirs).replace("Theirs", "Ours")
    assert ours._asdict() == theirs._asdict()
    assert ours._replace(size=1) == theirs._replace(size=1)
    assert Ours._make(ours) == ours
    assert (Ours._fields, Ours._field_defaults) == (Theirs._fields, Theirs._field_defaults)


def test_immutable() -> None:
    """Neither an item nor anything else can be set."""
    ours: Any = Ours("a")
    for name in ("name", "other"):
        with pytest.raises(AttributeError):
            setattr(ours, name, "b")


def test_copies() -> None:
    """Copies and pickles are the same, and of the same type."""
    for twin in (copy.deepcopy(Ours("a")), pickle.loads(pickle.dumps(Ours("a")))):
        assert twin == Ours("a")
        assert type(twin) is Ours


def test_pattern() -> None:
    """It can be matched by position."""
    match Ours("a", 1):
        case Ours(name, size):
            assert (name, size) == ("a", 1)
