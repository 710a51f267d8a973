"""The fast constructor of a frozen record: copy it with some fields replaced.

`attrs.evolve` looks every field up by name on each call. A copier is compiled once for the fields
it replaces, into a function that fills a mutable twin of the record and then turns the twin into
the record. It skips validators and converters, so only transitions use it.

Law: `copier(kind, *names)(record, *values) == attrs.evolve(record, **dict(zip(names, values)))`.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import TypeVar, cast

import attrs

Record = TypeVar("Record", bound=attrs.AttrsInstance)


def copier(kind: type[Record], *replaced: str) -> Callable[..., Record]:
    """Compile `function(record, *values)`, which gives the record with those fields replaced.

    Args:
        kind: a frozen attrs record with slots and without a slot for weak references.
        replaced: the names of the fields, in the order of the values.
    """
    names = [field.name for field in attrs.fields(kind)]
    unknown = set(replaced) - set(names)
    if unknown:
        raise ValueError(f"{kind.__name__} has no field {sorted(unknown)}; it has {names}")
    lines = [f"def copy(old, {', '.join(replaced)}):", "    new = make(twin)"]
    lines += [f"    new.{name} = {name if name in replaced else f'old.{name}'}" for name in names]
    lines += ["    new.__class__ = kind", "    return new"]
    scope: dict[str, object] = {"make": object.__new__, "twin": _twin(kind), "kind": kind}
    exec("\n".join(lines), scope)
    return cast("Callable[..., Record]", scope["copy"])


def _twin(kind: type[Record]) -> type:
    """Make the mutable twin of a record: the same layout, and no rules."""
    slots = {"__slots__": tuple(field.name for field in attrs.fields(kind))}
    bases = getattr(kind, "__orig_bases__", kind.__bases__)
    return types.new_class(f"_Open{kind.__name__}", bases, {}, lambda body: body.update(slots))
