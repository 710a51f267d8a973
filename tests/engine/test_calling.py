"""Handlers under equal filters are asked for together; nobody can tell by what is called."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from random import Random
from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st

from fengine.engine import Engine, Events


@attrs.frozen
class Odd:
    """Be a filter of the user's."""

    def __call__(self, engine: Engine, event: int) -> bool:
        engine.state.calls.append("asked")
        return event % 2 == 1


@attrs.frozen
class Noted:
    """Note a call, and do something that bears on later filters and handlers."""

    number: int
    deed: str

    def __call__(self, engine: Engine) -> None:
        state = engine.state
        state.calls.append((self.number, state.iteration, state.epoch))
        if self.deed == "count on" and state.iteration < 40:
            state.iteration += 1
        elif self.deed == "add" and len(state.calls) < 40:
            engine.add_event_handler(Events.ITERATION_COMPLETED(every=2), Noted(99, "look on"))


FILTERS: list[dict[str, Any]] = [
    {},
    {"every": 2},
    {"every": 2},
    {"after": 2, "every": 2},
    {"once": [1, 4]},
    {"event_filter": Odd()},
]
EVENTS = st.sampled_from([Events.ITERATION_COMPLETED, Events.ITERATION_COMPLETED, "tick"])
HANDLERS = st.lists(
    st.tuples(
        EVENTS,
        st.sampled_from(FILTERS),
        st.sampled_from(["look on", "count on", "add"]),
    ),
    min_size=2,
    max_size=9,
)


def made(handlers: list[tuple[Any, dict[str, Any], str]], seed: int) -> Engine:
    engine = Engine(tick)
    engine.register_events("tick")
    engine.state.calls = []
    for number, (event, filter, deed) in enumerate(handlers):
        if event == "tick":
            engine.add_event_handler(event, Noted(number, deed))
        else:
            engine.add_event_handler(event(**filter) if filter else event, Noted(number, deed))
    for entries in engine._event_handlers.values():
        # As code beside the Engine may.
        Random(seed).shuffle(entries)
    return engine


def tick(engine: Engine, batch: int) -> int:
    engine.fire_event("tick")
    return batch


@attrs.frozen
class Wrapped:
    """Hide from the Engine what it calls."""

    handler: Callable[..., Any]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.handler(*args, **kwargs)


def calls(engine: Engine) -> list[Any]:
    engine.run(range(6), max_epochs=2)
    seen: list[Any] = engine.state.calls
    return seen


@given(HANDLERS, st.integers(0, 99))
def test_equal_filters_are_asked_together_as_if_each_was(
    handlers: list[tuple[Any, dict[str, Any], str]], seed: int
) -> None:
    one_by_one = made(handlers, seed)
    for entries in one_by_one._event_handlers.values():
        # As profilers do.
        entries[:] = [(Wrapped(handler), args, kwargs) for handler, args, kwargs in entries]
    expected = calls(one_by_one)
    together = made(handlers, seed)
    restored = pickle.loads(pickle.dumps(together)), copy.deepcopy(together)
    assert calls(together) == expected
    assert [calls(engine) for engine in restored] == [expected, expected]
