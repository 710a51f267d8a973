"""`assert_pure` finds what is not pure in a handler, and says how to mend it."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fengine import Events, Feature, Loop, Part, State, compose, focus, outputs, tap, when
from fengine.core.describe import brief
from fengine.features import Patience, early_stopping, evaluation
from fengine.testing import assert_pure, handlers, states

AnyState = State[Any, Any, Any]
Handler = Callable[..., AnyState]

SOME: list[AnyState] = [State(epoch=1, iteration=n, output=float(n), user=0.0) for n in (3, 1, 2)]


def complaint(handler: Handler, *arguments: Any, **keywords: Any) -> str:
    with pytest.raises(AssertionError) as found:
        assert_pure(handler, *arguments, **keywords)
    return str(found.value)


def keep_best(state: AnyState) -> AnyState:
    return state.evolve(user=max(state.user, state.output))


def handler_of(feature: Feature[Any, Any, Any]) -> Handler:
    """Return the handler that a feature adds to a loop."""
    (registration,) = (Loop[Any, Any, Any]() | feature).table.registrations
    return registration.handler


@given(handlers())
def test_what_is_pure_passes(handler: Handler) -> None:
    assert_pure(handler, SOME)


@pytest.mark.parametrize(
    "handler",
    [
        State.terminate,
        compose(State.interrupt, State.terminate),
        when(lambda state: state.epoch > 3, State.terminate),
        tap(lambda state: None),
        handler_of(evaluation(Loop[Any, Any, Any](outputs(abs)), [-1])),
    ],
    ids=brief,
)
def test_what_is_pure_passes_with_states_of_any_kind(handler: Handler) -> None:
    assert_pure(handler)


def test_states_may_be_given_or_generated() -> None:
    assert_pure(keep_best, SOME)
    assert_pure(keep_best, (state for state in SOME))
    assert_pure(keep_best, states(st.none(), st.floats(0, 1), st.floats(0, 1)))


def test_a_handler_of_a_payload_event_is_handed_its_payload() -> None:
    def note(state: AnyState, error: BaseException) -> AnyState:
        return state.evolve(user=str(error))

    assert_pure(note, payload=OSError("disk full"))
    assert_pure(note, SOME, payload=None)


def test_to_raise_is_a_result() -> None:
    def output_of(state: AnyState) -> AnyState:
        return state.evolve(user=state.output)

    assert_pure(output_of)  # of some of these states there is none


def test_a_changed_argument_is_found() -> None:
    def append(state: AnyState) -> AnyState:
        state.user.append(state.output)
        return state

    found = complaint(append, [State(iteration=1, epoch=1, output=0.5, user=[])])
    assert "append (test_purity.py:" in found
    assert "changed its argument at epoch 1, iteration 1: user[0]: nothing -> 0.5" in found
    assert "return state.evolve(...)" in found


def test_a_result_that_depends_on_something_else_is_found() -> None:
    numbers = itertools.count()

    def number(state: AnyState) -> AnyState:
        return state.evolve(user=next(numbers))

    found = complaint(number)
    assert "was called twice at epoch 0, iteration 0" in found
    assert "user: 0 -> 1" in found


def test_what_is_remembered_in_a_closure_is_found() -> None:
    best = math.inf

    def keep(state: AnyState) -> AnyState:
        nonlocal best
        best = min(best, state.output)
        return state.evolve(user=best)

    found = complaint(keep, SOME)
    assert "keeps something outside the state: best: inf -> 3.0" in found
    assert "belongs into state.user" in found


LOSSES: list[float] = []


def test_what_is_remembered_in_a_module_is_found() -> None:
    def keep(state: AnyState) -> AnyState:
        LOSSES.append(state.output)
        return state

    assert "LOSSES[0]: nothing -> 3.0" in complaint(keep, SOME)


def test_what_is_remembered_in_an_object_is_found() -> None:
    @attrs.define
    class Keep:
        best: float = math.inf

        def __call__(self, state: AnyState) -> AnyState:
            return self.take(state)

        def take(self, state: AnyState) -> AnyState:
            self.best = min(self.best, state.output)
            return state

    assert "best: inf -> 3.0" in complaint(Keep(), SOME)
    assert "best: inf -> 3.0" in complaint(Keep().take, SOME)


def test_what_shows_only_in_another_order_is_found() -> None:
    class Hidden:
        __slots__ = ("last",)
        last: float

    hidden = Hidden()
    hidden.last = 9.0

    def lowest(state: AnyState) -> AnyState:
        hidden.last = min(hidden.last, state.output)
        return state.evolve(user=hidden.last)

    found = complaint(lowest, SOME)
    assert "gave another result at epoch 1, iteration 3 after it was called with other" in found
    assert "user: 3.0 -> 1.0" in found


def test_what_is_no_state_of_the_same_place_is_found() -> None:
    def forget(state: AnyState) -> None:
        state.terminate()

    def skip(state: AnyState) -> AnyState:
        return attrs.evolve(state, iteration=state.iteration + 1)

    forgetful: Any = forget
    assert "returned None at epoch 1, iteration 3; a handler returns a State" in complaint(
        forgetful, SOME
    )
    assert "iteration: 3 -> 4" in complaint(skip, SOME)


def test_a_handler_that_never_works_is_not_called_pure() -> None:
    def fail(state: AnyState) -> AnyState:
        raise KeyError("best")

    assert "was never seen to work (KeyError('best')); give states=" in complaint(fail)
    assert "was never seen to work" in complaint(State.terminate, [])


def test_a_state_that_does_not_equal_its_copy_is_refused() -> None:
    with pytest.raises(TypeError, match="does not equal its own copy"):
        assert_pure(State.terminate, [State(user=object())])


@attrs.frozen
class Notes:
    best: float


def test_ready_made_handlers_are_pure() -> None:
    stop = early_stopping("loss", mode="min", patience=2, at=Events.ITERATION_COMPLETED)
    patience = st.builds(Patience, best=st.floats(-1, 1), since=st.integers(0, 3))
    stopping = st.builds(
        lambda state, loss, before: state.with_metric("loss", loss).with_part(stop.part, before),
        states(st.none(), st.floats(-1, 1), st.none()),
        st.floats(-1, 1),
        patience,
    )
    assert_pure(handler_of(stop), stopping)
    users = st.builds(Notes, st.floats(-1, 1))
    assert_pure(focus("best", keep_best), states(st.none(), st.floats(-1, 1), users))


def test_what_is_remembered_in_a_part_is_compared() -> None:
    numbers = itertools.count()
    seen = Part("seen", 0)

    def number(state: AnyState) -> AnyState:
        return state.with_part(seen, 1 + next(numbers))

    assert "parts.seen: 1 -> 2" in complaint(number)


def test_a_changed_payload_is_found() -> None:
    def append(state: AnyState, seen: list[int]) -> AnyState:
        seen.append(state.iteration)
        return state

    found = complaint(append, SOME, payload=[])
    assert "changed its payload at epoch 1, iteration 3: payload_1[0]: nothing -> 3" in found


def test_what_is_written_for_the_first_time_is_found() -> None:
    class Keep:
        def __call__(self, state: AnyState) -> AnyState:
            self.last = state.output
            return state

    def keep(state: AnyState) -> AnyState:
        global FIRST  # noqa: PLW0603
        FIRST = state.output  # type: ignore[name-defined]
        return state

    assert "last: nothing -> 3.0" in complaint(Keep(), SOME[:1])
    assert "FIRST: nothing -> 3.0" in complaint(keep, SOME[:1])
    del globals()["FIRST"]


def test_what_is_remembered_in_arguments_and_defaults_is_found() -> None:
    def append(seen: list[Any], state: AnyState) -> AnyState:
        seen.append(state.output)
        return state

    def by_name(state: AnyState, *, seen: list[Any]) -> AnyState:
        return append(seen, state)

    def by_default(state: AnyState, *, seen: list[Any] = []) -> AnyState:  # noqa: B006
        return append(seen, state)

    assert "argument_1[0]: nothing -> 3.0" in complaint(functools.partial(append, []), SOME)
    assert "seen[0]: nothing -> 3.0" in complaint(functools.partial(by_name, seen=[]), SOME)
    assert "keyword_defaults.seen[0]: nothing -> 3.0" in complaint(by_default, SOME)


def test_exceptions_are_equal_in_type_and_text() -> None:
    numbers = itertools.count()

    def refuse(state: AnyState) -> AnyState:
        if state.iteration == 3:
            raise ValueError(object())
        return state

    def number(state: AnyState) -> AnyState:
        raise ValueError(next(numbers))

    assert_pure(refuse, SOME)
    assert "ValueError: 0" in complaint(number, SOME)
