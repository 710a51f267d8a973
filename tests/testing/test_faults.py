"""Faults that are made on purpose, and time that only passes on purpose."""

from __future__ import annotations

from typing import Any, cast

import attrs
import pytest

from fengine import Event, Events, Loop, PayloadEvent, State, last_state, once, outputs, stages
from fengine.engine import DeterministicEngine, Engine
from fengine.engine import Events as EngineEvents
from fengine.testing import FakeClock, Fault, failing

AnyState = State[Any, Any, Any]
AnyLoop = Loop[Any, Any, Any]


def count(state: AnyState) -> AnyState:
    return state.evolve(user=state.user + 1)


def count_too(state: AnyState, payload: object = None) -> AnyState:
    return state.evolve(user=state.user + 100)


LOOP: AnyLoop = (
    Loop[Any, Any, Any](outputs(abs))
    .on(Events.EPOCH_COMPLETED, count)
    .on(Events.EPOCH_COMPLETED, count_too)
)


def test_a_chosen_handler_fails_at_a_chosen_firing() -> None:
    broken = failing(LOOP, Events.EPOCH_COMPLETED, count_too, firing=2)
    with pytest.raises(Fault) as failed:
        broken.run([-1, -2], user=0, max_epochs=3)
    assert (failed.value.place, failed.value.firing) == ("epoch_completed", 2)
    assert any("failing(count_too (test_faults.py:" in note for note in failed.value.__notes__)
    state: AnyState = last_state(failed.value)
    assert (state.epoch, state.user) == (2, 102)


def test_the_loop_itself_stays_as_it_is_and_can_go_on_from_there() -> None:
    before = LOOP.run([-1, -2], user=0, max_epochs=3)
    broken = failing(LOOP, Events.EPOCH_COMPLETED, count, firing=2)
    with pytest.raises(Fault):
        broken.run([-1, -2], user=0, max_epochs=3)
    with pytest.raises(Fault) as failed:
        broken.run([-1, -2], user=0, max_epochs=3)
    state: AnyState = last_state(failed.value)
    with pytest.raises(Fault):
        broken.resume(state, [-1, -2])
    rest = LOOP.resume(state, [-1, -2])
    assert (rest.user, rest.iteration) == (before.user, before.iteration)
    assert LOOP.run([-1, -2], user=0, max_epochs=3) == before


@pytest.mark.parametrize("error", [OSError, OSError("disk full"), KeyboardInterrupt])
def test_the_error_may_be_chosen(error: BaseException | type[BaseException]) -> None:
    broken = failing(LOOP, Events.EPOCH_COMPLETED, count, error=error)
    with pytest.raises(error if isinstance(error, type) else type(error)):
        broken.run([-1], user=0)


def batch_of(state: AnyState) -> int:
    return int(state.batch)


def test_own_events_and_payloads_have_firings_too() -> None:
    plain = Event("loaded")
    carrying: PayloadEvent[int] = PayloadEvent("moved")
    step = stages(batch_of).emit(plain).then(abs).emit(carrying).then(abs)
    loop: AnyLoop = Loop[Any, Any, Any](step).on(plain, count).on(carrying, count_too)
    for event, handler in ((plain, count), (carrying, count_too)):
        with pytest.raises(Fault) as failed:
            failing(loop, event, handler, firing=3).run([-1, -2], user=0, max_epochs=2)
        assert last_state(failed.value).iteration == 3


def test_the_order_of_the_handlers_is_kept() -> None:
    def note(state: AnyState) -> AnyState:
        return state.evolve(user=-state.user)

    loop = LOOP.on(Events.EPOCH_COMPLETED, note, runs_before=count)
    unbroken = failing(loop, Events.EPOCH_COMPLETED, count, firing=9)
    assert unbroken.run([-1], user=7) == loop.run([-1], user=7)
    assert loop.run([-1], user=7) != LOOP.on(Events.EPOCH_COMPLETED, note).run([-1], user=7)


def test_a_handler_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match=r"count \(.*\) is not registered for Events.STARTED"):
        failing(LOOP, Events.STARTED, count)
    with pytest.raises(ValueError, match=r"known there: count \(.*\), count_too \("):
        failing(LOOP, Events.EPOCH_COMPLETED, State.terminate)


