"""`NamedTuple`, as typing's, without `typing`: its import takes longer than Python's start-up.

Type checkers are shown the real one. What a class body says is what it means there: fields with
their types, defaults, methods.
"""

from __future__ import annotations

from cni import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, NamedTuple, Self
else:
    from _collections import _tuplegetter  # what collections.namedtuple makes fields of

    class _FieldsAsAnnotated(type):
        """Makes each annotated name of a class the name of an item."""

        def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> type:
            cls = super().__new__(mcs, name, bases, {"__slots__": (), **namespace})
            fields = tuple(cls.__annotations__) if bases[0] is not tuple else ()
            cls._fields = cls.__match_args__ = fields
            cls._field_defaults = {
                field: namespace[field] for field in fields if field in namespace
            }
            for index, field in enumerate(fields):
                setattr(cls, field, _tuplegetter(index, None))
            return cls

    class NamedTuple(tuple, metaclass=_FieldsAsAnnotated):
        """A tuple whose items have names."""

        __slots__ = ()

        def __new__(cls, *values: Any, **named: Any) -> Self:
            if named or len(values) != len(cls._fields):
                values = (*values, *_rest(cls, len(values), named))
            return tuple.__new__(cls, values)

        @classmethod
        def _make(cls, values: Iterable[Any]) -> Self:
            return cls(*values)

        def _asdict(self) -> dict[str, Any]:
            return dict(zip(self._fields, self, strict=True))

        def _replace(self, **named: Any) -> Self:
            return type(self)(**{**self._asdict(), **named})

        def __repr__(self) -> str:
            items = ", ".join(f"{name}={value!r}" for name, value in self._asdict().items())
            return f"{type(self).__name__}({items})"

        def __getnewargs__(self) -> tuple[Any, ...]:
            return tuple(self)

    def _rest(cls: type[NamedTuple], given: int, named: dict[str, Any]) -> list[Any]:
        """The values of the fields behind the first `given` ones, by name or by default."""
        rest = cls._fields[given:]
        unknown = [name for name in named if name not in rest]
        missing = [name for name in rest if name not in named and name not in cls._field_defaults]
        if unknown or missing or given > len(cls._fields):
            raise TypeError(
                f"{cls.__name__} takes {', '.join(cls._fields)}; {given} came without a name,"
                f" unknown or twice: {unknown}, missing: {missing}"
            )
        return [named[name] if name in named else cls._field_defaults[name] for name in rest]


__all__ = ["NamedTuple"]
