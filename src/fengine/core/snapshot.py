"""Snapshots: what a state is as plain data, and what plain data is as the fields of a state.

Plain data is what JSON knows: dicts with strings as keys, strings, numbers, booleans and None. Only
the user knows what a batch, an output and a `user` are, so functions of the user's write and read
those slots. A dict is checked whole before anything is made of it, and nothing in it is guessed.

Does not live here: `State` itself, which is written and read by this (`state`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Final, NoReturn, TypeAlias

import attrs
from immutables import Map
from typing_extensions import override

from fengine.core.events import AnyEvent, Event, PayloadEvent
from fengine.core.ledger import Failure, Ledger
from fengine.core.limits import Limits
from fengine.core.missing import MISSING
from fengine.core.outcome import Status
from fengine.core.registry import EventRegistry
from fengine.core.requests import Interrupt, Recovery, Requests, Terminate, TerminateEpoch

SCHEMA: Final = 1

Slot: TypeAlias = Callable[[Any], Any] | None
_Reader: TypeAlias = Callable[[object, str], Any]

_MOST_SHOWN: Final = 60


class SnapshotError(ValueError):
    """Tell that plain data is not what a state or a snapshot was written as.

    Args:
        path: where in the data, such as `ledger.offset`.
        reason: what is wrong there.

    >>> from fengine import State
    >>> plain = State(epoch=2, iteration=7).to_dict()
    >>> State.from_dict(plain | {"iteration": "7"})
    Traceback (most recent call last):
    fengine.core.snapshot.SnapshotError: iteration: '7' of type str is not an int
    """

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"{path}: {reason}" if path else reason)

    @override
    def __reduce__(self) -> tuple[type[SnapshotError], tuple[str, str]]:
        """Give what `copy` and `pickle` make it of."""
        return SnapshotError, (self.path, self.reason)


def write(fields: Mapping[str, Any], *, user: Slot, output: Slot, batch: Slot) -> dict[str, Any]:
    """Give the fields of a state as plain data; the functions write the slots."""
    plain: dict[str, Any] = {"schema": SCHEMA}
    for name, value in fields.items():
        if name not in ("_batch", "_output", "user"):
            plain[name] = _plain(value)
    _map_of(_number)(plain["metrics"], "metrics")  # what is no number is found before it is lost
    plain["batch"] = _filled(fields["_batch"], batch)
    plain["output"] = _filled(fields["_output"], output)
    plain["user"] = fields["user"] if user is None else user(fields["user"])
    return plain


def read(
    plain: object, events: EventRegistry, *, user: Slot, output: Slot, batch: Slot
) -> dict[str, Any]:
    """Give the fields of a state from plain data; the functions read the slots.

    Raises:
        SnapshotError: the data is not what `write` gives.
    """
    fields = read_fields(
        plain,
        "",
        {
            "schema": read_schema,
            "iteration": _integer(0),
            "epoch": _integer(0),
            "batches": _integer(0),
            "event": _optional(_event(events)),
            "requests": _REQUESTS,
            "metrics": _map_of(_number),
            "limits": _LIMITS,
            "counts": _map_of(_integer(0), events),
            "ledger": _ledger(events),
            "batch": _slot,
            "output": _slot,
            "user": _as_it_is,
        },
    )
    del fields["schema"]
    _refuse_contradictions(fields)
    for name, reader in (("batch", batch), ("output", output), ("user", user)):
        if reader is not None and fields[name] is not MISSING:
            fields[name] = reader(fields[name])
    return fields


def read_fields(value: object, path: str, readers: Mapping[str, _Reader]) -> dict[str, Any]:
    """Read a dict that has exactly these keys.

    Raises:
        SnapshotError: it is no dict, a key is missing or not known, or a reader refuses its value.
    """
    if not isinstance(value, Mapping):
        _refuse(value, path, "a dict")
    if "schema" in readers and "schema" in value:
        read_schema(value["schema"], "schema")  # another schema may have other keys
    for name in readers:
        if name not in value:
            raise SnapshotError(_join(path, name), "is missing")
    for name in value:
        if name not in readers:
            raise SnapshotError(_join(path, name), f"is not known; known are {', '.join(readers)}")
    return {name: read(value[name], _join(path, name)) for name, read in readers.items()}


def read_schema(value: object, path: str) -> object:
    """Read the number of the schema.

    Raises:
        SnapshotError: this version does not know it.
    """
    if type(value) is int and value > SCHEMA:
        raise SnapshotError(
            path, f"{value} is that of a newer fengine; this one reads {SCHEMA}, so update it"
        )
    if type(value) is not int or value < SCHEMA:
        raise SnapshotError(path, f"{_shown(value)} is no schema; this fengine reads {SCHEMA}")
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, Event | PayloadEvent):
        return value.name
    if isinstance(value, Enum):
        return value.name.lower()
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    if attrs.has(type(value)):
        parts = attrs.asdict(value, recurse=False)
        return {name: _plain(part) for name, part in parts.items()}
    return value


def _filled(value: object, slot: Slot) -> dict[str, Any] | None:
    if value is MISSING:
        return None
    return {"value": value if slot is None else slot(value)}


def _slot(value: object, path: str) -> object:
    if value is None:
        return MISSING
    return read_fields(value, path, {"value": _as_it_is})["value"]


def _as_it_is(value: object, path: str) -> object:
    return value


def _integer(least: int | None = None) -> _Reader:
    def read(value: object, path: str) -> int:
        if type(value) is not int:
            _refuse(value, path, "an int")
        if least is not None and value < least:
            raise SnapshotError(path, f"{value} is too small; it is at least {least}")
        return value

    return read


def _flag(value: object, path: str) -> bool:
    if type(value) is not bool:
        _refuse(value, path, "a bool")
    return value


def _number(value: object, path: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        _refuse(value, path, "an int or a float")
    return value


def _optional(reader: _Reader) -> _Reader:
    return lambda value, path: None if value is None else reader(value, path)


def _one_of(kind: type[Enum]) -> _Reader:
    members = {member.name.lower(): member for member in kind}

    def read(value: object, path: str) -> Enum:
        if not isinstance(value, str) or value not in members:
            raise SnapshotError(path, f"{_shown(value)} is not one of {', '.join(members)}")
        return members[value]

    return read


def _event(events: EventRegistry) -> _Reader:
    known = {event.name: event for event in events.events}

    def read(value: object, path: str) -> AnyEvent:
        if not isinstance(value, str) or value not in known:
            raise SnapshotError(
                path,
                f"{_shown(value)} is no known event; known are {', '.join(known)}. Give the events "
                "of the loop that goes on: events=loop.registry",
            )
        return known[value]

    return read


def _map_of(reader: _Reader, events: EventRegistry | None = None) -> _Reader:
    """Read a dict into a map; where events are given, its keys name some of them."""
    name_of = None if events is None else _event(events)

    def read(value: object, path: str) -> Map[str, Any]:
        if not isinstance(value, Mapping):
            _refuse(value, path, "a dict")
        for name in value:
            if not isinstance(name, str):
                raise SnapshotError(path, f"the key {_shown(name)} is not a string")
            if name_of is not None:
                name_of(name, _join(path, name))
        return Map({name: reader(part, _join(path, name)) for name, part in value.items()})

    return read


def _record(kind: Callable[..., object], **readers: _Reader) -> _Reader:
    return lambda value, path: kind(**read_fields(value, path, readers))


_LIMITS: Final = _record(
    Limits,
    max_epochs=_optional(_integer(1)),
    max_iters=_optional(_integer(1)),
    epoch_length=_optional(_integer(1)),
)
_REQUESTS: Final = _record(
    Requests,
    terminate=_optional(_one_of(Terminate)),
    terminate_epoch=_optional(_one_of(TerminateEpoch)),
    interrupt=_optional(_one_of(Interrupt)),
    recovery=_optional(_one_of(Recovery)),
)


def _ledger(events: EventRegistry) -> _Reader:
    return _record(
        Ledger,
        status=_one_of(Status),
        attributes=_map_of(_integer()),
        counts_before=_map_of(_integer(0), events),
        offset=_integer(),
        passes=_integer(0),
        drawn_before=_integer(0),
        batch_due=_flag,
        failure=_optional(_one_of(Failure)),
        has_data=_flag,
    )


def _refuse_contradictions(fields: Mapping[str, Any]) -> None:
    """Refuse fields that are right one by one, but that no run has together."""
    limits, ledger, counts = fields["limits"], fields["ledger"], fields["counts"]
    for name, limit in (
        ("epoch", limits.max_epochs),
        ("iteration", limits.max_iters),
        ("batches", limits.epoch_length),
    ):
        if limit is not None and fields[name] > limit:
            raise SnapshotError(name, f"{fields[name]} is beyond the limit, which is {limit}")
    for name in ("iteration", "batches"):
        if fields[name] and not fields["epoch"]:
            raise SnapshotError(name, f"{fields[name]} is impossible before the first epoch")
    drawn = fields["batches"] + ledger.offset
    if drawn < 0:
        raise SnapshotError(
            "ledger.offset", f"{ledger.offset} with batches={fields['batches']} is below 0"
        )
    if ledger.drawn_before and not ledger.passes:
        raise SnapshotError(
            "ledger.drawn_before", f"{ledger.drawn_before} is impossible in the first pass"
        )
    for name, count in ledger.counts_before.items():
        if count > counts.get(name, 0):
            raise SnapshotError(
                f"ledger.counts_before.{name}",
                f"{count} is more than counts.{name}, which is {counts.get(name, 0)}",
            )
    if not ledger.has_data and limits.epoch_length is None:
        raise SnapshotError("ledger.has_data", "without data, limits.epoch_length is not None")
    if ledger.batch_due and fields["batch"] is not MISSING:
        raise SnapshotError("ledger.batch_due", "is true although the batch is here")
    if ledger.batch_due and ledger.has_data and not (drawn or ledger.drawn_before):
        raise SnapshotError("ledger.batch_due", "is true although no batch was ever drawn")


def _refuse(value: object, path: str, wanted: str) -> NoReturn:
    raise SnapshotError(path, f"{_shown(value)} of type {type(value).__name__} is not {wanted}")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."


def _join(path: str, name: object) -> str:
    return f"{path}.{name}" if path else str(name)
