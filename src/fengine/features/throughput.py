"""Throughput: how many samples and batches a second a run gets through, and what holds it up.

What is counted is not part of the state, since it means nothing to a run that goes on: that one
counts anew. Only the metrics are, and they differ from run to run, as its time does.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeVar, final, overload

import attrs
from typing_extensions import override

from fengine import Event, Events, Loop, State, When
from fengine.core.describe import made_by, require_callable, typed
from fengine.core.taking import Looking
from fengine.features.by_run import ByRun
from fengine.features.devices import CudaDevices, Devices
from fengine.features.spans import BATCHES, MEMORY, SAMPLES, WAITING, Span
from fengine.run.ranks import Ranks, over_ranks
from fengine.training.attaching import AnyEngine, ranks_of, require_engine
from fengine.training.counting import count_rows

B = TypeVar("B")
O = TypeVar("O")  # noqa: E741  # the output, beside the batch and the user
U = TypeVar("U")
Item = TypeVar("Item")

_CUDA: Final = CudaDevices()


class ThroughputOf(Protocol[Item]):
    """Be a `Throughput` of loops over one type of batch.

    >>> feature: ThroughputOf[list[int]] = throughput(samples=len)
    """

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of the metrics."""

    def __call__(self, loop: Loop[Item, O, U], /) -> Loop[Item, O, U]:
        """Return the loop with what measures it."""

    def attach(self, engine: AnyEngine, at: object = None) -> None:
        """Measure the runs of an Engine."""


