"""What an Engine does on its own account: no defects, copies, threads, memory."""

from __future__ import annotations

import contextlib
import copy
import functools
import gc
import itertools
import logging
import pickle
import re
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any, cast

import numpy as np
import pytest

from fengine import DOCUMENTED, IGNITE_0_5_5, Semantics
from fengine.engine import Engine, EngineRunningError, EventEnum, Events, EventsList, State

BOTH = pytest.mark.parametrize(
    "semantics", [DOCUMENTED, IGNITE_0_5_5], ids=["documented", "ignite"]
)


def identity(engine: Engine, batch: Any) -> Any:
    return batch


def make(
    process_function: Callable[[Engine, Any], Any] = identity, semantics: Semantics = DOCUMENTED
) -> Engine:
    engine = Engine(process_function, semantics=semantics)
    engine.logger = logging.getLogger("silent")
    engine.logger.disabled = True
    return engine


def events_of(engine: Engine) -> list[str]:
    """Have an engine note the names of its events in a list."""
    names: list[str] = []
    for event in Events:
        if event not in (Events.EXCEPTION_RAISED, Events.TERMINATE_SINGLE_EPOCH):
            engine.add_event_handler(event, _note, names)
    return names


def _note(engine: Engine, names: list[str]) -> None:
    names.append(engine.last_event_name.name)


class Fault(Exception):
    """Stand for what goes wrong in user code."""


def fail(engine: Engine, batch: Any) -> None:
    raise Fault


class Custom(EventEnum):
    TICK = "tick"
    TOCK = "tock"


class Plain(Enum):
    TICK = "tick"


# Events


def test_joining_events_leaves_both_sides_alone() -> None:
    base = Events.STARTED | Events.COMPLETED
    more = base | Events.EPOCH_STARTED
    assert (len(base), len(more)) == (2, 3)
    engine, calls = make(), []

    def handler() -> None:
        calls.append(1)

    handle = engine.add_event_handler(base, handler)
    assert base | Events.EPOCH_COMPLETED is not base
    engine.add_event_handler(Events.EPOCH_COMPLETED, handler)
    handle.remove()
    engine.run([1])
    assert calls == [1]


def test_joining_events_is_associative() -> None:
    a, b, c, d = Events.STARTED, Events.COMPLETED, Events.EPOCH_STARTED, Custom.TICK
    for joined in ((a | b) | (c | d), a | (b | (c | d)), ((a | b) | c) | d):
        assert isinstance(joined, EventsList)
        assert list(joined) == [a, b, c, d]


def test_an_event_registered_with_one_engine_is_unknown_to_others() -> None:
    make().register_events(*Custom, event_to_attr={Custom.TICK: "ticks"})
    other = make()
    assert not other.has_registered_events(Custom.TICK)
    assert not hasattr(other.state, "ticks")
    assert not hasattr(State(), "ticks")


def test_two_engines_count_the_same_event_under_different_names() -> None:
    first, second = make(), make()
    calls: list[str] = []
    first.register_events(Custom.TICK, event_to_attr={Custom.TICK: "a"})
    second.register_events(Custom.TICK, event_to_attr={Custom.TICK: "b"})
    for engine, name in ((first, "a"), (second, "b")):
        engine.add_event_handler(Custom.TICK(every=2), calls.append, name)
    for number in (1, 2):
        first.state.a, second.state.b = number, 2 * number
        first.fire_event(Custom.TICK)
        second.fire_event(Custom.TICK)
    assert calls == ["b", "a", "b"]
    assert not hasattr(first.state, "b")


def test_adding_to_several_events_is_all_or_nothing() -> None:
    engine = make()
    with pytest.raises(ValueError, match="TICK"):
        engine.add_event_handler(Events.STARTED | Custom.TICK, print)
    assert not engine.has_event_handler(print)
    with pytest.raises(TypeError):
        engine.register_events("good", ["unhashable"])
    assert not engine.has_registered_events("good")


# Handlers


@BOTH
def test_a_parameter_named_engine_is_the_engine(semantics: Semantics) -> None:
    engine, calls = make(fail, semantics), []

    @engine.on(Events.EXCEPTION_RAISED)
    def handler(engine: Engine) -> None:
        calls.append(engine)

    engine.run([1])
    assert calls == [engine]


@BOTH
def test_handlers_of_terminate_single_epoch_take_any_part_of_it(semantics: Semantics) -> None:
    engine = make(lambda engine, batch: engine.terminate_epoch(), semantics)
    calls: list[Any] = []

    @engine.on(Events.TERMINATE_SINGLE_EPOCH)
    def named(engine: Engine, iter_counter: int) -> None:
        calls.append(("named", engine, iter_counter))

    @engine.on(Events.TERMINATE_SINGLE_EPOCH)
    def other_name(engine: Engine, n: int) -> None:
        calls.append(("other name", engine, n))

    @engine.on(Events.TERMINATE_SINGLE_EPOCH)
    def engine_only(engine: Engine) -> None:
        calls.append(("engine only", engine, None))

    @engine.on(Events.TERMINATE_SINGLE_EPOCH, "tag")
    def with_tag(engine: Engine, n: int, tag: str) -> None:
        calls.append((tag, engine, n))

    @engine.on(Events.TERMINATE_SINGLE_EPOCH)
    def everything(*args: Any, **kwargs: Any) -> None:
        calls.append(("everything", *args, *kwargs.values()))

    engine.run([1, 2])
    assert calls == [
        ("named", engine, 1),
        ("other name", engine, 1),
        ("engine only", engine, None),
        ("tag", engine, 1),
        ("everything", engine, 1),
    ]


