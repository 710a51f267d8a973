"""A subclass may have any name but those of the documented package, and `_fengine`."""

from __future__ import annotations

from typing import Any

import ignite.engine
import pytest

from fengine.engine import Engine, Events, State
from fengine.engine.deterministic import DeterministicEngine


def names_of(thing: object) -> set[str]:
    """Name all that is found on a thing but what every object has."""
    return {name for name in dir(thing) if not name.startswith("__")}


def documented(thing: object) -> set[str]:
    return names_of(thing) | names_of(type(thing))


ENGINE = Engine(lambda engine, batch: batch)
DETERMINISTIC = DeterministicEngine(lambda engine, batch: batch)
THEIRS = documented(ignite.engine.Engine(lambda engine, batch: batch))
THEIRS_TOO = THEIRS | documented(ignite.engine.DeterministicEngine(lambda engine, batch: batch))
THEIR_STATE = documented(ignite.engine.State())
OURS = {"_fengine", "semantics"}


def inside(*parts: object) -> set[str]:
    """Name every attribute and method of some things, and of what they are made of."""
    names: set[str] = set()
    known: list[object] = list(parts)
    for part in known:  # it grows meanwhile
        names |= names_of(part)
        for name in names_of(part):
            inner = getattr(part, name, None)
            ours = type(inner).__module__.startswith("fengine")
            if ours and not any(inner is one for one in known):
                known.append(inner)
    return names


INTERNALS = sorted(inside(ENGINE._fengine, ENGINE.state._fengine) - THEIRS_TOO - OURS - THEIR_STATE)


def test_an_engine_has_no_other_names() -> None:
    assert names_of(ENGINE) - THEIRS == OURS
    assert names_of(DETERMINISTIC) - THEIRS_TOO == OURS


def test_a_state_has_no_other_names() -> None:
    assert names_of(ENGINE.state) - THEIR_STATE == {"_fengine"}


def test_internals_are_looked_at_whole() -> None:
    assert {"is_running", "posted", "box", "lists", "iterator", "payload", "attr_of"} <= {
        *INTERNALS
    }


def run(engine: Engine) -> Any:
    """Use much of an engine, and note what it is like."""
    seen: list[Any] = []
    engine.register_events("tick", event_to_attr={"tick": "ticks"})
    engine.add_event_handler(Events.EPOCH_COMPLETED(every=2), lambda: engine.fire_event("tick"))
    engine.add_event_handler("tick", lambda engine: seen.append(engine.state.epoch))
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), engine.interrupt)
    engine.state.lr = 0.5
    for _ in range(2):
        state = engine.run([1, 2, 3], max_epochs=4)
        seen.append((state.iteration, state.epoch, state.output, state.lr, engine.last_event_name))
    kept = engine.state_dict()
    engine.load_state_dict({**kept, "max_epochs": 6})
    seen.append(engine.run([1, 2, 3]).iteration)
    return seen


EXPECTED = run(Engine(lambda engine, batch: 2 * batch))


@pytest.mark.parametrize("name", INTERNALS)
def test_a_subclass_may_have_each_name_of_the_internals(name: str) -> None:
    def method(self: object, *args: object, **kwargs: object) -> str:
        raise AssertionError(f"{name} is the user's own method")

    for value in (method, "the user's own value"):
        kind = type("Own", (Engine,), {name: value})
        engine = kind(lambda engine, batch: 2 * batch)
        assert run(engine) == EXPECTED
        setattr(engine, name, "another value")
        assert engine.run([1, 2, 3], max_epochs=7).iteration == 21
        states = type("OwnState", (State,), {name: value})
        other = Engine(lambda engine, batch: 2 * batch)
        other.state = states()
        assert run(other) == EXPECTED


def test_a_subclass_may_shadow_the_semantics() -> None:
    class Own(Engine):
        semantics = Engine.semantics

    assert run(Own(lambda engine, batch: 2 * batch)) == EXPECTED
