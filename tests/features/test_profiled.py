"""A profile says where the time went, and torch's profiler is off after a run, however it ends."""

from __future__ import annotations

import copy
import io
import json
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fengine import Events, Loop, Outcome, Recorder, State, Status, compose, last_state, outputs
from fengine.engine import Engine
from fengine.engine import Events as EngineEvents
from fengine.features import profiled, progress
from fengine.metrics import mean
from fengine.testing import FakeClock

AnyState = State[Any, Any, None]
Costs = dict[str, tuple[int, float]]


def is_on() -> bool:
    found: bool = torch._C._autograd._profiler_enabled()
    return found


def costs(feature: Any) -> Costs:
    """Give the calls and the seconds by name, without the place of a function in its file."""
    return {
        f"{one.event} {one.name.partition(' (')[0]}".strip().rpartition(".")[2]: (
            one.calls,
            one.seconds,
        )
        for one in feature.profile.timings
    }


class Slow:
    """Be data, each batch of which takes a quarter of a second."""

    def __init__(self, clock: FakeClock, length: int = 3) -> None:
        self.clock, self.length = clock, length

    def __iter__(self) -> Iterator[float]:
        for number in range(self.length):
            self.clock.advance(0.25)
            yield float(number)

    def __len__(self) -> int:
        return self.length


def number(batch: float) -> float:
    return batch


def adding(batch: float) -> torch.Tensor:
    return torch.ones(2) + batch


def names_in(path: Path) -> set[str]:
    return {one["name"] for one in json.loads(path.read_text())["traceEvents"]}


def taking(clock: FakeClock, seconds: float) -> Callable[[AnyState], AnyState]:
    """Make a handler that takes its time."""

    def take(state: AnyState) -> AnyState:
        clock.advance(seconds)
        return state

    return take


EVENTS = (
    Events.STARTED,
    Events.EPOCH_STARTED,
    Events.GET_BATCH_STARTED,
    Events.GET_BATCH_COMPLETED,
    Events.ITERATION_STARTED,
    Events.ITERATION_COMPLETED,
    Events.EPOCH_COMPLETED,
    Events.COMPLETED,
)
PER_EPOCH = 3


@settings(max_examples=25)
@given(
    seconds=st.lists(st.integers(0, 8).map(lambda one: one / 8), min_size=8, max_size=8),
    step=st.integers(0, 8).map(float),
    epochs=st.integers(1, 3),
    rare=st.integers(1, 4),
)
def test_times_are_those_that_pass_in_a_loop_and_in_an_engine(
    seconds: list[float], step: float, epochs: int, rare: int
) -> None:
    clock = FakeClock()

    def run_step(batch: float) -> None:
        clock.advance(step)

    feature = profiled(file=io.StringIO(), clock=clock)
    loop = Loop(outputs(run_step))
    for event, some in zip(EVENTS, seconds, strict=True):
        loop = loop.on(event, taking(clock, some))
    seldom = Events.ITERATION_COMPLETED(every=rare)
    loop = loop.on(seldom, taking(clock, 1.0))
    (loop | feature).run(Slow(clock), max_epochs=epochs)
    assert feature.profile is not None
    spent: Costs = {}
    for one in feature.profile.timings:
        key = one.event + (" seldom" if "every" in one.name else "") or one.name
        spent[key] = one.calls, one.seconds
    often = epochs * PER_EPOCH
    calls = {
        event.name.upper(): often if "iteration" in event.name or "batch" in event.name else epochs
        for event in EVENTS
    } | {"STARTED": 1, "COMPLETED": 1}
    expected: Costs = {
        name: (calls[name], calls[name] * some) for name, some in zip(calls, seconds, strict=True)
    } | {"the step": (often, often * step), "waiting for data": (often, often * 0.25)}
    if often >= rare:
        expected["ITERATION_COMPLETED seldom"] = often // rare, float(often // rare)
    assert spent == expected
    assert feature.profile.seconds == sum(total for _, total in expected.values())

    engine = Engine(lambda engine, batch: clock.advance(step))
    for event, some in zip(EVENTS, seconds, strict=True):
        engine.add_event_handler(event.name.upper(), partial(clock.advance, some))

    def rarely() -> None:
        clock.advance(1.0)

    engine.add_event_handler(EngineEvents.ITERATION_COMPLETED(every=rare), rarely)
    there = profiled(file=io.StringIO(), clock=clock)
    there.attach(engine)
    engine.run(Slow(clock), max_epochs=epochs)
    assert there.profile is not None
    found = {
        one.event + (" seldom" if "rarely" in one.name else "") or one.name: (
            one.calls,
            one.seconds,
        )
        for one in there.profile.timings
    }
    assert found == expected
    assert there.profile.seconds == feature.profile.seconds