def test_functions_that_a_call_does_not_run_are_refused() -> None:
    async def waits(engine: Engine) -> None:
        pass

    def yields(engine: Engine) -> Iterator[int]:
        yield 1

    for handler in (waits, yields):
        with pytest.raises(TypeError, match="async or generator"):
            make().add_event_handler(Events.STARTED, handler)


def test_the_arguments_of_a_handler_stay_as_they_were_given() -> None:
    engine = make(lambda engine, batch: engine.terminate_epoch())
    given = {"tag": 1}
    engine.add_event_handler(Events.TERMINATE_SINGLE_EPOCH, lambda **kwargs: None, **given)
    engine.run([1, 2], max_epochs=2)
    ((_, _, kept),) = engine._event_handlers[Events.TERMINATE_SINGLE_EPOCH]
    assert kept == given == {"tag": 1}


def test_a_handler_without_weak_references_is_added_and_removed() -> None:
    calls = []

    class Slotted:
        __slots__ = ()

        def __call__(self) -> None:
            calls.append(1)

    engine = make()
    handle = engine.add_event_handler(Events.STARTED, Slotted())
    engine.run([1])
    handle.remove()
    engine.run([1])
    assert calls == [1]


@BOTH
def test_an_engine_given_at_registration_is_the_engine_of_the_handler(
    semantics: Semantics,
) -> None:
    other, called = make(), list[tuple[Engine, str]]()

    def note(engine: Engine, name: str = "alone") -> None:
        called.append((engine, name))

    engine = make(semantics=semantics)
    engine.add_event_handler(Events.STARTED, note, other, "given")
    engine.add_event_handler(Events.STARTED, note, other, name="named")
    engine.add_event_handler(Events.STARTED, note)
    engine.run([1])
    assert called == [(other, "given"), (other, "named"), (engine, "alone")]


def test_an_array_given_at_registration_reaches_the_handler() -> None:
    engine, given = make(), np.ones(2)
    called: list[Any] = []
    engine.add_event_handler(Events.STARTED, called.append, given)
    engine.run([1])
    assert called[0] is given


# Exceptions


@BOTH
def test_the_run_after_one_that_raised_is_a_whole_run(semantics: Semantics) -> None:
    failing = [True]

    def process_function(engine: Engine, batch: Any) -> Any:
        if failing[0]:
            raise Fault
        return batch

    engine = make(process_function, semantics)
    for _ in range(2):
        failing[0] = True
        with pytest.raises(Fault):
            engine.run([1, 2], max_epochs=2)
        failing[0] = False
        engine.state.max_epochs = None
        state = engine.run([1, 2], max_epochs=2)
        assert state is engine.state
        assert (state.epoch, state.iteration, state.output) == (2, 4, 2)


@BOTH
def test_a_handler_that_is_gone_takes_no_exception(semantics: Semantics) -> None:
    engine = make(fail, semantics)
    with engine.add_event_handler(Events.EXCEPTION_RAISED, lambda engine, error: None):
        engine.run([1])
    with pytest.raises(Fault):
        engine.run([1])
    looking = make(fail, semantics)
    assert looking._event_handlers[Events.EXCEPTION_RAISED] == []
    with pytest.raises(Fault):
        looking.run([1])


@BOTH
def test_a_handler_that_raises_again_is_called_once(semantics: Semantics) -> None:
    engine, calls = make(fail, semantics), []

    @engine.on(Events.EXCEPTION_RAISED)
    def handler(engine: Engine, error: Exception) -> None:
        calls.append(error)
        raise error

    with pytest.raises(Fault) as caught:
        engine.run([1])
    assert calls == [caught.value]


@BOTH
def test_a_stop_iteration_of_the_process_function_stays_itself(semantics: Semantics) -> None:
    stop = StopIteration("mine")

    def process_function(engine: Engine, batch: Any) -> Any:
        raise stop

    engine, calls = make(process_function, semantics), []

    @engine.on(Events.EXCEPTION_RAISED)
    def handler(engine: Engine, error: BaseException) -> None:
        calls.append(error)
        raise error

    with pytest.raises(StopIteration) as caught:
        engine.run([1])
    assert caught.value is stop
    assert calls == [stop]


@BOTH
@pytest.mark.parametrize("event", [Events.GET_BATCH_STARTED, Events.GET_BATCH_COMPLETED])
def test_a_stop_iteration_of_a_handler_is_not_the_end_of_the_data(
    semantics: Semantics, event: Any
) -> None:
    engine = make(semantics=semantics)

    @engine.on(event)
    def handler() -> None:
        if engine.state.iteration == 2:
            raise StopIteration("mine")

    with pytest.raises(StopIteration, match="mine"):
        engine.run(iter([1, 2, 3, 4]))
    assert engine.state.iteration == 2
    assert engine.state.epoch_length is None


# Copies


class Counter:
    """Count calls in the state of the engine that makes them."""

    def __call__(self, engine: Engine) -> None:
        engine.state.calls = getattr(engine.state, "calls", 0) + 1


def count_call(engine: Engine, by: int = 1) -> None:
    engine.state.calls = getattr(engine.state, "calls", 0) + by


