"""State: everything a run knows between two events, as one frozen record.

Here is the record, and what a user may do with it. Nothing here changes its argument. What the loop
does to a run is not here: there the same fields are registers, which are written in place.

A state keeps its fields in its `__dict__`, so that a picture of a run is one copy of a dict.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Generic, NoReturn, SupportsFloat, TypeVar, cast, final

import attrs
from attrs.exceptions import FrozenInstanceError
from immutables import Map
from typing_extensions import TypeVar as DefaultTypeVar
from typing_extensions import override

from fengine.core.equality import same
from fengine.core.events import AnyEvent, Events, rank_at, the_one
from fengine.core.limits import Limits
from fengine.core.metrics import frozen_metrics, metric
from fengine.core.missing import MISSING, Missing
from fengine.core.notes import Notes, unmarked
from fengine.core.outcome import Failure, Status
from fengine.core.parts import P, Part
from fengine.core.phases import GET_BATCH_COMPLETED, has_batch_to_come
from fengine.core.registry import BUILT_IN_EVENTS, EventRegistry
from fengine.core.requests import (
    NO_REQUESTS,
    Interrupt,
    Recovery,
    Requests,
    Terminate,
    TerminateEpoch,
    shared,
)
from fengine.core.showing import shown

Batch = TypeVar("Batch")
Output = TypeVar("Output")
User = DefaultTypeVar("User", default=None)
# Of a state that is read; those of the class stand for a state that is there.
ReadBatch = TypeVar("ReadBatch")
ReadOutput = TypeVar("ReadOutput")
ReadUser = TypeVar("ReadUser")

_OWN_NOTES: Final = (
    "_counts_before",
    "_offset",
    "_drawn_before",
    "_exhausted",
    "_handled",
    "_notes",
)
_NO_LIMITS: Final = Limits()
_NO_METRICS: Final[Map[str, float]] = Map()
_NO_NUMBERS: Final[Map[str, int]] = Map()
_NO_PARTS: Final[Map[str, object]] = Map()


def _count(owner: object, field: attrs.Attribute[int], value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{field.name}={value!r} of type {type(value).__name__} is not an int")
    if value < 0:
        raise ValueError(f"{field.name}={value} is negative; it counts from 0")


def _frozen_parts(parts: Mapping[str, object]) -> Map[str, object]:
    return parts if isinstance(parts, Map) else Map(parts)


def _frozen_counts(counts: Mapping[str, int]) -> Map[str, int]:
    return counts if isinstance(counts, Map) else Map(counts)


@final
@attrs.frozen(eq=False, repr=False, slots=False, kw_only=True)
class State(Generic[Batch, Output, User]):
    """Hold everything a run knows between two events.

    A handler takes a state and returns one; nothing is ever changed in place. Make one by hand to
    test a handler; in a run, the loop does.

    Args:
        iteration: number of iterations begun in the run.
        epoch: number of epochs begun in the run.
        batches: number of batches fetched in this epoch.
        event: the event that the state stands at; None before the run.
        batch: the batch of this iteration; reading it when there is none is an error.
        output: what the step made of it; reading it when there is none is an error.
        user: the user's own record.
        metrics: named results, such as those of an evaluation.
        limits: how long the run is.
        requests: what has been asked of the loop.
        counts: the firings so far of events without a counter attribute, by name.
        status: where the run stands in its life.
        attributes: the counters of mapped events, by name; see `with_attribute`.
        passes: how often iteration over the data was started again.
        parts: what handlers remember, by name; see `part` and `with_part`.

    The other fields are the loop's own notes, and no part of what you can count on.

    Raises:
        TypeError: a counter is not an int, or a metric is not one number.
        ValueError: a counter is negative.

    >>> before = State(epoch=2, iteration=7, output=0.25)
    >>> after = before.evolve(output=0.5).terminate()
    >>> before.output, after.output, after.requests.terminate
    (0.25, 0.5, Terminate.ANNOUNCED)
    >>> before == State(epoch=2, iteration=7, output=0.25)
    True
    """

    iteration: int = attrs.field(default=0, validator=_count)
    epoch: int = attrs.field(default=0, validator=_count)
    batches: int = attrs.field(default=0, validator=_count)
    event: AnyEvent | None = None
    _batch: Batch | Missing = attrs.field(default=MISSING, alias="batch")
    _output: Output | Missing = attrs.field(default=MISSING, alias="output")
    requests: Requests = attrs.field(default=NO_REQUESTS, converter=shared)
    user: User = cast("User", None)
    metrics: Map[str, float] = attrs.field(default=_NO_METRICS, converter=frozen_metrics)
    limits: Limits = _NO_LIMITS
    counts: Map[str, int] = attrs.field(default=_NO_NUMBERS, converter=_frozen_counts)
    status: Status = Status.READY
    attributes: Map[str, int] = attrs.field(default=_NO_NUMBERS, converter=_frozen_counts)
    passes: int = attrs.field(default=0, validator=_count)
    parts: Map[str, object] = attrs.field(default=_NO_PARTS, converter=_frozen_parts)
    # The loop's own notes. The counts at the start of the epoch:
    _counts_before: Map[str, int] = attrs.field(default=_NO_NUMBERS, alias="counts_before")
    # What to add to `batches` for the number of batches drawn in this pass over the data:
    _offset: int = attrs.field(default=0, alias="offset")
    # How many batches were drawn in the pass before:
    _drawn_before: int = attrs.field(default=0, alias="drawn_before")
    # Whether this pass has come to its end, and the next one has not begun:
    _exhausted: bool = attrs.field(default=False, alias="exhausted")
    # Which handlers of the event had run as the state was made; None where there are none to run:
    _handled: tuple[str, ...] | None = attrs.field(default=None, alias="handled", eq=False)
    # What seldom changes. A state that is made of new fields, as by attrs.evolve, is of no run:
    _notes: Notes = attrs.field(default=Notes(), alias="notes", converter=unmarked)

    def __attrs_post_init__(self) -> None:
        # A dict that shares no keys with other states is copied five times as fast.
        set_fields(self, dict(vars(self).items()))

    @override
    def __repr__(self) -> str:
        return shown(self, without=_OWN_NOTES)

    @property
    def batch(self) -> Batch:
        """The batch of this iteration.

        Raises:
            AttributeError: there is none: it is released before the next one is fetched.
        """
        if self._batch is MISSING:
            raise AttributeError(_absent(self, "batch", "from GET_BATCH_COMPLETED on"))
        return self._batch

    @property
    def output(self) -> Output:
        """What the step made of the last batch.

        Raises:
            AttributeError: there is none: the step has not run, or a new batch has come.
        """
        if self._output is MISSING:
            raise AttributeError(_absent(self, "output", "from ITERATION_COMPLETED on"))
        return self._output

    @property
    def has_batch(self) -> bool:
        """Whether `batch` can be read."""
        return self._batch is not MISSING

    @property
    def has_output(self) -> bool:
        """Whether `output` can be read."""
        return self._output is not MISSING

    @property
    def failure(self) -> Failure | None:
        """What failed, as long as nothing has answered it."""
        return self._notes.failure

    @property
    def drawn(self) -> int:
        """How many batches were drawn from the data since its iteration was last started."""
        return self.batches + self._offset

    def evolve(
        self,
        *,
        user: User | Missing = MISSING,
        output: Output | Missing = MISSING,
        batch: Batch | Missing = MISSING,
        metrics: Mapping[str, SupportsFloat] | Missing = MISSING,
    ) -> State[Batch, Output, User]:
        """Give this state with some of the user's fields replaced.

        Counters and limits are the loop's, so they are not among them.

        Args:
            user: the user's record.
            output: the output of the step.
            batch: the batch, for instance augmented.
            metrics: all named results; for one of them see `with_metric`.

        Raises:
            TypeError: a metric is not one number.

        >>> State(user="old").evolve(user="new").user
        'new'
        """
        fields = self.__dict__.copy()
        if user is not MISSING:
            fields["user"] = user
        if output is not MISSING:
            fields["_output"] = output
        if batch is not MISSING:
            fields["_batch"] = batch
        if metrics is not MISSING:
            fields["metrics"] = frozen_metrics(metrics)
        evolved: State[Batch, Output, User] = new_object(State)
        set_fields(evolved, fields)
        return evolved

    def with_metric(self, name: str, value: SupportsFloat) -> State[Batch, Output, User]:
        """Give this state with one named result set.

        Args:
            name: what the result is called.
            value: one number, which is kept as a float; an array or a tensor of one element is one.

        Raises:
            TypeError: `value` is something else, such as a bool, None or several numbers.

        >>> State().with_metric("accuracy", 0.97).metrics["accuracy"]
        0.97
        """
        return _replaced(self, "metrics", self.metrics.set(name, metric(name, value)))

    def part(self, key: Part[P]) -> P:
        """Return a part: what was set last, or what the key begins with.

        >>> State().part(Part("best", 0.5))
        0.5
        """
        return cast("P", self.parts.get(key.name, key.initial))

    def with_part(self, key: Part[P], value: P) -> State[Batch, Output, User]:
        """Return this state with one part set.

        Laws: the part is what was set last; no other part changes; a state whose part is set to
        what the key begins with equals one where it was never set.

        Raises:
            TypeError: `value` is not of the type that the part begins with.

        >>> best = Part("best", 0.0)
        >>> State().with_part(best, 0.5).part(best)
        0.5
        """
        if type(value) is not type(key.initial):
            value = key.fitting(value)
        parts = self.parts
        if not key.is_initial(value):
            parts = parts.set(key.name, value)
        elif key.name in parts:
            parts = parts.delete(key.name)
        else:
            return self
        fields = self.__dict__.copy()
        fields["parts"] = parts
        state: State[Batch, Output, User] = new_object(State)
        set_fields(state, fields)
        return state

    def with_attribute(self, name: str, value: int) -> State[Batch, Output, User]:
        """Give this state with the counter of a mapped event set; only the user sets these.

        Raises:
            TypeError: `value` is not an int.
            ValueError: `name` is a counter that the loop keeps.

        >>> State().with_attribute("time_iteration", 3).attributes["time_iteration"]
        3
        """
        if type(value) is not int:
            raise TypeError(f"attribute {name}={value!r} is not an int; filters count with it")
        if name in ("iteration", "epoch"):
            raise ValueError(f"the loop keeps {name}; use another attribute for your own event")
        return _replaced(self, "attributes", self.attributes.set(name, value))

    def terminate(self, *, skip_completed: bool = False) -> State[Batch, Output, User]:
        """Ask for the end of the run.

        Args:
            skip_completed: leave COMPLETED out.

        >>> State().terminate(skip_completed=True).requests.terminate
        Terminate.SILENT
        """
        kind = Terminate.SILENT if skip_completed else Terminate.ANNOUNCED
        return with_requests(self, attrs.evolve(self.requests, terminate=kind))

    def terminate_epoch(self, *, skip_epoch_completed: bool = False) -> State[Batch, Output, User]:
        """Ask for the end of the epoch.

        Args:
            skip_epoch_completed: leave EPOCH_COMPLETED out.

        >>> State().terminate_epoch().requests.terminate_epoch
        TerminateEpoch.ANNOUNCED
        """
        kind = TerminateEpoch.SILENT if skip_epoch_completed else TerminateEpoch.ANNOUNCED
        return with_requests(self, attrs.evolve(self.requests, terminate_epoch=kind))

    def interrupt(self) -> State[Batch, Output, User]:
        """Ask for a pause at the next event, from which `Loop.resume` goes on.

        >>> State().interrupt().requests.interrupt
        Interrupt.ANNOUNCED
        """
        return with_requests(self, attrs.evolve(self.requests, interrupt=Interrupt.ANNOUNCED))

    def recover(self, recovery: Recovery) -> State[Batch, Output, User]:
        """Answer an exception, in a handler of EXCEPTION_RAISED: how the run goes on.

        Args:
            recovery: SKIP_BATCH, END_EPOCH or END_RUN.

        Raises:
            TypeError: `recovery` is something else.

        >>> State().recover(Recovery.SKIP_BATCH).requests.recovery
        Recovery.SKIP_BATCH
        """
        if not isinstance(recovery, Recovery):
            raise TypeError(f"recover({recovery!r}): give one of SKIP_BATCH, END_EPOCH and END_RUN")
        return with_requests(self, attrs.evolve(self.requests, recovery=recovery))

    def with_limits(
        self, *, max_epochs: int | None = None, max_iters: int | None = None
    ) -> State[Batch, Output, User]:
        """Give this state with another end of the run: a number of epochs, or of iterations.

        If limits have ended the run, the state stands where it did before they did. A run that was
        asked to end stays ended.

        Law: going on from here equals a run that had these limits from its start, as long as no
        handler of the events at the end changes the state.

        Raises:
            TypeError: a limit is not an int.
            ValueError: both or none are given, or the run is beyond the limit already.

        >>> from fengine import Loop, outputs
        >>> loop = Loop(outputs(lambda batch: 2 * batch))
        >>> short = loop.run([1, 2, 3], max_epochs=2)
        >>> loop.resume(short.with_limits(max_epochs=5), [1, 2, 3]).epoch
        5
        """
        if (max_epochs is None) == (max_iters is None):
            raise ValueError(
                f"with_limits(max_epochs={max_epochs}, max_iters={max_iters}): give one of them"
            )
        limits = attrs.evolve(self.limits, max_epochs=max_epochs, max_iters=max_iters)
        state = _before_end(self)
        rank = rank_at(state.event)
        next_one = has_batch_to_come(rank) or rank == GET_BATCH_COMPLETED
        for name, limit, reached in (
            ("max_epochs", limits.max_epochs, state.epoch),
            ("max_iters", limits.max_iters, state.iteration + next_one),
        ):
            if limit is not None and limit < reached:
                raise ValueError(
                    f"{name}={limit} ends before the run, which is at number {reached}; give a "
                    "larger one, or an earlier state"
                )
        return attrs.evolve(state, limits=limits)

    def to_dict(
        self,
        *,
        user: Callable[[User], object] | None = None,
        output: Callable[[Output], object] | None = None,
        batch: Callable[[Batch], object] | None = None,
    ) -> dict[str, Any]:
        """Give this state as plain data, to be read by `from_dict`, in another process too.

        It is what JSON knows as long as the slots are written so, and no part holds a tensor.

        Args:
            user: writes the user's record. None: a record of attrs or dataclasses is written by
                its types, and anything else is left as it is.
            output: writes the output; None leaves it as it is.
            batch: writes the batch. None leaves it out: a run that goes on from the state that is
                read fetches it again, so that what a handler has changed in it is lost.

        Raises:
            SnapshotError: a metric is not a number, or a record holds what it says it does not.

        >>> plain = State(epoch=2, iteration=7, output=0.25).to_dict()
        >>> plain["schema"], plain["iteration"], plain["output"]
        (2, 7, {'value': 0.25})
        """
        from fengine.keep.plain_data import written

        return written(self, user=user, output=output, batch=batch)

    @staticmethod
    def from_dict(
        plain: object,
        *,
        events: EventRegistry = BUILT_IN_EVENTS,
        parts: Mapping[str, Part[Any]] = Map(),
        user: type[ReadUser] | Callable[[Any], ReadUser] | None = None,
        output: Callable[[Any], ReadOutput] | None = None,
        batch: Callable[[Any], ReadBatch] | None = None,
    ) -> State[ReadBatch, ReadOutput, ReadUser]:
        """Read a state from what `to_dict` gave.

        Law: `from_dict(to_dict(state)) == state` for each state of a run, but for a batch that is
        to be fetched again.

        Args:
            plain: the data; it is checked whole before anything is made of it.
            events: knows the events of your own, as `loop.registry` does.
            parts: knows the parts, as `loop.parts` does.
            user: reads the user's record: its type, or a function. None leaves it as it is.
            output: reads the output; None leaves it as it is.
            batch: reads the batch; None leaves it as it is.

        Raises:
            SnapshotError: the data is not what `to_dict` gives of a state that a run can have, or a
                reader raises; the error names the place.

        >>> state = State(epoch=2, iteration=7, output=0.25).terminate()
        >>> State.from_dict(state.to_dict()) == state
        True
        """
        from fengine.keep.plain_data import read

        return State(**read(plain, events, parts, user=user, output=output, batch=batch))

    @override
    def __getstate__(self) -> dict[str, Any]:
        """Return what `copy` and `pickle` keep: all but the run that the state was made in."""
        return {**self.__dict__, "_notes": unmarked(self._notes)}

    def __setstate__(self, fields: dict[str, Any]) -> None:
        """Take up what `copy` and `pickle` kept, of version 0.1 too."""
        fields = {"_handled": None, "parts": _NO_PARTS, **fields}
        ledger = fields.pop("ledger", None)
        if ledger is not None:
            fields |= ledger.fields()
        if fields["event"] is not None:
            fields["event"] = the_one(fields["event"])  # version 0.1 kept a copy of it
        set_fields(self, fields)

    @override
    def __eq__(self, other: object) -> bool:
        """Compare every field; tensors by shape, dtype and content. Always a bool."""
        if not isinstance(other, State):
            return NotImplemented
        return all(same(getattr(self, name), getattr(other, name)) for name in _FIELDS)

    __hash__ = None  # type: ignore[assignment]  # a state holds batches, which have no hash


_FIELDS: Final = tuple(field.name for field in attrs.fields(State) if field.eq)
# A state that is made of all its fields, unchecked: `state = new_object(State)`, and then
# `set_fields(state, fields)`. The dict is the state's own from then on.
new_object: Final = object.__new__
set_fields: Final = vars(State)["__dict__"].__set__


def _refuse_to_set(state: State[Any, Any, Any], name: str, value: object) -> NoReturn:
    if name in ("user", "output", "batch", "metrics"):
        way = f"return state.evolve({name}=...)"
    elif name in ("max_epochs", "max_iters", "limits"):
        way = "return state.terminate() to end a run; to go on longer see state.with_limits"
    else:
        way = "what is yours belongs into the user's record: return state.evolve(user=...)"
    refused = FrozenInstanceError()
    refused.args = (f"state.{name} = {value!r}: a state never changes; {way}",)
    raise refused


# attrs writes its own, which says nothing of this.
State.__setattr__ = _refuse_to_set  # type: ignore[method-assign, assignment]


def state_of(fields: dict[str, Any]) -> State[Any, Any, Any]:
    """Make a state of all its fields, unchecked; the dict is the state's own from now on."""
    state: State[Any, Any, Any] = new_object(State)
    set_fields(state, fields)
    return state


