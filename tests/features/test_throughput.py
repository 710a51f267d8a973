"""The throughput is what a clock and a count by hand say, in a Loop, an Engine and the peers."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Iterable, Iterator
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from fengine import Events, Loop, State, Status, outputs
from fengine.engine import Engine
from fengine.engine import Events as EngineEvents
from fengine.features import early_stopping, evaluation, throughput
from fengine.metrics import mean
from fengine.testing import FakeClock
from fengine.training import TensorBatches, to_device, training_step, windows
from tests.features.digests import digest

NAMES = ("samples_per_second", "batches_per_second", "waiting_for_data")
Task = tuple[float, float, int]  # the seconds to wait, the seconds of the step, the samples


@attrs.frozen
class Slow:
    """Be data, each batch of which takes its time."""

    clock: FakeClock
    tasks: list[Task]

    def __iter__(self) -> Iterator[Task]:
        for task in self.tasks:
            self.clock.advance(task[0])
            yield task

    def __len__(self) -> int:
        return len(self.tasks)


def stepping(clock: FakeClock) -> Loop[Task, None, None]:
    def step(task: Task) -> None:
        clock.advance(task[1])

    return Loop(outputs(step))


def engine_of(clock: FakeClock) -> Engine:
    return Engine(lambda engine, task: clock.advance(task[1]))


def samples_of(task: Task) -> int:
    return task[2]


def by_hand(tasks: list[Task]) -> dict[str, float]:
    seconds = sum(waits + steps for waits, steps, _ in tasks)
    if not seconds:
        return {}
    counted = sum(task[2] for task in tasks), len(tasks), sum(task[0] for task in tasks)
    return dict(zip(NAMES, (one / seconds for one in counted), strict=True))


halves = st.integers(0, 6).map(lambda number: number / 2)
tasks = st.lists(st.tuples(halves, halves, st.integers(0, 9)), min_size=1, max_size=6)


@given(tasks=tasks, warmup=st.integers(0, 8), epochs=st.integers(1, 3))
def test_it_is_what_is_counted_by_hand(tasks: list[Task], warmup: int, epochs: int) -> None:
    expected = [by_hand(tasks[max(0, warmup - epoch * len(tasks)) :]) for epoch in range(epochs)]
    clock, seen = FakeClock(), list[Any]()
    feature = throughput(samples=samples_of, warmup=warmup, clock=clock)

    def note(state: State[Task, None]) -> State[Task, None]:
        seen.append(dict(state.metrics))
        return state

    loop = (stepping(clock) | feature).on(Events.EPOCH_COMPLETED, note)
    loop.run(Slow(clock, tasks), max_epochs=epochs)
    assert seen == [pytest.approx(one) for one in expected]

    engine, seen_there = engine_of(clock), list[Any]()
    feature.attach(engine)
    engine.add_event_handler(
        EngineEvents.EPOCH_COMPLETED, lambda: seen_there.append(dict(engine.state.metrics))
    )
    engine.run(Slow(clock, tasks), max_epochs=epochs)
    assert seen_there == seen


@pytest.mark.parametrize("every", [1, 2, 3])
def test_it_is_that_since_the_reading_before(every: int) -> None:
    tasks = [(1.0, float(number), number) for number in range(1, 7)]
    clock, seen = FakeClock(), list[float]()
    at = Events.ITERATION_COMPLETED(every=every)

    def note(state: State[Task, None]) -> State[Task, None]:
        clock.advance(100)  # after the reading, so it does not count
        seen.append(state.metrics["samples_per_second"])
        return state

    feature = throughput(at=at, samples=samples_of, clock=clock)
    (stepping(clock) | feature).on(at, note).run(Slow(clock, tasks))
    spans = [tasks[begin : begin + every] for begin in range(0, 6, every)]
    assert seen == pytest.approx([by_hand(span)["samples_per_second"] for span in spans])

    engine = engine_of(clock)
    throughput(samples=samples_of, clock=clock).attach(
        engine, at=EngineEvents.ITERATION_COMPLETED(every=every)
    )
    assert engine.run(Slow(clock, tasks)).metrics["samples_per_second"] == pytest.approx(seen[-1])
    engine = engine_of(clock)
    throughput(at=Events.ITERATION_COMPLETED, samples=samples_of, clock=clock).attach(engine)
    assert engine.run(Slow(clock, tasks)).metrics["samples_per_second"] == pytest.approx(6 / 7)


def test_what_lies_between_iterations_counts_and_what_comes_after_the_last_does_not() -> None:
    clock = FakeClock()

    def slow(state: State[Task, None]) -> State[Task, None]:
        clock.advance(10)
        return state

    loop = stepping(clock) | throughput(samples=samples_of, clock=clock)
    loop = loop.on(Events.ITERATION_COMPLETED(once=1), slow).on(Events.EPOCH_COMPLETED, slow)
    final = loop.run(Slow(clock, [(1, 4, 3)] * 2), max_epochs=2)
    assert final.metrics["batches_per_second"] == 2 / 10
    assert loop.run(Slow(clock, [(1, 4, 3)] * 2)).metrics["batches_per_second"] == 2 / 20


def test_to_begin_reading_the_data_is_to_wait_for_it() -> None:
    clock = FakeClock()

    @attrs.frozen
    class Starting:
        def __iter__(self) -> Iterator[Task]:
            clock.advance(6)
            return iter([(0.0, 1.0, 1)] * 2)

    loop = stepping(clock) | throughput(samples=samples_of, clock=clock)
    final = loop.run(Starting(), max_epochs=2, epoch_length=2)
    assert final.metrics["waiting_for_data"] == 6 / 8


def test_what_torch_compiles_is_left_out_with_the_first_batches() -> None:
    clock = FakeClock()

    def backend(graph: torch.fx.GraphModule, inputs: Any) -> Any:
        clock.advance(1000)
        return graph.forward

    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    torch.compiler.reset()
    compiled: Any = torch.compile(model, backend=backend)
    x, y = torch.randn(20, 4), torch.randn(20, 1)

    def tick(state: State[Any, Tensor]) -> State[Any, Tensor]:
        clock.advance(0.5)
        return state

    def metrics(warmup: int) -> Any:
        torch.compiler.reset()
        step = training_step(compiled, optimizer, mse_loss)
        loop = Loop(step).on(Events.ITERATION_STARTED, tick) | throughput(
            warmup=warmup, clock=clock
        )
        return loop.run(TensorBatches(x, y, batch_size=4, seed=0)).metrics

    assert metrics(1)["samples_per_second"] == 4 / 0.5
    assert metrics(0)["samples_per_second"] < 0.1


@attrs.define
class Accelerator:
    """Be a device that is late, and has some memory."""

    clock: FakeClock
    late: float
    peak: int | None = None
    waits: int = 0

    def synchronize(self) -> None:
        self.waits += 1
        self.clock.advance(self.late)

    def peak_memory(self) -> int | None:
        return self.peak


def test_what_a_device_has_still_to_do_counts_and_its_memory_is_told() -> None:
    clock = FakeClock()
    device = Accelerator(clock, late=5, peak=2**30)
    feature = throughput(samples=samples_of, clock=clock, devices=device)
    final = (stepping(clock) | feature).run(Slow(clock, [(1, 4, 10)]))
    assert final.metrics["samples_per_second"] == 1.0
    assert final.metrics["peak_memory"] == 2**30
    assert device.waits == 1
    feature = throughput(samples=samples_of, warmup=1, clock=clock, devices=device)
    final = (stepping(clock) | feature).run(Slow(clock, [(1, 4, 10)] * 2))
    assert final.metrics["samples_per_second"] == 1.0  # it waits where the warmup ends, too


def test_cuda_is_asked_where_this_process_has_had_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[int] = []
    monkeypatch.setattr("torch.cuda.is_initialized", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    monkeypatch.setattr("torch.cuda.max_memory_allocated", [100, 0, 20].__getitem__)
    monkeypatch.setattr("torch.cuda.synchronize", waited.append)
    clock = FakeClock()
    loop = stepping(clock) | throughput(samples=samples_of, clock=clock)
    assert loop.run(Slow(clock, [(1, 1, 1)])).metrics["peak_memory"] == 120
    assert waited == [0, 2]


def test_without_a_device_there_is_no_memory() -> None:
    clock = FakeClock()
    none = Accelerator(clock, late=0)
    loop = stepping(clock) | throughput(samples=samples_of, clock=clock, devices=none)
    assert set(loop.run(Slow(clock, [(1, 1, 1)])).metrics) == set(NAMES)


def data() -> TensorBatches[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(20, 4, generator=generator), torch.randn(20, 1, generator=generator)
    return TensorBatches(x, y, batch_size=4, seed=0)


@pytest.mark.parametrize("stop", [1, 3, 5, 7])
def test_a_training_is_bitwise_that_without_it_and_goes_on_exactly(stop: int) -> None:
    def trained(measured: bool, stop: int | None) -> tuple[Any, str]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
        optimizer = torch.optim.Adam(model.parameters(), 0.05)
        loop = Loop(training_step(model, optimizer, mse_loss)) | mean("loss")
        if measured:
            loop = loop | throughput(warmup=1)
        if stop is None:
            final = loop.run(data(), max_epochs=2)
        else:
            pausing = loop.on(Events.ITERATION_COMPLETED(once=stop), State.interrupt)
            plain = loop.snapshot(pausing.run(data(), max_epochs=2)).to_dict()
            torch.rand(3)
            final = loop.resume(loop.read(plain), data())
        metrics = {name: one for name, one in final.metrics.items() if name not in NAMES}
        kept = (final.iteration, final.epoch, final.status, final.parts, metrics, final.output)
        return kept, digest(model, optimizer)

    whole = trained(False, None)
    assert trained(True, None) == whole == trained(True, stop)


def test_a_run_that_goes_on_counts_what_it_does_itself() -> None:
    clock = FakeClock()
    loop = stepping(clock) | throughput(samples=samples_of, warmup=1, clock=clock)
    tasks = [(1.0, float(number), 1) for number in range(1, 7)]
    pausing = loop.on(Events.ITERATION_COMPLETED(once=3), State.interrupt)
    paused = pausing.run(Slow(clock, tasks))
    clock.advance(1000)
    left = Slow(clock, tasks[3:])
    rest = loop.resume(paused, iter(left)).metrics
    assert dict(rest) == pytest.approx(by_hand(tasks[4:]))


@pytest.mark.parametrize("warmup", [0, 1])
def test_an_engine_that_goes_on_counts_what_it_does_itself(warmup: int) -> None:
    clock = FakeClock()
    tasks = [(1.0, float(number), 1) for number in range(1, 7)]
    engine = engine_of(clock)
    throughput(samples=samples_of, warmup=warmup, clock=clock).attach(engine)
    engine.add_event_handler(EngineEvents.ITERATION_COMPLETED(once=3), engine.interrupt)
    slow = Slow(clock, tasks)
    engine.run(slow)
    clock.advance(1000)
    assert engine.run(slow).metrics == pytest.approx(by_hand(tasks[3 + warmup :]))


def test_two_runs_at_once_are_counted_each_by_itself() -> None:
    clock = FakeClock()
    loop = stepping(clock) | throughput(samples=samples_of, clock=clock)
    slow, fast = loop.iterate([(0, 9, 1)] * 2), loop.iterate([(0, 1, 1)] * 2)
    next(m for m in slow if m.event is Events.ITERATION_COMPLETED)
    final = list(fast)[-1].state
    assert final.metrics["batches_per_second"] == 1
    assert list(slow)[-1].state.metrics["batches_per_second"] == 2 / 20


# Odd data and clocks.


def test_a_clock_that_stands_still_gives_no_rates_and_none_of_an_earlier_epoch() -> None:
    clock = FakeClock()
    loop = stepping(clock) | throughput(samples=samples_of, clock=clock)
    stopping = [(1.0, 1.0, 1)], [(0.0, 0.0, 1)]
    seen: list[Any] = []

    @attrs.frozen
    class Other:
        passes: Iterator[list[Task]] = attrs.field(factory=lambda: iter(stopping))

        def __iter__(self) -> Iterator[Task]:
            return iter(Slow(clock, next(self.passes)))

    def note(state: State[Task, None]) -> State[Task, None]:
        seen.append(set(state.metrics))
        return state

    loop.on(Events.EPOCH_COMPLETED, note).run(Other(), max_epochs=2, epoch_length=1)
    assert seen == [set(NAMES), set()]
    assert not loop.run([(0.0, 0.0, 1)]).metrics
    broken = stepping(clock) | throughput(samples=samples_of, clock=lambda: math.nan)
    assert not broken.run([(1.0, 1.0, 1)]).metrics


def test_one_batch_is_enough_and_a_run_without_one_has_no_rates() -> None:
    clock = FakeClock()
    loop = stepping(clock) | throughput(samples=samples_of, clock=clock)
    assert dict(loop.run(Slow(clock, [(1, 3, 2)])).metrics) == by_hand([(1, 3, 2)])
    none = stepping(clock) | throughput(samples=samples_of, warmup=5, clock=clock)
    assert not none.run(Slow(clock, [(1, 3, 2)]), max_epochs=3).metrics
    with pytest.raises(ValueError, match="empty"):
        loop.run([])


def test_a_run_without_data_has_batches_too() -> None:
    clock = FakeClock()

    def step(batch: None) -> None:
        clock.advance(2)

    def one(batch: None) -> int:
        return 1

    loop = Loop(outputs(step)) | throughput(samples=one, clock=clock)
    assert loop.run(epoch_length=3).metrics["batches_per_second"] == 0.5
    at = Events.ITERATION_COMPLETED
    loop = Loop(outputs(step)) | throughput(samples=one, at=at, clock=clock)
    assert loop.run(epoch_length=3).metrics["batches_per_second"] == 0.5


def test_a_step_that_fails_is_the_error_and_the_next_run_counts_anew() -> None:
    clock = FakeClock()

    def step(batch: float) -> None:
        clock.advance(abs(batch))
        if batch < 0:
            raise OSError("no")

    def one(batch: float) -> int:
        return 1

    loop = Loop(outputs(step)) | throughput(samples=one, clock=clock)
    with pytest.raises(OSError, match="no"):
        loop.run([1, -50, 1])
    assert loop.run([1, 1]).metrics["batches_per_second"] == 1


@pytest.mark.parametrize(
    ("batch", "samples"),
    [
        (torch.ones(3, 2), 3),
        ((torch.ones(3, 2), torch.ones(3)), 3),
        ({"a": "name", "b": [torch.ones(5)]}, 5),
        ((torch.ones(()), torch.ones(7, 1), torch.ones(2)), 7),
        (next(iter(windows([(torch.ones(3), torch.ones(3)), (torch.ones(2), 0)], 2))), 5),
    ],
)
def test_samples_are_the_rows_of_the_first_tensor(batch: Any, samples: int) -> None:
    clock = FakeClock()

    def step(batch: Any) -> None:
        clock.advance(1)

    loop: Loop[Any, None] = Loop(outputs(step)) | throughput(clock=clock)
    assert loop.run([batch]).metrics["samples_per_second"] == samples


@pytest.mark.parametrize("batch", [3.0, "text", (1, 2), {}, torch.ones(()), np.ones(3)])
def test_a_batch_without_a_tensor_is_refused_with_the_way(batch: Any) -> None:
    loop: Loop[Any, Any] = Loop(outputs(str)) | throughput()
    with pytest.raises(TypeError, match=r"cannot be counted.*throughput\(samples=function"):
        loop.run([batch])


def test_two_of_a_kind_need_two_prefixes() -> None:
    clock = FakeClock()
    loop = stepping(clock) | throughput(samples=samples_of, clock=clock)
    with pytest.raises(ValueError, match=r"two have the metric 'samples_per_second'.*throughput"):
        loop | throughput(samples=samples_of, clock=clock)
    both = loop | throughput(
        prefix="hot_",
        samples=samples_of,
        warmup=1,
        at=Events.ITERATION_COMPLETED(every=2),
        clock=clock,
    )
    final = both.run(Slow(clock, [(1, 1, 1), (0, 1, 1)] * 2))
    assert final.metrics["hot_waiting_for_data"] == 1 / 3
    assert final.metrics["waiting_for_data"] == 1 / 3
    held_out = evaluation(loop, [(0, 1, 1)])
    assert "val_batches_per_second" in (stepping(clock) | held_out).run([(0, 1, 1)]).metrics


def test_features_read_it_where_it_is_set() -> None:
    clock = FakeClock()
    loop = stepping(clock) | throughput(samples=samples_of, clock=clock)
    stopping = loop | early_stopping("samples_per_second", mode="max", patience=2)
    assert stopping.run(Slow(clock, [(1, 1, 1)]), max_epochs=9).status is Status.TERMINATED


def test_it_prints_compares_and_pickles() -> None:
    assert repr(throughput()) == "throughput()"
    assert repr(throughput(prefix="a_", warmup=3)) == "throughput(prefix='a_', warmup=3)"
    assert repr(throughput(samples=samples_of)) == "throughput(samples=samples_of)"
    assert throughput(warmup=1) == throughput(warmup=1) != throughput()
    assert hash(throughput()) == hash(throughput())
    loop = stepping(FakeClock()) | throughput()
    assert "throughput(), counting" in str(loop)
    feature = throughput()
    moments = (Loop(outputs(len)) | feature).iterate([torch.ones(1)] * 3)
    next(moments)
    for copied in (copy.deepcopy(feature), pickle.loads(pickle.dumps(feature))):
        assert copied == feature
        assert not copied._spans


def test_wrong_arguments_are_refused() -> None:
    wrong: Any
    for wrong in (1.5, "1", True, None):
        with pytest.raises(TypeError, match=r"warmup=.* is not an int"):
            throughput(warmup=wrong)
    with pytest.raises(ValueError, match="warmup=-1 is negative"):
        throughput(warmup=-1)
    with pytest.raises(TypeError, match="prefix=3"):
        throughput(prefix=3)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="samples takes"):
        throughput(samples=3)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="clock takes"):
        throughput(clock=3)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="attached to an Engine, and 3 of type int is none"):
        throughput().attach(3)  # type: ignore[arg-type]
    engine = Engine(lambda engine, batch: None)
    with pytest.raises(ValueError, match="has an event of a Loop"):
        throughput(at=Events.ITERATION_COMPLETED(every=2)).attach(engine)
    before = {event: list(some) for event, some in engine._event_handlers.items()}
    with pytest.raises(ValueError, match="not an event of this Engine"):
        throughput().attach(engine, at="NEVER")
    after = {event: list(some) for event, some in engine._event_handlers.items() if some}
    assert after == {event: some for event, some in before.items() if some}


# Peers.


def test_lightning_counts_the_same_throughput() -> None:
    fabric: Any = pytest.importorskip("lightning.fabric.utilities.throughput")
    clock = FakeClock()
    tasks = [(0.5, float(number), 2 * number) for number in range(1, 7)]
    feature = throughput(samples=samples_of, warmup=1, clock=clock)
    final = (stepping(clock) | feature).run(Slow(clock, tasks))
    peer, now, done = fabric.Throughput(window_size=len(tasks)), 0.0, 0
    for number, (waits, steps, samples) in enumerate(tasks, start=1):
        now, done = now + waits + steps, done + samples
        peer.update(time=now, batches=number, samples=done)
    found = peer.compute()  # from the end of the first batch on
    assert final.metrics["batches_per_second"] == pytest.approx(found["device/batches_per_sec"])
    assert final.metrics["samples_per_second"] == pytest.approx(found["device/samples_per_sec"])


def test_pytorch_ignite_runs_it_too_and_waits_as_long(monkeypatch: pytest.MonkeyPatch) -> None:
    from ignite.engine import Engine as Theirs
    from ignite.handlers import BasicTimeProfiler

    clock = FakeClock()
    monkeypatch.setattr("ignite.handlers.timing.perf_counter", clock)
    tasks = [(0.5, float(number), 2 * number) for number in range(1, 7)]
    engine: Any = Theirs(lambda engine, task: clock.advance(task[1]))
    profiler = BasicTimeProfiler()
    profiler.attach(engine)
    throughput(samples=samples_of, clock=clock).attach(engine)
    engine.run(Slow(clock, tasks), max_epochs=1)
    found = profiler.get_results()
    waiting = found["dataflow_stats"]["total"]
    whole = waiting + found["processing_stats"]["total"]
    assert engine.state.metrics == pytest.approx(by_hand(tasks))
    assert engine.state.metrics["waiting_for_data"] == pytest.approx(waiting / whole)


def test_an_engine_runs_over_data_that_is_moved_ahead() -> None:
    moved: Iterable[Any] = to_device([(torch.ones(2), number) for number in range(4)], "meta")
    seen: list[Any] = []
    engine = Engine(lambda engine, batch: seen.append((batch[0].device.type, batch[1])))
    throughput().attach(engine)
    engine.add_event_handler(EngineEvents.ITERATION_COMPLETED(once=3), engine.interrupt)
    engine.run(moved, max_epochs=2)
    assert [number for _, number in seen] == [0, 1, 2]
    state = engine.run(moved, max_epochs=2)
    assert seen == [("meta", number) for number in range(4)] * 2
    assert (state.epoch_length, state.iteration) == (4, 8)