def pause_at_three(engine: Engine) -> None:
    if engine.state.iteration == 3:
        engine.interrupt()


def through_pickle(engine: Engine) -> Engine:
    copied: Engine = pickle.loads(pickle.dumps(engine))
    return copied


COPIES = pytest.mark.parametrize("copied", [copy.deepcopy, through_pickle])


def with_handlers() -> Engine:
    engine = Engine(identity)
    engine.register_events(*Custom, event_to_attr={Custom.TICK: "ticks"})
    engine.register_events("text", Plain.TICK)
    engine.add_event_handler(Events.ITERATION_COMPLETED, count_call, by=1)
    engine.add_event_handler(Events.ITERATION_COMPLETED(every=2), count_call, 10)
    engine.add_event_handler(Events.EPOCH_STARTED | Events.EPOCH_COMPLETED(once=1), Counter())
    engine.add_event_handler(Custom.TICK, count_call, 100)
    engine.add_event_handler("text", count_call, 1000)
    engine.add_event_handler(Plain.TICK, count_call, 1000)
    return engine


@COPIES
def test_a_copy_of_an_engine_is_an_engine_of_its_own(
    copied: Callable[[Engine], Engine],
) -> None:
    engine = with_handlers()
    engine.run([1, 2], max_epochs=1)
    calls = engine.state.calls
    twin = copied(engine)
    assert twin.state is not engine.state
    assert (twin.state.calls, twin.state.iteration) == (calls, 2)
    twin.run([1, 2], max_epochs=3)
    assert engine.state.calls == calls == 1 + 11 + 2
    assert twin.state.calls == calls + 2 * (1 + 11 + 1)
    twin.fire_event(Custom.TICK)
    twin.fire_event("text")
    twin.fire_event(Plain.TICK)
    assert twin.state.calls == calls + 26 + 2100
    assert twin.state.ticks == 0
    assert (engine.state.calls, engine.state.iteration) == (calls, 2)


@COPIES
def test_a_copy_of_an_interrupted_engine_goes_on_by_itself(
    copied: Callable[[Engine], Engine],
) -> None:
    engine = with_handlers()
    engine.add_event_handler(Events.ITERATION_COMPLETED, pause_at_three)
    data = ["a", "b", "c", "d"]
    engine.run(data, max_epochs=2)
    twin = copied(engine)
    assert (twin.state.iteration, twin.state.output) == (3, "c")
    seen: list[str] = []
    twin.add_event_handler(Events.ITERATION_STARTED, lambda e: seen.append(e.state.batch))
    assert twin.run(data).iteration == 8
    assert seen == ["d", "a", "b", "c", "d"]
    assert (engine.state.iteration, engine.state.epoch) == (3, 1)
    rest: list[str] = []
    engine.add_event_handler(Events.ITERATION_STARTED, lambda e: rest.append(e.state.batch))
    assert engine.run(data).iteration == 8
    assert rest == seen
    assert engine.state.calls == twin.state.calls


def test_handlers_removed_from_a_copy_stay_with_the_original() -> None:
    engine = with_handlers()
    twin = copy.deepcopy(engine)
    twin.remove_event_handler(count_call, Events.ITERATION_COMPLETED)
    assert not twin.has_event_handler(count_call, Events.ITERATION_COMPLETED)
    assert engine.has_event_handler(count_call, Events.ITERATION_COMPLETED)


def test_a_weak_reference_of_the_users_stays_one() -> None:
    engine = make()
    calls: list[Any] = []
    thing = Counter()
    reference = weakref.ref(thing)
    engine.add_event_handler(Events.STARTED, calls.append, reference)
    engine.add_event_handler(Events.STARTED, lambda engine, ref: calls.append(ref), reference)
    engine.run([1])
    assert calls == [reference, reference]
    assert all(isinstance(call, weakref.ref) for call in calls)


# Running in a run


@BOTH
def test_running_an_engine_in_its_own_handler_is_one_clear_error(
    semantics: Semantics,
) -> None:
    engine, errors = make(semantics=semantics), []
    names = events_of(engine)

    @engine.on(Events.ITERATION_STARTED(once=2))
    def again() -> None:
        with pytest.raises(EngineRunningError) as caught:
            engine.run([9, 9])
        errors.append(caught.value)

    state = engine.run([1, 2, 3], max_epochs=2)
    assert isinstance(errors[0], RuntimeError)
    assert isinstance(errors[0], ValueError)
    assert len(errors) == 1
    assert (state.iteration, state.output, state.epoch_length) == (6, 3, 3)
    assert names.count("STARTED") == names.count("COMPLETED") == 1


def test_the_error_leaves_the_run_if_nobody_catches_it() -> None:
    engine = make(lambda engine, batch: engine.run([1]))
    with pytest.raises(EngineRunningError):
        engine.run([1])
    engine._process_function = identity
    engine.state.max_epochs = None
    assert engine.run([1, 2]).iteration == 2


def test_another_engine_runs_in_a_handler() -> None:
    evaluator, trainer, lengths = make(), make(), []
    trainer.add_event_handler(
        Events.EPOCH_COMPLETED, lambda: lengths.append(evaluator.run([1, 2]).iteration)
    )
    assert trainer.run([1, 2, 3], max_epochs=2).iteration == 6
    assert lengths == [2, 2]