def of_run(state: State[Batch, Output, User], run: int | None) -> State[Batch, Output, User]:
    """Return a state as one that was made in a run."""
    return _replaced(state, "_notes", attrs.evolve(state._notes, run=run))


def after_handlers(
    state: State[Batch, Output, User], names: tuple[str, ...]
) -> State[Batch, Output, User]:
    """Return a state as one that was made after the named handlers of its event had run."""
    return _replaced(state, "_handled", names)


def _replaced(
    state: State[Batch, Output, User], field: str, value: object
) -> State[Batch, Output, User]:
    fields = vars(state).copy()
    fields[field] = value
    return state_of(fields)


def _absent(state: State[Batch, Output, User], name: str, since: str) -> str:
    return (
        f"state.{name} does not exist at {state.event or 'the start'} (epoch {state.epoch}, "
        f"iteration {state.iteration}); it can be read {since} of an iteration"
    )


def with_requests(
    state: State[Batch, Output, User], requests: Requests
) -> State[Batch, Output, User]:
    """Hold exactly these requests."""
    return _replaced(state, "requests", shared(requests))


def with_output(state: State[Batch, Output, User], output: Output) -> State[Batch, Output, User]:
    """Stand at ITERATION_COMPLETED with the output of the step."""
    fields = vars(state).copy()
    fields["_output"] = output
    fields["event"] = Events.ITERATION_COMPLETED
    return state_of(fields)


def _before_end(state: State[Batch, Output, User]) -> State[Batch, Output, User]:
    """Give the state of a run before its limits ended it; the state itself where they have not."""
    requests, counts = state.requests, state.counts
    if state.event not in (Events.TERMINATE, Events.COMPLETED):
        return state
    if state.status is Status.TERMINATED:
        return state
    if requests.terminate is Terminate.LIMIT:
        most = state.limits.max_iters
        reached = most is not None and state.iteration >= most  # otherwise the data has ended
        event = Events.ITERATION_COMPLETED if reached else Events.EPOCH_COMPLETED
        requests = attrs.evolve(requests, terminate=None)
        counts = counts.delete(Events.TERMINATE.name)
    elif Events.TERMINATE.name in counts:
        return state
    else:
        event = Events.EPOCH_COMPLETED
    return attrs.evolve(
        state,
        event=event,
        requests=requests,
        counts=counts,
        status=Status.RUNNING,
        notes=attrs.evolve(state._notes, failure=None),
        handled=None,
    )
