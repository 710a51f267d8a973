"""Plain data: what a state is as plain data, and what plain data is as the fields of a state.

Plain data is what JSON knows: dicts with strings as keys, strings, numbers, booleans and None. Only
the user knows what a batch, an output and a `user` are, so functions of the user's write and read
those slots. A dict is checked whole before anything is made of it, and nothing in it is guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from operator import attrgetter
from types import SimpleNamespace
from typing import Any, Final, TypeAlias

import attrs
from immutables import Map

from fengine.core import phases
from fengine.core.describe import brief, describe
from fengine.core.events import Event, PayloadEvent
from fengine.core.limits import Limits
from fengine.core.missing import MISSING
from fengine.core.notes import Notes
from fengine.core.outcome import Failure, Status
from fengine.core.parts import Part
from fengine.core.phases import PHASES, has_batch_to_come, has_step_to_come, rank_of
from fengine.core.registry import EventRegistry
from fengine.core.requests import Interrupt, Recovery, Requests, Terminate, TerminateEpoch
from fengine.core.state import State
from fengine.keep.readers import (
    Reader,
    SnapshotError,
    as_it_is,
    event_among,
    flag,
    integer,
    list_of,
    map_of,
    number,
    one_of,
    optional,
    read_fields,
    record,
    refuse,
    text,
)
from fengine.keep.structure import is_structured, kind_like, plain_of, plain_part, record_of
from fengine.run.place import without_batch

SCHEMA: Final = 2
# Those that are read: the first one knows no parts.
_SCHEMAS: Final = (1, SCHEMA)

Slot: TypeAlias = Callable[[Any], Any] | None


def written(
    state: State[Any, Any, Any], *, user: Slot, output: Slot, batch: Slot
) -> dict[str, Any]:
    """Return a state as plain data; the functions write the slots.

    Raises:
        SnapshotError: a metric is not a number.
    """
    if batch is None:
        state = without_batch(state)
    plain: dict[str, Any] = {"schema": SCHEMA}
    for name in _COUNTERS:
        plain[name] = getattr(state, name)
    for name in ("event", "requests", "metrics", "limits", "counts"):
        plain[name] = _plain(getattr(state, name))
    ledger = {note: _plain(field(state)) for note, field in _NOTES.items()}
    plain["ledger"] = {
        note: value
        for note, value in ledger.items()
        if note not in _LATER_NOTES or value != _LATER_NOTES[note]
    }
    map_of(number)(plain["metrics"], "metrics")  # what is no number is found before it is lost
    plain["batch"] = _filled(state._batch, batch)
    plain["output"] = _filled(state._output, output)
    plain["user"] = plain_of(state.user, "user") if user is None else user(state.user)
    plain["parts"] = {name: plain_part(part, f"parts.{name}") for name, part in state.parts.items()}
    return plain


_COUNTERS: Final = ("iteration", "epoch", "batches")


def _named(handlers: tuple[str, ...] | None) -> list[str] | None:
    """Return the names of the handlers that have run, but of none that only looked on."""
    return None if handlers is None else [name for name in handlers if name]


# What stands in the "ledger" of the data, with the field that it is: the notes of the loop.
_NOTES: Final[dict[str, Callable[[State[Any, Any, Any]], Any]]] = {
    "status": attrgetter("status"),
    "attributes": attrgetter("attributes"),
    "counts_before": attrgetter("_counts_before"),
    "offset": attrgetter("_offset"),
    "passes": attrgetter("passes"),
    "fired": attrgetter("_notes.fired"),
    "drawn_before": attrgetter("_drawn_before"),
    "exhausted": attrgetter("_exhausted"),
    "batch_due": attrgetter("_notes.batch_due"),
    "failure": attrgetter("failure"),
    "has_data": attrgetter("_notes.has_data"),
    "length_of_data": attrgetter("_notes.length_of_data"),
    "handled": lambda state: _named(state._handled),
    "paused_after": lambda state: _named(state._notes.paused_after),
}
# Notes that version 0.1 did not have, which are left out where they say nothing.
_LATER_NOTES: Final = {
    "length_of_data": False,
    "fired": 0,
    "handled": None,
    "paused_after": None,
}


def read(
    plain: object,
    events: EventRegistry,
    parts: Mapping[str, Part[Any]],
    *,
    user: Slot,
    output: Slot,
    batch: Slot,
) -> dict[str, Any]:
    """Return the fields of a state from plain data; types or functions read the slots.

    Raises:
        SnapshotError: the data is not what `written` returns.
    """
    if isinstance(plain, Mapping) and plain.get("schema") == 1:
        plain = {**plain, "parts": {}}
    fields = read_fields(
        plain,
        "",
        {
            "schema": read_schema,
            "iteration": integer(0),
            "epoch": integer(0),
            "batches": integer(0),
            "event": optional(event_among(events)),
            "requests": _REQUESTS,
            "metrics": map_of(number),
            "limits": _LIMITS,
            "counts": map_of(integer(0), events),
            "ledger": _ledger(events),
            "batch": _slot,
            "output": _slot,
            "user": as_it_is,
            "parts": _parts(parts),
        },
    )
    del fields["schema"]
    _refuse_contradictions(fields)
    fields |= vars(fields.pop("ledger"))
    fields["notes"] = Notes(**{name: fields.pop(name) for name in _IN_NOTES}, is_read=True)
    for name, reader in (("batch", batch), ("output", output), ("user", user)):
        if reader is not None and fields[name] is not MISSING:
            fields[name] = _read_slot(name, fields[name], reader)
    return fields


_IN_NOTES: Final = (
    "has_data",
    "length_of_data",
    "batch_due",
    "fired",
    "failure",
    "paused_after",
)


def _parts(known: Mapping[str, Part[Any]]) -> Reader:
    def read(value: object, path: str) -> Map[str, object]:
        if not isinstance(value, Mapping):
            refuse(value, path, "a dict")
        for name in value:
            if name not in known:
                raise SnapshotError(
                    f"{path}.{name}",
                    f"is no known part; known are {', '.join(known) or 'none'}. Read it by a loop "
                    "that has the features of the run: loop.read(plain), or parts=loop.parts. One "
                    "that nobody uses any more is named by loop.with_part(key)",
                )
        return Map(
            {
                name: record_of(part, kind_like(known[name].initial), f"{path}.{name}")
                for name, part in value.items()
            }
        )

    return read


def _read_slot(name: str, value: object, reader: Any) -> object:
    if is_structured(reader):
        return record_of(value, reader, name)
    try:
        return reader(value)
    except Exception as error:
        reason = f"{describe(reader)} raised {error!r} on {brief(value)}"
        raise SnapshotError(name, reason) from error


def read_schema(value: object, path: str) -> object:
    """Read the number of the schema.

    Raises:
        SnapshotError: this version does not know it.
    """
    if type(value) is int and value > SCHEMA:
        raise SnapshotError(
            path, f"{value} is that of a newer fengine; this one reads {SCHEMA}, so update it"
        )
    if type(value) is not int or value not in _SCHEMAS:
        raise SnapshotError(path, f"{brief(value)} is no schema; this fengine reads {_SCHEMAS}")
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
    return read_fields(value, path, {"value": as_it_is})["value"]


_LIMITS: Final = record(
    Limits,
    max_epochs=optional(integer(1)),
    max_iters=optional(integer(1)),
    epoch_length=optional(integer(1)),
)
_REQUESTS: Final = record(
    Requests,
    terminate=optional(one_of(Terminate)),
    terminate_epoch=optional(one_of(TerminateEpoch)),
    interrupt=optional(one_of(Interrupt)),
    recovery=optional(one_of(Recovery)),
)


def _ledger(events: EventRegistry) -> Reader:
    whole = record(
        SimpleNamespace,
        status=one_of(Status),
        attributes=map_of(integer()),
        counts_before=map_of(integer(0), events),
        offset=integer(),
        passes=integer(0),
        drawn_before=integer(0),
        exhausted=flag,
        batch_due=flag,
        failure=optional(one_of(Failure)),
        has_data=flag,
        fired=integer(0),
        length_of_data=flag,
        handled=optional(list_of(text)),
        paused_after=optional(list_of(text)),
    )
    return lambda value, path: whole(
        {**_LATER_NOTES, **value} if isinstance(value, Mapping) else value, path
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
    _refuse_impossible_place(fields)
    if ledger.batch_due and fields["batch"] is not MISSING:
        raise SnapshotError("ledger.batch_due", "is true although the batch is here")
    if ledger.batch_due and ledger.has_data and not (drawn or ledger.drawn_before):
        raise SnapshotError("ledger.batch_due", "is true although no batch was ever drawn")


def _refuse_impossible_place(fields: Mapping[str, Any]) -> None:
    """Refuse an event at which no such state stands."""
    ledger, event = fields["ledger"], fields["event"]
    name = None if event is None else event.name
    if name in PHASES and PHASES[name].rank is None:
        raise SnapshotError("event", f"no state stands at {name}, which fires aside")
    if ledger.handled is not None and (name is None or ledger.status.has_ended):
        raise SnapshotError("ledger.handled", f"no handler is to run at {name} of this run")
    if ledger.paused_after is not None and (
        name is None or ledger.status is not Status.INTERRUPTED
    ):
        raise SnapshotError("ledger.paused_after", f"no run is paused among handlers of {name}")
    rank = rank_of(name)
    if ledger.status is Status.COMPLETED and rank != phases.COMPLETED:
        raise SnapshotError("ledger.status", f"is completed, but the event is {name}")
    if phases.STARTED < rank < phases.STOPPED and not fields["epoch"]:
        raise SnapshotError("epoch", f"is 0 at {name}")
    if name in PHASES and PHASES[name].attr == "iteration" and not fields["iteration"]:
        raise SnapshotError("iteration", f"is 0 at {name}")
    if has_batch_to_come(rank) and fields["batches"] == fields["limits"].epoch_length:
        raise SnapshotError("batches", f"are all of the epoch at {name}, before one more")
    if has_step_to_come(rank) and fields["batch"] is MISSING and not ledger.batch_due:
        raise SnapshotError("batch", f"is not there at {name}, and ledger.batch_due is false")