def test_a_second_thread_cannot_run_an_engine_that_runs() -> None:
    running, go_on = threading.Event(), threading.Event()
    errors: list[BaseException] = []

    def process_function(engine: Engine, batch: int) -> int:
        running.set()
        assert go_on.wait(10)
        return batch

    engine = make(process_function)
    states: list[State] = []
    thread = threading.Thread(target=lambda: states.append(engine.run([1, 2, 3])))
    thread.start()
    assert running.wait(10)
    try:
        engine.run([7])
    except EngineRunningError as error:
        errors.append(error)
    go_on.set()
    thread.join(10)
    assert len(errors) == 1
    assert (states[0].iteration, states[0].output) == (3, 3)


# Length of the data


@BOTH
def test_the_length_of_unsized_data_is_found_out_in_each_run(semantics: Semantics) -> None:
    engine = make(semantics=semantics)
    lengths = [engine.run(iter(range(length))).iteration for length in (3, 10, 2)]
    assert lengths == [3, 10, 2]


@BOTH
def test_a_length_that_was_given_stays(semantics: Semantics) -> None:
    engine = make(semantics=semantics)
    engine.run(iter(range(9)), epoch_length=2)
    assert engine.run(iter(range(9))).iteration == 2
    learning = make(semantics=semantics)
    learning.run(iter(range(5)))
    learning.run(iter(range(9)), epoch_length=3)
    assert learning.run(iter(range(9))).iteration == 3


# Stops in the documented engine: what is asked, where, and the events from there on.

STOPS = {
    ("terminate", "STARTED"): "TERMINATE COMPLETED",
    ("terminate", "EPOCH_STARTED"): (
        "GET_BATCH_STARTED GET_BATCH_COMPLETED ITERATION_STARTED ITERATION_COMPLETED "
        "TERMINATE COMPLETED"
    ),
    ("terminate", "GET_BATCH_STARTED"): (
        "GET_BATCH_COMPLETED ITERATION_STARTED ITERATION_COMPLETED TERMINATE COMPLETED"
    ),
    ("terminate", "GET_BATCH_COMPLETED"): (
        "ITERATION_STARTED ITERATION_COMPLETED TERMINATE COMPLETED"
    ),
    ("terminate", "ITERATION_STARTED"): "ITERATION_COMPLETED TERMINATE COMPLETED",
    ("terminate", "ITERATION_COMPLETED"): "TERMINATE COMPLETED",
    ("terminate", "EPOCH_COMPLETED"): "TERMINATE COMPLETED",
    ("terminate", "COMPLETED"): "",
}
SECOND_EPOCH = (
    "EPOCH_STARTED GET_BATCH_STARTED GET_BATCH_COMPLETED ITERATION_STARTED ITERATION_COMPLETED "
    "GET_BATCH_STARTED GET_BATCH_COMPLETED ITERATION_STARTED ITERATION_COMPLETED "
    "EPOCH_COMPLETED COMPLETED"
)
# Nothing started iteration over the data again before, so the loop finds its end first.
SECOND_EPOCH_AT_THE_END = SECOND_EPOCH.replace(
    "GET_BATCH_STARTED", "GET_BATCH_STARTED DATALOADER_STOP_ITERATION", 1
)
CUT = f"TERMINATE_SINGLE_EPOCH EPOCH_COMPLETED {SECOND_EPOCH}"
ONE_ITERATION = (
    "EPOCH_STARTED GET_BATCH_STARTED GET_BATCH_COMPLETED ITERATION_STARTED ITERATION_COMPLETED"
)
STOPS |= {
    ("terminate_epoch", "STARTED"): f"{ONE_ITERATION} {CUT}",
    ("terminate_epoch", "EPOCH_STARTED"): f"{ONE_ITERATION} {CUT}".split(" ", 1)[1],
    ("terminate_epoch", "GET_BATCH_STARTED"): f"{ONE_ITERATION} {CUT}".split(" ", 2)[2],
    ("terminate_epoch", "GET_BATCH_COMPLETED"): f"ITERATION_STARTED ITERATION_COMPLETED {CUT}",
    ("terminate_epoch", "ITERATION_STARTED"): f"ITERATION_COMPLETED {CUT}",
    ("terminate_epoch", "ITERATION_COMPLETED"): CUT,
    ("terminate_epoch", "EPOCH_COMPLETED"): SECOND_EPOCH_AT_THE_END,
    ("terminate_epoch", "COMPLETED"): "",
}


@pytest.mark.parametrize(("method", "event"), list(STOPS))
def test_where_a_stop_acts_in_the_documented_engine(method: str, event: str) -> None:
    engine = make()
    names: list[str] = []
    asked: list[str] = []

    def note(engine: Engine, **kwargs: Any) -> None:
        name = engine.last_event_name.name
        if asked:
            names.append(name)
        elif name == event:
            asked.append(name)
            getattr(engine, method)()

    for one in Events:
        if one is not Events.EXCEPTION_RAISED:
            engine.add_event_handler(one, note)
    engine.run([1, 2], max_epochs=2)
    assert asked == [event]
    assert " ".join(names) == STOPS[method, event]


