"""Outer: the record that another loop begins with is one of the run that it runs in."""

from __future__ import annotations

from typing import Any, Final, Generic, TypeVar, final

import attrs
from typing_extensions import override

from fengine import Part, State

P = TypeVar("P")


@final
class Outer:
    """Stand for the record of the run that an evaluation is in; there is one, `OUTER`.

    >>> OUTER, OUTER.part(Part("seen", 0))
    (OUTER, OUTER.part(Part(name='seen', initial=0, merge=None)))
    """

    __slots__ = ()

    @override
    def __repr__(self) -> str:
        return "OUTER"

    @override
    def __reduce__(self) -> str:
        """Return what `copy` and `pickle` make it of."""
        return "OUTER"

    def part(self, key: Part[P]) -> OuterPart[P]:
        """Return what stands for a part of the outer run instead of its record."""
        return OuterPart(key)


OUTER: Final = Outer()
"""What stands for the record of the run that an evaluation is in."""


@final
@attrs.frozen(repr=False)
class OuterPart(Generic[P]):
    """Stand for a part of the run that an evaluation is in; made by `OUTER.part`.

    >>> OUTER.part(Part("seen", 0)).key.name
    'seen'
    """

    key: Part[P]

    @override
    def __repr__(self) -> str:
        return f"OUTER.part({self.key!r})"


def read_of(user: object, outer: State[Any, Any, Any]) -> object:
    """Return the record that another loop begins with, in an outer run.

    >>> read_of(OUTER, State(user="mine")), read_of("other", State(user="mine"))
    ('mine', 'other')
    """
    if isinstance(user, Outer):
        return outer.user
    return outer.part(user.key) if isinstance(user, OuterPart) else user