@final
@attrs.frozen(repr=False)
class Throughput:
    """Measure the throughput; made by `throughput`.

    >>> throughput(prefix="train_").metrics
    ('train_samples_per_second', 'train_batches_per_second', 'train_waiting_for_data', ...)
    """

    prefix: str
    at: When
    samples: Callable[[Any], int]
    warmup: int
    clock: Callable[[], float]
    devices: Devices
    _spans: ByRun[Span] = attrs.field(factory=ByRun, init=False, eq=False)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of the metrics."""
        return tuple(self.prefix + name for name in (SAMPLES, BATCHES, WAITING, MEMORY))

    @override
    def __repr__(self) -> str:
        return made_by(throughput, self)

    def __call__(self, loop: Loop[B, O, U], /) -> Loop[B, O, U]:
        """Return the loop with what measures it.

        Raises:
            ValueError: a metric is set by another feature already.
        """
        return (
            loop.with_metrics(*self.metrics, at=self.at)
            .on(Events.EPOCH_STARTED, _Counting(self, Events.EPOCH_STARTED))
            .on(Events.GET_BATCH_STARTED, _Counting(self, Events.GET_BATCH_STARTED))
            .on(Events.ITERATION_STARTED, _Counting(self, Events.ITERATION_STARTED))
            .on(Events.ITERATION_COMPLETED, _Counting(self, Events.ITERATION_COMPLETED))
            .on(self.at, _Reading(self, loop.ranks))
        )

    def attach(self, engine: AnyEngine, at: object = None) -> None:
        """Measure the runs of an Engine, whose `state.metrics` have the numbers.

        Attach it before what reads them.

        Args:
            engine: a `fengine.engine.Engine`.
            at: the event of the engine to set them at, filtered or not; None: as `throughput` was
                told.

        Raises:
            TypeError: `engine` is none.
            ValueError: `throughput` was told an event that only a Loop has, and `at` is missing; or
                the engine does not know the event.

        >>> from fengine.engine import Engine
        >>> from fengine.testing import FakeClock
        >>> clock = FakeClock()
        >>> engine = Engine(lambda engine, batch: clock.advance(2))
        >>> throughput(samples=len, clock=clock).attach(engine)
        >>> engine.run(["abc", "d"]).metrics["samples_per_second"]
        1.0
        """
        require_engine(engine, self)
        if at is None and not isinstance(self.at, Event):
            raise ValueError(
                f"{self!r} has an event of a Loop, with a filter or a payload; name one of the "
                "engine: attach(engine, at=...)"
            )
        event = self.at.name.upper() if at is None and isinstance(self.at, Event) else at
        own = _OfEngine(self)
        engine.add_event_handler(event, own.read).remove()  # which refuses what is no event of it
        for name, handler in (
            ("STARTED", own.begin),
            ("INTERRUPT", own.begin),
            ("EPOCH_STARTED", own.ask),
            ("GET_BATCH_STARTED", own.ask),
            ("ITERATION_STARTED", own.step),
            ("ITERATION_COMPLETED", own.count),
            (event, own.read),
        ):
            engine.add_event_handler(name, handler)

    def span(self) -> Span:
        """Return what counts a run from its beginning."""
        return Span(self.warmup)

    def span_of(self, state: State[Any, Any, Any]) -> Span:
        """Return what counts the run of a state."""
        return self._spans.of(state, self.span)

    def count(self, span: Span, batch: object) -> None:
        """Be done with a batch.

        Raises:
            TypeError: its samples cannot be counted.
        """
        if span.begun is not None:
            span.count(self.clock(), self.samples(batch))
        elif span.warmup:
            span.warmup -= 1
            if not span.warmup:
                self.devices.synchronize()  # what is left of the work is not counted either

    def read(self, span: Span, ranks: Ranks) -> dict[str, float]:
        """Return the metrics since the reading before, those of all ranks."""
        before = self.clock()
        self.devices.synchronize()
        found = span.read(self.clock() - before)
        peak = self.devices.peak_memory()
        if peak is not None:
            found[MEMORY] = peak
        of_all = over_ranks(ranks, found, largest=(BATCHES, WAITING, MEMORY))
        return {self.prefix + name: value for name, value in of_all.items()}


@final
@attrs.frozen(repr=False)
class _Counting(Looking):
    feature: Throughput
    event: Event

    is_tried = True

    @override
    def __repr__(self) -> str:
        return f"{self.feature!r}, counting"

    def __call__(self, state: State[B, O, U]) -> State[B, O, U]:
        feature = self.feature
        span = feature.span_of(state)
        if self.event is Events.ITERATION_COMPLETED:
            feature.count(span, state.batch)
        elif self.event is Events.ITERATION_STARTED:
            span.step(feature.clock())
        else:
            span.ask(feature.clock())
        return state


@final
@attrs.frozen(repr=False)
class _Reading:
    feature: Throughput
    ranks: Ranks = attrs.field(eq=False)

    @override
    def __repr__(self) -> str:
        return repr(self.feature)

    def __call__(self, state: State[B, O, U], payload: object = None) -> State[B, O, U]:
        feature, kept = self.feature, state.metrics
        for name in feature.metrics:
            kept = kept.delete(name) if name in kept else kept
        found = feature.read(feature.span_of(state), self.ranks)
        return state.evolve(metrics=kept.update(found))


@final
@attrs.define(eq=False)
class _OfEngine:
    """Measure the runs of one engine."""

    feature: Throughput
    span: Span = attrs.field(init=False)

    @span.default
    def _new_span(self) -> Span:
        return self.feature.span()

    def begin(self, engine: AnyEngine) -> None:
        """Count a run that begins, or goes on."""
        self.span = self.feature.span()

    def ask(self, engine: AnyEngine) -> None:
        """Wait for a batch."""
        self.span.ask(self.feature.clock())

    def step(self, engine: AnyEngine) -> None:
        """Have the batch."""
        self.span.step(self.feature.clock())

    def count(self, engine: AnyEngine) -> None:
        """Be done with a batch."""
        self.feature.count(self.span, engine.state.batch)

    def read(self, engine: AnyEngine) -> None:
        """Set the metrics, and leave none of an earlier reading."""
        metrics = engine.state.metrics
        for name in self.feature.metrics:
            metrics.pop(name, None)
        metrics.update(self.feature.read(self.span, ranks_of(engine)))


@overload
def throughput(
    *,
    prefix: str = "",
    at: When = Events.EPOCH_COMPLETED,
    warmup: int = 0,
    clock: Callable[[], float] = time.perf_counter,
    devices: Devices = _CUDA,
) -> Throughput: ...


@overload
def throughput(
    *,
    prefix: str = "",
    at: When = Events.EPOCH_COMPLETED,
    samples: Callable[[Item], int],
    warmup: int = 0,
    clock: Callable[[], float] = time.perf_counter,
    devices: Devices = _CUDA,
) -> ThroughputOf[Item]: ...


def throughput(
    *,
    prefix: str = "",
    at: When = Events.EPOCH_COMPLETED,
    samples: Callable[[Any], int] = count_rows,
    warmup: int = 0,
    clock: Callable[[], float] = time.perf_counter,
    devices: Devices = _CUDA,
) -> Throughput | ThroughputOf[Any]:
    """Make a feature that measures how fast a run gets on.

    It sets the metrics

    - `samples_per_second` and `batches_per_second`;
    - `waiting_for_data`: which share of the time the run waited for batches, from 0 to 1;
    - `peak_memory`: the most bytes that tensors have taken on CUDA devices so far, if any have.

    The time is that since the reading before: from where the first batch is asked for until its
    last iteration is completed, with all that lies between, and with the work of CUDA devices that
    is still under way at the reading. So an evaluation at the event `at` does not count, if it
    comes after this feature. Without a batch, or where the clock stands still, there are no rates.

    The numbers are those of this process and of this `run` or `resume`. They are the only part of
    a state that differs from run to run: leave them out where you compare states. Of several ranks,
    the samples a second are summed up, and of the other numbers each has the largest.

    Args:
        prefix: put before the name of each metric; two of these in a loop need different ones.
        at: when to set the metrics: an event, filtered or not, or several joined by `|`.
        samples: returns the number of samples of a batch; dimension 0 of the first tensor in it.
        warmup: how many batches at the beginning of each `run` or `resume` are left out, such as
            those in which `torch.compile` compiles.
        clock: gives the time in seconds, and never goes back; see `fengine.testing.FakeClock`.
        devices: what is waited for, and whose memory is read; CUDA where it is in use.

    Raises:
        TypeError: an argument is not of its type; or, in the run, there is no tensor in a batch.
        ValueError: `warmup` is negative.

    >>> from fengine import outputs
    >>> from fengine.testing import FakeClock
    >>> clock = FakeClock()
    >>> loop = Loop(outputs(clock.advance)) | throughput(samples=int, warmup=1, clock=clock)
    >>> final = loop.run([60, 2, 4])
    >>> final.metrics["samples_per_second"], round(final.metrics["batches_per_second"], 2)
    (1.0, 0.33)
    """
    known: object = prefix
    if not isinstance(known, str):
        raise TypeError(f"prefix={typed(known)} is not a str")
    require_callable(samples, "samples", "batch", or_class=True)
    if type(warmup) is not int:
        raise TypeError(f"warmup={typed(warmup)} is not an int")
    if warmup < 0:
        raise ValueError(f"warmup={warmup} is negative; 0 leaves no batch out")
    require_callable(clock, "clock")
    return Throughput(prefix, at, samples, warmup, clock, devices)
