"""Fast ways to make a frozen record of another: copy it, or draft it.

`attrs.evolve` looks every field up by name on each call. What is made here is compiled once for the
fields that it replaces, and fills a mutable twin of the record, which then turns into the record.
Validators and converters are skipped, so only transitions use it.

A draft is a twin that has not turned yet, because nobody but its maker has seen it: the next draft
of it fills the same object again. Before anyone sees it, it has to be shown, and from then on it is
a record like any other.

Laws: `copier(kind, *names)(record, *values) == attrs.evolve(record, **dict(zip(names, values)))`;
what a `drafted` function leaves, once it is shown, equals what the function says in its body.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TypeVar, cast

import attrs

Record = TypeVar("Record", bound=attrs.AttrsInstance)
Function = TypeVar("Function", bound=Callable[..., object])


def copier(kind: type[Record], *replaced: str) -> Callable[..., Record]:
    """Compile `function(record, *values)`, which gives the record with those fields replaced.

    Args:
        kind: a frozen attrs record with slots and without a slot for weak references.
        replaced: the names of the fields, in the order of the values.
    """
    values = {name: name for name in replaced}
    lines = [*_copy(kind, values), "    new.__class__ = kind", "    return new"]
    return cast("Callable[..., Record]", _compiled(kind, ("old", *replaced), lines))


def drafted(
    kind: type[attrs.AttrsInstance], *, counting: tuple[str, ...] = (), **fixed: object
) -> Callable[[Function], Function]:
    """Compile a function of a box with a record: it leaves there, as a draft, what its body says.

    Its further parameters have the names of the fields that they replace. A draft that is there is
    filled in place. What the box holds must be shown before others see it.

    What is replaced is let go of when everything is in its place, since that may run code of the
    user's, such as a `__del__`; signals and other threads come at calls only, and there are none.

    Args:
        kind: as for `copier`.
        counting: fields that are raised by one.
        fixed: fields with the values that they get.
    """

    def compiled(function: Function) -> Function:
        code = cast("Callable[..., object]", function).__code__
        names = {field.alias: field.name for field in attrs.fields(kind)}
        given = code.co_varnames[1 : code.co_argcount]
        values = {names[one]: one for one in given} | {names[one]: f"its_{one}" for one in fixed}
        kept = [f"        old{name} = old.{name}" for name in values]
        values |= {name: f"old.{name} + 1" for name in counting}
        filled = [f"        old.{name} = {value}" for name, value in values.items()]
        lines = ["    old = box.state", "    if type(old) is twin:", *kept, *filled]
        lines += ["        return", *_copy(kind, values), "    box.state = new"]
        scope = {f"its_{one}": value for one, value in fixed.items()}
        fast = cast("Function", _compiled(kind, ("box", *given), lines, scope))
        functools.update_wrapper(fast, function)
        return fast

    return compiled


def shower(kind: type[Record]) -> Callable[[Record], Record]:
    """Compile `function(record)`, which turns a draft into the record; any other is one already."""
    lines = ["    if type(old) is twin:", "        old.__class__ = kind", "    return old"]
    return cast("Callable[[Record], Record]", _compiled(kind, ("old",), lines))


def _copy(kind: type[attrs.AttrsInstance], values: Mapping[str, str]) -> list[str]:
    names = [field.name for field in attrs.fields(kind)]
    unknown = set(values) - set(names)
    if unknown:
        raise ValueError(f"{kind.__name__} has no field {sorted(unknown)}; it has {names}")
    filled = [f"    new.{name} = {values.get(name, f'old.{name}')}" for name in names]
    return ["    new = make(twin)", *filled]


def _compiled(
    kind: type[attrs.AttrsInstance],
    parameters: tuple[str, ...],
    lines: list[str],
    values: Mapping[str, object] | None = None,
) -> object:
    scope: dict[str, object] = {"make": object.__new__, "twin": _twin(kind), "kind": kind}
    scope |= values or {}
    exec("\n".join([f"def function({', '.join(parameters)}):", *lines]), scope)
    return scope["function"]


@functools.cache
def _twin(kind: type[attrs.AttrsInstance]) -> type:
    """Make the mutable twin of a record: all that the record is, but for its rule."""
    # Both, or neither is found at once.
    rules = {"__setattr__": object.__setattr__, "__delattr__": object.__delattr__}
    return type(f"_Open{kind.__name__}", (kind,), {"__slots__": (), **rules})
