"""Transitions: every step from one state of a run to the next, by name.

What the script does to a state is here and nowhere else, so that no rule about counters or batches
is written twice. Each takes a state and gives a new one. They are listed in the order of a run.

Those of every iteration change what is in a box, and leave a draft there: as long as only the
script has seen it, the next of them fills the same object again; see `records`. It is shown before
anyone else sees it.
"""

from __future__ import annotations

from typing import Final

import attrs

from fengine.core.events import AnyEvent, Events
from fengine.core.ledger import Failure, Ledger
from fengine.core.limits import Limits
from fengine.core.missing import MISSING
from fengine.core.outcome import Status
from fengine.core.ports import Box
from fengine.core.records import copier, drafted, shower
from fengine.core.state import Batch, Output, State, User

_LIMITS: Final = tuple(field.name for field in attrs.fields(Limits))
_limits_of: Final = copier(Limits, *_LIMITS)
_set_limits: Final = copier(State, "limits")
_set_event: Final = copier(State, "event")
_set_count: Final = copier(State, "event", "counts")
_set_epoch: Final = copier(State, "epoch", "batches", "event", "ledger")
_set_batch: Final = copier(State, "_batch", "_output", "batches", "event")
_set_iteration: Final = copier(State, "iteration", "event")
_set_output: Final = copier(State, "_output", "event")
_set_ledger: Final = copier(State, "ledger")
_note_epoch: Final = copier(Ledger, "counts_before", "offset")
_note_exhausted: Final = copier(Ledger, "exhausted")
_note_restart: Final = copier(Ledger, "offset", "passes", "drawn_before", "exhausted")
shown: Final = shower(State)


def begin_run(state: State[Batch, Output, User]) -> State[Batch, Output, User]:
    """Stand at STARTED."""
    return at_event(with_status(state, Status.RUNNING), Events.STARTED)


def begin_epoch(state: State[Batch, Output, User]) -> State[Batch, Output, User]:
    """Stand at EPOCH_STARTED of the next epoch, with no batch of it fetched."""
    ledger = _note_epoch(state.ledger, state.counts, state.drawn)
    return _set_epoch(state, state.epoch + 1, 0, Events.EPOCH_STARTED, ledger)


@drafted(State, batch=MISSING, event=Events.GET_BATCH_STARTED)
def request_batch(box: Box[Batch, Output, User]) -> None:
    """Stand at GET_BATCH_STARTED, with the last batch released; leaves a draft."""
    box.state = attrs.evolve(box.state, batch=MISSING, event=Events.GET_BATCH_STARTED)


@drafted(State, batch=MISSING)
def release_batch(box: Box[Batch, Output, User]) -> None:
    """Hold no batch, where one is to be fetched that nothing announces; leaves a draft."""
    box.state = attrs.evolve(box.state, batch=MISSING)


def end_of_data(state: State[Batch, Output, User]) -> State[Batch, Output, User]:
    """Stand at DATALOADER_STOP_ITERATION."""
    return counted(state, Events.DATALOADER_STOP_ITERATION)


def end_pass(state: State[Batch, Output, User]) -> State[Batch, Output, User]:
    """Note that the data has given all of its batches."""
    return _set_ledger(state, _note_exhausted(state.ledger, True))


def restart_data(state: State[Batch, Output, User]) -> State[Batch, Output, User]:
    """Note that iteration over the data starts again, so that nothing is drawn from it."""
    passes = state.ledger.passes + 1
    ledger = _note_restart(state.ledger, -state.batches, passes, state.drawn, False)
    return _set_ledger(state, ledger)


def with_batch_again(state: State[Batch, Output, User], batch: Batch) -> State[Batch, Output, User]:
    """Hold the batch that was set aside by `without_batch`, fetched again."""
    return attrs.evolve(without_due_batch(state), batch=batch)


def without_due_batch(state: State[Batch, Output, User]) -> State[Batch, Output, User]:
    """Have no batch fetched again, where the data is past it and the step is done with it."""
    if not state.ledger.batch_due:
        return state
    return _set_ledger(state, attrs.evolve(state.ledger, batch_due=False))


