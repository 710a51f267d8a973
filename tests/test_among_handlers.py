"""Going on among the handlers of an event: from a state that one of them kept, or has failed at."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable, Generator
from typing import Any

import pytest

from fengine import (
    Event,
    Events,
    Loop,
    PayloadEvent,
    Recorder,
    Recovery,
    Snapshot,
    State,
    Status,
    last_state,
    outputs,
    stages,
    tap,
)
from fengine.testing import Fault, failing

Run = State[Any, Any, Any]
DATA = [1, 2, 3]
DONE = Events.EPOCH_COMPLETED
STEP: Any = outputs(abs)


def count(state: Run) -> Run:
    return state.evolve(user=state.user + 1)


def double(state: Run) -> Run:
    return state.evolve(user=2 * state.user)


def nothing(state: Run) -> Run:
    return state


def loop_of(*handlers: Callable[..., Any], event: Any = DONE) -> Loop[Any, Any, Any]:
    loop: Loop[Any, Any, Any] = Loop(STEP)
    for handler in handlers:
        loop = loop.on(event, handler)
    return loop


def skip(state: Run, error: BaseException) -> Run:
    return state.recover(Recovery.SKIP_BATCH)


def count_with(state: Run, payload: object) -> Run:
    return count(state)


class Calls(list[str]):
    """Hold the names of what was called."""

    def of(self, name: str, then: Callable[[Run], Run] = nothing) -> Callable[[Run], Run]:
        def handler(state: Run) -> Run:
            self.append(name)
            return then(state)

        handler.__qualname__ = name
        return handler


def failing_once() -> Callable[[Run], Run]:
    is_broken = True

    def fail(state: Run) -> Run:
        nonlocal is_broken
        if is_broken:
            is_broken = False
            raise OSError("once")
        return state

    return fail


def test_a_state_that_a_handler_kept_loses_none_of_the_later_ones() -> None:
    kept: list[Run] = []
    loop = loop_of(tap(kept.append), count)
    assert loop.run(DATA, user=0, max_epochs=4).user == 4
    assert [loop.resume(state, DATA).user for state in kept[:4]] == [4, 4, 4, 4]


def test_a_state_that_was_kept_between_handlers_has_the_work_of_those_before() -> None:
    kept: list[Run] = []
    loop = loop_of(count, tap(kept.append), double, tap(kept.append), count)
    whole = loop.run(DATA, user=0, max_epochs=2).user
    assert whole == 9
    assert [state.user for state in kept] == [1, 2, 4, 8]
    assert [loop.resume(state, DATA).user for state in kept[:]] == [9, 9, 9, 9]


def test_a_stop_that_a_later_handler_asks_for_is_not_passed() -> None:
    kept: list[Run] = []

    def stop(state: Run) -> Run:
        return state.terminate() if state.epoch == 2 else state

    loop = loop_of(tap(kept.append), stop)
    assert loop.run(DATA, user=0, max_epochs=4).epoch == 2
    assert loop.resume(kept[1], DATA).epoch == 2


def test_handlers_that_returned_a_kept_state_unchanged_run_again() -> None:
    calls, kept = Calls(), list[Run]()
    loop = loop_of(calls.of("first"), tap(kept.append), calls.of("last"))
    loop.run(DATA, user=0)
    calls.clear()
    loop.resume(kept[0], DATA)
    assert calls == ["first", "last"]


def test_a_snapshot_in_a_handler_has_all_that_have_run() -> None:
    calls, taken = Calls(), list[Snapshot[Any, Any, Any]]()

    def save(state: Run) -> Run:
        taken.append(loop.snapshot(state))
        return state

    first, last = calls.of("first"), calls.of("last")
    loop = loop_of(first, calls.of("second", count), calls.of("third"), save, last)
    loop.run(DATA, user=0)
    calls.clear()
    assert loop.resume(taken[0], DATA).user == 1
    assert calls == ["last"]
    names = taken[0].to_dict()["state"]["ledger"]["handled"]
    assert names == ["first", "second", "third"]


def test_a_snapshot_of_an_older_state_has_those_that_had_run_then() -> None:
    kept: list[Run] = []
    taken: list[Snapshot[Any, Any, Any]] = []

    def save(state: Run) -> Run:
        taken.append(loop.snapshot(kept[0]))
        return state

    loop = loop_of(tap(kept.append), count, save)
    assert loop.run(DATA, user=0).user == 1
    assert loop.resume(taken[0], DATA).user == 1


def test_what_handlers_did_before_one_failed_is_not_done_again() -> None:
    calls = Calls()
    first, last = calls.of("first", count), calls.of("last", double)
    loop = loop_of(first, calls.of("second"), failing_once(), last)
    with pytest.raises(OSError, match="once") as caught:
        loop.run(DATA, user=0)
    left: Any = last_state(caught.value)
    assert (left.user, calls) == (1, ["first", "second"])
    assert loop.resume(left, DATA).user == 2
    assert calls == ["first", "second", "last"]


def test_a_run_that_recovers_leaves_the_handlers_that_had_not_run() -> None:
    calls = Calls()
    first, last = calls.of("first", count), calls.of("last", count)
    loop = loop_of(first, failing_once(), last, event=Events.ITERATION_COMPLETED)
    loop = loop.on(Events.EXCEPTION_RAISED, skip)
    assert loop.run(DATA, user=0).user == 5
    assert calls == ["first"] + ["first", "last"] * 2


def test_a_filter_that_fails_is_asked_again() -> None:
    calls, asked = Calls(), list[int]()

    def holds(state: Run) -> bool:
        asked.append(state.epoch)
        if len(asked) == 1:
            raise OSError("once")
        return True

    loop = loop_of(calls.of("first", count))
    loop = loop.on(DONE(when=holds), calls.of("second"))
    with pytest.raises(OSError, match="once") as caught:
        loop.run(DATA, user=0)
    left: Any = last_state(caught.value)
    assert loop.resume(left, DATA).user == 1
    assert (calls, asked) == (["first", "second"], [1, 1])


def test_other_handlers_are_refused_and_more_of_them_are_not() -> None:
    kept: list[Run] = []
    before = loop_of(count, tap(kept.append), double)
    before.run(DATA, user=0)
    more = before.on(DONE, count)
    assert more.resume(kept[0], DATA).user == 3
    for loop in (loop_of(double, count), loop_of(tap(kept.append)), Loop(STEP)):
        with pytest.raises(ValueError, match=r"EPOCH_COMPLETED, after count had run") as refused:
            loop.resume(kept[0], DATA)
        assert "give it the same ones first" in str(refused.value)
    with pytest.raises(ValueError, match="This loop has none there"):
        next(Loop(STEP).iterate(DATA, after=kept[0]))


def test_after_all_handlers_any_may_be_added() -> None:
    loop = loop_of(count)
    moments = list(loop.iterate(DATA, user=0, max_epochs=2))
    first = next(one.state for one in moments if one.event is DONE)
    assert loop_of(double, count).resume(first, DATA).user == 3
    assert "handled" not in first.to_dict()["ledger"]


def test_names_outlive_a_process_and_a_change_of_the_file() -> None:
    kept: list[Run] = []
    loop = loop_of(tap(count), count, tap(kept.append), double)
    loop.run(DATA, user=1)
    plain = json.loads(json.dumps(kept[0].to_dict()))
    assert plain["ledger"]["handled"] == ["tap(count)", "count"]
    copies = [pickle.loads(pickle.dumps(kept[0])), copy.copy(kept[0]), copy.deepcopy(kept[0])]
    assert copies == [kept[0]] * 3
    for again in (State.from_dict(plain), *copies):
        assert loop.resume(again, DATA).user == 4


def test_which_handlers_have_run_is_no_part_of_equality() -> None:
    kept: list[Run] = []
    loop = loop_of(tap(kept.append))
    states = [one.state for one in loop.iterate(DATA, user=0) if one.event is DONE]
    assert kept == states
    assert kept[0]._handled == ()
    assert states[0]._handled is None


@pytest.mark.parametrize("ledger", [{"handled": "count"}, {"handled": [1]}, {"handled": 1}])
def test_plain_data_with_something_else_is_refused(ledger: dict[str, object]) -> None:
    kept: list[Run] = []
    loop_of(tap(kept.append)).run(DATA, user=0)
    plain = kept[0].to_dict()
    with pytest.raises(ValueError, match=r"ledger\.handled"):
        State.from_dict({**plain, "ledger": {**plain["ledger"], **ledger}})


def test_handlers_of_a_run_that_has_ended_are_refused() -> None:
    plain = loop_of().run(DATA, user=0).to_dict()
    with pytest.raises(ValueError, match=r"ledger\.handled"):
        State.from_dict({**plain, "ledger": {**plain["ledger"], "handled": []}})


CHUNK = Event("chunk")
PART: Any = PayloadEvent[int]("part")


def firing(state: Run) -> Generator[tuple[Event, Run], Run, Run]:
    for _ in range(2):
        state = yield CHUNK, state.evolve(output=state.batch)
    return state


STEPS: dict[str, Loop[Any, Any, Any]] = {
    "stages": Loop(stages(lambda state: state.batch).emit(CHUNK).then(abs)),
    "payload": Loop(stages(lambda state: state.batch).emit(PART).then(abs)),
    "generator": Loop(firing).register(CHUNK),
}


@pytest.mark.parametrize("kind", STEPS)
def test_a_state_that_was_kept_within_the_step(kind: str) -> None:
    kept: list[Run] = []
    event, add = (PART, count_with) if kind == "payload" else (CHUNK, count)
    loop: Any = STEPS[kind].on(event, add).on(event, tap(kept.append)).on(event, add)  # type: ignore[arg-type]
    whole = loop.run(DATA, user=0, max_epochs=2)
    for state in kept[:]:
        assert loop.resume(state, DATA) == whole


def test_a_handler_that_is_there_twice_is_counted_twice() -> None:
    kept: list[Run] = []
    loop = loop_of(count, count, tap(kept.append), count, count)
    assert loop.run(DATA, user=0).user == 4
    assert loop.resume(kept[0], DATA).user == 4


def test_a_state_that_was_kept_at_a_pause() -> None:
    kept: list[Run] = []
    taken: list[Snapshot[Any, Any, Any]] = []

    def save(state: Run) -> Run:
        taken.append(loop.snapshot(state))
        return state

    loop = loop_of(count, tap(kept.append), tap(nothing), save, count, event=Events.INTERRUPT)
    loop = loop.on(DONE(once=1), State.interrupt)
    paused = loop.run(DATA, user=0, max_epochs=2)
    whole = loop.resume(paused, DATA)
    assert (paused.user, whole.user) == (2, 2)
    assert taken[0].state._handled == ("count", "tap(list.append)", "tap(nothing)")
    for start in (kept[0], taken[0]):
        assert loop.resume(start, DATA) == whole


def test_a_handler_of_a_pause_that_fails_pauses_again() -> None:
    loop = loop_of(count, failing_once(), count, event=Events.INTERRUPT)
    loop = loop.on(DONE(once=1), State.interrupt)
    with pytest.raises(OSError, match="once") as caught:
        loop.run(DATA, user=0, max_epochs=2)
    left: Any = last_state(caught.value)
    again = loop.resume(left, DATA)
    assert (left.user, again.user, again.status) == (0, 2, Status.INTERRUPTED)


def test_a_state_that_comes_back_from_before_leaves_nothing_behind() -> None:
    kept: list[Run] = []
    loop = loop_of(tap(kept.append), count, lambda state: kept[-1], event=Events.STARTED)
    loop = loop.on(DONE, failing_once())
    with pytest.raises(OSError, match="once") as caught:
        loop.run(DATA, user=0)
    left: Any = last_state(caught.value)
    assert (left.event, left.user, left.iteration) == (DONE, 0, 3)


def test_what_a_handler_has_made_stays_as_it_is() -> None:
    made: list[Run] = []
    taken: list[Snapshot[Any, Any, Any]] = []

    def keeping(state: Run) -> Run:
        made.append(count(state))
        taken.append(loop.snapshot(made[-1]))
        return made[-1]

    loop = loop_of(keeping, count)
    loop.run(DATA, user=0)
    assert (made[0]._handled, taken[0].state._handled) == ((), ())
    assert loop.resume(taken[0], DATA).user == 3  # it had not returned, so it is called again


def test_a_snapshot_in_a_predicate_has_the_handlers_before_it() -> None:
    taken: list[Snapshot[Any, Any, Any]] = []

    def holds(state: Run) -> bool:
        taken.append(loop.snapshot(state))
        return True

    loop = loop_of(tap(nothing), tap(nothing)).on(DONE(when=holds), count)
    loop.run(DATA, user=0)
    assert taken[0].state._handled == ("tap(nothing)", "tap(nothing)")


def test_a_handler_may_return_an_older_state_of_its_event() -> None:
    kept: list[Run] = []
    older: list[Run] = []

    def go_back(state: Run) -> Run:
        return older[-1]

    loop = loop_of(tap(older.append), count, go_back, tap(kept.append), count)
    assert loop.run(DATA, user=0).user == 1
    assert older[0]._handled == ()
    assert loop.resume(kept[0], DATA).user == 1


@pytest.mark.parametrize("handlers", [False, True])
def test_a_recorder_is_not_among_the_handlers_that_have_run(handlers: bool) -> None:
    loop = loop_of(count, failing_once(), count)
    recorder = Recorder(loop, handlers=handlers)
    with pytest.raises(OSError, match="once") as caught:
        recorder.loop.run(DATA, user=0)
    left: Any = last_state(caught.value)
    assert left.to_dict()["ledger"]["handled"] == ["count"]
    assert loop.resume(left, DATA).user == 2
    again = Recorder(loop, handlers=handlers)
    assert again.loop.resume(left, DATA).user == 2
    assert again.entries[0].state.user == 2


def test_a_failing_handler_is_known_by_the_name_of_what_it_stands_for() -> None:
    loop = loop_of(count, double)
    broken = failing(failing(loop, DONE, count, firing=2), DONE, double, firing=1)
    with pytest.raises(Fault) as caught:
        broken.run(DATA, user=0)
    left: Any = last_state(caught.value)
    assert loop.resume(left, DATA).user == 2


def test_events_beside_the_order_count_nothing() -> None:
    kept: list[Run] = []
    loop = loop_of(failing_once(), count)
    loop = loop.on(Events.EXCEPTION_RAISED, tap(kept.append))
    loop = loop.on(Events.EXITED, tap(kept.append))
    with pytest.raises(OSError, match="once"):
        loop.run(DATA, user=0)
    assert [state.status for state in kept] == [Status.RUNNING, Status.FAILED]
    assert [loop.resume(state, DATA).user for state in kept[:]] == [1, 1]


def test_a_state_that_was_kept_at_the_end_takes_other_limits() -> None:
    kept: list[Run] = []
    loop = loop_of(tap(kept.append), count, event=Events.COMPLETED)
    loop.run(DATA, user=0)
    longer = kept[0].with_limits(max_epochs=3)
    assert loop.resume(longer, DATA).epoch == 3
