"""What version 0.1 wrote is still read: its dicts, and its pickles.

`version_0_1.json` was written by that version: states of a run of `Loop(outputs(abs))` over
`[-1, -2, -3]` for two epochs, one that an exception left and one made by hand, as dicts and in
pickles, and pickles of other values.
"""

from __future__ import annotations

import base64
import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from fengine import (
    DataExhausted,
    Events,
    Loop,
    Moment,
    Snapshot,
    State,
    Status,
    diff,
    outputs,
)
from fengine.engine import State as EngineState

WRITTEN: Any = json.loads(Path(__file__).with_name("version_0_1.json").read_text())
DATA = [-1, -2, -3]


def read(name: str) -> Any:
    return pickle.loads(base64.b64decode(WRITTEN["pickles"][name]))


@pytest.mark.parametrize("plain", WRITTEN["dicts"])
def test_dicts_are_read_and_written_alike(plain: Any) -> None:
    # But for the schema, which has come to know parts.
    assert State.from_dict(plain).to_dict() == {**plain, "schema": 2, "parts": {}}


def test_a_run_goes_on_from_a_dict_and_from_a_pickle() -> None:
    loop: Any = Loop(outputs(abs))
    whole = loop.run(DATA, max_epochs=2, user=("me", 1))
    started, within, before_the_end, ended = read("states")[:4]
    assert [state.event for state in (started, within, before_the_end, ended)] == [
        Events.STARTED,
        Events.GET_BATCH_STARTED,
        Events.COMPLETED,
        Events.COMPLETED,
    ]
    for state in (started, within, before_the_end, ended):
        assert loop.resume(state, DATA) == whole
    assert loop.resume(State.from_dict(WRITTEN["dicts"][1], user=tuple), DATA) == whole
    assert read("states")[4].status is Status.FAILED
    assert read("states")[5].attributes["chunk"] == 3


def test_other_values_are_read() -> None:
    snapshot = read("snapshot")
    assert snapshot == Snapshot(read("states")[1])
    assert Snapshot.from_dict(WRITTEN["snapshot"], user=tuple).state.iteration == 1
    assert read("moment") == Moment(Events.GET_BATCH_STARTED, snapshot.state)
    assert read("loop").run(DATA, max_epochs=3).epoch == 1
    assert read("stages").run(DATA).output == 3
    assert read("differences") == diff(State(epoch=1), State(epoch=2))
    assert isinstance(read("exhausted"), DataExhausted)
    assert read("events")[:2] == [Events.STARTED, Events.EXITED]
    state = read("engine_state")
    assert isinstance(state, EngineState)
    assert (state.epoch, state.lr, state.metrics) == (2, 0.1, {"loss": 0.5})
