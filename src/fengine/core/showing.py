"""How values print: short, in one line, and where possible as the code that makes them.

A record prints as a call with its fields, without those that have their defaults. What is large
prints as what it is: a tensor by its shape, a model by its class and number of parameters, a
function by its name and place. Nothing prints an address.

Lives here: words for values. Nothing here imports torch or numpy; values are known by what they
have.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any, Final

import attrs
from typing_extensions import override

from fengine.core.describe import describe, model_in_words
from fengine.core.equality import is_array, is_table, same

_MOST_SHOWN: Final = 100
_MOST_ITEMS: Final = 6
_ADDRESS: Final = re.compile(r"(?: object)? at 0x[0-9a-fA-F]+")


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


def brief(value: Any) -> str:
    """Say a value in a line, in full where it is small.

    >>> brief({"rates": (0.1, 0.2)}), brief([*range(1000)])
    ("{'rates': (0.1, 0.2)}", '[0, 1, 2, 3, 4, 5, ... 1000 in all]')
    """
    if isinstance(value, Enum):
        return f"{type(value).__qualname__}.{value.name}"
    if is_array(value) or is_table(value):
        return array_in_words(value, small=True)
    if hasattr(value, "__qualname__"):
        return describe(value)
    if isinstance(value, Mapping):
        return _joined("{", (f"{brief(k)}: {brief(v)}" for k, v in value.items()), len(value), "}")
    if type(value) is tuple and len(value) == 1:
        return f"({brief(value[0])},)"
    if type(value) in (tuple, list):
        begin, end = "()" if type(value) is tuple else "[]"
        return _joined(begin, map(brief, value), len(value), end)
    return model_in_words(value) or _cut(repr(value))


def _joined(begin: str, items: Iterator[str], number: int, end: str) -> str:
    if number <= _MOST_ITEMS:
        return f"{begin}{', '.join(items)}{end}"
    some = [next(items) for _ in range(_MOST_ITEMS)]
    return f"{begin}{', '.join(some)}, ... {number} in all{end}"


def _cut(text: str) -> str:
    line = _ADDRESS.sub("", " ".join(text.split()) if "\n" in text else text)
    return line if len(line) <= _MOST_SHOWN else f"{line[:_MOST_SHOWN]}..."


def array_in_words(array: Any, *, small: bool = False) -> str:
    """Name a tensor, an array or a frame by its type, elements and shape.

    Args:
        array: the array.
        small: write one of a single element as it prints.
    """
    if is_table(array):
        return f"{type(array).__name__} of shape {getattr(array, 'shape', '?')}"
    kind = str(array.dtype).removeprefix("torch.")
    if getattr(array, "is_nested", False):
        return f"nested {type(array).__name__} {kind} of {array.size(0)} tensors"
    shape = tuple(array.shape)
    if small and math.prod(shape) == 1:
        return _cut(repr(array))
    return f"{type(array).__name__} {kind} of shape {shape}"
