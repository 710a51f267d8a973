"""State: everything a run knows between two events, as one frozen record.

Lives here: the record, its limits, and what a user's handler may do with it; nothing here changes
its argument. Does not live here: what the script does to a state (`transitions`).
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from enum import Enum
from typing import Final, Generic, TypeVar, cast, final

import attrs
from immutables import Map
from typing_extensions import TypeVar as DefaultTypeVar
from typing_extensions import override

from fengine.core.equality import same
from fengine.core.events import AnyEvent
from fengine.core.outcome import Status
from fengine.core.records import copier
from fengine.core.requests import (
    NO_REQUESTS,
    Interrupt,
    Recovery,
    Requests,
    Terminate,
    TerminateEpoch,
    shared,
)

Batch = TypeVar("Batch")
Output = TypeVar("Output")
User = DefaultTypeVar("User", default=None)


@final
class Missing(Enum):
    """Stand for a batch or an output that is not there."""

    MISSING = "none yet"


MISSING: Final = Missing.MISSING


def _limit(value: int | None) -> int | None:
    # Integers of numpy and the like count; a bool is left to be refused.
    index = getattr(type(value), "__index__", None)
    return value if index is None or isinstance(value, bool) else operator.index(cast(int, value))


def _positive(owner: object, field: attrs.Attribute[int | None], value: object) -> None:
    if value is None:
        return
    if type(value) is not int:
        raise TypeError(
            f"{field.name}={value!r} of type {type(value).__name__} is not an int; "
            f"{field.name} is a number from 1 or None"
        )
    if value < 1:
        raise ValueError(f"{field.name}={value} is too small; {field.name} is a number from 1")


@final
@attrs.frozen(weakref_slot=False)
class Limits:
    """Say how long a run is.

    Args:
        max_epochs: the number of epochs.
        max_iters: the number of iterations, instead of `max_epochs`.
        epoch_length: the number of batches in an epoch; None until it is known.

    Raises:
        TypeError: a limit is neither an int nor None.
        ValueError: a limit is below 1.

    >>> Limits(max_epochs=3, epoch_length=10)
    Limits(max_epochs=3, max_iters=None, epoch_length=10)
    """

    max_epochs: int | None = attrs.field(default=None, converter=_limit, validator=_positive)
    max_iters: int | None = attrs.field(default=None, converter=_limit, validator=_positive)
    epoch_length: int | None = attrs.field(default=None, converter=_limit, validator=_positive)


@final
class Failure(Enum):
    """Say what failed in the state that an exception left."""

    AT_EVENT = "a handler of the event that the state stands at, which is still to be completed"
    REFUSED = "a request that made no sense"
    ELSEWHERE = "the step, the data, or a handler of another event"


@final
@attrs.frozen
class Ledger:
    """Keep what the script writes down beside the counters, and users rarely read."""

    status: Status = Status.READY
    attributes: Map[str, int] = Map()
    counts_before: Map[str, int] = Map()
    """The counts of events at the start of the epoch."""
    offset: int = 0
    """What to add to `State.batches` for the number of batches drawn from the data's iterator."""
    failure: Failure | None = None
    """What failed, as long as nothing has answered it."""
    has_data: bool = True
    """Whether the batches come from data, and not from `epoch_length` alone."""


_NO_LEDGER: Final = Ledger()
_NO_LIMITS: Final = Limits()
_NOTHING: Final[Map[str, float]] = Map()
_NO_COUNTS: Final[Map[str, int]] = Map()


def _frozen_metrics(metrics: Mapping[str, float]) -> Map[str, float]:
    return metrics if isinstance(metrics, Map) else Map(metrics)


def _frozen_counts(counts: Mapping[str, int]) -> Map[str, int]:
    return counts if isinstance(counts, Map) else Map(counts)


