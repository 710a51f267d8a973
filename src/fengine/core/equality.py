"""Equality that is always a bool, tensors, arrays and frames included, without importing any of it.

Law: `same` is an equivalence on values whose own `==` is one.

A pair of values is decided at once, or is as equal as the pairs of its parts. Those are put on a
stack: so values may be nested as deep as they like, and may hold themselves.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence, Set
from typing import Any, TypeAlias, cast, final

import attrs
from immutables import Map
from typing_extensions import override

# Whether two values are the same, or the pairs of parts that say so.
Verdict: TypeAlias = bool | list[tuple[Any, Any]]


def same(a: object, b: object) -> bool:
    """Tell whether two values are identical or equal, numbers of any type by their value.

    Tensors and arrays are equal in shape, dtype and content, not-a-numbers at equal places
    included; so are frames, with their labels. Containers and attrs records are compared part by
    part.
    """
    pairs = [(a, b)]
    met: dict[tuple[int, int], tuple[object, object]] = {}
    while pairs:
        a, b = pairs.pop()
        if a is b:
            continue
        verdict = _verdict(a, b)
        if verdict is False:
            return False
        if verdict is True or (id(a), id(b)) in met:
            continue
        met[id(a), id(b)] = a, b  # what is held here keeps its id
        pairs += verdict
    return True


def is_array(value: object) -> bool:
    """Tell whether a value is a tensor or an array."""
    try:
        return hasattr(value, "dtype") and hasattr(type(value), "shape")
    except Exception:
        return False  # an attribute that raises


def is_masked(array: object) -> bool:
    """Tell whether an array masks some of its elements."""
    return hasattr(array, "mask") and hasattr(array, "filled")


def is_table(value: object) -> bool:
    """Tell whether a value is a frame, a series or the like of pandas."""
    return any(kind.__module__.partition(".")[0] == "pandas" for kind in type(value).__mro__)


def unequal_elements(a: Any, b: Any) -> tuple[int, int] | None:
    """Return how many elements of two arrays differ, and how many there are.

    None where they have none in common, or cannot be counted.
    """
    try:
        if (
            not is_array(a)
            or not is_array(b)
            or not _are_of_a_kind(a, b)
            or _verdict_of_special(a, b) is not None
        ):
            return None
        equal = _equal_elements(a, b)
        size: int = equal.numel() if hasattr(equal, "numel") else equal.size
        return size - int(equal.sum()), size
    except Exception:
        return None  # of a layout or on a device that compares nothing


def _verdict(a: Any, b: Any) -> Verdict:
    try:
        return _decided(a, b)
    except Exception:
        return False  # a part of them cannot be read


def _decided(a: Any, b: Any) -> Verdict:
    kind = type(a)
    if kind is not type(b):
        return _decided_across(a, b)
    if isinstance(a, str | bytes | int):
        return bool(a == b)
    if is_table(a):
        return _decided_tables(a, b)
    if is_array(a):
        return _decided_arrays(a, b)
    if isinstance(a, float):
        return a == b or (math.isnan(a) and math.isnan(b))
    if isinstance(a, complex):
        return [(a.real, b.real), (a.imag, b.imag)]
    if attrs.has(kind) and kind.__eq__ is not object.__eq__:
        return [
            (_compared(field, a), _compared(field, b)) for field in attrs.fields(kind) if field.eq
        ]
    if isinstance(a, Mapping):
        return _decided_mappings(a, b)
    if isinstance(a, Sequence) and not isinstance(a, range | bytearray | memoryview):
        return len(a) == len(b) and list(zip(a, b, strict=True))
    if dataclasses.is_dataclass(a) and not isinstance(a, type):
        names = [field.name for field in dataclasses.fields(a) if field.compare]
        return [(getattr(a, name), getattr(b, name)) for name in names]
    return _decided_by_itself(a, b)


def _decided_across(a: Any, b: Any) -> Verdict:
    """Decide for values of different types, of which numbers, sets and maps can be equal."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return not isinstance(a, Map) and not isinstance(b, Map) and _decided_mappings(a, b)
    if is_array(a) or is_array(b):
        return False
    plain = (int, float, complex, Set)
    return isinstance(a, plain) and isinstance(b, plain) and bool(a == b)


def _decided_mappings(a: Mapping[Any, Any], b: Mapping[Any, Any]) -> Verdict:
    return len(a) == len(b) and all(key in b for key in a) and [(a[key], b[key]) for key in a]


def _compared(field: Any, record: object) -> object:
    """Return what a field of a record is compared by."""
    value = getattr(record, field.name)
    return value if field.eq_key is None else field.eq_key(value)  # as its own == does


def _decided_by_itself(a: Any, b: Any) -> Verdict:
    """Ask an own class for its `==`; one that gives no bool is compared by what it holds."""
    try:
        answer: object = a == b
        if type(answer) is not bool and hasattr(a, "equals"):
            answer = a.equals(b)  # so is that of frames that compare element by element
        return bool(answer)
    except Exception:
        held = _held(a)
        return bool(held) and [(held, _held(b))]