def test_pytorch_ignite_finds_the_same_times(monkeypatch: pytest.MonkeyPatch) -> None:
    from ignite.engine import Engine as Theirs
    from ignite.engine import Events as TheirEvents
    from ignite.handlers import BasicTimeProfiler

    clock = FakeClock()
    monkeypatch.setattr("ignite.handlers.timing.perf_counter", clock)

    def both(engine: Any, events: Any) -> Any:
        engine.add_event_handler(events.ITERATION_COMPLETED, lambda: clock.advance(0.5))
        engine.add_event_handler(events.EPOCH_COMPLETED, lambda: clock.advance(2))
        return engine

    def step(engine: Any, batch: float) -> None:
        clock.advance(batch)

    theirs, peer = both(Theirs(step), TheirEvents), BasicTimeProfiler()
    peer.attach(theirs)
    theirs.run(Slow(clock), max_epochs=2)
    found = peer.get_results()
    ours, feature = both(Engine(step), EngineEvents), profiled(file=io.StringIO(), clock=clock)
    feature.attach(ours)
    ours.run(Slow(clock), max_epochs=2)
    assert feature.profile is not None
    seconds = {one.event or one.name: one.seconds for one in feature.profile.timings}
    handlers = found["event_handlers_stats"]
    assert seconds == {
        "the step": found["processing_stats"]["total"],
        "waiting for data": found["dataflow_stats"]["total"],
        "ITERATION_COMPLETED": handlers["ITERATION_COMPLETED"]["total"],
        "EPOCH_COMPLETED": handlers["EPOCH_COMPLETED"]["total"],
    }


def test_the_table_is_shown_as_the_run_ends() -> None:
    clock, file = FakeClock(), io.StringIO()

    def log_loss(state: State[float, None]) -> State[float, None]:
        clock.advance(0.25)
        return state

    loop = Loop(outputs(clock.advance)).on(Events.ITERATION_COMPLETED, log_loss)
    (loop | profiled(file=file, clock=clock)).run([1.0, 0.5])
    table = file.getvalue().splitlines()
    assert table[:3] == [
        "2.000 seconds",
        "  share    seconds    calls    mean ms",
        "   75 %      1.500        2    750.000  the step",
    ]
    assert table[3].startswith(
        "   25 %      0.500        2    250.000  ITERATION_COMPLETED: "
        "test_the_table_is_shown_as_the_run_ends.log_loss (test_profiled.py:"
    )


def test_a_clock_that_stands_still_has_no_shares() -> None:
    file = io.StringIO()
    (Loop(outputs(number)) | profiled(file=file, clock=FakeClock())).run([1.0])
    assert "      -      0.000        1      0.000  the step\n" in file.getvalue()


def test_a_file_that_fails_ends_no_run(capsys: pytest.CaptureFixture[str]) -> None:
    closed = io.StringIO()
    closed.close()
    feature = profiled(file=closed)
    assert (Loop(outputs(number)) | feature).run([1.0]).status is Status.COMPLETED
    assert feature.profile is not None
    (Loop(outputs(number)) | profiled()).run([1.0])
    assert "the step" in capsys.readouterr().err


