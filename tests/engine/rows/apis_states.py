"""States and what is saved: what the Engine keeps of pytorch-ignite, and `Loop` does otherwise."""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from typing import Any, Final

from fengine import Events, Loop, State, outputs
from tests.engine.rows.apis_runs import seen_by
from tests.engine.rows.records import apis
from tests.engine.rows.sides import (
    Side,
    Tale,
    outcome,
    put,
    terminate,
    terminate_epoch,
)

APIS: Final = apis()

AnyState = State[Any, Any, Any]
AnyLoop = Loop[Any, Any, Any]
LOOP: Final[AnyLoop] = Loop(outputs(lambda batch: batch))


def at_iteration(number: int, data: Any, **limits: Any) -> AnyState:
    """Give the state after an iteration of a run."""
    moments = LOOP.iterate(data, **limits)
    event = Events.ITERATION_COMPLETED
    return next(m.state for m in moments if m.event is event and m.state.iteration == number)


@APIS(
    "D1",
    "the results of two runs",
    ("are one object, which the second run changes", (4, 4)),
    ("are two values", (2, 4)),
    lambda: (LOOP.run([1, 2]).output, LOOP.run([3, 4]).output),
)
def two_results(side: Side) -> object:
    engine = side.engine()
    first, second = engine.run([1, 2]), engine.run([3, 4])
    return first.output, second.output


def metrics_of_two_runs() -> object:
    first, second = LOOP.run([1]).with_metric("loss", 1.0), LOOP.run([1])
    return [dict(first.metrics), dict(second.metrics)]


@APIS(
    "D2",
    "metrics and attributes of a run",
    ("stay in the next one", [{"loss": 1.0}, {"loss": 1.0}]),
    ("are in its state, and in no other", [{"loss": 1.0}, {}]),
    metrics_of_two_runs,
)
def kept_metrics(side: Side) -> object:
    engine = side.engine()
    engine.run([1]).metrics["loss"] = 1.0
    return [dict(engine.state.metrics), dict(engine.run([1]).metrics)]


@APIS(
    "D3 C-03 C-04",
    "`run` with `max_epochs` 2, 2, 3, 1, one after the other",
    ("runs 2, 2 again, 1 more, and then raises ValueError", [2, 2, 1, "ValueError"]),
    ("runs 2, 2, 3, 1: `run` starts again, `resume` goes on", [2, 2, 3, 1]),
    lambda: [LOOP.run([1], max_epochs=number).epoch for number in (2, 2, 3, 1)],
)
def four_runs(side: Side) -> object:
    told = Tale(side)
    runs = [told.run([1], number) for number in (2, 2, 3, 1)]
    return [words.count("EC") or words.removeprefix("!") for words in runs]


@APIS(
    "D4",
    "an engine that was stopped, run over shorter data",
    ("keeps its `epoch_length`, and goes over the data more than once", [7, 8, 7, 8]),
    ("each run has the length of its data", [7, 8]),
    lambda: seen_by(lambda loop: loop.run([7, 8])),
)
def shorter_data(side: Side) -> object:
    told = Tale(side, {"EC1": terminate})
    told.run([0, 1, 2, 3], 2)
    told.run([7, 8], 2)
    return told.batches[4:]


def epoch_kept() -> object:
    def cut(state: AnyState) -> AnyState:
        return state.terminate_epoch()

    first = LOOP.on(Events.ITERATION_COMPLETED(once=1), cut).run(range(4), max_epochs=2)
    return first.epoch, pickle.loads(pickle.dumps(first)).epoch


@APIS(
    "D8",
    "the epoch in what is saved, after `terminate_epoch()`",
    ("is derived from the iteration, and comes back lower", (2, 1)),
    ("is part of the state, which pickles", (2, 2)),
    epoch_kept,
)
def epoch_derived(side: Side) -> object:
    told = Tale(side, {"IC1": terminate_epoch})
    told.run(range(4))
    other = side.engine()
    other.load_state_dict(told.engine.state_dict())
    return told.engine.state.epoch, other.state.epoch


def stopped_and_gone_on() -> object:
    state = at_iteration(4, range(5), max_epochs=2)
    saved = pickle.dumps(state)
    return [LOOP.resume(one, range(5)).iteration for one in (state, pickle.loads(saved))]


