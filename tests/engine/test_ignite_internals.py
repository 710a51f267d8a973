"""What code for pytorch-ignite does with the insides of an engine and of its state."""

from __future__ import annotations

import copy
import importlib
import pickle
import weakref
from collections import defaultdict
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import ignite.engine
import pytest
import torch

from fengine import IGNITE_0_5_5
from fengine.engine import Engine, Events, State
from fengine.engine.ignite.replacement import _OURS

THEIRS: Any = ignite.engine
# Of ignite's own names in the five modules, those that its loop alone uses, and two that others
# have elsewhere: importing them from here would go round in a circle.
ABSENT = {
    "_EngineTerminateException",
    "_EngineTerminateSingleEpochException",
    "_get_none_data_iter",
    "Metric",
    "idist",
}
# Put into the modules by `install`, for which pytorch-ignite has to be there.
INSTALLED = {"Serializable", "manual_seed", "deterministic", "engine", "events", "utils"}


def is_of_ignite(value: object) -> bool:
    name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", "")
    return str(name).startswith("ignite.")


@pytest.mark.parametrize("name", _OURS)
def test_a_module_has_the_names_of_the_module_that_it_stands_for(name: str) -> None:
    theirs, ours = importlib.import_module(name), importlib.import_module(_OURS[name])
    wanted = {name for name, value in vars(theirs).items() if is_of_ignite(value)}
    assert wanted - vars(ours).keys() <= ABSENT | INSTALLED
    assert wanted.isdisjoint(ABSENT) or not ABSENT & vars(ours).keys()


def test_convert_tensor_moves_as_that_of_ignite() -> None:
    from fengine.engine.ignite.stand_in import convert_tensor

    batch = {"x": [torch.ones(2), (torch.zeros(1), "name")]}
    assert repr(convert_tensor(batch)) == repr(THEIRS.convert_tensor(batch))
    assert repr(convert_tensor(batch, "cpu", True)) == repr(
        THEIRS.convert_tensor(batch, "cpu", True)
    )
    assert convert_tensor(torch.ones(1), device="meta", non_blocking=False).is_meta
    with pytest.raises(TypeError):
        convert_tensor(object(), "cpu")


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"epoch": 2, "max_epochs": 2},
        {"epoch": 1, "max_epochs": 2},
        {"iteration": 6, "epoch_length": 3, "max_epochs": 2},
        {"iteration": 4, "max_iters": 4},
    ],
)
def test_is_done(given: dict[str, int]) -> None:
    theirs = ignite.engine.Engine._is_done(ignite.engine.State(**given))
    engine = Engine(lambda engine, batch: batch)
    assert Engine._is_done(State(**given)) is engine._is_done(State(**given)) is theirs


# The attributes of a state by name.


class Counting(State):
    lr = 0.1

    def twice(self) -> int:
        return 2 * self.epoch


@pytest.mark.parametrize("kind", [State, Counting])
def test_the_attributes_of_a_state_are_live(kind: type[State]) -> None:
    engine = Engine(lambda engine, batch: batch)
    engine.state = kind(alpha=3)
    attributes = vars(engine.state)
    assert attributes is not None
    assert {*vars(ignite.engine.State(alpha=3))} <= {*attributes}
    seen: list[object] = []
    engine.add_event_handler(
        Events.ITERATION_COMPLETED,
        lambda: seen.append((attributes["iteration"], attributes["output"])),
    )
    engine.run([5, 6])
    assert seen == [(1, 5), (2, 6)]
    engine.state.__dict__["alpha"] = 4
    engine.state.__dict__.update(beta=1, max_epochs=7)
    assert (engine.state.alpha, engine.state.beta, engine.state.max_epochs) == (4, 1, 7)
    engine.state.lr = 0.5
    assert attributes["lr"] == 0.5
    assert attributes.pop("beta") == 1
    assert not hasattr(engine.state, "beta")
    assert "beta" not in attributes
    assert attributes.get("beta") is None
    assert len(attributes) == len([*attributes]) == len(attributes.copy())
    with pytest.raises(KeyError, match="nothing"):
        attributes["nothing"]
    with pytest.raises(KeyError, match="nothing"):
        del attributes["nothing"]