def test_a_handler_that_runs_within_another_is_counted_once() -> None:
    clock = FakeClock()
    engine = Engine(lambda engine, batch: engine.fire_event("chunk"))
    engine.register_events("chunk")
    engine.add_event_handler("chunk", lambda: clock.advance(2))

    def outer(engine: Engine) -> None:
        clock.advance(1)
        engine.fire_event("chunk")

    engine.add_event_handler(EngineEvents.ITERATION_STARTED, outer)
    feature = profiled(file=io.StringIO(), clock=clock)
    feature.attach(engine)
    engine.run([1, 1])
    assert feature.profile is not None
    found = {one.event or one.name: (one.calls, one.seconds) for one in feature.profile.timings}
    assert found["chunk"] == (4, 8.0)
    assert found["ITERATION_STARTED"] == (2, 6.0)
    assert found["the step"] == (2, 0.0)
    assert feature.profile.seconds == 10.0


# The trace.


def test_a_trace_has_the_steps_of_the_schedule_and_the_handlers(tmp_path: Path) -> None:
    def after(state: State[float, torch.Tensor]) -> State[float, torch.Tensor]:
        state.output.sum()
        return state

    path = tmp_path / "run.json"
    loop = Loop(outputs(adding)).on(Events.ITERATION_COMPLETED, after)
    feature = profiled(skip_first=1, wait=1, warmup=1, active=2, trace=path, file=io.StringIO())
    (loop | feature).run([1.0] * 8)
    names = names_in(path)
    assert {one for one in names if one.startswith("ProfilerStep")} == {
        "ProfilerStep#3",
        "ProfilerStep#4",
    }
    assert any(one.startswith("ITERATION_COMPLETED: ") and "after" in one for one in names)
    assert "aten::add" in names
    assert feature.profile is not None
    assert feature.profile.traces == (path,)
    assert list(tmp_path.iterdir()) == [path]
    assert not is_on()


def test_each_cycle_has_a_file(tmp_path: Path) -> None:
    feature = profiled(
        wait=0, warmup=1, active=1, repeat=0, trace=str(tmp_path / "a.b.json"), file=io.StringIO()
    )
    (Loop(outputs(adding)) | feature).run([1.0] * 6)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a.2.b.json",
        "a.3.b.json",
        "a.b.json",
    ]


def test_a_trace_is_handed_to_a_function(tmp_path: Path) -> None:
    tables: list[str] = []
    feature = profiled(
        trace=lambda profiler: tables.append(profiler.key_averages().table()),
        record_shapes=True,
        file=io.StringIO(),
    )
    (Loop(outputs(adding)) | feature).run([1.0] * 8)
    assert len(tables) == 1
    assert "aten::add" in tables[0]
    folder = str(tmp_path)
    handler = torch.profiler.tensorboard_trace_handler(folder)
    (Loop(outputs(adding)) | profiled(trace=handler, file=io.StringIO())).run([1.0] * 8)
    assert len(list(tmp_path.iterdir())) == 1


def boom(state: State[float, Any]) -> State[float, Any]:
    raise OSError("boom")


LEFT: dict[str, tuple[Any, Any, Status]] = {
    "paused": (Events.ITERATION_COMPLETED(once=4), State.interrupt, Status.INTERRUPTED),
    "ended": (Events.ITERATION_COMPLETED(once=4), State.terminate, Status.TERMINATED),
    "failed": (Events.ITERATION_STARTED(once=4), boom, Status.FAILED),
}


@pytest.mark.parametrize("way", LEFT)
def test_however_a_run_ends_its_trace_is_written_and_the_next_can_run(
    way: str, tmp_path: Path
) -> None:
    event, handler, status = LEFT[way]
    path = tmp_path / "run.json"
    feature = profiled(active=9, trace=path, file=io.StringIO())
    loop = Loop(outputs(adding)).on(event, handler) | feature
    for _ in range(2):
        if status is Status.FAILED:
            with pytest.raises(OSError, match="boom"):
                loop.run([1.0] * 8)
        else:
            assert loop.run([1.0] * 8).status is status
        assert "ProfilerStep#2" in names_in(path)
        assert not is_on()
        assert feature.profile is not None
        path.unlink()
    assert feature.profile is not None
    assert feature.profile.traces == (path,)