def _held(value: object) -> dict[str, object]:
    """Return the attributes of an object, also of one with slots."""
    slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
    held = {name: getattr(value, name) for name in slots if hasattr(value, name)}
    return {**held, **getattr(value, "__dict__", {})}


def _decided_tables(a: Any, b: Any) -> Verdict:
    """Compare what pandas has: labels, dtypes and content."""
    if hasattr(a, "columns"):
        shape = a.shape == b.shape
        columns = shape and [(a.iloc[:, place], b.iloc[:, place]) for place in range(a.shape[1])]
        return columns and _labels(a.index, b.index) and _labels(a.columns, b.columns) and columns
    if hasattr(a, "index") and hasattr(a, "array"):
        return (
            len(a) == len(b)
            and a.dtype == b.dtype
            and _labels(a.index, b.index)
            and [(a.name, b.name), (a.array, b.array)]
        )
    if hasattr(a, "nlevels"):
        return _labels(a, b)
    if str(getattr(a, "dtype", "")) == "object":
        return [(list(a), list(b))]
    return _decided_by_itself(a, b)


def _labels(a: Any, b: Any) -> bool:
    return bool(a.equals(b) and a.dtype == b.dtype and list(a.names) == list(b.names))


def _decided_arrays(a: Any, b: Any) -> Verdict:
    special = _verdict_of_special(a, b)
    if special is not None:
        return special
    return _are_of_a_kind(a, b) and bool(_equal_elements(a, b).all())


def _verdict_of_special(a: Any, b: Any) -> Verdict | None:
    """Compare arrays and tensors that do not compare element by element; None for all others."""
    if getattr(a, "is_nested", False) or getattr(b, "is_nested", False):
        same_kind = a.is_nested and b.is_nested and (a.dtype, a.layout) == (b.dtype, b.layout)
        return same_kind and [(list(a.unbind()), list(b.unbind()))]
    if hasattr(a, "to_dense"):
        return _verdict_of_tensors(a, b)
    if hasattr(a, "equals"):  # of other libraries than numpy
        return bool(a.equals(b))
    if not _are_of_a_kind(a, b):
        return False
    if is_masked(a):
        return [(_mask(a), _mask(b)), (a.tolist(), b.tolist())]  # None stands for what is masked
    names = getattr(a.dtype, "names", None)
    if names:
        return [(a[name], b[name]) for name in names]
    if getattr(a.dtype, "hasobject", False):
        return [(a.ravel().tolist(), b.ravel().tolist())]
    return None


def _mask(array: Any) -> list[Any]:
    """Return what is masked, element by element, where all or none of them may be one answer."""
    mask: list[Any] = array.mask.ravel().tolist()
    return mask if len(mask) == array.size else mask * array.size


def _verdict_of_tensors(a: Any, b: Any) -> Verdict | None:
    """Compare tensors of torch whose elements lie elsewhere than in one block."""
    if a.is_quantized:
        return bool(b.is_quantized) and [(a.dequantize(), b.dequantize())]
    if str(a.layout) == str(b.layout) == "torch.strided":
        return None
    if a.layout != b.layout or not _are_of_a_kind(a, b):
        return False
    if "sparse" not in str(a.layout):
        return [(a.to_dense(), b.to_dense())]
    one, other = a.detach().to_sparse_coo(), b.detach().to_sparse_coo()
    if one.sparse_dim() != other.sparse_dim():
        return [(one.to_dense(), other.to_dense())]
    return [(_entries(one), _entries(other))]


def _entries(sparse: Any) -> tuple[Any, Any]:
    """Return where the elements are that are not 0, and what they are."""
    whole = sparse.coalesce()
    values = whole.values()
    kept = values != 0
    kept = kept.flatten(1).any(1) if kept.ndim > 1 else kept
    return whole.indices()[:, kept], values[kept]


def _are_of_a_kind(a: Any, b: Any) -> bool:
    """Tell whether two arrays can be compared element by element."""
    return bool(a.shape == b.shape and a.dtype == b.dtype)


def _equal_elements(a: Any, b: Any) -> Any:
    """Tell of each element of two arrays of a kind whether it is equal, or no number in both."""
    if hasattr(a, "device") and hasattr(b, "to"):
        b = b.to(a.device)
    # Only a not-a-number differs from itself.
    return cast("Any", (a == b) | ((a != a) & (b != b)))


@final
@attrs.frozen(eq=False)
class Content:
    """Compare a value by its content as `same` does: the key of a field of a record.

    >>> Content([1]) == Content([1.0])
    True
    """

    value: object

    @override
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Content) and same(self.value, other.value)

    @override
    def __hash__(self) -> int:
        try:
            return 0 if is_array(self.value) else hash(self.value)
        except TypeError:
            return 0  # such as a list