@pytest.mark.parametrize("method", ["terminate", "terminate_epoch"])
@pytest.mark.parametrize("event", ["EPOCH_STARTED", "GET_BATCH_STARTED"])
def test_a_stop_acts_at_once_if_no_batch_comes(method: str, event: str) -> None:
    engine = make()
    names = events_of(engine)
    engine.add_event_handler(Events.TERMINATE_SINGLE_EPOCH, _note_cut, names)
    engine.add_event_handler(Events[event], lambda engine: getattr(engine, method)())
    engine.run(iter(()), max_epochs=1)
    stop = "TERMINATE" if method == "terminate" else "TERMINATE_SINGLE_EPOCH EPOCH_COMPLETED"
    assert " ".join(names) == f"STARTED EPOCH_STARTED GET_BATCH_STARTED {stop} COMPLETED"


def _note_cut(engine: Engine, names: list[str], iter_counter: int) -> None:
    names.append("TERMINATE_SINGLE_EPOCH")


def test_interrupt_acts_at_the_next_event_in_the_documented_engine_too() -> None:
    engine = make()
    names = events_of(engine)
    engine.add_event_handler(Events.ITERATION_STARTED, lambda engine: engine.interrupt())
    engine.run([1])
    assert names[-2:] == ["ITERATION_STARTED", "INTERRUPT"]


def test_empty_data_gives_an_epoch_without_a_batch() -> None:
    engine = make()
    names = events_of(engine)
    with pytest.warns(UserWarning, match="no batch"):
        state = engine.run([], max_epochs=2)
    assert (state.iteration, state.output) == (0, None)
    assert names[0] == "STARTED"
    assert names[-1] == "COMPLETED"
    with pytest.raises(ValueError, match="no batch"):
        make(semantics=IGNITE_0_5_5).run([])


def test_a_run_for_iterations_ends_when_the_data_does() -> None:
    engine = make()
    names = events_of(engine)
    with pytest.warns(UserWarning, match="no batch"):
        state = engine.run(iter([0, 1, 2]), max_iters=10, epoch_length=4)
    assert state.iteration == 3
    assert names[-2:] == ["TERMINATE", "COMPLETED"]


def test_a_run_for_iterations_can_be_repeated() -> None:
    engine = make()
    for _ in range(2):
        assert engine.run(iter([0, 1, 2]), max_iters=2).iteration == 2
        assert engine.state.max_epochs is None


def test_data_that_is_refused_changes_nothing() -> None:
    engine = make()

    @engine.on(Events.ITERATION_COMPLETED(once=1))
    def refuse() -> None:
        before = engine.state.dataloader
        with pytest.raises(TypeError):
            engine.set_data(7)  # type: ignore[arg-type]  # not data
        assert engine.state.dataloader is before

    assert engine.run([1, 2], max_epochs=2).iteration == 4


# The state


def test_a_batch_written_before_the_step_is_the_one_it_gets() -> None:
    engine = make()

    @engine.on(Events.ITERATION_STARTED)
    def double() -> None:
        engine.state.batch = 2 * engine.state.batch

    assert engine.run([1, 2]).output == 4


def test_an_output_written_in_a_handler_stays_until_the_next_batch() -> None:
    engine, seen = make(), []

    @engine.on(Events.ITERATION_COMPLETED)
    def replace() -> None:
        engine.state.output = "mine"

    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda e: seen.append(e.state.output))
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda e: seen.append(e.state.output))
    engine.add_event_handler(Events.ITERATION_STARTED, lambda e: seen.append(e.state.output))
    engine.run([1, 2])
    assert seen == [None, "mine", None, "mine", "mine"]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("max_epochs", 1, (1, 3)),
        ("max_epochs", 3, (3, 9)),
        ("max_iters", 2, (1, 2)),
        ("epoch_length", 2, (2, 4)),
        ("iteration", 5, (1, 7)),
        ("epoch", 2, (2, 3)),
    ],
)
def test_what_is_written_in_a_run_reaches_the_loop(
    name: str, value: int, expected: tuple[int, int]
) -> None:
    engine = make()

    @engine.on(Events.ITERATION_COMPLETED(once=1))
    def write() -> None:
        setattr(engine.state, name, value)

    state = engine.run([1, 2, 3], max_epochs=2)
    assert (state.epoch, state.iteration) == expected


def test_a_limit_written_by_the_process_function_reaches_the_loop() -> None:
    def process_function(engine: Engine, batch: int) -> int:
        engine.state.max_epochs = 1
        engine.state.note = batch
        return batch

    state = make(process_function).run([1, 2], max_epochs=5)
    assert (state.epoch, state.note) == (1, 2)


def test_data_written_to_the_state_is_used_at_the_next_start_over_the_data() -> None:
    outputs = []
    engine = make(lambda engine, batch: outputs.append(batch))

    @engine.on(Events.DATALOADER_STOP_ITERATION)
    def replace() -> None:
        engine.state.dataloader = [7, 8]

    engine.run([1, 2], max_epochs=2)
    assert outputs == [1, 2, 7, 8]


def test_metrics_and_free_attributes_are_plain_objects_that_stay() -> None:
    engine = make()
    metrics = engine.state.metrics
    engine.state.history = []

    @engine.on(Events.ITERATION_COMPLETED)
    def note() -> None:
        engine.state.metrics["last"] = engine.state.output
        engine.state.history.append(engine.state.output)

    engine.run([1, 2])
    engine.run([3])
    assert engine.state.metrics is metrics
    assert metrics == {"last": 3}
    assert engine.state.history == [1, 2, 3]
    engine.state.metrics = {"other": 1}
    assert engine.run([4]).metrics == {"other": 1, "last": 4}
    del engine.state.history
    assert not hasattr(engine.state, "history")