def test_attributes_copy_pickle_and_print_as_a_dict() -> None:
    state = Counting(alpha=3, epoch=2)
    state.lr = 0.5
    attributes = vars(state)
    for other in (copy.copy(attributes), pickle.loads(pickle.dumps(attributes)), {**attributes}):
        assert type(other) is dict
        assert other == attributes
    assert repr(attributes) == repr(dict(attributes))
    for again in (copy.copy(state), copy.deepcopy(state), pickle.loads(pickle.dumps(state))):
        assert type(again) is Counting
        assert vars(again) == attributes
        assert again.twice() == 4
        again.alpha = 9
        assert state.alpha == 3
    assert {"alpha", "epoch", "twice"} <= {*dir(state)}
    assert "alpha: 3" in repr(state)
    assert hasattr(state, "alpha")
    assert not hasattr(state, "gamma")


@pytest.mark.parametrize("value", [SimpleNamespace(epoch=1), mock.MagicMock(spec=State), None])
def test_a_state_that_is_none_is_refused_with_the_way_to_do_it(value: Any) -> None:
    engine = Engine(lambda engine, batch: batch)
    with pytest.raises(TypeError, match=r"give State\(epoch=1, metrics=") as raised:
        engine.state = value
    if isinstance(value, SimpleNamespace):
        assert "types.SimpleNamespace" in str(raised.value)
        assert "lacks iteration, epoch_length" in str(raised.value)
    assert type(engine.state) is State


def test_a_state_that_ignite_has_pickled_loads() -> None:
    theirs = ignite.engine.State(epoch=2, iteration=6, max_epochs=3, epoch_length=3, alpha=0.1)
    theirs.metrics["loss"] = 0.5
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        written = theirs.__reduce_ex__(protocol)
        kept = written[2]
        state: State = State.__new__(State)
        state.__setstate__(kept)
        assert vars(state) == vars(theirs)
        engine = Engine(lambda engine, batch: batch)
        engine.state = state
        assert engine.run([1, 2, 3]).iteration == 9


# Keys of a state dict.


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("metrics", {"loss": 0.5}),
        ("times", {"COMPLETED": 1.0}),
        ("seed", 3),
        ("output", 5),
        ("batch", [1]),
        ("dataloader", [1, 2]),
        ("iteration", 2),
        ("epoch_length", 2),
        ("max_epochs", 1),
        ("alpha", None),
    ],
)
def test_a_user_key_is_saved_and_loaded_as_in_ignite(key: str, value: object) -> None:
    for package in (ignite.engine, importlib.import_module("fengine.engine")):
        engine, other = (package.Engine(lambda engine, batch: batch) for _ in range(2))
        engine.run([1, 2])
        for one in (engine, other):
            one.state_dict_user_keys.append(key)
        setattr(engine.state, key, value)
        other.load_state_dict(pickle.loads(pickle.dumps(engine.state_dict())))
        assert getattr(other.state, key) == value


@pytest.mark.parametrize(
    "key", ["epoch", "max_iters", "get_event_attrib_value", "event_to_attr", "_fengine", "__dict__"]
)
def test_a_user_key_that_cannot_be_loaded_is_refused_when_it_is_saved(key: str) -> None:
    engine = Engine(lambda engine, batch: batch)
    engine.run([1, 2])
    engine.state_dict_user_keys.append(key)
    with pytest.raises(ValueError, match=repr(key)):
        engine.state_dict()


# The table of handlers.


def counted(engine: Any) -> list[str]:
    """Have a handler at each event that tells its name."""
    told: list[str] = []
    for event in (Events.STARTED, Events.ITERATION_STARTED, Events.ITERATION_COMPLETED):
        engine.add_event_handler(event, told.append, event.name)
    return told


def test_a_table_that_is_cleared_fires_nothing() -> None:
    engine = Engine(lambda engine, batch: batch)
    told = counted(engine)
    engine._event_handlers.clear()
    engine.run([1, 2])
    assert told == []
    assert not engine.has_event_handler(told.append)
    told = counted(engine)
    engine.run([1], max_epochs=1)
    assert told == ["STARTED", "ITERATION_STARTED", "ITERATION_COMPLETED"]


