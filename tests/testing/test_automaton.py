"""The reference automaton judges traces, and says at which place and why one is none."""

from __future__ import annotations

from typing import Any

import pytest

from fengine import (
    DOCUMENTED,
    IGNITE_0_5_5,
    SKIP_BATCH,
    Event,
    Events,
    Loop,
    State,
    outputs,
    stages,
)
from fengine.testing import AUTOMATON, Fired, Standing, assert_word
from fengine.testing.automaton import CONDITIONS, MOVES

AnyState = State[Any, Any, Any]

ITERATION = ["get_batch_started", "get_batch_completed", "iteration_started", "iteration_completed"]
EPOCH = ["epoch_started", *ITERATION, *ITERATION, "epoch_completed"]
WHOLE = ["started", *EPOCH, *EPOCH, "completed", "exited"]


def batch_of(state: AnyState) -> int:
    return int(state.batch)


def refusal(trace: Any, **known: Any) -> str:
    with pytest.raises(AssertionError) as refused:
        assert_word(trace, **known)
    return str(refused.value)


def test_a_whole_run_is_a_word_in_every_notation() -> None:
    assert_word(WHOLE)
    assert_word([Fired(name) for name in WHOLE])
    loop = Loop[Any, Any, Any](outputs(abs))
    assert_word(loop.iterate([-1, -2], max_epochs=2), semantics=DOCUMENTED, data=True)
    assert_word(moment.event for moment in loop.iterate([-1, -2], max_epochs=2))


@pytest.mark.parametrize("place", range(len(WHOLE)))
def test_no_firing_can_be_left_out(place: int) -> None:
    assert refusal(WHOLE[:place] + WHOLE[place + 1 :])


def test_a_trace_may_stop_anywhere_where_it_need_not_be_complete() -> None:
    for end in range(len(WHOLE)):
        assert_word(WHOLE[:end], complete=False)
    assert refusal(WHOLE[:-1]) == "the trace stops at COMPLETED, before EXITED"


def test_the_message_names_the_place_and_what_may_follow() -> None:
    message = refusal(["started", "epoch_started", "get_batch_started", "iteration_started"])
    first, *rest = message.splitlines()
    assert first == (
        "firing 4 is ITERATION_STARTED, which cannot follow GET_BATCH_STARTED; there may follow"
    )
    assert "  GET_BATCH_COMPLETED, where the data gives a batch" in rest
    assert "  INTERRUPT, where interrupt() is asked for" in rest
    assert refusal([*WHOLE, "started"]).endswith("there may follow nothing")


def test_more_knowledge_refuses_more() -> None:
    stopped = ["started", "epoch_started", "terminate", "completed", "exited"]
    assert_word(stopped)
    assert_word(stopped, semantics=IGNITE_0_5_5)
    assert "cannot follow EPOCH_STARTED" in refusal(stopped, semantics=DOCUMENTED)
    without_data = ["started", "epoch_started", "iteration_started"]
    assert_word(without_data, complete=False)
    assert_word(without_data, complete=False, data=False)
    assert "cannot follow EPOCH_STARTED" in refusal(without_data, complete=False, data=True)
    ended = ["started", "terminate", "completed", "exited"]
    assert_word(ended)
    assert "cannot follow STARTED" in refusal(
        [Fired(name, requests=State().requests) for name in ended]
    )
    assert_word(
        [Fired("started", requests=State().terminate().requests), *ended[1:]], semantics=DOCUMENTED
    )


def test_counters_grow_at_their_events_only() -> None:
    right = [Fired("started", 0, 0), Fired("epoch_started", 1, 0)]
    assert_word(right, complete=False)
    message = refusal([*right, Fired("get_batch_started", 1, 3)], complete=False)
    assert message == (
        "firing 3: the iteration goes from 0 at EPOCH_STARTED to 3 at GET_BATCH_STARTED; "
        "it grows by 1 at each ITERATION_STARTED, and nowhere else"
    )