def test_a_state_assigned_before_a_run_is_the_state_of_the_run() -> None:
    engine = make()
    engine.register_events(Custom.TICK, event_to_attr={Custom.TICK: "ticks"})
    old, mine = engine.state, State(rank=3, metrics={"best": 1.0})
    engine.state = mine
    assert engine.state is mine
    assert (mine.rank, mine.ticks) == (3, 0)
    assert engine.run([1, 2], max_epochs=2) is mine
    assert (mine.epoch, mine.iteration, mine.metrics) == (2, 4, {"best": 1.0})
    assert old is not mine


def test_a_state_assigned_with_progress_goes_on_from_there() -> None:
    engine, epochs = make(), []
    engine.state = State(epoch=1, iteration=2, epoch_length=2, max_epochs=3)
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda e: epochs.append(e.state.epoch))
    engine.run([1, 2])
    assert epochs == [2, 3]


def test_a_state_assigned_during_a_run_is_the_state_of_its_rest() -> None:
    engine = make()

    @engine.on(Events.EPOCH_STARTED(once=2))
    def assign() -> None:
        here = engine.state
        engine.state = State(
            epoch=here.epoch,
            iteration=here.iteration,
            epoch_length=2,
            max_epochs=3,
            dataloader=here.dataloader,
            mark="new",
        )

    state = engine.run([1, 2], max_epochs=2)
    assert state is engine.state
    assert (state.mark, state.epoch, state.iteration) == ("new", 3, 6)


def test_an_engine_does_not_share_its_old_state() -> None:
    engine = make()
    old = engine.state
    engine.run([1, 2])
    engine.state = State()
    engine.run([1, 2, 3])
    assert (old.iteration, engine.state.iteration) == (2, 3)


def test_only_a_state_can_be_assigned() -> None:
    with pytest.raises(TypeError, match="State"):
        make().state = {}  # type: ignore[assignment]  # refused


# Memory


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def ran(engine: Engine) -> Engine:
    engine.run([1, 2], max_epochs=2)
    return engine


def without_handlers() -> Engine:
    return make()


def with_closures() -> Engine:
    engine = make()
    engine.add_event_handler(Events.STARTED, lambda engine: None)
    engine.add_event_handler(Events.ITERATION_STARTED(every=2), lambda engine: None)
    engine.add_event_handler(Events.EPOCH_STARTED | Events.EPOCH_COMPLETED, lambda: None)
    engine.add_event_handler(Events.EXCEPTION_RAISED, lambda engine, error: None)
    engine.on(Events.COMPLETED)(Counter())
    return engine


def interrupted() -> Engine:
    engine = make(lambda engine, batch: engine.interrupt())
    engine.run([1, 2])
    return engine


def failed() -> Engine:
    engine = make(fail)
    with contextlib.suppress(Fault):
        engine.run([1, 2])
    return engine


MADE: dict[str, Callable[[], Engine]] = {
    "new": without_handlers,
    "handlers": with_closures,
    "ran": lambda: ran(without_handlers()),
    "ran with handlers": lambda: ran(with_closures()),
    "interrupted": interrupted,
    "failed": failed,
}


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("made", list(MADE))
def test_an_engine_is_freed_with_its_last_reference(made: str) -> None:
    engine = MADE[made]()
    references: list[weakref.ref[Any]] = [weakref.ref(engine), weakref.ref(engine.state)]
    del engine
    assert [reference() for reference in references] == [None, None]


class Thing:
    """Stand for a large batch or output."""


@pytest.mark.usefixtures("no_collector")
@BOTH
def test_the_last_batch_and_output_are_released_in_time(semantics: Semantics) -> None:
    batches: list[weakref.ref[Thing]] = []
    outputs: list[weakref.ref[Thing]] = []

    def data() -> Iterator[Thing]:
        for _ in range(3):
            assert [reference() for reference in batches] == [None] * len(batches)
            thing = Thing()
            batches.append(weakref.ref(thing))
            yield thing
            del thing

    def process_function(engine: Engine, batch: Thing) -> Thing:
        assert [reference() for reference in outputs] == [None] * len(outputs)
        output = Thing()
        outputs.append(weakref.ref(output))
        return output

    engine = make(process_function, semantics)
    engine.run(data())
    assert (len(batches), len(outputs)) == (3, 3)
    assert outputs[-1]() is engine.state.output


@pytest.mark.usefixtures("no_collector")
def test_a_handle_outlives_its_engine() -> None:
    engine, counter = make(), Counter()
    handles = [
        engine.add_event_handler(Events.STARTED, counter),
        engine.add_event_handler(Events.STARTED(every=2), lambda engine: None),
    ]
    del engine, counter
    assert [(handle.engine(), handle.handler()) for handle in handles] == 2 * [(None, None)]
    for handle in handles:
        handle.remove()


@pytest.mark.usefixtures("no_collector")
def test_a_bound_method_lives_as_long_as_it_is_registered() -> None:
    class Owner:
        def __init__(self) -> None:
            self.calls = 0

        def handle(self, engine: Engine) -> None:
            self.calls += 1

    engine, owner = make(), Owner()
    engine.add_event_handler(Events.STARTED, owner.handle)
    reference = weakref.ref(owner)
    del owner
    gc.collect()
    engine.run([1])
    kept = reference()
    assert kept is not None
    assert kept.calls == 1
    assert engine.has_event_handler(kept.handle, Events.STARTED)
    engine.remove_event_handler(kept.handle, Events.STARTED)
    del kept
    assert reference() is None


