"""Parts: what handlers remember in the state, each under a typed key.

A key holds what its part is as long as nobody has set it. So a state needs no preparing for it: it
can be made by hand, or come from a run without the handlers that use the part.

Rules of this file: a part keeps one type, that of its initial value, so that it can be written down
and read again. A part that has its initial value is not in the state, so that states which say the
same are equal.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Any, Final, Generic, TypeAlias, TypeVar, cast, final

import attrs

from fengine.core.equality import Content, same

P = TypeVar("P")
# How a leaf of a value is read, and what it is to begin with.
Leaf: TypeAlias = tuple[Callable[[Any], object], object]

_SCALARS: Final = (bool, int, float, complex, str, bytes, type(None))
_CHANGED_IN_PLACE: Final = (list, dict, set, bytearray)


@final
@attrs.frozen
class Part(Generic[P]):
    """Name one part of a state, and say what it is as long as nobody has set it.

    Read a part by `state.part(key)`; `state.with_part(key, value)` returns a state with it.

    Args:
        name: what it is called; no two parts of a loop have the same name.
        initial: what it is to begin with. Its type is that of the part; a frozen record of attrs or
            dataclasses, a number, a string or a map that never changes.
        merge: makes one value of two, for a part that holds what each process has counted for
            itself; None: all processes have the same.

    Raises:
        TypeError: `name` is not a string, or `initial` is None or can be changed in place.

    >>> from fengine import State
    >>> seen = Part("seen", 0)
    >>> state = State().with_part(seen, 3)
    >>> State().part(seen), state.part(seen), state.with_part(seen, 0) == State()
    (0, 3, True)
    """

    name: str = attrs.field()
    initial: P = attrs.field(eq=Content)
    merge: Callable[[P, P], P] | None = None
    _numbers: tuple[Leaf, ...] = attrs.field(init=False, eq=False, repr=False)

    @name.validator
    def _check_name(self, field: object, name: object) -> None:
        if not isinstance(name, str):
            raise TypeError(f"a part has the name {name!r} of type {type(name).__name__}, no str")
        if not name:
            raise ValueError("a part needs a name that is not empty, under which it is found again")

    @initial.validator
    def _check_initial(self, field: object, initial: object) -> None:
        if initial is None or isinstance(initial, _CHANGED_IN_PLACE):
            what = "None" if initial is None else f"a {type(initial).__name__}"
            way = "an optional value" if initial is None else "a tuple or an immutables.Map"
            raise TypeError(
                f"the part {self.name!r} begins as {what}; it begins as a value that never changes "
                f"and has the type of all that come after it: put {way} into a frozen record"
            )

    @_numbers.default
    def _leaves_that_are_numbers(self) -> tuple[Leaf, ...]:
        return tuple(leaf for leaf in _leaves("", self.initial) if type(leaf[1]) in _SCALARS)

    @property
    def kind(self) -> type[P]:
        """The type of the part."""
        return type(self.initial)

    def is_initial(self, value: P) -> bool:
        """Tell whether a value is what the part begins as.

        It is asked at each update, so what differs in a number is told first.
        """
        if value is self.initial:
            return True
        try:
            for read, initial in self._numbers:
                own = read(value)
                if own is initial:
                    continue
                if type(own) is not type(initial) or (own != initial and own == own):
                    return False  # what is no number is looked at below
        except AttributeError:
            return False  # a record within it is of another type
        return _are_alike(value, self.initial)

    def fitting(self, value: object) -> P:
        """Return a value of another type than the part as one of its type.

        Raises:
            TypeError: it is none.
        """
        initial: object = self.initial
        if type(initial) is float and isinstance(value, int | float) and type(value) is not bool:
            return cast("P", float(value))
        if hasattr(initial, "dtype") and isinstance(value, type(initial)):
            return cast("P", value)
        raise TypeError(
            f"the part {self.name!r} is a {type(initial).__name__}, since it begins as "
            f"{initial!r}, and cannot become {value!r} of type {type(value).__name__}; for values "
            "of several types, put them into a field of a frozen record"
        )


def _leaves(path: str, value: Any) -> Iterator[Leaf]:
    """Give what a value holds where no record is in it, and how it is read of another value."""
    fields = [one for one in attrs.fields(type(value)) if one.eq] if attrs.has(type(value)) else []
    for field in fields:
        yield from _leaves(
            f"{path}.{field.name}" if path else field.name, getattr(value, field.name)
        )
    if not fields:
        yield (attrgetter(path) if path else _itself), value


def _are_alike(value: Any, initial: Any) -> bool:
    """Tell whether nothing at all differs: no type, no bit, and no field, whether it compares."""
    kind = type(initial)
    if value is initial:
        return True
    if type(value) is not kind:
        return False
    if kind in _SCALARS:
        return repr(value) == repr(initial)
    if attrs.has(kind):
        names = [field.name for field in attrs.fields(kind)]
    elif dataclasses.is_dataclass(initial):
        names = [field.name for field in dataclasses.fields(initial)]
    elif isinstance(initial, tuple):
        pairs = zip(value, initial, strict=False)
        return len(value) == len(initial) and all(_are_alike(one, other) for one, other in pairs)
    else:
        return same(value, initial)
    return all(_are_alike(getattr(value, name), getattr(initial, name)) for name in names)


def _itself(value: object) -> object:
    return value
