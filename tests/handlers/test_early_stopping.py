"""Early stopping is a pure handler: each case is a state, and the state that must come of it."""

from __future__ import annotations

import math

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fengine import Events, Loop, State, Status, focus, outputs
from fengine.handlers import Patience, early_stopping

Scored = State[float, float, Patience]


def output_of(state: Scored) -> float:
    return state.output


def scored(score: float, user: Patience) -> Scored:
    return State(output=score, user=user)


@pytest.mark.parametrize(
    ("score", "before", "after"),
    [
        (0.5, Patience(), Patience(0.5, 0)),
        (0.7, Patience(0.5, 1), Patience(0.7, 0)),
        (0.5, Patience(0.5, 0), Patience(0.5, 1)),
        (0.4, Patience(0.5, 0), Patience(0.5, 1)),
        (math.nan, Patience(), Patience(-math.inf, 1)),
        (math.nan, Patience(0.5, 0), Patience(0.5, 1)),
        (0.5, Patience(-math.inf, 1), Patience(0.5, 0)),
    ],
)
def test_a_score_is_taken_into_account(score: float, before: Patience, after: Patience) -> None:
    stop = early_stopping(output_of, patience=3)
    assert stop(scored(score, before)) == scored(score, after)


def test_the_last_score_to_wait_for_asks_for_the_end() -> None:
    stop = early_stopping(output_of, patience=3)
    assert stop(scored(0.1, Patience(0.5, 2))) == scored(0.1, Patience(0.5, 3)).terminate()


def test_what_is_better_by_too_little_is_not_better() -> None:
    stop = early_stopping(output_of, patience=9, min_delta=0.25)
    assert stop(scored(0.75, Patience(0.5))).user == Patience(0.5, 1)
    assert stop(scored(1.0, Patience(0.5))).user == Patience(1.0, 0)


@attrs.frozen
class Notes:
    name: str
    stopping: Patience = attrs.field(factory=Patience)


def same(batch: float) -> float:
    return batch


@given(st.lists(st.floats(), min_size=1), st.integers(1, 5))
def test_a_run_ends_where_a_plain_loop_over_its_scores_does(
    scores: list[float], patience: int
) -> None:
    best, since, taken = -math.inf, 0, 0
    for score in scores:
        taken += 1
        best, since = (score, 0) if score > best else (best, since + 1)
        if since == patience:
            break
    stop = early_stopping(output_of, patience=patience)
    loop = Loop[float, float, Notes](outputs(same))
    loop = loop.on(Events.ITERATION_COMPLETED, focus("stopping", stop))
    final = loop.run(scores, user=Notes("kept"))
    assert final.iteration == taken
    assert final.user == Notes("kept", Patience(best, since))
    ended = Status.TERMINATED if since == patience else Status.COMPLETED
    assert final.status is ended


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(TypeError, match=r"a score takes \(state\)"):
        early_stopping(lambda: 1.0, patience=1)  # type: ignore[arg-type, misc]
    with pytest.raises(TypeError, match=r"patience=2\.0 of type float"):
        early_stopping(output_of, patience=2.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="patience=0 is too small"):
        early_stopping(output_of, patience=0)
    for min_delta in (-0.1, math.nan):
        with pytest.raises(ValueError, match="min_delta"):
            early_stopping(output_of, patience=1, min_delta=min_delta)


def test_a_score_that_is_no_number_is_named() -> None:
    def nothing(state: Scored) -> float:
        return "0.5"  # type: ignore[return-value]

    with pytest.raises(TypeError, match=r"nothing .* returned '0\.5' of type str; a score is a"):
        early_stopping(nothing, patience=1)(State(user=Patience()))