# Requests from elsewhere

ENOUGH = 200_000


def busy(engine: Engine, batch: int) -> int:
    """Write what a request must not be lost to, for as long as it takes."""
    if batch > ENOUGH:
        raise Fault("terminate() was lost")
    engine.state.output = batch
    engine.should_terminate_single_epoch = False
    return batch


def rewrite(engine: Engine) -> None:
    engine.state.batch = engine.state.batch
    engine.state.max_epochs = 1


@pytest.mark.parametrize("trial", range(10))
def test_terminate_from_another_thread_is_never_lost(trial: int) -> None:
    engine = make(busy)
    engine.add_event_handler(Events.ITERATION_STARTED, rewrite)
    started = threading.Event()
    engine.add_event_handler(Events.ITERATION_STARTED(once=1), started.set)

    def stop() -> None:
        assert started.wait(10)
        time.sleep(0.0003 * trial)
        engine.terminate()

    thread = threading.Thread(target=stop)
    thread.start()
    state = engine.run(itertools.count(), epoch_length=10 * ENOUGH)
    thread.join(10)
    assert engine.should_terminate is True
    assert 1 <= state.iteration <= ENOUGH


@pytest.mark.parametrize("trial", range(10))
def test_terminate_from_a_signal_handler_is_never_lost(trial: int) -> None:
    engine = make(busy)
    engine.add_event_handler(Events.ITERATION_STARTED, rewrite)
    before = signal.signal(signal.SIGALRM, lambda number, frame: engine.terminate())
    # Sent to the very thread that runs handlers of signals; taken by another one, it would wait.
    main = threading.main_thread().ident
    assert main is not None
    alarm = threading.Timer(
        0.001 + 0.00007 * trial, signal.pthread_kill, args=(main, signal.SIGALRM)
    )
    try:
        engine.add_event_handler(Events.ITERATION_STARTED(once=1), alarm.start)
        state = engine.run(itertools.count(), epoch_length=10 * ENOUGH)
    finally:
        alarm.join(10)
        signal.signal(signal.SIGALRM, before)
    assert engine.should_terminate is True
    assert 1 <= state.iteration <= ENOUGH


@pytest.mark.parametrize(("semantics", "iterations"), [(DOCUMENTED, 1), (IGNITE_0_5_5, 1)])
def test_terminate_asked_for_while_a_run_is_suspended_is_obeyed(
    semantics: Semantics, iterations: int
) -> None:
    engine = make(lambda engine, batch: engine.interrupt(), semantics)
    engine.run([1, 2, 3])
    engine.terminate()
    assert engine.run([1, 2, 3]).iteration == iterations


@BOTH
def test_interrupt_asked_for_while_a_run_is_suspended_is_obeyed(semantics: Semantics) -> None:
    engine = make(semantics=semantics)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=1), lambda engine: engine.interrupt())
    engine.run([1, 2, 3])
    engine.interrupt()
    names = events_of(engine)
    engine.run([1, 2, 3])
    assert names == ["GET_BATCH_STARTED", "INTERRUPT"]


def test_a_batch_is_released_before_the_next_one_is_fetched_without_data_too() -> None:
    seen = []

    def process_function(engine: Engine, batch: Any) -> None:
        seen.append(batch)
        engine.state.batch = "mine"

    engine = make(process_function)

    @engine.on(Events.DATALOADER_STOP_ITERATION)
    def keep() -> None:
        engine.state.batch = "mine"

    assert engine.run(iter([1]), epoch_length=2).batch is None
    assert seen == [1]


def test_a_length_forgotten_in_a_run_without_data_is_found_out_again() -> None:
    def process_function(engine: Engine, batch: None) -> None:
        if engine.state.iteration > 9:
            raise Fault("the run does not end")
        engine.state.epoch_length = None

    state = make(process_function).run(epoch_length=2)
    assert (state.iteration, state.epoch_length) == (2, 2)


@BOTH
def test_a_run_that_replaces_a_suspended_one_takes_its_own_data(semantics: Semantics) -> None:
    outputs: list[Any] = []
    engine = make(lambda engine, batch: outputs.append(batch), semantics)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=1), lambda engine: engine.interrupt())
    engine.run([1, 2, 3])
    engine.state.max_epochs = None
    engine.run([7, 8])  # is interrupted as well
    engine.run()
    assert outputs == [1, 7, 8]


def test_an_engine_logs_its_runs_and_epochs(caplog: pytest.LogCaptureFixture) -> None:
    engine = Engine(lambda engine, batch: None)
    engine.add_event_handler(Events.EPOCH_COMPLETED(once=2), Engine.terminate)
    with caplog.at_level(logging.INFO, engine.logger.name):
        engine.run([1, 2], max_epochs=5)
    said = [re.sub(r"\d\d:\d\d:\d\d\.\d{3}", "TIME", one) for one in caplog.messages]
    assert said == [
        "Engine, at epoch 0, iteration 0, runs with max_epochs=5, max_iters=None, epoch_length=2",
        "Engine, at epoch 1, iteration 2, has ended an epoch after TIME",
        "Engine, at epoch 2, iteration 4, has ended an epoch after TIME",
        "Engine, at epoch 2, iteration 4, is terminated after TIME",
    ]