@pytest.mark.parametrize("batches", [1, 2, 3, 4, 5])
def test_a_run_that_goes_on_is_profiled_anew(batches: int, tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    clock = FakeClock()
    feature = profiled(wait=0, warmup=1, active=1, trace=path, file=io.StringIO(), clock=clock)
    plain = Loop(outputs(clock.advance)).on(
        Events.ITERATION_COMPLETED(once=batches), State.interrupt
    )
    loop = plain | feature
    data = [1.0] * 8
    paused = loop.run(data)
    path.unlink()
    final = loop.resume(paused, data)
    assert costs(feature)["the step"] == (8 - batches, 8.0 - batches)
    assert "ProfilerStep#1" in names_in(path)
    assert final == plain.resume(plain.run(data), data)


@pytest.mark.parametrize("pulled", [1, 4, 10, 14, 18, 22, 30])
def test_a_run_that_is_dropped_leaves_no_profiler_on(pulled: int) -> None:
    feature = profiled(wait=0, warmup=1, active=9, trace=lambda profiler: None, file=io.StringIO())
    loop = Loop(outputs(adding)) | feature
    moments = loop.iterate([1.0] * 8)
    for _ in range(pulled):
        next(moments)
    moments.close()
    assert not is_on()
    assert loop.run([1.0] * 3).status is Status.COMPLETED
    assert not is_on()


def test_two_profilers_at_once_are_refused() -> None:
    feature = profiled(trace=lambda profiler: None, file=io.StringIO())
    loop = Loop(outputs(adding)) | feature
    moments = loop.iterate([1.0] * 3)
    next(moments)
    with pytest.raises(RuntimeError, match=r"torch's profiler is in use already.*another run"):
        loop.run([1.0] * 3)
    list(moments)
    with (
        torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as own,
        pytest.raises(RuntimeError, match="torch's profiler is in use already"),
    ):
        loop.run([1.0] * 3)
    assert own.key_averages() is not None
    assert loop.run([1.0] * 3).status is Status.COMPLETED


def test_two_runs_at_once_without_a_trace_are_timed_each_by_itself() -> None:
    clock = FakeClock()
    feature = profiled(file=io.StringIO(), clock=clock)
    loop = Loop(outputs(clock.advance)) | feature
    slow = loop.iterate([4.0] * 2)
    next(m for m in slow if m.event is Events.ITERATION_COMPLETED)
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(loop.run([1.0] * 3)))
    thread.start()
    thread.join()
    assert costs(feature)["the step"] == (3, 3.0)
    list(slow)
    assert costs(feature)["the step"] == (2, 8.0)


def test_a_handler_that_fails_is_timed_and_its_error_leaves() -> None:
    clock = FakeClock()

    def fail(state: State[float, float]) -> State[float, float]:
        clock.advance(3)
        raise ValueError("mine")

    feature = profiled(file=io.StringIO(), clock=clock)
    loop = Loop(outputs(number)).on(Events.ITERATION_COMPLETED, fail) | feature
    with pytest.raises(ValueError, match="mine") as caught:
        loop.run([1.0])
    assert "in handler" in caught.value.__notes__[0]
    assert "fail" in caught.value.__notes__[0]
    assert costs(feature)["fail"] == (1, 3.0)


# What cannot be written.


def test_a_missing_folder_is_refused_before_anything_runs(tmp_path: Path) -> None:
    seen: list[float] = []
    feature = profiled(trace=tmp_path / "none" / "a.json", file=io.StringIO())
    with pytest.raises(FileNotFoundError, match="which is not there; make it first"):
        (Loop(outputs(seen.append)) | feature).run([1.0])
    assert not seen
    assert not is_on()


FULL = """
import io, resource, sys, torch, warnings
from fengine import Loop, outputs
from fengine.features import profiled
resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))
loop = Loop(outputs(lambda batch: torch.ones(2) + batch))
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    final = (loop | profiled(trace=sys.argv[1], file=io.StringIO())).run([1.0] * 8)
print(final.status.value, [str(one.message) for one in seen if one.category is RuntimeWarning])
"""


