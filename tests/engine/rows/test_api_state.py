"""Rows A-050 to A-062: the state of an engine."""

from __future__ import annotations

import sys
from enum import Enum
from typing import Any

import pytest

from tests.engine.rows.sides import (
    IGNITE,
    Side,
    everywhere,
    here,
    outcome,
    own_events,
)
from tests.engine.rows.table import Check, Rows

rows = Rows()


class Plain(Enum):
    TICK = "tick"


# State


@rows("A-050")
def a_new_state_has_what_is_given_and_a_counter_for_each_event() -> None:
    def program(side: Side) -> object:
        engine = side.engine()
        side.package.State.event_to_attr[Plain.TICK] = "ticks"
        engine.register_events()
        state = side.package.State(iteration=5, rank=3)
        assert side.package.State(ticks=7).get_event_attrib_value(Plain.TICK) == 7
        return state.iteration, state.epoch, state.rank, state.ticks, engine.state.ticks

    everywhere(program, (5, 0, 3, 0, 0))


@rows("A-051")
def the_counters_are_0_and_count_from_1_in_a_run() -> None:
    def program(side: Side) -> object:
        engine = side.engine()
        seen = [(engine.state.epoch, engine.state.iteration)]

        def note() -> None:
            seen.append((engine.state.epoch, engine.state.iteration))

        engine.add_event_handler(side.events.ITERATION_STARTED, note)
        engine.run([1, 2], max_epochs=2)
        return seen

    everywhere(program, [(0, 0), (1, 1), (1, 2), (2, 3), (2, 4)])


@rows("A-052")
def the_limits_are_none_or_those_of_the_run() -> None:
    def limits(state: Any) -> object:
        return state.epoch_length, state.max_epochs, state.max_iters

    def program(side: Side) -> object:
        engine, other = side.engine(), side.engine()
        return [
            limits(engine.state),
            limits(engine.run([1, 2], max_epochs=3)),
            limits(other.run([1, 2], max_iters=3)),
        ]

    everywhere(program, [(None, None, None), (2, 3, None), (2, None, 3)])


@rows("A-053")
def batch_and_output_are_emptied_around_each_fetch() -> None:
    def program(side: Side) -> object:
        engine = side.engine(lambda engine, batch: batch.upper())
        seen = [(engine.state.batch, engine.state.output)]

        def note() -> None:
            seen.append((engine.state.batch, engine.state.output))

        for name in ("GET_BATCH_STARTED", "GET_BATCH_COMPLETED", "ITERATION_COMPLETED"):
            engine.add_event_handler(side.events[name], note)
        state = engine.run(iter(["a", "b"]))
        return [*seen, (state.batch, state.output)]

    first = [(None, None), ("a", None), ("a", "A")]
    second = [(None, "A"), ("b", None), ("b", "B")]
    everywhere(program, [(None, None), *first, *second, (None, "B"), (None, "B")])


@rows("A-054")
def metrics_are_a_dict_that_runs_leave_alone() -> None:
    def program(side: Side) -> object:
        engine = side.engine()
        metrics = engine.state.metrics
        metrics["best"] = 1
        assert side.package.State().metrics == {}
        return [engine.run([1]).metrics is metrics and dict(metrics) for _ in range(2)]

    everywhere(program, [{"best": 1}, {"best": 1}])


@rows("A-055")
def the_dataloader_is_the_data_of_the_run() -> None:
    def program(side: Side) -> object:
        engine = side.engine()
        seen = [engine.state.dataloader]
        engine.add_event_handler(
            side.events.STARTED, lambda engine: seen.append(engine.state.dataloader)
        )
        return [*seen, engine.run([1, 2]).dataloader, seen[-1]]

    everywhere(program, [None, [1, 2], [1, 2]])


@rows("A-056")
def the_seed_is_none_in_an_engine_that_is_not_deterministic() -> None:
    everywhere(lambda side: [side.engine().state.seed, side.engine().run([1]).seed], [None, None])