def test_what_is_asked_for_has_to_be_obeyed() -> None:
    loop = Loop[Any, Any, Any](outputs(abs)).on(Events.ITERATION_COMPLETED(once=1), State.terminate)
    moments = list(loop.iterate([-1, -2]))
    assert_word(moments)
    disobeyed = [moment for moment in moments if moment.event != Events.TERMINATE]
    assert "cannot follow ITERATION_COMPLETED (epoch 1, iteration 1)" in refusal(disobeyed)


def test_own_events_have_their_place_in_the_iteration() -> None:
    loaded, moved = Event("loaded"), Event("moved")
    step = stages(batch_of).emit(loaded).then(abs).emit(moved).then(abs)
    trace = [moment.event.name for moment in Loop(step).iterate([-1])]
    assert_word(trace, emitted=[loaded, moved])
    assert "cannot follow ITERATION_STARTED" in refusal(trace, emitted=[moved, loaded])
    assert "cannot follow ITERATION_STARTED" in refusal(trace)


def test_a_resumed_run_begins_where_it_was_stopped() -> None:
    loop = Loop[Any, Any, Any](outputs(abs))
    moments = list(loop.iterate([-1, -2], max_epochs=2))
    for number, moment in enumerate(moments, start=1):
        rest = list(loop.iterate([-1, -2], after=moment.state))
        assert_word(rest, start=moment.event.name)
        assert len(rest) == len(moments) - number


def recover(state: AnyState, error: BaseException) -> AnyState:
    return state.recover(SKIP_BATCH)


@pytest.mark.parametrize(
    "event", [Events.STARTED, Events.EPOCH_STARTED, Events.GET_BATCH_COMPLETED, Events.COMPLETED]
)
def test_a_firing_that_failed_is_found_in_the_moment_behind_it(event: Event) -> None:
    def fail(state: AnyState) -> AnyState:
        raise OSError

    loop = Loop[Any, Any, Any](outputs(abs)).on(event(when=lambda state: state.epoch < 2), fail)
    moments = list(loop.on(Events.EXCEPTION_RAISED, recover).iterate([-1, -2], max_epochs=2))
    assert event in {moment.state.event for moment in moments}
    assert_word(moments)


def test_a_pause_that_failed_is_found_too() -> None:
    def fail(state: AnyState) -> AnyState:
        raise OSError

    loop = (
        Loop[Any, Any, Any](outputs(abs))
        .on(Events.STARTED, State.interrupt)
        .on(Events.INTERRUPT, fail)
    )
    moments = list(loop.on(Events.EXCEPTION_RAISED, recover).iterate([-1]))
    assert [moment.event for moment in moments] == [
        Events.STARTED,
        Events.EXCEPTION_RAISED,
        Events.EXITED,
    ]
    assert_word(moments)


def test_what_is_no_firing_is_refused() -> None:
    wrong: Any = ["started", 3]
    with pytest.raises(TypeError, match="3 of type int is not a firing"):
        assert_word(wrong)


def test_every_condition_has_words_and_decides_something() -> None:
    used = {condition for move in MOVES for condition in move.when}
    assert used == CONDITIONS.keys()


def test_every_place_but_the_last_leads_somewhere() -> None:
    places = {move.to for move in MOVES} | {at for move in MOVES for at in move.at}
    places -= {"anywhere", "exited", "interrupt", "exception_raised"}
    sure = {"raises": False}
    for place in places:
        assert list(AUTOMATON.next_events(Standing(place), sure)), place
    assert not list(AUTOMATON.next_events(Standing("exited"), {}))


def test_a_lone_name_is_no_trace_and_a_run_begins_at_a_known_place() -> None:
    with pytest.raises(TypeError, match=r"'started' is one name, and no trace; give \['started'\]"):
        assert_word("started")
    with pytest.raises(ValueError, match="start='strated' is no place to begin at; known: c"):
        assert_word(["epoch_started"], start="strated")


def test_the_message_names_the_place_where_the_trace_begins() -> None:
    with pytest.raises(AssertionError, match="firing 1 is STARTED, which cannot follow EPOCH_STAR"):
        assert_word(["started"], start="epoch_started")
    with pytest.raises(AssertionError, match="firing 1 is EXITED, which cannot follow the start"):
        assert_word(["exited"])
