"""Without `install`: events of pytorch-ignite are events here, and its metrics attach here."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from typing import Any, Final

import ignite.engine
import ignite.metrics
import pytest
from ignite.metrics import Metric

from fengine import DOCUMENTED, IGNITE_0_5_5, Semantics
from fengine.engine import Engine, EventEnum, Events
from tests.engine.unmodified.metric_cases import CASES, EXCLUDED
from tests.engine.unmodified.setups.common import echo, plain

Theirs: Final[Any] = ignite.engine.Events

BOTH = pytest.mark.parametrize(
    "semantics", [DOCUMENTED, IGNITE_0_5_5], ids=["documented", "ignite"]
)


class TheirChunks(ignite.engine.EventEnum):
    CHUNK_STARTED = "chunk_started"
    CHUNK_COMPLETED = "chunk_completed"


class OurChunks(EventEnum):
    CHUNK_STARTED = "chunk_started"
    CHUNK_COMPLETED = "chunk_completed"


# Events


@pytest.mark.parametrize("name", [event.name for event in Theirs])
def test_events_of_one_name_are_equal_both_ways(name: str) -> None:
    ours, theirs = Events[name], Theirs[name]
    others = [event for event in Events if event.name != name]
    for one in (ours, ours(every=2)):
        for other in (theirs, theirs(once=1)):
            assert one == other
            assert other == one
            assert hash(one) == hash(other)
            assert (others.count(other), [*others, one].index(other)) == (0, len(others))
            assert [*Theirs].index(one) == [*Theirs].index(other)
            assert {one: "found"}[other] == {other: "found"}[one] == "found"


def firings(engine: Any, events: Any) -> list[Any]:
    """Have a handler at each event, run two epochs, and tell where the handlers ran."""
    noted: list[Any] = []

    def note(engine: Any, number: int) -> None:
        state = engine.state
        noted.append([number, engine.last_event_name.name, state.epoch, state.iteration])

    for number, event in enumerate(events):
        engine.add_event_handler(event, note, number)
    engine.run([1, 2, 3], max_epochs=2)
    return noted


def several(events: Any) -> list[Any]:
    """Take events of either package in each form that handlers are added with."""
    counted = [events.STARTED, events.EPOCH_COMPLETED, events.ITERATION_STARTED, events.COMPLETED]
    return [
        *counted,
        *(event(every=2) for event in counted),
        *(event(once=[1, 3]) for event in counted),
        *(event(before=4, after=1) for event in counted),
        *(event(event_filter=lambda engine, count: count % 3 == 0) for event in counted),
        events.STARTED | events.COMPLETED,
        events.ITERATION_COMPLETED(every=3) | events.EPOCH_STARTED(once=2) | events.COMPLETED,
    ]


@BOTH
def test_handlers_are_added_with_their_events(semantics: Semantics) -> None:
    noted = firings(Engine(echo, semantics=semantics), several(Theirs))
    assert noted == firings(Engine(echo, semantics=semantics), several(Events))
    assert noted == firings(ignite.engine.Engine(echo), several(Theirs))
    # STARTED counts epoch 0, and COMPLETED epoch 2: not all filters hold at some time.
    assert {number for number, *_ in noted} == set(range(22)) - {8, 11, 12, 17, 19}


@BOTH
def test_our_events_join_theirs(semantics: Semantics) -> None:
    joined = Events.STARTED | Theirs.COMPLETED | (Theirs.EPOCH_STARTED | Theirs.EPOCH_COMPLETED)
    noted = firings(Engine(echo, semantics=semantics), [joined])
    names = ["STARTED", *["EPOCH_STARTED", "EPOCH_COMPLETED"] * 2, "COMPLETED"]
    assert [name for _, name, *_ in noted] == names


@BOTH
@pytest.mark.parametrize(
    ("chunks", "others"), [(TheirChunks, OurChunks), (OurChunks, TheirChunks)], ids=["a", "b"]
)
def test_custom_events_of_either_are_registered_fired_and_counted(
    chunks: Any, others: Any, semantics: Semantics
) -> None:
    def process(engine: Any, batch: Any) -> None:
        engine.state.chunk += 1
        engine.fire_event(others.CHUNK_STARTED)
        engine.fire_event(chunks.CHUNK_COMPLETED)

    engine: Any = Engine(process, semantics=semantics)
    engine.register_events(*chunks, event_to_attr={chunks.CHUNK_STARTED: "chunk"})
    assert engine.has_registered_events(others.CHUNK_STARTED)
    assert engine.state.get_event_attrib_value(others.CHUNK_STARTED) == 0
    noted: list[Any] = []
    engine.add_event_handler(others.CHUNK_STARTED(every=2), lambda: noted.append("filtered"))
    engine.add_event_handler(others.CHUNK_COMPLETED, lambda: noted.append("each"))
    engine.run(range(4))
    assert noted == ["each", "filtered", "each"] * 2


@BOTH
def test_handlers_are_found_and_removed_with_either(semantics: Semantics) -> None:
    def handler(engine: Any) -> None:
        pass

    for added, asked in ((Theirs, Events), (Events, Theirs)):
        engine = Engine(echo, semantics=semantics)
        engine.add_event_handler(added.STARTED(every=2), handler)
        assert engine.has_event_handler(handler, asked.STARTED)
        engine.remove_event_handler(handler, asked.STARTED)
        assert not engine.has_event_handler(handler)
        handle = engine.add_event_handler(added.STARTED | added.COMPLETED, handler)
        assert engine.has_event_handler(handler, asked.COMPLETED)
        handle.remove()
        assert not engine.has_event_handler(handler)


# Metrics


def measured(engine: Any, name: str) -> Any:
    """Attach a metric, run two epochs, and give what it measured in each."""
    make, batches = CASES[name]
    make().attach(engine, "metric")
    results: list[Any] = []
    engine.add_event_handler(
        Theirs.EPOCH_COMPLETED, lambda: results.append(plain(engine.state.metrics))
    )
    engine.run(batches(), max_epochs=2)
    return results


# One metric of pytorch-ignite uses what torch has deprecated.
@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence:UserWarning")
@pytest.mark.parametrize("name", CASES)
def test_a_metric_gives_the_same(name: str) -> None:
    theirs = measured(ignite.engine.Engine(echo), name)
    assert len(theirs) == 2
    assert "metric" in theirs[0]
    for semantics in (DOCUMENTED, IGNITE_0_5_5):
        assert measured(Engine(echo, semantics=semantics), name) == theirs


def test_every_metric_has_a_case() -> None:
    package = importlib.import_module("ignite.metrics")
    modules = [package] + [
        importlib.import_module(module.name)
        for module in pkgutil.walk_packages(package.__path__, "ignite.metrics.")
    ]
    classes = {
        value.__name__
        for module in modules
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, Metric) and value.__name__[0] != "_"
    }
    makers = {name for name in package.__all__ if inspect.isfunction(getattr(package, name))}
    assert CASES.keys().isdisjoint(EXCLUDED)
    assert {*CASES, *EXCLUDED} == classes | makers
