"""Runs: what the Engine keeps of pytorch-ignite, and `Loop` does otherwise."""

from __future__ import annotations

from collections.abc import Callable
from operator import methodcaller
from typing import Any, Final

from fengine import END_RUN, Events, Limits, Loop, Outcome, State, outputs
from tests.engine.rows.records import apis
from tests.engine.rows.sides import (
    Side,
    Tale,
    fail,
    interrupt,
    outcome,
    take,
)

APIS: Final = apis()

AnyState = State[Any, Any, Any]
AnyLoop = Loop[Any, Any, Any]
LOOP: Final[AnyLoop] = Loop(outputs(lambda batch: batch))


def seen_by(run: Callable[[AnyLoop], object]) -> list[Any]:
    """Give the batches that a loop sees in what is done with it."""
    batches: list[Any] = []
    run(Loop(outputs(batches.append)))
    return batches


# Exceptions


def press_ctrl_c(*args: Any) -> None:
    raise KeyboardInterrupt


def answered(step: Callable[..., None], answer: Callable[[AnyState], AnyState]) -> object:
    loop: AnyLoop = Loop(outputs(step))
    loop = loop.on(Events.EXCEPTION_RAISED, lambda state, error: answer(state))
    return outcome(loop.run, [1])


@APIS(
    "C3",
    "a handler of EXCEPTION_RAISED that only logs",
    ("takes the exception: the epoch ends, the run goes on", "S ES BS BC IS E EC C"),
    ("lets it leave; `state.recover(...)` is the way to go on", "Fault"),
    lambda: answered(fail, lambda state: state),
)
def logged(side: Side) -> object:
    return Tale(side, {"P1": fail}, take).run(max_epochs=1)


@APIS(
    "C7 R-16 C-24",
    "Ctrl-C, where a handler of EXCEPTION_RAISED answers",
    ("is taken: `run` returns a state, without COMPLETED", "S ES BS BC IS E"),
    ("leaves, whatever the answer is", "KeyboardInterrupt"),
    lambda: answered(press_ctrl_c, lambda state: state.recover(END_RUN)),
)
def ctrl_c(side: Side) -> object:
    return Tale(side, {"P1": press_ctrl_c}, take).run()


def cleaned_up() -> object:
    ended: list[str] = []

    def clean_up(state: AnyState, outcome: Outcome) -> AnyState:
        ended.append(outcome.status.value)
        return state

    loop: AnyLoop = Loop(outputs(fail)).on(Events.EXITED, clean_up)
    outcome(loop.run, [1])
    return ended


@APIS(
    "C8",
    "an event that always fires last",
    ("does not exist: COMPLETED does not fire on an exception", []),
    ("is EXITED, with the outcome", ["failed"]),
    cleaned_up,
)
def not_cleaned_up(side: Side) -> object:
    ended: list[str] = []
    engine = side.engine(fail)
    engine.add_event_handler(side.events.COMPLETED, lambda: ended.append("completed"))
    outcome(engine.run, [1])
    return ended


# Going on


def interrupted_then(data: list[int]) -> Callable[[AnyLoop], object]:
    def run(loop: AnyLoop) -> object:
        pausing = loop.on(Events.ITERATION_COMPLETED(once=1), State.interrupt)
        return loop.resume(pausing.run([1, 2, 3]), data)

    return run


@APIS(
    "C12",
    "other data for an interrupted run, by `run(data)` and by `resume(state, data)`",
    ("is ignored", [1, 2, 3]),
    ("is used, from the same place on", [1, 8, 9]),
    lambda: seen_by(interrupted_then([7, 8, 9])),
)
def other_data(side: Side) -> object:
    told = Tale(side, {"IC1": interrupt})
    told.run([1, 2, 3], 1)
    told.run([7, 8, 9], 1)
    return told.batches


@APIS(
    "C13",
    "`set_data(a)` and then `run(b)`",
    ("takes the batches of `a`", [1, 2]),
    ("there is no `set_data`: a run has the data it is given", [3, 4]),
    lambda: seen_by(lambda loop: loop.run([3, 4])),
)
def set_before(side: Side) -> object:
    told = Tale(side)
    told.engine.set_data([1, 2])
    told.run([3, 4], 1)
    return told.batches


@APIS(
    "C14",
    "a `terminate()` before the run",
    ("is forgotten", 2),
    ("is obeyed: requests are part of the state", 0),
    lambda: LOOP.resume(State(limits=Limits(max_epochs=1)).terminate(), [1, 2]).iteration,
)
def asked_before(side: Side) -> object:
    engine = side.engine()
    engine.terminate()
    return engine.run([1, 2]).iteration


def pause_where_the_data_ends() -> object:
    loop = LOOP.on(Events.DATALOADER_STOP_ITERATION, State.interrupt)
    moments = [*loop.iterate([0], max_epochs=2)]
    moments += loop.iterate([0], after=moments[-1].state)
    return sum(moment.event is Events.GET_BATCH_STARTED for moment in moments)


@APIS(
    "D18 R-12",
    "a pause at DATALOADER_STOP_ITERATION, or an event of yours fired there",
    ("GET_BATCH_STARTED fires once more for that batch", [3, 3]),
    ("it has fired", 2),
    pause_where_the_data_ends,
)
def fired_again(side: Side) -> object:
    counts = []
    for deed in (interrupt, methodcaller("fire_event", "mine")):
        told = Tale(side, {"DS1": deed})
        told.engine.register_events("mine")
        words = f"{told.run([0])} {told.run([0])}" if deed is interrupt else told.run([0])
        counts.append(words.split().count("BS"))
    return counts