def with_batch(state: State[Batch, Output, User], batch: Batch) -> State[Batch, Output, User]:
    """Stand at GET_BATCH_COMPLETED with a batch, and with the last output released."""
    return _set_batch(state, batch, MISSING, state.batches + 1, Events.GET_BATCH_COMPLETED)


def begin_iteration(state: State[Batch, Output, User]) -> State[Batch, Output, User]:
    """Stand at ITERATION_STARTED of the next iteration."""
    return _set_iteration(state, state.iteration + 1, Events.ITERATION_STARTED)


@drafted(
    State,
    counting=("batches", "iteration"),
    output=MISSING,
    event=Events.ITERATION_STARTED,
)
def begin_iteration_with(box: Box[Batch, Output, User], batch: Batch) -> None:
    """Leave a draft of `begin_iteration(with_batch(state, batch))`, without the state between."""
    box.state = begin_iteration(with_batch(box.state, batch))


def with_output(state: State[Batch, Output, User], output: Output) -> State[Batch, Output, User]:
    """Stand at ITERATION_COMPLETED with the output of the step."""
    return _set_output(state, output, Events.ITERATION_COMPLETED)


@drafted(State, event=Events.ITERATION_COMPLETED)
def draft_output(box: Box[Batch, Output, User], output: Output) -> None:
    """Leave a draft of `with_output(state, output)`."""
    box.state = with_output(box.state, output)


def learn_epoch_length(state: State[Batch, Output, User]) -> State[Batch, Output, User]:
    """Take the batches of this epoch, or of the whole pass that it began in, for every epoch."""
    return with_limit(state, "epoch_length", max(state.batches, state.drawn))


def end_epoch(state: State[Batch, Output, User]) -> State[Batch, Output, User]:
    """Stand at EPOCH_COMPLETED."""
    return _set_event(state, Events.EPOCH_COMPLETED)


def at_event(state: State[Batch, Output, User], event: AnyEvent) -> State[Batch, Output, User]:
    """Stand at an event that changes nothing else."""
    return _set_event(state, event)


def counted(state: State[Batch, Output, User], event: AnyEvent) -> State[Batch, Output, User]:
    """Stand at an event, and count its firing if no attribute of the user's does."""
    if event.attr is not None:
        return _set_event(state, event)
    return _set_count(
        state, event, state.counts.set(event.name, state.counts.get(event.name, 0) + 1)
    )


def counted_aside(state: State[Batch, Output, User], event: AnyEvent) -> State[Batch, Output, User]:
    """Count the firing of an event that does not move the state from where it stands."""
    counts = state.counts.set(event.name, state.counts.get(event.name, 0) + 1)
    return _set_count(state, state.event, counts)


def with_limit(
    state: State[Batch, Output, User], name: str, value: object
) -> State[Batch, Output, User]:
    """Have one limit replaced, unchecked: data that gives nothing has the epoch length 0."""
    values = [getattr(state.limits, one) for one in _LIMITS]
    values[_LIMITS.index(name)] = value
    return _set_limits(state, _limits_of(state.limits, *values))


def with_status(state: State[Batch, Output, User], status: Status) -> State[Batch, Output, User]:
    """Have this status."""
    return _set_ledger(state, attrs.evolve(state.ledger, status=status))


def with_failure(
    state: State[Batch, Output, User], failure: Failure | None
) -> State[Batch, Output, User]:
    """Note what has failed, or that it is answered."""
    return _set_ledger(state, attrs.evolve(state.ledger, failure=failure))


def show(box: Box[Batch, Output, User]) -> None:
    """Have the state in a box be one that others may see."""
    shown(box.state)


def is_done(state: State[Batch, Output, User]) -> bool:
    """Tell whether the limits are reached.

    >>> is_done(State(epoch=3, limits=Limits(max_epochs=3)))
    True
    """
    limits = state.limits
    if limits.max_iters is not None and state.iteration >= limits.max_iters:
        return True
    if limits.max_epochs is None:
        return False
    if state.epoch >= limits.max_epochs:
        return True
    return (
        limits.epoch_length is not None
        and state.iteration >= limits.epoch_length * limits.max_epochs
    )
