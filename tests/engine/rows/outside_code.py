"""Rows P-01 to P-13: what handlers and metrics of pytorch-ignite touch of an Engine.

The checks know only `ignite.engine`, whichever that is: they hold of pytorch-ignite itself, and of
`fengine.engine` in its place.
"""

from __future__ import annotations

import gc
import weakref
from typing import Any, Final

import torch
from ignite.base.mixins import Serializable
from ignite.contrib.engines.tbptt import Tbptt_Events, create_supervised_tbptt_trainer
from ignite.engine import (
    CallableEventWithFilter,
    DeterministicEngine,
    Engine,
    EventEnum,
    Events,
    EventsList,
    RemovableEventHandle,
    State,
    create_supervised_evaluator,
    create_supervised_trainer,
)
from ignite.handlers import (
    BasicTimeProfiler,
    Checkpoint,
    EarlyStopping,
    HandlersTimeProfiler,
    ProgressBar,
    global_step_from_engine,
)
from ignite.handlers.base_logger import BaseLogger
from ignite.handlers.checkpoint import CheckpointEvents
from ignite.handlers.logger_utils import _setup_logging
from ignite.metrics import Average
from ignite.metrics.metric import BatchFiltered
from typing_extensions import override

from tests.engine.rows.table import Rows

row: Final = Rows()


class Chunks(EventEnum):
    CHUNK_STARTED = "chunk_started"
    CHUNK_COMPLETED = "chunk_completed"


CHUNK_COUNTERS: Final = {Chunks.CHUNK_STARTED: "chunk", Chunks.CHUNK_COMPLETED: "chunk"}


class Lines(BaseLogger):
    """Be a logger that has no handlers of its own."""

    @override
    def _create_output_handler(self, *args: Any, **kwargs: Any) -> Any:
        return line

    @override
    def _create_opt_params_handler(self, *args: Any, **kwargs: Any) -> Any:
        return line


def line(engine: Any, logger: BaseLogger, event_name: Any) -> None:
    engine.state.lines.append((event_name.name, engine.state.get_event_attrib_value(event_name)))


def an_engine(kind: Any = Engine) -> Any:
    engine = kind(lambda engine, batch: batch)
    engine.state.lines = []
    return engine


def chunked_engine() -> Any:
    engine = an_engine()
    engine.register_events(*Chunks, event_to_attr=CHUNK_COUNTERS)
    return engine


@row("P-01")
def whether_an_event_is_allowed_is_asked_of_a_container() -> None:
    engine = chunked_engine()
    for event in (Events.STARTED, Events.ITERATION_COMPLETED(every=2), Chunks.CHUNK_STARTED):
        assert event in engine._allowed_events
    assert CheckpointEvents.SAVED_CHECKPOINT not in engine._allowed_events
    ProgressBar().attach(engine, event_name=Events.ITERATION_COMPLETED(every=2))


@row("P-02")
def all_allowed_events_can_be_iterated_over() -> None:
    engine = chunked_engine()
    assert {*Events, *Chunks} == set(engine._allowed_events)
    assert {event: len(engine._event_handlers[event]) for event in engine._allowed_events} == (
        dict.fromkeys([*Events, *Chunks], 0)
    )
    engine.run([1])


@row("P-03")
def handlers_are_in_lists_that_others_change() -> None:
    engine, called = chunked_engine(), list[Any]()

    def handler(engine: Engine, name: str = "own") -> None:
        called.append((name, isinstance(engine, Engine)))

    assert engine._event_handlers[Chunks.CHUNK_STARTED] == []
    assert Chunks.CHUNK_STARTED in list(engine._event_handlers)
    engine.add_event_handler(Events.STARTED, handler, name="added")
    entries = engine._event_handlers[Events.STARTED]
    entries.insert(0, (handler, (engine,), {}))
    entries.append((handler, (engine, "appended"), {}))
    entries.append((called.append, (), {}))
    entries[-1] = (called.append, ("replaced",), {})
    assert [len(entry) for entry in entries] == [3] * 4
    engine.run([1])
    names = [("own", True), ("added", True), ("appended", True), "replaced"]
    assert called == names
    engine.remove_event_handler(handler, Events.STARTED)
    assert [added for added, _, _ in engine._event_handlers[Events.STARTED]] == [called.append]
    # Every registration of an event has its place, filtered or not.
    engine.add_event_handler(Events.STARTED(every=1) | Events.STARTED(once=1), handler)
    assert len(engine._event_handlers[Events.STARTED(every=3)]) == 3


@row("P-04")
def lists_live_while_they_are_fired() -> None:
    engine, called = an_engine(), list[str]()

    def first(engine: Any) -> None:
        entries = engine._event_handlers[Events.STARTED]
        entries.append((called.append, ("appended",), {}))
        handler, *rest = entries[1]

        def wrapped(engine: Any) -> None:
            called.append("wrapped")
            handler(engine)

        entries[1] = (wrapped, *rest)

    def second(engine: Any) -> None:
        called.append("second")

    def remove_all(engine: Any) -> None:
        engine.remove_event_handler(remove_all, Events.COMPLETED)
        engine.remove_event_handler(second, Events.COMPLETED)

    engine._event_handlers[Events.STARTED].insert(0, (first, (engine,), {}))
    engine.add_event_handler(Events.STARTED, second)
    engine.add_event_handler(Events.COMPLETED, remove_all)
    engine.add_event_handler(Events.COMPLETED, second)
    engine.run([1])
    assert called == ["wrapped", "second", "appended", "second"]
    assert engine._event_handlers[Events.COMPLETED] == []