@APIS(
    "D9 R-06 Q-28",
    "a run of 10 iterations stopped in the 4th, gone on with in memory and from what was saved",
    ("`terminate`: the rest of the epoch is skipped in memory only", [9, 10]),
    ("any state of the run: nothing is skipped", [10, 10]),
    stopped_and_gone_on,
)
def stopped(side: Side) -> object:
    told, other = Tale(side, {"IC4": terminate}), Tale(side)
    told.run(range(5))
    other.engine.load_state_dict(told.engine.state_dict())
    for one in (told, other):
        one.run(range(5))
    return [one.engine.state.iteration for one in (told, other)]


@APIS(
    "D10 R-23",
    "a run over 0, 1, 2, 3 that was saved in its 2nd iteration",
    ("begins the data again, and stays shifted against it", [0, 1, 2, 3, 0, 1]),
    ("goes on after what was read", [2, 3, 0, 1, 2, 3]),
    lambda: seen_by(
        lambda loop: loop.resume(at_iteration(2, [0, 1, 2, 3], max_epochs=2), [0, 1, 2, 3])
    ),
)
def shifted(side: Side) -> object:
    told = Tale(side)
    told.engine.load_state_dict({"iteration": 2, "epoch_length": 4, "max_epochs": 2})
    told.run([0, 1, 2, 3])
    return told.batches


def events_of(moments: Iterable[Any]) -> list[str]:
    return [moment.event.name for moment in moments]


@APIS(
    "D13",
    "STARTED, where a saved run goes on",
    ("fires again; `EPOCH_STARTED(once=1)` does not", True),
    ("does not fire: what it did is in the state", False),
    lambda: "started" in events_of(LOOP.iterate([0, 1], after=at_iteration(1, [0, 1]))),
)
def started_again(side: Side) -> object:
    told = Tale(side)
    told.engine.load_state_dict({"iteration": 2, "epoch_length": 2, "max_epochs": 2})
    return told.run().startswith("S ES")


def add_one(state: AnyState) -> AnyState:
    return state.evolve(user=state.user + 1)


def counting_on() -> object:
    counting = LOOP.on(Events.ITERATION_COMPLETED, add_one)
    pausing = counting.on(Events.ITERATION_COMPLETED(once=2), State.interrupt)
    saved = pickle.dumps(pausing.run([1, 2, 3], user=0))
    return counting.resume(pickle.loads(saved), [1, 2, 3]).user


@APIS(
    "D15",
    "what a handler has counted, in a run of 3 that was saved in its 2nd iteration",
    ("is not saved: it counts the rest", 1),
    ("is in `state.user`, and comes back", 3),
    counting_on,
)
def counting_again(side: Side) -> object:
    counts: list[int] = []
    engine = side.engine()
    engine.add_event_handler(side.events.ITERATION_COMPLETED, lambda: counts.append(1))
    engine.load_state_dict({"iteration": 2, "epoch_length": 3, "max_epochs": 1})
    engine.run([1, 2, 3])
    return len(counts)


def writing() -> object:
    misspelt: Any = {"max_epoch": 1}
    counter: Any = {"iteration": 5}
    return [outcome(State().evolve, **changes) for changes in (misspelt, counter)]


@APIS(
    "D16",
    "a handler that writes a misspelt field, or a counter",
    ("makes an attribute that nothing reads; shortens the run", [2, 5]),
    ("is an error, also of the type checker", ["TypeError", "TypeError"]),
    writing,
)
def written(side: Side) -> object:
    told = Tale(side, {"IC1": put(max_epoch=1), "IC3": put(iteration=9)})
    told.run(range(5), 2)
    return [told.engine.state.max_epochs, len(told.batches)]


@APIS(
    "D17 R-04",
    "an iterator that gives 2 batches, for 3 epochs",
    ("two empty epochs, and one warning", "ES BS DS W EC ES BS DS EC C"),
    ("an error that says what is missing", "DataExhausted"),
    lambda: outcome(LOOP.run, iter([0, 1]), max_epochs=3),
)
def used_up(side: Side) -> object:
    return Tale(side).run(iter([0, 1]), 3).partition("EC ")[2]


@APIS(
    "D19 R-05",
    "`max_iters` reached within an epoch",
    ("looks like a stop: `should_terminate` stays True", True),
    ("has the status `COMPLETED`", "completed"),
    lambda: LOOP.run([0, 1], max_iters=1).status.value,
)
def limit_reached(side: Side) -> object:
    engine = side.engine()
    engine.run([0, 1], max_iters=1)
    return engine.should_terminate
