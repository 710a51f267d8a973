"""How records print: as the code that makes them, where that is possible, and in one line.

Fields that have their defaults are left out. What is large is shown as `brief` has it.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Any

import attrs
from typing_extensions import override

from fengine.core.describe import brief
from fengine.core.equality import same


class Constant(Enum):
    """Print the members of an enum as they are written."""

    @override
    def __repr__(self) -> str:
        return f"{type(self).__qualname__}.{self.name}"


def shown(record: Any, *, without: tuple[str, ...] = ()) -> str:
    """Write a record of attrs as the call that makes it.

    Args:
        record: the record; fields that have `repr=False` or are not given to it are left out.
        without: the names of other fields to leave out.

    >>> from fengine import State
    >>> State(epoch=2, output=0.25, metrics={"loss": 0.5})
    State(epoch=2, output=0.25, metrics={'loss': 0.5})
    """
    words = [
        f"{field.alias}={brief(value)}"
        for field, value in _told(record)
        if field.name not in without
    ]
    return f"{type(record).__qualname__}({', '.join(words)})"


def _told(record: Any) -> Iterator[tuple[attrs.Attribute[Any], object]]:
    """Go through the fields that do not have their defaults."""
    for field in attrs.fields(type(record)):
        if field.init and field.repr:
            value = getattr(record, field.name)
            default = field.default
            if isinstance(default, attrs.Factory) and not default.takes_self:  # type: ignore[arg-type]  # its stub makes it a function
                default = default.factory()
            if default is attrs.NOTHING or not same(value, default):
                yield field, value
