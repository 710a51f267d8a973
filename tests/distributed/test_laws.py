"""Laws of ranks, which are threads here: what any rank asks, all obey, at the same event."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fengine import (
    DOCUMENTED,
    IGNITE_0_5_5,
    Event,
    Events,
    Loop,
    RequestError,
    Requests,
    Semantics,
    State,
    Status,
    stages,
)
from fengine.core.events import AnyEvent
from fengine.distributed import (
    EVERY_ITERATION,
    WHEN_ASKED,
    AgreeEvery,
    Alone,
    PeerFailed,
    Ranks,
    RanksDiverged,
)
from fengine.run.box import Box
from fengine.run.ranks import Agreeing
from fengine.testing import in_threads
from fengine.testing.program import Ask

AnyState: TypeAlias = State[Any, Any, Any]
Calls: TypeAlias = list[tuple[str, int, int]]
Trace: TypeAlias = list[tuple[str, int, int, Requests]]

OWN = Event("own")
# Where handlers may ask: all events but the one of failures, which asks nothing.
PLACES = (*(event for event in Events.all() if event is not Events.EXCEPTION_RAISED), OWN)
REQUESTS = (
    State().terminate().requests,
    State().terminate(skip_completed=True).requests,
    State().terminate_epoch().requests,
    State().terminate_epoch(skip_epoch_completed=True).requests,
    State().interrupt().requests,
)


@attrs.frozen
class Wish:
    """Ask for something at one firing of an event."""

    place: AnyEvent
    iteration: int
    asked: Requests


wishes = st.builds(Wish, st.sampled_from(PLACES), st.integers(0, 7), st.sampled_from(REQUESTS))


@attrs.frozen
class Asking:
    """Ask for what one rank wants, where it wants it, and note where it was called."""

    event: AnyEvent
    wanted: tuple[Wish, ...]
    trace: Trace = attrs.field(eq=False, factory=list)

    def __call__(self, state: AnyState, payload: object = None) -> AnyState:
        self.trace.append((self.event.name, state.epoch, state.iteration, state.requests))
        for wish in self.wanted:
            if wish.place == self.event and wish.iteration == state.iteration:
                state = Ask(wish.asked)(state)
        return state


def loop_of(
    ranks: Ranks, wanted: tuple[Wish, ...], trace: Trace, semantics: Semantics, agree: Agreeing
) -> Loop[int, int]:
    def in_step(state: AnyState) -> int:
        ranks.largest((0,))  # ranks that train one model wait for each other in each step
        return -int(state.batch)

    step = stages(in_step).emit(OWN).then(abs)
    loop: Loop[int, int] = Loop(step, semantics=semantics, ranks=ranks, agree=agree)
    for event in PLACES:
        loop = loop.on(event, Asking(event, wanted, trace))
    return loop


def run(
    ranks: Ranks, wanted: tuple[Wish, ...], semantics: Semantics, agree: Agreeing
) -> tuple[AnyState, Calls]:
    """Run to the end, with the pauses on the way, and say where handlers were called."""
    trace: Trace = []
    loop = loop_of(ranks, wanted, trace, semantics, agree)
    final = loop.run([1, 2], max_epochs=3)
    for _ in range(40):
        if final.status is not Status.INTERRUPTED:
            break
        final = loop.resume(final, [1, 2])
    return final, [(name, epoch, iteration) for name, epoch, iteration, _ in trace]


def ended(
    wanted: Mapping[int, tuple[Wish, ...]],
    semantics: Semantics = DOCUMENTED,
    agree: Agreeing = EVERY_ITERATION,
) -> list[tuple[AnyState, Calls] | BaseException]:
    """Return how each rank ends."""
    return in_threads(len(wanted), lambda ranks: run(ranks, wanted[ranks.rank], semantics, agree))


several = st.integers(2, 4).flatmap(
    lambda size: st.fixed_dictionaries(
        {rank: st.lists(wishes, max_size=3).map(tuple) for rank in range(size)}
    )
)
agreements = st.sampled_from([EVERY_ITERATION, AgreeEvery(2), AgreeEvery(3), WHEN_ASKED])


@settings(max_examples=min(100, settings().max_examples))
@given(several, st.sampled_from([DOCUMENTED, IGNITE_0_5_5]), agreements)
def test_ranks_with_any_requests_at_any_events_end_alike(
    wanted: dict[int, tuple[Wish, ...]], semantics: Semantics, agree: Agreeing
) -> None:
    ends = ended(wanted, semantics, agree)
    if any(isinstance(end, RequestError) for end in ends):
        # Something was asked for where it makes no sense, which ends the run on all ranks.
        assert all(isinstance(end, RequestError | PeerFailed) for end in ends), ends
    else:
        assert all(end == ends[0] for end in ends), ends
        assert isinstance(ends[0], tuple)


@given(st.lists(wishes, max_size=3).map(tuple), st.sampled_from([DOCUMENTED, IGNITE_0_5_5]))
def test_alone_changes_nothing(wanted: tuple[Wish, ...], semantics: Semantics) -> None:
    def final(**ranks: Any) -> object:
        def first(state: AnyState) -> int:
            return int(state.batch)

        step = stages(first).emit(OWN).then(abs)
        trace: Trace = []
        loop: Loop[int, int] = Loop(step, semantics=semantics, **ranks)
        for event in PLACES:
            loop = loop.on(event, Asking(event, wanted, trace))
        try:
            return loop.run([1, 2], max_epochs=3), trace
        except RequestError as error:
            return str(error), trace

    assert final() == final(ranks=Alone())
    assert final() == in_threads(1, lambda ranks: final(ranks=ranks))[0]


INTERRUPTED = {0: (Wish(Events.GET_BATCH_STARTED, 2, State().interrupt().requests),), 1: ()}


def test_requests_wait_for_an_event_that_all_ranks_share() -> None:
    ends = ended(INTERRUPTED)
    assert ends[0] == ends[1]
    assert isinstance(ends[0], tuple)
    assert ends[0][1].count(("interrupt", 2, 3)) == 1


def test_without_waiting_the_law_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    # As it is where a request of one rank acts on that rank at once.
    never = property(lambda box: False, lambda box, value: None)
    monkeypatch.setattr(Box, "is_shared", never)
    assert any(isinstance(end, RanksDiverged) for end in ended(INTERRUPTED))