def test_a_full_disk_is_a_warning_and_leaves_no_half_of_a_trace(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text("{}")
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("completed ['the trace could not be written to ")
    assert "The run goes on" in done.stdout
    assert [one.name for one in tmp_path.iterdir()] == ["run.json"]
    assert path.read_text() == "{}"


@pytest.mark.parametrize("batches", [3, 8])
def test_a_function_that_fails_is_the_error_unless_the_run_has_one(batches: int) -> None:
    def fail(profiler: torch.profiler.profile) -> None:
        raise ValueError("of the trace")

    loop = Loop(outputs(adding)) | profiled(trace=fail, file=io.StringIO())
    with pytest.raises(ValueError, match="of the trace"):
        loop.run([1.0] * batches)
    assert not is_on()
    failing = Loop(outputs(adding)).on(Events.EPOCH_COMPLETED, boom) | profiled(
        active=9, trace=fail, file=io.StringIO()
    )
    with pytest.raises(OSError, match="boom") as caught:
        failing.run([1.0] * 5)
    assert "the trace of profiled() has failed: ValueError('of the trace')" in "".join(
        caught.value.__notes__
    )
    assert not is_on()


# The loop, the engine, and what they are made of.


def test_handlers_keep_their_order_and_their_names() -> None:
    seen: list[str] = []

    def first(state: State[float, float]) -> State[float, float]:
        seen.append("first")
        return state

    def second(state: State[float, float]) -> State[float, float]:
        seen.append("second")
        return state

    loop = Loop(outputs(number)).on(Events.COMPLETED, second)
    loop = loop.on(Events.COMPLETED, first, runs_before=second)

    def leave(state: State[float, float], outcome: Outcome) -> State[float, float]:
        seen.append("exited")
        return state

    loop = loop.on(Events.EXITED, leave)
    timed = loop | profiled(file=io.StringIO())
    timed.run([1.0])
    assert seen == ["first", "second", "exited"]
    assert "first (test_profiled.py" in str(timed)

    failing = loop.on(Events.COMPLETED, boom)
    with pytest.raises(OSError, match="boom"):
        (failing | profiled(file=io.StringIO())).run([1.0])


def test_a_state_goes_on_in_the_loop_without_it_and_back() -> None:
    done: list[str] = []

    def note(state: State[float, float]) -> State[float, float]:
        done.append("noted")
        return state.evolve(metrics={"a": 1.0})

    def fail_once(state: State[float, float]) -> State[float, float]:
        if len(done) == 1 and "failed" not in done:
            done.append("failed")
            raise OSError("once")
        return state

    plain = (
        Loop(outputs(number))
        .on(Events.EPOCH_COMPLETED, note)
        .on(Events.EPOCH_COMPLETED, compose(fail_once))
    )
    timed = plain | profiled(file=io.StringIO())
    with pytest.raises(OSError, match="once") as caught:
        timed.run([1.0])
    state: Any = last_state(caught.value)
    assert state is not None
    assert plain.resume(state, [1.0]).status is Status.COMPLETED
    assert timed.resume(state, [1.0]).status is Status.COMPLETED
    assert done == ["noted", "failed"]


def test_a_loop_is_what_it_was_but_for_the_time() -> None:
    loop = Loop(outputs(number)) | mean("loss") | progress(file=io.StringIO())
    data = [1.0, 2.0, 3.0]
    timed = loop | profiled(file=io.StringIO())
    assert timed.run(data, max_epochs=2) == loop.run(data, max_epochs=2)
    recorder = Recorder(timed)
    assert recorder.loop.run(data) == loop.run(data)


def test_it_prints_compares_and_pickles() -> None:
    assert repr(profiled()) == "profiled()"
    assert repr(profiled(active=5, trace="a.json", with_stack=True)) == (
        "profiled(active=5, trace='a.json', with_stack=True)"
    )
    assert profiled(active=2) == profiled(active=2) != profiled()
    assert hash(profiled()) == hash(profiled())
    feature = profiled(file=io.StringIO())
    (Loop(outputs(number)) | feature).run([1.0])
    assert copy.deepcopy(feature).profile is None
    loop = Loop(outputs(number)) | mean("loss") | profiled()
    assert pickle.loads(pickle.dumps(loop)) == loop
    assert loop == Loop(outputs(number)) | mean("loss") | profiled()


def test_handlers_are_timed_once() -> None:
    loop = Loop(outputs(number)) | profiled()
    with pytest.raises(ValueError, match=r"profiled already, by profiled\(\)"):
        loop | profiled()
    engine = Engine(lambda engine, batch: None)
    profiled().attach(engine)
    with pytest.raises(ValueError, match=r"profiled already, by profiled\(\)"):
        profiled().attach(engine)


@pytest.mark.parametrize("answered", [False, True])
def test_an_engine_raises_what_it_would_without_it(answered: bool) -> None:
    def step(engine: Engine, batch: int) -> None:
        if batch == 2:
            raise OSError("two")

    def run(attached: bool) -> tuple[str, int]:
        engine, taken = Engine(step), list[BaseException]()
        if answered:
            engine.add_event_handler(EngineEvents.EXCEPTION_RAISED, taken.append)
        if attached:
            profiled(trace=lambda profiler: None, file=io.StringIO()).attach(engine)
        try:
            engine.run([1, 2, 3], max_epochs=2)
        except OSError as error:
            taken.append(error)
            return "raised", engine.state.iteration
        return f"answered {len(taken)}", engine.state.iteration

    assert run(attached=True) == run(attached=False)
    assert not is_on()


def test_an_engine_that_pauses_is_profiled_in_two_runs(tmp_path: Path) -> None:
    path, clock = tmp_path / "run.json", FakeClock()
    engine = Engine(lambda engine, batch: clock.advance(batch))
    engine.add_event_handler(EngineEvents.ITERATION_COMPLETED(once=3), engine.interrupt)
    feature = profiled(wait=0, warmup=1, active=1, trace=path, file=io.StringIO(), clock=clock)
    feature.attach(engine)
    engine.run([1.0] * 5)
    assert costs(feature)["the step"] == (3, 3.0)
    assert not is_on()
    path.unlink()
    engine.run([1.0] * 5)
    assert costs(feature)["the step"] == (2, 2.0)
    assert path.exists()


def test_handlers_of_an_engine_are_known_and_taken_away_as_before() -> None:
    engine, seen = Engine(lambda engine, batch: None), list[str]()

    def once(engine: Engine) -> None:
        seen.append("once")
        handle.remove()

    def plain(engine: Engine) -> None:
        seen.append("plain")

    handle = engine.add_event_handler(EngineEvents.ITERATION_COMPLETED, once)
    engine.add_event_handler(EngineEvents.ITERATION_COMPLETED(every=2), plain)
    profiled(file=io.StringIO()).attach(engine)
    assert engine.has_event_handler(plain)
    engine.run([1] * 4)
    assert seen == ["once", "plain", "plain"]
    engine.remove_event_handler(plain, EngineEvents.ITERATION_COMPLETED)
    assert not engine.has_event_handler(plain)
    copied = pickle.loads(pickle.dumps(profiled(file=None)))
    assert copied == profiled()


def test_wrong_arguments_are_refused() -> None:
    for name in ("wait", "warmup", "repeat", "skip_first"):
        with pytest.raises(ValueError, match=f"{name}=-1 is below 0"):
            profiled(**{name: -1})  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=rf"{name}=1\.5 of type float is not an int"):
            profiled(**{name: 1.5})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="active=0 is below 1"):
        profiled(active=0)
    with pytest.raises(TypeError, match=r"takes no \['shapes'\]"):
        profiled(shapes=True)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="trace takes"):
        profiled(trace=3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="has no write and no flush"):
        profiled(file=3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="clock takes"):
        profiled(clock=3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="attached to an Engine"):
        profiled().attach(Loop(outputs(number)))  # type: ignore[arg-type]