def test_an_engine_may_be_given_to_a_handler_by_its_name() -> None:
    seen: list[Any] = []

    def first(engine: Any) -> None:
        seen.append(engine)

    def by_name_only(*, engine: Any = "none") -> None:
        seen.append(engine)

    engine, other = Engine(lambda engine, batch: None), Engine(lambda engine, batch: None)
    engine.add_event_handler(Events.STARTED, functools.partial(first, engine=other))
    engine.add_event_handler(Events.STARTED, first, engine=other)
    engine.add_event_handler(Events.STARTED, by_name_only)
    engine.run([1])
    assert seen == [other, other, "none"]


def test_the_state_of_a_running_engine_is_shared_before_the_run_or_not_at_all() -> None:
    trainer, evaluator = Engine(lambda engine, batch: None), Engine(lambda engine, batch: None)

    def share() -> None:
        evaluator.state = trainer.state

    trainer.add_event_handler(Events.EPOCH_STARTED, share)
    with pytest.raises(ValueError, match="an engine that is running, at epoch 1, iteration 0"):
        trainer.run([1, 2], max_epochs=2)
    share()
    assert evaluator.state is trainer.state
    running = Engine(lambda engine, batch: None)
    copies: list[State] = []
    running.add_event_handler(
        Events.STARTED, lambda engine: copies.append(copy.deepcopy(engine.state))
    )
    running.run([1])
    evaluator.state = copies[0]
    assert evaluator.run([1]).iteration == 1


class Tuned(State):
    """A state with attributes of its class."""

    lr = 0.1

    @property
    def doubled(self) -> float:
        return 2 * self.lr

    @doubled.setter
    def doubled(self, value: float) -> None:
        self.lr = value / 2


def test_a_state_of_ones_own_class_has_its_attributes() -> None:
    engine = Engine(lambda engine, batch: engine.state.lr)
    engine.state = Tuned()
    engine.state.doubled = 1.0
    assert (engine.run([1]).output, Tuned.lr) == (0.5, 0.1)
    assert pickle.loads(pickle.dumps(engine.state)).lr == 0.5


def test_what_holds_memory_can_be_deleted_from_the_state() -> None:
    engine = Engine(lambda engine, batch: batch)
    engine.run([1])
    del engine.state.output, engine.state.batch
    assert engine.state.output is None
    assert engine.state.batch is None


@pytest.mark.parametrize("attr", ["_fengine", "get_event_attrib_value", "metrics", "max_epochs"])
def test_what_the_state_needs_for_itself_counts_nothing(attr: str) -> None:
    engine = Engine(lambda engine, batch: None)
    with pytest.raises(ValueError, match=repr(attr)):
        engine.register_events("tick", event_to_attr={"tick": attr})
    assert not engine.has_registered_events("tick")


@pytest.mark.parametrize("attr", ["_fengine", "get_event_attrib_value", "event_to_attr"])
def test_what_the_state_has_for_itself_is_not_loaded(attr: str) -> None:
    engine = Engine(lambda engine, batch: None)
    engine.state_dict_user_keys.append(attr)
    with pytest.raises(ValueError, match=repr(attr)):
        engine.load_state_dict({"epoch": 1, "epoch_length": 2, "max_epochs": 3, attr: 1})
    assert engine.state.epoch == 0


@pytest.mark.parametrize(
    ("key", "value"),
    [("iteration", 1.5), ("iteration", "3"), ("epoch_length", 2.5), ("max_epochs", "3")],
)
def test_a_state_dict_holds_numbers(key: str, value: object) -> None:
    engine = Engine(lambda engine, batch: None)
    good = {"iteration": 4, "epoch_length": 2, "max_epochs": 3}
    with pytest.raises(TypeError, match=f"{key}={re.escape(repr(value))}"):
        engine.load_state_dict({**good, key: value})
    assert (engine.state.iteration, engine.state.max_epochs) == (0, None)
    with pytest.raises(ValueError, match="epoch_length=-4"):
        engine.load_state_dict({"iteration": 0, "epoch_length": -4, "max_epochs": 3})
    engine.load_state_dict({**good, "iteration": np.int64(4)})
    assert type(engine.state.iteration) is int


def test_a_limit_is_a_number() -> None:
    engine = Engine(lambda engine, batch: None)
    with pytest.raises(TypeError, match="max_epochs='3' of type str"):
        engine.run([1], max_epochs="3")  # type: ignore[arg-type]
    assert engine.state.max_epochs is None


def test_a_method_that_stops_is_a_handler_that_skips_nothing() -> None:
    engine = Engine(lambda engine, batch: None)
    completed: list[int] = []
    engine.add_event_handler(Events.ITERATION_COMPLETED, engine.terminate)
    engine.add_event_handler(Events.COMPLETED, lambda engine: completed.append(engine.state.epoch))
    engine.run([1, 2])
    assert completed == [1]
    wished = Engine(lambda engine, batch: engine.terminate(skip_completed=cast("bool", np.True_)))
    wished.add_event_handler(Events.COMPLETED, lambda engine: completed.append(0))
    wished.run([1, 2])
    assert completed == [1]


def test_an_exception_that_is_raised_again_says_once_where() -> None:
    error = ValueError("again and again")
    engine = Engine(lambda engine, batch: (_ for _ in ()).throw(error))
    for _ in range(3):
        with pytest.raises(ValueError, match="again and again"):
            engine.run([1])
    assert error.__notes__ == ["in the step at epoch 1, iteration 1"]
