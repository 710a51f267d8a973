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


# Names that programs have in subclasses, whether the internals have them now or not.
COMMON = ["_running", "_logger", "_process", "_state", "_limits"]


@pytest.mark.parametrize("name", sorted({*INTERNALS, *COMMON}))
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


def test_a_subclass_may_keep_what_it_likes_in_the_common_names() -> None:
    class Own(Engine):
        def __init__(self) -> None:
            self._running, self._logger, self._limits = False, "mine", {"lr": 0.1}
            super().__init__(self._process)
            self._state = "idle"
            self.add_event_handler(Events.STARTED, self._note)

        def _process(self, engine: Engine, batch: int) -> int:
            return 2 * batch

        def _note(self) -> None:
            self._running, self._state = True, "busy"

    own = Own()
    assert run(own) == EXPECTED
    assert (own._running, own._logger, own._state, own._limits) == (
        True,
        "mine",
        "busy",
        {"lr": 0.1},
    )


def test_a_subclass_may_shadow_the_semantics() -> None:
    class Own(Engine):
        semantics = Engine.semantics

    assert run(Own(lambda engine, batch: 2 * batch)) == EXPECTED
