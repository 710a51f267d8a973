"""Equality that is always a bool, tensors and arrays included, without importing torch.

Law: `same` is an equivalence on values whose own `==` is one.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence, Set
from typing import Protocol, cast, runtime_checkable

import attrs
from typing_extensions import TypeIs


@runtime_checkable
class _Array(Protocol):
    @property
    def shape(self) -> object: ...
    @property
    def dtype(self) -> object: ...


class _Mask(Protocol):
    def __and__(self, other: _Mask) -> _Mask: ...
    def __or__(self, other: _Mask) -> _Mask: ...
    def all(self) -> object: ...


def same(a: object, b: object) -> bool:
    """Tell whether two values are identical or equal, numbers of any type by their value.

    Tensors and arrays are equal in shape, dtype and content, not-a-numbers at equal places
    included; containers and attrs records are compared part by part.
    """
    if a is b:
        return True
    if type(a) is not type(b):
        return bool(a == b) if _plain(a) and _plain(b) else False
    if is_array(a) and is_array(b):
        try:
            return are_of_a_kind(a, b) and bool(equal_elements(a, b).all())
        except (NotImplementedError, RuntimeError, TypeError):
            return False  # of a layout or on a device that compares nothing
    if isinstance(a, float) and isinstance(b, float):
        return a == b or (math.isnan(a) and math.isnan(b))
    if isinstance(a, str | bytes):
        return a == b
    kind = type(a)
    if attrs.has(kind) and kind.__eq__ is not object.__eq__:
        return all(
            same(getattr(a, field.name), getattr(b, field.name))
            for field in attrs.fields(kind)
            if field.eq
        )
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return len(a) == len(b) and all(key in b and same(a[key], b[key]) for key in a)
    if isinstance(a, Sequence) and isinstance(b, Sequence) and not isinstance(a, range):
        return len(a) == len(b) and all(map(same, a, b))
    if dataclasses.is_dataclass(a) and not isinstance(a, type):
        return all(
            same(getattr(a, field.name), getattr(b, field.name))
            for field in dataclasses.fields(a)
            if field.compare
        )
    try:
        return bool(a == b)
    except (RuntimeError, TypeError, ValueError):
        # An own class whose == compares tensors by their truth value.
        return hasattr(a, "__dict__") and same(vars(a), vars(b))


def _plain(value: object) -> bool:
    return isinstance(value, int | float | complex | Set | Mapping) and not is_array(value)


def is_array(value: object) -> TypeIs[_Array]:
    """Tell whether a value is a tensor or an array."""
    return isinstance(value, _Array)


def are_of_a_kind(a: _Array, b: _Array) -> bool:
    """Tell whether two arrays can be compared element by element."""
    return bool(a.shape == b.shape and a.dtype == b.dtype)


def equal_elements(a: _Array, b: _Array) -> _Mask:
    """Tell of each element of two arrays of a kind whether it is equal, or no number in both.

    Raises:
        NotImplementedError: of this layout or on this device nothing is compared; a RuntimeError or
            TypeError may say so too.
    """
    if hasattr(a, "device") and hasattr(b, "to"):
        b = b.to(a.device)
    # Only a not-a-number differs from itself.
    return cast(_Mask, a == b) | (cast(_Mask, a != a) & cast(_Mask, b != b))
