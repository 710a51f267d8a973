"""Joins of handlers at payload events: each part gets the payload if it takes it."""

from __future__ import annotations

import copy
import pickle
from typing import Any, NamedTuple

import pytest

from fengine import (
    Events,
    Loop,
    PayloadEvent,
    Recovery,
    State,
    compose,
    focus,
    outputs,
    stages,
    tap,
    when,
)

AnyState = State[Any, Any, Any]
READY: PayloadEvent[int] = PayloadEvent("ready")


class Record(NamedTuple):
    seen: tuple[object, ...] = ()


def identity(batch: int) -> int:
    return batch


def noting(state: AnyState, payload: object) -> AnyState:
    return state.evolve(user=Record((*state.user.seen, payload)))


def counting(state: AnyState) -> AnyState:
    return state.evolve(user=Record((*state.user.seen, "no payload")))


def appending(state: AnyState, payload: object) -> AnyState:
    return state.evolve(user=(*state.user, payload))


def is_two(state: AnyState, payload: object) -> bool:
    return payload == 2


def first(state: AnyState) -> int:
    batch: int = state.batch
    return batch


def seen(handler: Any) -> tuple[object, ...]:
    """Run a handler at an event between stages, whose payloads are 1 and 2."""
    loop: Any = Loop(stages(first).emit(READY).then(identity))
    final = loop.on(READY, handler).run([1, 2], user=Record())
    return tuple(final.user.seen)


@pytest.mark.parametrize(
    ("handler", "expected"),
    [
        (compose(noting, counting), (1, "no payload", 2, "no payload")),
        (when(is_two, noting), (2,)),
        (when(is_two, counting), ("no payload",)),
        (when(lambda state: state.iteration == 1, noting), (1,)),
        (focus("seen", appending), (1, 2)),
        (
            compose(when(is_two, compose(noting, noting)), counting),
            ("no payload", 2, 2, "no payload"),
        ),
        (compose(), ()),
    ],
)
def test_a_join_passes_the_payload(handler: Any, expected: tuple[object, ...]) -> None:
    assert seen(handler) == expected
    for other in (copy.copy(handler), copy.deepcopy(handler)):
        assert other == handler
        assert seen(other) == expected


def test_a_join_of_a_payload_pickles() -> None:
    join: Any = compose(when(is_two, noting), focus("seen", appending), tap(print))
    again = pickle.loads(pickle.dumps(join))
    assert again == join
    assert hash(again) == hash(join)
    assert repr(again) == repr(join)


def test_a_recovery_in_a_join() -> None:
    def is_ours(state: AnyState, error: BaseException) -> bool:
        return isinstance(error, ZeroDivisionError)

    def skip(state: AnyState) -> AnyState:
        return state.recover(Recovery.SKIP_BATCH)

    loop: Any = Loop(outputs(lambda batch: 1 // batch))
    assert loop.on(Events.EXCEPTION_RAISED, when(is_ours, skip)).run([1, 0, 1]).iteration == 3


class Closing:
    """Be something of another library's."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []

    def close(self) -> None:
        self.calls.append(())

    def step(self, epoch: int | None = None) -> None:
        self.calls.append((epoch,))

    def of_state(self, state: AnyState, level: int = 0) -> None:
        self.calls.append((state.iteration, level))

    def of_both(self, state: AnyState, payload: object) -> None:
        self.calls.append((state.iteration, payload))

    def of_all(self, *given: object) -> None:
        self.calls.append((len(given),))


@pytest.mark.parametrize(
    ("name", "plain", "with_payload"),
    [
        ("close", (), ()),
        ("step", (None,), (None,)),
        ("of_state", (1, 0), (1, 0)),
        ("of_all", (1,), (2,)),
        ("of_both", None, (1, 5)),
    ],
)
def test_tap_passes_what_the_function_requires(
    name: str, plain: tuple[object, ...] | None, with_payload: tuple[object, ...]
) -> None:
    thing = Closing()
    loop: Any = Loop(stages(first).emit(READY).then(identity))
    effect: Any = tap(getattr(thing, name))
    assert loop.on(READY, effect).run([5]).output == 5
    assert thing.calls == [with_payload]
    if plain is None:
        with pytest.raises(TypeError, match=r"a handler of Events.ITERATION_STARTED, in tap\("):
            loop.on(Events.ITERATION_STARTED, effect)
        return
    loop.on(Events.ITERATION_STARTED, effect).run([5])
    assert thing.calls == [with_payload, plain]


def test_tap_of_print(capsys: pytest.CaptureFixture[str]) -> None:
    loop: Any = Loop(stages(first).emit(READY).then(identity))
    loop.on(READY, tap(print)).run([5])
    assert capsys.readouterr().out.endswith(" 5\n")
