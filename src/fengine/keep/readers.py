"""Readers: plain data checked part by part, and refused by the name of the part that is wrong.

A reader takes a value and the path to it, and returns what it stands for. Readers of whole records
are made of readers of their parts.

Does not live here: which parts a state has (`plain_data`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, NoReturn, TypeAlias

from immutables import Map
from typing_extensions import override

from fengine.core.describe import brief, typed
from fengine.core.events import AnyEvent
from fengine.core.registry import EventRegistry

Reader: TypeAlias = Callable[[object, str], Any]


class SnapshotError(ValueError):
    """Tell that plain data is not what a state or a snapshot was written as.

    Args:
        path: where in the data, such as `ledger.offset`.
        reason: what is wrong there.

    >>> from fengine import State
    >>> plain = State(epoch=2, iteration=7).to_dict()
    >>> State.from_dict(plain | {"iteration": "7"})
    Traceback (most recent call last):
    fengine.keep.readers.SnapshotError: iteration: '7' of type str is not an int
    """

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"{path}: {reason}" if path else reason)

    @override
    def __reduce__(self) -> tuple[type[SnapshotError], tuple[str, str]]:
        """Return what `copy` and `pickle` make it of."""
        return SnapshotError, (self.path, self.reason)


def read_fields(value: object, path: str, readers: Mapping[str, Reader]) -> dict[str, Any]:
    """Read a dict that has exactly these keys.

    Raises:
        SnapshotError: it is no dict, a key is missing or not known, or a reader refuses its value.
    """
    if not isinstance(value, Mapping):
        refuse(value, path, "a dict")
    if "schema" in readers and "schema" in value:
        readers["schema"](value["schema"], "schema")  # another schema may have other keys
    for name in readers:
        if name not in value:
            raise SnapshotError(_join(path, name), "is missing")
    for name in value:
        if name not in readers:
            raise SnapshotError(_join(path, name), f"is not known; known are {', '.join(readers)}")
    return {name: read(value[name], _join(path, name)) for name, read in readers.items()}


def as_it_is(value: object, path: str) -> object:
    """Read what only the user knows."""
    return value


def integer(least: int | None = None) -> Reader:
    """Make the reader of an int, of at least some number."""

    def read(value: object, path: str) -> int:
        if type(value) is not int:
            refuse(value, path, "an int")
        if least is not None and value < least:
            raise SnapshotError(path, f"{value} is too small; it is at least {least}")
        return value

    return read


def flag(value: object, path: str) -> bool:
    """Read a bool."""
    if type(value) is not bool:
        refuse(value, path, "a bool")
    return value


def text(value: object, path: str) -> str:
    """Read a string."""
    if not isinstance(value, str):
        refuse(value, path, "a string")
    return value


def number(value: object, path: str) -> float:
    """Read an int or a float."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        refuse(value, path, "an int or a float")
    return value


def optional(reader: Reader) -> Reader:
    """Make a reader that takes None too."""
    return lambda value, path: None if value is None else reader(value, path)


def one_of(kind: type[Enum]) -> Reader:
    """Make the reader of a member's name in lower case."""
    members = {member.name.lower(): member for member in kind}

    def read(value: object, path: str) -> Enum:
        if not isinstance(value, str) or value not in members:
            raise SnapshotError(path, f"{brief(value)} is not one of {', '.join(members)}")
        return members[value]

    return read


def event_among(events: EventRegistry) -> Reader:
    """Make the reader of an event's name."""
    known = {event.name: event for event in events.events}

    def read(value: object, path: str) -> AnyEvent:
        if not isinstance(value, str) or value not in known:
            raise SnapshotError(
                path,
                f"{brief(value)} is no known event; known are {', '.join(known)}. Give the "
                "events of the loop that goes on: events=loop.registry",
            )
        return known[value]

    return read


def map_of(reader: Reader, events: EventRegistry | None = None) -> Reader:
    """Make the reader of a map; where events are given, its keys name some of them."""
    name_of = None if events is None else event_among(events)

    def read(value: object, path: str) -> Map[str, Any]:
        if not isinstance(value, Mapping):
            refuse(value, path, "a dict")
        for name in value:
            if not isinstance(name, str):
                raise SnapshotError(path, f"the key {brief(name)} is not a string")
            if name_of is not None:
                name_of(name, _join(path, name))
        return Map({name: reader(part, _join(path, name)) for name, part in value.items()})

    return read


def list_of(reader: Reader) -> Reader:
    """Make the reader of a list, which is read as a tuple."""

    def read(value: object, path: str) -> tuple[Any, ...]:
        if not isinstance(value, list):
            refuse(value, path, "a list")
        return tuple(reader(part, _join(path, place)) for place, part in enumerate(value))

    return read


def record(kind: Callable[..., object], **readers: Reader) -> Reader:
    """Make the reader of a dict that holds the fields of a record."""
    return lambda value, path: kind(**read_fields(value, path, readers))


def refuse(value: object, path: str, wanted: str) -> NoReturn:
    """Say what should be in this place."""
    raise SnapshotError(path, f"{typed(value)} is not {wanted}")


def _join(path: str, name: object) -> str:
    return f"{path}.{name}" if path else str(name)