@row("P-05")
def the_class_of_the_state_knows_every_counter() -> None:
    class Counted(EventEnum):
        TICK = "tick"

    engine = an_engine()
    assert Counted.TICK not in State.event_to_attr
    engine.register_events(*Counted, event_to_attr={Counted.TICK: "ticks"})
    assert State.event_to_attr[Counted.TICK] == "ticks"
    assert Events.EPOCH_STARTED(every=2) in State.event_to_attr
    assert Events.TERMINATE not in State.event_to_attr
    engine.state.ticks = 7
    assert global_step_from_engine(engine)(None, Counted.TICK) == 7
    Lines().attach(engine, line, Counted.TICK(every=7))
    engine.fire_event(Counted.TICK)
    assert engine.state.lines == [("TICK", 7)]


@row("P-06")
def engines_of_each_kind_are_engines() -> None:
    class Trainer(Engine):
        pass

    model = torch.nn.Linear(1, 1)
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    engines: list[Any] = [an_engine(kind) for kind in (Engine, DeterministicEngine, Trainer)]
    engines.append(create_supervised_trainer(model, sgd, torch.nn.functional.mse_loss))
    engines.append(create_supervised_trainer(model, sgd, torch.nn.MSELoss(), deterministic=True))
    engines.append(create_supervised_evaluator(model))
    for engine in engines:
        assert isinstance(engine, Engine)
        EarlyStopping(1, lambda engine: 0.0, engine)
        BasicTimeProfiler().attach(engine)
        HandlersTimeProfiler().attach(engine)
        _setup_logging(Lines(), an_engine(), sgd, engine, 1)


@row("P-07")
def events_made_by_others_are_events() -> None:
    engine = an_engine()
    filtered = Events.ITERATION_COMPLETED(every=2)
    several = Events.STARTED | filtered
    assert isinstance(filtered, CallableEventWithFilter)
    assert isinstance(Events.STARTED, CallableEventWithFilter)
    assert isinstance(several, EventsList)
    Lines().attach(engine, line, several)
    engine.run([1, 2, 3])
    assert engine.state.lines == [("STARTED", 0), ("ITERATION_COMPLETED", 2)]


@row("P-08")
def events_can_be_registered_in_a_run() -> None:
    engine, saved = an_engine(), list[Any]()
    checkpoint = Checkpoint({"engine": engine}, lambda *given: saved.append("written"))
    engine.add_event_handler(Events.ITERATION_COMPLETED(every=2), checkpoint)

    @engine.on(Events.ITERATION_COMPLETED(once=2))  # type: ignore[untyped-decorator]
    def listen() -> None:
        assert engine.last_event_name == CheckpointEvents.SAVED_CHECKPOINT
        engine.add_event_handler(Checkpoint.SAVED_CHECKPOINT, saved.append, "heard of")

    engine.run(range(4))
    assert saved == ["written", "written", "heard of"]
    assert engine.has_registered_events(CheckpointEvents.SAVED_CHECKPOINT)


@row("P-09")
def events_are_found_in_a_list_of_events() -> None:
    order: list[Any] = ProgressBar._events_order
    assert order.index(Events.ITERATION_COMPLETED(every=2)) == order.index("ITERATION_COMPLETED")
    assert Events.COMPLETED(once=1) == Events.COMPLETED == Events.COMPLETED(every=2)
    assert hash(Events.COMPLETED(once=1)) == hash(Events.COMPLETED) == hash("COMPLETED")
    assert Chunks.CHUNK_STARTED not in order


@row("P-10")
def a_handle_can_be_made_by_others() -> None:
    engine = an_engine()
    handle: Any = Lines().attach(engine, line, Events.STARTED | Events.COMPLETED)
    assert handle.engine() is engine
    assert type(handle) is RemovableEventHandle
    assert engine.has_event_handler(line, Events.COMPLETED)
    handle.remove()
    assert not engine.has_event_handler(line)
    gone = weakref.ref(engine)
    del engine
    gc.collect()
    assert gone() is handle.engine() is None
    handle.remove()


class Recurrent(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = torch.nn.RNN(1, 1)

    @override
    def forward(self, x: torch.Tensor, hidden: Any = None) -> Any:
        return self.cell(x, hidden)


@row("P-11")
def an_engine_of_contrib_writes_its_output_itself() -> None:
    model, loss = Recurrent(), torch.nn.MSELoss()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = create_supervised_tbptt_trainer(model, sgd, loss, tbtt_step=2)
    outputs: list[Any] = []
    trainer.add_event_handler(
        Tbptt_Events.TIME_ITERATION_COMPLETED, lambda engine: outputs.append(engine.state.output)
    )
    last = trainer.run([(torch.ones(4, 1, 1), torch.zeros(4, 1, 1))]).output
    assert len(outputs) == 2
    assert last == sum(outputs) / 2


@row("P-12")
def an_engine_says_what_it_saves() -> None:
    for kind in (Engine, DeterministicEngine):
        assert kind._state_dict_all_req_keys == ("epoch_length", "iteration")
        assert kind._state_dict_one_of_opt_keys == (("max_epochs", "max_iters"),)
        assert isinstance(an_engine(kind), Serializable)


@row("P-13")
def a_filtered_handler_is_found_by_itself() -> None:
    engine, average = an_engine(), Average()
    usage = BatchFiltered(every=2)
    average.attach(engine, "mean", usage)
    event = Events.ITERATION_COMPLETED(every=2)
    assert engine.has_event_handler(average.iteration_completed, event)
    assert average.is_attached(engine, usage)
    assert engine.run([1.0, 2.0, 3.0, 4.0]).metrics == {"mean": 3.0}
    average.detach(engine, usage)
    assert not engine.has_event_handler(average.iteration_completed)
    assert not average.is_attached(engine, usage)
