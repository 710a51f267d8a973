"""Under limits: how far a kept run goes on, where other limits are given or it was asked to end."""

from __future__ import annotations

import warnings
from typing import Any, TypeVar

import attrs

from fengine import Events, Limits, State, Status
from fengine.core.limits import EndArguments, LimitArguments
from fengine.core.table import where_in_run

B = TypeVar("B")
O = TypeVar("O")  # noqa: E741  # the output, beside the batch and the user
U = TypeVar("U")


def limited(
    state: State[B, O, U], limits: LimitArguments, *, again: bool, epoch_is_over: bool
) -> State[B, O, U]:
    """Return a kept state with the limits that are asked for, to go on from; or one that has ended.

    Args:
        state: what was kept.
        limits: those that are given replace its own.
        again: a run that was asked to end is to train on.
        epoch_is_over: EPOCH_COMPLETED has fired in the last epoch of a run that was asked to end.

    Raises:
        ValueError: the run is beyond a limit already.
    """
    length = limits.get("epoch_length")
    given: EndArguments = {}
    if (epochs := limits.get("max_epochs")) is not None:
        given["max_epochs"] = epochs
    if (iterations := limits.get("max_iters")) is not None:
        given["max_iters"] = iterations
    if length is not None and length != state.limits.epoch_length:
        state = _with_epoch_length(state, length)
    asked = Limits(**given, epoch_length=state.limits.epoch_length) if given else state.limits
    reached = asked.are_reached(state.epoch, state.iteration)
    if state.status is Status.COMPLETED and (reached or not given or asked == state.limits):
        return state
    if state.status is Status.TERMINATED:
        if state.epoch and not epoch_is_over:
            reached = not _has_more(state, asked)
        if reached or not again:
            if not reached:
                _say_it_was_asked_to_end(state)
            return state
        state = _before_its_end(state, epoch_is_over=epoch_is_over)
    return state if not given or asked == state.limits else state.with_limits(**given)


def _has_more(state: State[Any, Any, Any], limits: Limits) -> bool:
    """Tell whether limits leave anything of an epoch that is not over, be it its end alone."""
    if limits.max_epochs is not None:
        return state.epoch <= limits.max_epochs
    is_at_end = state.batches == limits.epoch_length
    return is_at_end or not limits.are_reached(state.epoch, state.iteration)


def _with_epoch_length(state: State[B, O, U], length: int) -> State[B, O, U]:
    if state.batches > length:
        raise ValueError(
            f"epoch_length={length} is below the {state.batches} batches that the epoch under way "
            "has had; give a longer one"
        )
    limits = attrs.evolve(state.limits, epoch_length=length)
    notes = attrs.evolve(state._notes, length_of_data=False)
    return attrs.evolve(state, limits=limits, notes=notes)


def _say_it_was_asked_to_end(state: State[Any, Any, Any]) -> None:
    warnings.warn(
        f"the run was asked to end {where_in_run(state)}, so it stays ended; say again=True to "
        "train on from there",
        stacklevel=7,
    )


def _before_its_end(state: State[B, O, U], *, epoch_is_over: bool) -> State[B, O, U]:
    """Return the state of a run as before somebody asked for its end."""
    if not state.epoch:
        event = Events.STARTED
    elif epoch_is_over:
        event = Events.EPOCH_COMPLETED
    else:
        event = Events.ITERATION_COMPLETED if state.batches else Events.EPOCH_STARTED
    counts, name = state.counts, Events.TERMINATE.name
    return attrs.evolve(
        state,
        event=event,
        counts=counts.delete(name) if name in counts else counts,
        status=Status.RUNNING,
        requests=attrs.evolve(state.requests, terminate=None, terminate_epoch=None),
        handled=None,
    )