def test_a_firing_at_which_it_never_runs_is_refused() -> None:
    loop: AnyLoop = Loop[Any, Any, Any](outputs(abs)).on(Events.ITERATION_COMPLETED(every=2), count)
    with pytest.raises(ValueError, match=r"never runs at firing 3 .*ITERATION_COMPLETED\(every"):
        failing(loop, Events.ITERATION_COMPLETED, count, firing=3)
    with pytest.raises(Fault):
        failing(loop, Events.ITERATION_COMPLETED, count, firing=4).run([-1] * 4, user=0)
    in_epoch = loop.on(Events.ITERATION_COMPLETED(once(1, of="epoch")), count)
    with pytest.raises(Fault):
        failing(in_epoch, Events.ITERATION_COMPLETED, count, firing=3).run(
            [-1, -1], user=0, max_epochs=2
        )


@pytest.mark.parametrize(
    ("arguments", "refused", "message"),
    [
        ({"event": Events.EPOCH_COMPLETED(every=2)}, ValueError, "give the event without its"),
        ({"firing": 0}, ValueError, "firing=0: firings are numbered from 1"),
        ({"firing": 1.5}, TypeError, "firing=1.5 of type float is not an int"),
        ({"firing": True}, TypeError, "firing=True of type bool is not an int"),
        ({"event": Events.STARTED, "firing": 2}, ValueError, "STARTED fires once in a run"),
        ({"event": Events.COMPLETED, "firing": 2}, ValueError, "COMPLETED fires once in a run"),
        ({"event": Events.EXITED, "firing": 2}, ValueError, "EXITED fires once in a run"),
        ({"error": "disk full"}, TypeError, "error='disk full' of type str cannot be raised"),
        ({"error": int}, TypeError, "of type type cannot be raised; give an exception"),
    ],
)
def test_a_fault_that_cannot_be_is_refused_at_once(
    arguments: dict[str, Any], refused: type[Exception], message: str
) -> None:
    given: dict[str, Any] = {"event": Events.EPOCH_COMPLETED, "handler": count, **arguments}
    loop = LOOP.on(Events.STARTED, count).on(Events.COMPLETED, count).on(Events.EXITED, count_too)
    with pytest.raises(refused, match=message):
        failing(loop, **given)


def test_a_fake_clock_shows_what_has_passed() -> None:
    clock = FakeClock(now=10.0)
    assert clock() == clock() == 10.0
    clock.advance(0.5)
    clock.advance(0)
    assert clock() == 10.5
    with pytest.raises(ValueError, match=r"advance\(nan\): .* give 0 or more"):
        clock.advance(float("nan"))
    with pytest.raises(ValueError, match=r"advance\(-1\): a monotonic clock never goes back"):
        clock.advance(-1)
    assert clock() == 10.5


@attrs.frozen
class StopAfter:
    """Stop a run when its time is over."""

    seconds: float
    clock: FakeClock
    started: float = 0.0

    def __call__(self, state: AnyState) -> AnyState:
        return state.terminate() if self.clock() - self.started >= self.seconds else state


def test_a_handler_with_a_clock_is_tested_without_waiting() -> None:
    clock = FakeClock()

    def slow(batch: int) -> int:
        clock.advance(60)
        return batch

    loop: AnyLoop = Loop[Any, Any, Any](outputs(slow))
    final = loop.on(Events.ITERATION_COMPLETED, StopAfter(150, clock)).run([1] * 10)
    assert final.iteration == 3


@pytest.mark.parametrize("kind", [Engine, DeterministicEngine])
def test_the_times_of_an_engine_are_those_of_its_clock(kind: type[Engine]) -> None:
    clock = FakeClock(now=100.0)
    engine = kind(lambda engine, batch: clock.advance(batch), clock=clock)
    seen: list[tuple[str, float | None]] = []

    def note(engine: Engine, name: str) -> None:
        seen.append((name, engine.state.times[name]))

    for event in (EngineEvents.EPOCH_COMPLETED, EngineEvents.COMPLETED):
        engine.add_event_handler(event, note, event.name)
    engine.run([1, 2], max_epochs=2)
    assert seen == [("EPOCH_COMPLETED", 3.0), ("EPOCH_COMPLETED", 3.0), ("COMPLETED", 6.0)]
    assert engine.state.times == {"EPOCH_COMPLETED": 3.0, "COMPLETED": 6.0}
    with pytest.raises(TypeError, match="clock"):
        kind(lambda engine, batch: None, clock=cast("Any", 3.0))