def test_a_table_that_is_cleared_within_a_run_fires_nothing_more() -> None:
    engine = Engine(lambda engine, batch: batch)
    told = counted(engine)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=1), engine._event_handlers.clear)
    engine.run([1, 2, 3])
    assert told == ["STARTED", "ITERATION_STARTED", "ITERATION_COMPLETED"]


def test_lists_that_are_taken_out_and_put_in() -> None:
    engine = Engine(lambda engine, batch: batch)
    table = engine._event_handlers
    told = counted(engine)
    taken = table.pop(Events.ITERATION_STARTED)
    del table["STARTED"]
    engine.run([1])
    assert told == ["ITERATION_COMPLETED"]
    assert table.pop("nothing", None) is None
    with pytest.raises(KeyError):
        table.pop("nothing")
    told.clear()
    table.update({Events.ITERATION_STARTED: taken})
    engine.run([1])
    assert told == ["ITERATION_STARTED", "ITERATION_COMPLETED"]
    told.clear()
    assert table.popitem()[1]
    assert table.setdefault(Events.STARTED, taken) is taken
    engine.run([1])
    assert told[0] == "ITERATION_STARTED"


@pytest.mark.parametrize("kind", [dict, lambda table: defaultdict(list, table)])
def test_a_new_table(kind: Any) -> None:
    engine = Engine(lambda engine, batch: batch)
    old = counted(engine)
    other = Engine(lambda engine, batch: batch)
    told = counted(other)
    engine._event_handlers = kind(other._event_handlers)
    engine.run([1])
    assert old == []
    assert told == ["STARTED", "ITERATION_STARTED", "ITERATION_COMPLETED"]
    engine._event_handlers |= {Events.ITERATION_STARTED: []}
    told.clear()
    engine.run([1])
    assert told == ["STARTED", "ITERATION_COMPLETED"]


@pytest.mark.parametrize("event", [Events.STARTED, Events.ITERATION_COMPLETED])
def test_an_entry_with_a_weak_reference_gets_the_engine(event: Events) -> None:
    engine = Engine(lambda engine, batch: batch)
    got: list[Any] = []
    entry: Any = (lambda *given: got.append(given), (weakref.ref(engine), 3), {})
    engine._event_handlers[event].append(entry)
    engine.run([1])
    assert got == [(engine, 3)]


def test_an_entry_at_an_exception_gets_the_engine_and_the_exception() -> None:
    engine = Engine(lambda engine, batch: 1 // batch)
    got: list[Any] = []
    entry: Any = (lambda *given: got.append(given), (weakref.ref(engine),), {})
    engine._event_handlers[Events.EXCEPTION_RAISED].append(entry)
    engine.run([0])
    assert got[0][0] is engine
    assert isinstance(got[0][1], ZeroDivisionError)


def test_an_entry_whose_engine_is_gone_says_so() -> None:
    engine, gone = (Engine(lambda engine, batch: batch) for _ in range(2))
    engine._event_handlers[Events.STARTED].append((print, (weakref.ref(gone),), {}))
    del gone
    with pytest.raises(RuntimeError, match="which is gone"):
        engine.run([1])


@pytest.mark.parametrize("semantics", [None, IGNITE_0_5_5])
def test_allowed_events_take_what_a_list_takes(semantics: Any) -> None:
    engine: Any = Engine(lambda engine, batch: batch, semantics=semantics)
    engine._allowed_events.append("tick")
    engine._allowed_events += ["tock", "tick"]
    engine._allowed_events.extend(["tack"])
    told: list[str] = []
    for event in ("tick", "tock", "tack"):
        engine.add_event_handler(event, told.append, event)
        engine.fire_event(event)
    assert told == ["tick", "tock", "tack"]
    engine._allowed_events.remove("tock")
    assert not engine.has_registered_events("tock")
    with pytest.raises(ValueError, match="tock"):
        engine._allowed_events.remove("tock")
    engine._allowed_events = [*Events, "other"]
    assert engine.has_registered_events("other")
    assert not engine.has_registered_events("tick")
    engine.run([1])
