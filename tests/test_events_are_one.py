"""A built-in event is one object for ever: pickled, copied, and within whatever holds it."""

from __future__ import annotations

import base64
import copy
import json
import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from fengine import (
    Event,
    Events,
    Loop,
    Moment,
    PayloadEvent,
    Recorder,
    Snapshot,
    State,
    outputs,
)
from fengine.engine import Engine
from fengine.engine import Events as EngineEvents
from fengine.engine.state import box_of

COPIES: list[Callable[[Any], Any]] = [
    copy.copy,
    copy.deepcopy,
    *(
        lambda value, protocol=protocol: pickle.loads(pickle.dumps(value, protocol))
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)
    ),
]
DEEP = COPIES[1:]


@pytest.mark.parametrize("event", Events.all(), ids=repr)
def test_a_copy_is_the_event_itself(event: Any) -> None:
    for copied in COPIES:
        assert copied(event) is event
        assert copied([event])[0] is event


@pytest.mark.parametrize("restored", DEEP, ids=range(len(DEEP)))
def test_so_it_is_within_whatever_holds_it(restored: Callable[[Any], Any]) -> None:
    state: Any = State(event=Events.EXITED)
    assert restored(state).event is Events.EXITED
    assert restored(Moment(Events.STARTED, state)).event is Events.STARTED
    assert restored(Snapshot(state)).state.event is Events.EXITED
    both = restored(Events.STARTED | Events.EPOCH_STARTED(every=2))
    assert [event for event, _ in both] == [Events.STARTED, Events.EPOCH_STARTED]
    assert all(any(event is known for known in Events.all()) for event, _ in both)
    assert restored(Events.EXITED(once=1)).event is Events.EXITED
    loop = restored(Loop(outputs(abs)).on(Events.STARTED, State.terminate))
    assert loop.table.registrations[0].event is Events.STARTED
    assert all(any(one is known for known in Events.all()) for one in loop.registry.events)
    recorder = restored_recorder()
    assert restored(recorder.entries)[0].event is Events.STARTED


def restored_recorder() -> Any:
    recorder: Any = Recorder(Loop(outputs(abs)))
    recorder.loop.run([1])
    return recorder


def test_an_event_of_ones_own_is_equal_and_of_its_kind() -> None:
    own: Any
    for own in (Event("own"), PayloadEvent("own", attr="iteration")):
        for copied in COPIES:
            assert copied(own) == own
            assert type(copied(own)) is type(own)


def test_an_engine_that_is_copied_in_its_run_stands_at_the_event() -> None:
    copies: list[Any] = []
    engine = Engine(int_of)
    engine.add_event_handler(
        EngineEvents.ITERATION_STARTED, lambda: copies.append(copy.deepcopy(engine.state))
    )
    engine.run([1])
    assert box_of(copies[0]).event is Events.ITERATION_STARTED


def test_a_paused_engine_in_another_process_goes_on() -> None:
    engine = Engine(int_of)
    engine.add_event_handler(EngineEvents.ITERATION_COMPLETED(once=1), Engine.interrupt)
    engine.run([1, 2, 3])
    for copied in (copy.deepcopy(engine), pickle.loads(pickle.dumps(engine))):
        assert box_of(copied.state).event is Events.ITERATION_COMPLETED


def int_of(engine: Any, batch: Any) -> Any:
    return batch


def is_started(event: Any) -> bool:
    return event is Events.STARTED


def test_it_is_one_in_another_process() -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert pool.submit(is_started, Events.STARTED).result()


def test_states_and_moments_of_version_0_1_hold_it() -> None:
    written = json.loads(Path(__file__).with_name("version_0_1.json").read_text())["pickles"]

    def read(name: str) -> Any:
        return pickle.loads(base64.b64decode(written[name]))

    assert read("states")[0].event is Events.STARTED
    assert read("moment").event is Events.GET_BATCH_STARTED
    assert read("snapshot").state.event is Events.GET_BATCH_STARTED
    loop = read("loop")
    for registration in loop.table.registrations:
        assert any(registration.event is known for known in Events.all())
    assert copy.deepcopy(read("events")[0]) is Events.STARTED
