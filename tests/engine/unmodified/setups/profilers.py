"""Timers and profilers, on a clock that counts how often it is read: even their times compare."""

from __future__ import annotations

from contextlib import redirect_stdout
from io import StringIO
from typing import Any

from ignite.engine import Engine, EventEnum, Events
from ignite.handlers import BasicTimeProfiler, HandlersTimeProfiler, Timer
from ignite.metrics import Average

from tests.engine.unmodified.setups import setup
from tests.engine.unmodified.setups.common import echo, fake_timers, plain, trace


class Chunks(EventEnum):
    CHUNK_COMPLETED = "chunk_completed"


def chunks(engine: Engine, batch: Any) -> Any:
    engine.fire_event(Chunks.CHUNK_COMPLETED)
    return batch


def busy_engine() -> Engine:
    """Make an engine with handlers of each kind, of which some go away during the run."""
    engine = Engine(chunks)
    engine.register_events(*Chunks)

    def plain_handler(engine: Engine) -> None: ...
    def filtered_handler(engine: Engine) -> None: ...
    def handler_without_engine(prefix: str) -> None: ...
    def handler_that_goes(engine: Engine) -> None: ...

    engine.add_event_handler(Events.EPOCH_STARTED | Events.ITERATION_COMPLETED, plain_handler)
    engine.add_event_handler(Events.ITERATION_STARTED(every=2), filtered_handler)
    engine.add_event_handler(Chunks.CHUNK_COMPLETED, handler_without_engine, "chunk")
    handle = engine.add_event_handler(Events.ITERATION_COMPLETED(every=2), handler_that_goes)
    engine.add_event_handler(Events.EPOCH_COMPLETED(once=1), handle.remove)
    Average().attach(engine, "mean")
    return engine


@setup("handlers/time_profilers.py")
def basic_profile() -> Any:
    engine, screen = busy_engine(), StringIO()
    profiler = BasicTimeProfiler()
    with fake_timers():
        profiler.attach(engine)
        profiler.attach(engine)
        results = []
        for _ in range(2):
            engine.run([1.0, 2.0, 3.0], max_epochs=2)
            results.append(plain(profiler.get_results()))
        with redirect_stdout(screen):
            profiler.print_results(profiler.get_results())
    handlers = sum(len(entries) for entries in engine._event_handlers.values())
    return [results, screen.getvalue(), handlers, plain(engine.state.metrics)]


@setup("handlers/time_profilers.py")
def basic_profile_without_data() -> Any:
    engine = Engine(echo)
    profiler = BasicTimeProfiler()
    with fake_timers():
        profiler.attach(engine)
        engine.run(epoch_length=2, max_epochs=2)
        return plain(profiler.get_results())


@setup("handlers/time_profilers.py")
def profile_of_the_handlers() -> Any:
    engine, screen = busy_engine(), StringIO()
    profiler: Any = HandlersTimeProfiler()
    with fake_timers():
        profiler.attach(engine)
        engine.run([1.0, 2.0, 3.0], max_epochs=2)
        results = plain(profiler.get_results())
        with redirect_stdout(screen):
            profiler.print_results(profiler.get_results())
    times = {event.name: plain(named) for event, named in profiler.event_handlers_times.items()}
    return [results, screen.getvalue(), times, plain(engine.state.metrics)]


@setup("handlers/time_profilers.py")
def exceptions_leave_a_profiled_run() -> Any:
    engine = Engine(lambda engine, batch: 1 // batch)
    HandlersTimeProfiler().attach(engine)
    engine.add_event_handler(Events.EXCEPTION_RAISED, reraise)
    try:
        engine.run([1, 0])
    except ZeroDivisionError as error:
        return [type(error).__name__, engine.state.iteration]
    return None


def reraise(engine: Engine, error: BaseException) -> None:
    raise error


@setup("handlers/timing.py")
def timers() -> Any:
    engine, values = Engine(echo), []
    noted = trace(engine)
    with fake_timers():
        whole = Timer().attach(engine)
        mean = Timer(average=True).attach(
            engine,
            start=Events.EPOCH_STARTED,
            resume=Events.ITERATION_STARTED,
            pause=Events.ITERATION_COMPLETED,
            step=Events.ITERATION_COMPLETED,
        )
        engine.add_event_handler(
            Events.EPOCH_COMPLETED, lambda: values.append([mean.value(), whole.value()])
        )
        engine.run([1, 2, 3], max_epochs=2)
        values.append([whole.value(), whole.total, whole.running, mean.step_count])
    return [values, noted]
