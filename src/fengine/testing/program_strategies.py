"""Strategies of whole programs: every kind of data, step, handler and ending in one value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import attrs
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from fengine.core.events import AnyEvent, Events
from fengine.core.requests import Recovery
from fengine.core.semantics import DOCUMENTED, IGNITE_0_5_5, Semantics
from fengine.core.state import State
from fengine.testing.batches import Data, Kind
from fengine.testing.program import Act, Ask, Fail, Program
from fengine.testing.strategies import filtered, limits, own_events, requests


def data(kinds: Sequence[Kind] = get_args(Kind)) -> SearchStrategy[Data]:
    """Generate data of one to four batches.

    Args:
        kinds: the kinds of data to choose from; see `Data`.

    >>> from hypothesis import find
    >>> find(data(), lambda data: not data.replays)
    Data(kind='iterator', size=1)
    """
    return st.builds(Data, st.sampled_from(kinds), st.integers(1, 4))


def acts(
    events: Sequence[AnyEvent],
    *,
    stages: int = 1,
    recoveries: Sequence[Recovery | None] = (None, *Recovery),
) -> SearchStrategy[tuple[Act, ...]]:
    """Generate what happens in a program: at most one act at each firing of each event.

    Args:
        events: the events whose handlers may act.
        stages: number of stages of the step that may fail.
        recoveries: how failures may be answered; without any, nothing fails.

    >>> from hypothesis import find
    >>> find(acts([Events.STARTED], recoveries=()), lambda acts: len(acts) == 1)[0].place
    'started'
    """
    firing = st.just(1) | st.integers(1, 4)  # most events of the end fire once
    asks = st.builds(
        Act, st.sampled_from([event.name for event in events]), firing, st.builds(Ask, requests())
    )
    if not recoveries:
        one: SearchStrategy[Act] = asks
    else:
        places = [
            *(event.name for event in events),
            *(f"stage {number}" for number in range(1, stages + 1)),
        ]
        fail = st.builds(Fail, st.sampled_from(recoveries))
        one = asks | st.builds(Act, st.sampled_from(places), firing, fail)
    return st.lists(one, max_size=4, unique_by=lambda act: (act.place, act.firing)).map(tuple)


def _in_odd_iteration(state: State[Any, Any, Any]) -> bool:
    return state.iteration % 2 == 1


_LIMITS = limits()
_EMITTED = st.lists(own_events(), max_size=2, unique_by=lambda event: event.name)
_LISTENED = st.lists(filtered(Events.all(), predicates=[_in_odd_iteration]), max_size=2)


@st.composite
def _programs(
    draw: st.DrawFn,
    data: SearchStrategy[Data],
    events: Sequence[AnyEvent],
    recoveries: Sequence[Recovery | None],
    semantics: Sequence[Semantics],
) -> Program:
    chosen, limited = draw(data), draw(_LIMITS)
    if chosen.kind == "none" and limited.epoch_length is None:
        limited = attrs.evolve(limited, epoch_length=chosen.size)
    emitted = draw(_EMITTED)
    listened = _LISTENED
    if emitted:
        listened |= st.lists(filtered(emitted, predicates=[_in_odd_iteration]), max_size=2)
    return Program(
        chosen,
        limited,
        draw(acts((*events, *emitted), stages=len(emitted) + 1, recoveries=recoveries)),
        tuple(emitted),
        tuple(draw(listened)),
        draw(st.sampled_from(semantics)),
    )


def programs(
    *,
    data: SearchStrategy[Data] = data(),  # noqa: B008
    events: Sequence[AnyEvent] = Events.all(),
    recoveries: Sequence[Recovery | None] = (None, *Recovery),
    semantics: Sequence[Semantics] = (DOCUMENTED, IGNITE_0_5_5),
) -> SearchStrategy[Program]:
    """Generate whole programs, of every kind of data, step and handler.

    Args:
        data: what they may run on.
        events: the built-in events whose handlers may act; own events always may.
        recoveries: how their failures may be answered; without any, nothing fails.
        semantics: when their requested stops may act.

    >>> from hypothesis import given
    >>> @given(programs(recoveries=(), semantics=[DOCUMENTED], data=data(["list"])))
    ... def exited_is_last(program):
    ...     assert list(program.iterate())[-1].event is Events.EXITED
    >>> exited_is_last()
    """
    return _programs(data, events, recoveries, semantics)