class Clock:
    """Stand for the module `time`: it moves where it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def time(self) -> float:
        return self.now

    monotonic = time

    def tick(self, seconds: float) -> None:
        self.now += seconds


@rows("A-057")
def the_times_of_the_last_epoch_and_of_the_run_are_kept() -> None:
    def program(side: Side) -> object:
        clock = Clock()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys.modules[side.package.Engine.__module__], "time", clock)
            return times(side, clock)

    at_first: list[Any] = [(None, None), (0.0, 0.0)]
    # Epochs of 2 + 8 seconds; 100 seconds suspended; then what handlers of the ends take.
    at_ends = [(10.0, 0.0), (15.0, 0.0), (10.0, 0.0), (15.0, 130.0)]
    everywhere(program, [*at_first, *at_ends, (15.0, 151.0)])


def times(side: Side, clock: Clock) -> list[object]:
    engine = side.engine(lambda engine, batch: clock.tick(4))
    events, seen = side.events, list[object]()

    def note() -> None:
        seen.append(tuple(engine.state.times.values()))

    note()
    engine.add_event_handler(events.STARTED, note)
    engine.add_event_handler(events.EPOCH_STARTED, clock.tick, 2)
    engine.add_event_handler(events.EPOCH_COMPLETED, note)
    engine.add_event_handler(events.EPOCH_COMPLETED, clock.tick, 5)
    engine.add_event_handler(events.EPOCH_COMPLETED(once=1), engine.interrupt)
    engine.add_event_handler(events.COMPLETED, note)
    engine.add_event_handler(events.COMPLETED, clock.tick, 21)
    engine.run([1, 2], max_epochs=2)
    note()
    clock.tick(100)
    engine.run([1, 2], max_epochs=2)
    note()
    return seen


@rows("A-058")
def which_attribute_counts_an_event_can_be_asked_of_the_class() -> None:
    epochs = ("STARTED", "COMPLETED", "EPOCH_STARTED", "EPOCH_COMPLETED")
    batches = ("GET_BATCH_STARTED", "GET_BATCH_COMPLETED")
    iterations = ("ITERATION_STARTED", "ITERATION_COMPLETED", *batches)
    counters = dict.fromkeys(epochs, "epoch") | dict.fromkeys(iterations, "iteration")

    def program(side: Side) -> object:
        registry = side.package.State.event_to_attr
        assert counters.items() <= registry.items()
        own = own_events(side)
        engine = side.engine()
        engine.register_events(*own, event_to_attr={own.TICK: "ticks"})
        return own.TICK in registry, own.TICK(every=2) in registry, own.TOCK in registry

    everywhere(program, (True, True, False))
    here(registrations, [3, "RuntimeError", 3, 5, False])


def registrations(side: Side) -> list[object]:
    """Register with one engine, which only shows in the class; then write there, which counts."""
    own, (engine, other) = own_events(side), (side.engine(), side.engine())

    def count(engine: Any) -> object:
        return outcome(engine.state.get_event_attrib_value, own.TICK)

    engine.register_events(*own, event_to_attr={own.TICK: "ticks"})
    engine.state.ticks = 3
    counted = [count(engine), count(other)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(side.package.State.event_to_attr, own.TICK, "written")
        later = side.engine()
        later.state.written += 5
        return [*counted, count(engine), count(later), hasattr(later.state, "ticks")]


@rows("A-059")
def the_state_gives_the_counter_of_an_event() -> None:
    def program(side: Side) -> object:
        state = side.package.State(iteration=5, epoch=3)
        counted = [event for event in side.events if event in side.package.State.event_to_attr]
        assert {state.get_event_attrib_value(event(every=2)) for event in counted} == {3, 5}
        return [
            state.get_event_attrib_value(event)
            for event in (side.events.STARTED, "EPOCH_STARTED", "ITERATION_STARTED")
        ]

    everywhere(program, [3, 3, 5])


@rows("A-060")
def a_state_shows_numbers_and_texts_and_of_the_rest_the_type() -> None:
    def program(side: Side) -> str:
        return repr(side.package.State(epoch=3, rate=0.1, name="mine", more=[1]))

    shown = program(IGNITE)
    here(program, shown)
    lines = shown.split("\n\t")
    assert lines[:3] == ["State:", "iteration: 0", "epoch: 3"]
    assert lines[-3:] == ["rate: 0.1", "name: mine", "more: <class 'list'>\n"]


@rows("A-061")
def further_attributes_stay() -> None:
    def program(side: Side) -> object:
        engine = side.engine()
        engine.state.mine = ["kept"]
        mine = engine.state.mine
        engine.run([1, 2])
        engine.load_state_dict({"iteration": 0, "epoch_length": 2, "max_epochs": 1})
        engine.run([1, 2])
        return engine.state.mine is mine

    everywhere(program, True)


@rows("A-062")
def the_state_is_one_object_in_and_between_runs_unless_it_is_assigned() -> None:
    def program(side: Side) -> object:
        engine, seen = side.engine(), []
        state = engine.state
        engine.add_event_handler(
            side.events.ITERATION_COMPLETED, lambda engine: seen.append(engine.state)
        )
        assert engine.run([1, 2]) is state
        assert engine.run([1, 2], max_epochs=2) is state
        assert all(one is state for one in seen)
        engine.state = mine = side.package.State(rank=3)
        assert engine.run([1, 2, 3]) is mine
        return state.iteration, mine.iteration, mine.rank, len(seen)

    everywhere(program, (4, 3, 3, 7))


@pytest.mark.parametrize("check", rows.params())
def test_row(check: Check) -> None:
    check()
