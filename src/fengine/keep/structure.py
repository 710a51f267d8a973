"""Structure: records as plain data, and back, by their types. cattrs does it.

Rules of this file: it is exact. A number is of the type that the record says, where cattrs would
call `int("7")`; a float may be written as an int. An enum is written by the name of its member. A
union whose members are not told apart by what they are written as is written with the name of the
member. A mapping of a class of its own is written as a dict, of which that class makes it again.
What no rule knows, such as a tensor, is left as it is.

cattrs is imported when the first record is written or read, since few programs need it.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from enum import Enum, Flag
from types import NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    Literal,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import attrs
from immutables import Map

from fengine.core.describe import brief, typed
from fengine.core.equality import same
from fengine.keep.readers import SnapshotError

if TYPE_CHECKING:
    from cattrs import Converter

R = TypeVar("R")

_SCALARS: Final = (bool, int, float, complex, str, bytes)
_UNIONS: Final = (Union, UnionType)


def is_structured(kind: object) -> bool:
    """Tell whether a type says how its values are written, so that they are read by it.

    >>> is_structured(tuple[int, ...]), is_structured(len)
    (True, False)
    """
    origin = get_origin(kind)
    if origin is not None:
        return True
    if not isinstance(kind, type):
        return isinstance(kind, UnionType)
    return (
        attrs.has(kind)
        or dataclasses.is_dataclass(kind)
        or issubclass(kind, (*_SCALARS, Enum, Map, tuple, NoneType))
    )


def plain_of(value: object, path: str) -> object:
    """Return a record as plain data; what is no record is left as it is.

    Raises:
        SnapshotError: it would not come back as it is, as where a value in it is not of the type
            that its record says.

    >>> from fengine.features import Patience
    >>> plain_of(Patience(best=0.5), "user")
    {'best': 0.5, 'since': 0}
    """
    if value is None or type(value) in _SCALARS or not is_structured(type(value)):
        return value
    if type(value) is tuple:
        return tuple(plain_of(part, f"{path}[{place}]") for place, part in enumerate(value))
    if isinstance(value, Map):
        return {key: plain_of(part, f"{path}[{key!r}]") for key, part in value.items()}
    kind = kind_like(value)
    try:
        plain: object = _converter().unstructure(value, kind)
    except Exception as error:
        reason = f"{brief(value)} cannot be written: {error}{_hint(error)}"
        raise SnapshotError(path, reason) from error
    _require_same(value, record_of(plain, kind, path), path)
    return plain


def plain_part(value: object, path: str) -> object:
    """Return a part of a state as plain data, which is read by the type of the part alone.

    Raises:
        SnapshotError: it would not come back as it is, as a tuple or a map that holds records.
    """
    plain = plain_of(value, path)
    if isinstance(value, tuple | Map):
        _require_same(value, record_of(plain, kind_like(value), path), path)
    return plain


def _require_same(value: object, again: object, path: str) -> None:
    if not same(again, value):
        raise SnapshotError(
            path,
            f"{brief(value)} would be read again as {brief(again)}; give each field of a "
            "record the very type of what it holds, or write and read it by functions of your own",
        )


def record_of(plain: object, kind: type[R], path: str) -> R:
    """Return plain data as a value of a type.

    Raises:
        SnapshotError: it is not what `plain_of` returns of one; the error names the place.

    >>> from fengine.features import Patience
    >>> record_of({"best": "0.5"}, Patience, "user")
    Traceback (most recent call last):
    fengine.keep.readers.SnapshotError: user.best: '0.5' of type str is not a float
    """
    try:
        return _converter().structure(plain, kind)
    except Exception as error:
        raise _explained(error, kind, path) from error


def kind_like(value: object) -> Any:
    """Return the type of a value; of a generic record, with the types of what it holds.

    >>> from fengine.metrics import Measured
    >>> kind_like(Measured(total=0.0))
    fengine.metrics.measuring.Measured[float]
    """
    kind: Any = type(value)
    parameters = getattr(kind, "__parameters__", ()) if attrs.has(type(value)) else ()
    if not parameters:
        return kind
    attrs.resolve_types(kind)
    held = {field.type: getattr(value, field.name) for field in reversed(attrs.fields(kind))}
    arguments = tuple(kind_like(held[one]) if one in held else object for one in parameters)
    return kind.__class_getitem__(arguments)


def _explained(error: Exception, kind: object, path: str) -> SnapshotError:
    from cattrs import transform_error

    def in_words(one: BaseException, at: type | None) -> str:
        if isinstance(one, KeyError):
            return f"{one.args[0]} is missing"
        return str(one) or repr(one)

    if isinstance(error, NameError):
        return SnapshotError(path, f"{error}{_hint(error)}")
    found = transform_error(error, path, in_words)
    reason, _, place = found[0].rpartition(" @ ")
    more = len(found) - 1
    if not reason:
        reason, place = f"is not what a {_named(kind)} is written as: {error}", path
    return SnapshotError(place, reason + (f"; {more} more are wrong" if more else ""))


def _hint(error: Exception) -> str:
    if not isinstance(error, NameError):
        return ""
    return ". The types of a record are looked up in its module, so define them there"


@functools.cache
def _converter() -> Converter:
    from cattrs import Converter

    made = Converter(
        forbid_extra_keys=True,
        detailed_validation=True,
        structure_fallback_factory=lambda kind: _as_it_is,
        unstruct_collection_overrides={AbstractSet: list},
    )
    for scalar in (*_SCALARS, NoneType):
        made.register_structure_hook(scalar, _exactly)
        made.register_unstructure_hook(scalar, _plain_scalar)
    made.register_structure_hook_func(lambda kind: kind in (object, Any), lambda value, _: value)
    made.register_structure_hook_func(_is_enum, _member)
    made.register_unstructure_hook_func(_is_enum, lambda value: value.name)
    made.register_structure_hook_func(lambda kind: kind is tuple, _tuple)
    made.register_structure_hook_factory(_is_named_tuple, lambda kind: _reading_fields(made, kind))
    made.register_unstructure_hook_factory(
        _is_named_tuple, lambda kind: _writing_fields(made, kind)
    )
    made.register_structure_hook_factory(_is_map, lambda kind: _reading_map(made, kind))
    made.register_unstructure_hook_factory(_is_map, lambda kind: _writing_map(made, kind))
    made.register_structure_hook_factory(
        _is_own_mapping, lambda kind: _reading_own_mapping(made, kind)
    )
    made.register_unstructure_hook_factory(
        _is_own_mapping, lambda kind: _writing_own_mapping(made, kind)
    )
    made.register_structure_hook_factory(_is_union, lambda kind: _reading_union(made, kind))
    made.register_unstructure_hook_factory(_is_union, lambda kind: _writing_union(made, kind))
    return made


def _exactly(value: Any, kind: Any) -> object:
    """Read a number or a text; what is registered for `int` is asked of each IntEnum too."""
    if _is_enum(kind):
        return _member(value, kind)
    if issubclass(kind, Flag) and type(value) is int:
        return kind(value)
    if type(value) is kind:
        return value
    if kind is float and isinstance(value, int | float) and type(value) is not bool:
        return float(value)
    raise TypeError(_mismatch(value, kind))


def _plain_scalar(value: Any) -> object:
    if _is_enum(type(value)):
        return value.name
    if isinstance(value, Flag):
        return value.value
    return float(value) if isinstance(value, float) else value  # numpy has floats of its own


def _as_it_is(value: object, kind: Any) -> object:
    """Take what is left as it is, such as a tensor, if it is of its type."""
    origin = get_origin(kind) or kind
    if isinstance(origin, type) and not isinstance(value, origin):
        raise TypeError(_mismatch(value, kind))
    return value


def _is_enum(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Enum) and not issubclass(kind, Flag)


def _member(value: object, kind: Any) -> object:
    names = kind.__members__
    if not isinstance(value, str) or value not in names:
        raise TypeError(f"{brief(value)} is not one of {', '.join(names)}")
    return names[value]


def _tuple(value: object, kind: object) -> object:
    if not isinstance(value, list | tuple):
        raise TypeError(_mismatch(value, tuple))
    return tuple(value)


def _is_named_tuple(kind: Any) -> bool:
    origin = get_origin(kind) or kind
    return isinstance(origin, type) and issubclass(origin, tuple) and hasattr(origin, "_fields")


def _reading_fields(made: Converter, kind: Any) -> Callable[[Any, Any], object]:
    hints, names = get_type_hints(get_origin(kind) or kind), (get_origin(kind) or kind)._fields

    def read(value: Any, _: object) -> object:
        if not isinstance(value, Mapping) or set(value) != set(names):
            raise TypeError(f"{brief(value)} is not a dict of {', '.join(names)}")
        parts = (made.structure(value[name], hints.get(name, object)) for name in names)
        return (get_origin(kind) or kind)(*parts)

    return read


def _writing_fields(made: Converter, kind: Any) -> Callable[[Any], object]:
    hints = get_type_hints(get_origin(kind) or kind)

    def write(value: Any) -> object:
        return {
            name: made.unstructure(part, hints[name]) if name in hints else made.unstructure(part)
            for name, part in zip(value._fields, value, strict=True)
        }

    return write


def _is_map(kind: Any) -> bool:
    return kind is Map or get_origin(kind) is Map


def _items(kind: Any) -> tuple[Any, Any]:
    key, item = get_args(kind) or (object, object)
    return key, item


def _reading_map(made: Converter, kind: Any) -> Callable[[Any, Any], object]:
    key, item = _items(kind)

    def read(value: Any, _: object) -> object:
        return Map(made.structure(value, dict[key, item]))  # type: ignore[valid-type]

    return read


def _writing_map(made: Converter, kind: Any) -> Callable[[Any], object]:
    key, item = _items(kind)

    def write(value: Any) -> object:
        if item is object:
            return {name: _anything(made, part) for name, part in value.items()}
        return made.unstructure(dict(value), dict[key, item])  # type: ignore[valid-type]

    return write


def _is_own_mapping(kind: Any) -> bool:
    origin = get_origin(kind) or kind
    return (
        isinstance(origin, type)
        and issubclass(origin, Mapping)
        and not issubclass(origin, dict | Map)
        and not inspect.isabstract(origin)
    )


def _item(kind: Any) -> Any:
    return (get_args(kind) or (object,))[-1]


def _reading_own_mapping(made: Converter, kind: Any) -> Callable[[Any, Any], object]:
    item, origin = _item(kind), get_origin(kind) or kind

    def read(value: Any, _: object) -> object:
        if not isinstance(value, Mapping):
            raise TypeError(_mismatch(value, dict))
        return origin(made.structure(dict(value), dict[str, item]))  # type: ignore[valid-type]

    return read


def _writing_own_mapping(made: Converter, kind: Any) -> Callable[[Any], object]:
    item = _item(kind)

    def write(value: Any) -> object:
        if item in (object, Any):
            return {name: _anything(made, part) for name, part in value.items()}
        return {name: made.unstructure(part, item) for name, part in value.items()}

    return write


def _anything(made: Converter, value: Any) -> object:
    """Write a value of whose type nothing is said; tuples stay tuples."""
    if type(value) is tuple:
        return tuple(_anything(made, part) for part in value)
    return made.unstructure(value)


def _is_union(kind: Any) -> bool:
    return get_origin(kind) in _UNIONS


def _reading_union(made: Converter, kind: Any) -> Callable[[Any, Any], object]:
    members = get_args(kind)
    by_shape = {_shape(member): member for member in members}

    def read(value: Any, _: object) -> object:
        if len(by_shape) < len(members):
            named = {_named(member): member for member in members}
            if not isinstance(value, Mapping) or value.get("type") not in named:
                raise TypeError(f"{brief(value)} is not one of {', '.join(named)}")
            return made.structure(value["value"], named[value["type"]])
        shape = _shape_of(value)
        member = by_shape.get(shape)
        if member is None and shape == "int":
            member = by_shape.get("float")
        if member is None:
            member = by_shape.get("other")
        if member is None:
            raise TypeError(_mismatch(value, kind))
        return made.structure(value, member)

    return read


def _writing_union(made: Converter, kind: Any) -> Callable[[Any], object]:
    members = get_args(kind)
    tagged = len({_shape(member) for member in members}) < len(members)

    def write(value: object) -> object:
        for member in members:
            if _is_of(value, member):
                anything = member in (object, Any)
                plain = _anything(made, value) if anything else made.unstructure(value, member)
                return {"type": _named(member), "value": plain} if tagged else plain
        raise TypeError(_mismatch(value, kind))

    return write


def _is_of(value: object, member: Any) -> bool:
    origin = get_origin(member) or member
    if origin is Literal:
        return value in get_args(member)
    if origin in (object, Any):
        return True
    if type(value) is bool or origin in (bool, int, str):
        return type(value) is origin
    if origin is float:
        return type(value) in (int, float)
    if not isinstance(origin, type):
        return True
    is_record = attrs.has(origin) or dataclasses.is_dataclass(origin)
    return type(value) is origin if is_record else isinstance(value, origin)


def _shape(member: Any) -> str:
    """Say as what a member of a union is written."""
    origin = get_origin(member) or member
    if origin is Literal:
        shapes = {_shape_of(one) for one in get_args(member)}
        return shapes.pop() if len(shapes) == 1 else "other"
    if not isinstance(origin, type):
        return "other"
    if _is_enum(origin):
        return "str"
    if _is_named_tuple(origin):
        return "dict"
    if origin in (bool, int, float, str, NoneType):
        return str(origin.__name__)
    if issubclass(origin, tuple | list | set | frozenset):
        return "list"
    is_record = attrs.has(origin) or dataclasses.is_dataclass(origin)
    return "dict" if is_record or issubclass(origin, Mapping) or _is_map(member) else "other"


def _shape_of(plain: object) -> str:
    if isinstance(plain, Mapping):
        return "dict"
    if isinstance(plain, list | tuple | set | frozenset):
        return "list"
    kind = type(plain)
    return kind.__name__ if kind in (bool, int, float, str, NoneType) else "other"


def _named(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) and not get_args(kind) else str(kind)


def _mismatch(value: object, kind: object) -> str:
    return f"{typed(value)} is not {_article(_named(kind))}"


def _article(name: str) -> str:
    return f"an {name}" if name[0] in "aeiouAEIOU" else f"a {name}"