@final
@attrs.frozen(eq=False, weakref_slot=False, kw_only=True)
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
        ledger: the script's own notes.

    >>> before = State(epoch=2, iteration=7, output=0.25)
    >>> after = before.evolve(output=0.5).terminate()
    >>> before.output, after.output, after.requests.terminate
    (0.25, 0.5, <Terminate.ANNOUNCED: 'announced'>)
    >>> before == State(epoch=2, iteration=7, output=0.25)
    True
    """

    iteration: int = 0
    epoch: int = 0
    batches: int = 0
    event: AnyEvent | None = None
    _batch: Batch | Missing = attrs.field(default=MISSING, alias="batch")
    _output: Output | Missing = attrs.field(default=MISSING, alias="output")
    requests: Requests = attrs.field(default=NO_REQUESTS, converter=shared)
    user: User = cast("User", None)
    metrics: Map[str, float] = attrs.field(default=_NOTHING, converter=_frozen_metrics)
    limits: Limits = _NO_LIMITS
    counts: Map[str, int] = attrs.field(default=_NO_COUNTS, converter=_frozen_counts)
    ledger: Ledger = _NO_LEDGER

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
    def status(self) -> Status:
        """Where the run stands in its life."""
        return self.ledger.status

    @property
    def attributes(self) -> Map[str, int]:
        """The counters of mapped events, by name; see `with_attribute`."""
        return self.ledger.attributes

    @property
    def drawn(self) -> int:
        """How many batches were drawn from the data since its iteration was last started."""
        return self.batches + self.ledger.offset

    def evolve(
        self,
        *,
        user: User | Missing = MISSING,
        output: Output | Missing = MISSING,
        batch: Batch | Missing = MISSING,
        metrics: Mapping[str, float] | Missing = MISSING,
    ) -> State[Batch, Output, User]:
        """Give this state with some of the user's fields replaced.

        Counters and limits are the loop's, so they are not among them.

        Args:
            user: the user's record.
            output: the output of the step.
            batch: the batch, for instance augmented.
            metrics: all named results; for one of them see `with_metric`.

        >>> State(user="old").evolve(user="new").user
        'new'
        """
        return _set_user_fields(
            self,
            self.user if user is MISSING else user,
            self._output if output is MISSING else output,
            self._batch if batch is MISSING else batch,
            self.metrics if metrics is MISSING else Map(metrics),
        )

    def with_metric(self, name: str, value: float) -> State[Batch, Output, User]:
        """Give this state with one named result set.

        >>> State().with_metric("accuracy", 0.97).metrics["accuracy"]
        0.97
        """
        return self.evolve(metrics=self.metrics.set(name, value))

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
        return _set_ledger(
            self, attrs.evolve(self.ledger, attributes=self.attributes.set(name, value))
        )

    def terminate(self, *, skip_completed: bool = False) -> State[Batch, Output, User]:
        """Ask for the end of the run.

        Args:
            skip_completed: leave COMPLETED out.

        >>> State().terminate(skip_completed=True).requests.terminate
        <Terminate.SILENT: 'silent'>
        """
        kind = Terminate.SILENT if skip_completed else Terminate.ANNOUNCED
        return with_requests(self, attrs.evolve(self.requests, terminate=kind))

    def terminate_epoch(self, *, skip_epoch_completed: bool = False) -> State[Batch, Output, User]:
        """Ask for the end of the epoch.

        Args:
            skip_epoch_completed: leave EPOCH_COMPLETED out.

        >>> State().terminate_epoch().requests.terminate_epoch
        <TerminateEpoch.ANNOUNCED: 'announced'>
        """
        kind = TerminateEpoch.SILENT if skip_epoch_completed else TerminateEpoch.ANNOUNCED
        return with_requests(self, attrs.evolve(self.requests, terminate_epoch=kind))

    def interrupt(self) -> State[Batch, Output, User]:
        """Ask for a pause at the next event, from which `Loop.resume` goes on.

        >>> State().interrupt().requests.interrupt
        <Interrupt.ANNOUNCED: 'announced'>
        """
        return with_requests(self, attrs.evolve(self.requests, interrupt=Interrupt.ANNOUNCED))

    def recover(self, recovery: Recovery) -> State[Batch, Output, User]:
        """Answer an exception, in a handler of EXCEPTION_RAISED: how the run goes on.

        Args:
            recovery: SKIP_BATCH, END_EPOCH or END_RUN.

        Raises:
            TypeError: `recovery` is something else.

        >>> State().recover(Recovery.SKIP_BATCH).requests.recovery
        <Recovery.SKIP_BATCH: 'skip_batch'>
        """
        if not isinstance(recovery, Recovery):
            raise TypeError(f"recover({recovery!r}): give one of SKIP_BATCH, END_EPOCH and END_RUN")
        return with_requests(self, attrs.evolve(self.requests, recovery=recovery))

    @override
    def __eq__(self, other: object) -> bool:
        """Compare every field; tensors by shape, dtype and content. Always a bool."""
        if not isinstance(other, State):
            return NotImplemented
        return all(same(getattr(self, name), getattr(other, name)) for name in _FIELDS)

    __hash__ = None  # type: ignore[assignment]  # a state holds batches, which have no hash


_FIELDS: Final = tuple(field.name for field in attrs.fields(State))

_set_user_fields: Final = copier(State, "user", "_output", "_batch", "metrics")
_set_requests: Final = copier(State, "requests")
_set_ledger: Final = copier(State, "ledger")


def _absent(state: State[Batch, Output, User], name: str, since: str) -> str:
    return (
        f"state.{name} does not exist at {state.event or 'the start'} (epoch {state.epoch}, "
        f"iteration {state.iteration}); it can be read {since} of an iteration"
    )


def with_requests(
    state: State[Batch, Output, User], requests: Requests
) -> State[Batch, Output, User]:
    """Hold exactly these requests."""
    return _set_requests(state, shared(requests))
