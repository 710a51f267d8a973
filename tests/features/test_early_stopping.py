"""Early stopping is a pure handler: each case is a state, and the state that must come of it."""

from __future__ import annotations

import json
import math
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fengine import Event, Events, Loop, State, Status, last_state, outputs
from fengine.features import EarlyStopping, Patience, early_stopping
from fengine.metrics import mean

Scored = State[float, float]


def handler_of(stop: EarlyStopping) -> Any:
    """Give the handler that the feature registers."""
    loop: Any = Loop(outputs(float)).with_metrics("score", at=Events.ITERATION_COMPLETED) | stop
    (registration,) = loop.table.registrations
    assert registration.event is Events.ITERATION_COMPLETED
    return registration.handler


def scored(score: float, stop: EarlyStopping, kept: Patience) -> Scored:
    state: Scored = State(output=score)
    return state.with_metric("score", score).with_part(stop.part, kept)


@pytest.mark.parametrize(
    ("score", "before", "after"),
    [
        (0.5, Patience(), Patience(0.5, 0)),
        (0.7, Patience(0.5, 1), Patience(0.7, 0)),
        (0.5, Patience(0.5, 0), Patience(0.5, 1)),
        (0.4, Patience(0.5, 0), Patience(0.5, 1)),
        (math.nan, Patience(), Patience(math.nan, 1)),
        (math.nan, Patience(0.5, 0), Patience(0.5, 1)),
        (0.5, Patience(math.nan, 1), Patience(0.5, 0)),
        (-math.inf, Patience(), Patience(-math.inf, 0)),
        (0.5, Patience(-math.inf, 1), Patience(0.5, 0)),
        (math.inf, Patience(math.inf, 0), Patience(math.inf, 1)),
    ],
)
@pytest.mark.parametrize("mode", ["max", "min"])
def test_a_score_is_taken_into_account(
    mode: Any, score: float, before: Patience, after: Patience
) -> None:
    sign = 1 if mode == "max" else -1
    before, after = (Patience(sign * one.best, one.since) for one in (before, after))
    stop = early_stopping("score", mode=mode, patience=3)
    found = handler_of(stop)(scored(sign * score, stop, before))
    assert found == scored(sign * score, stop, after)


def test_the_last_score_to_wait_for_asks_for_the_end() -> None:
    stop = early_stopping("score", mode="max", patience=3)
    found = handler_of(stop)(scored(0.1, stop, Patience(0.5, 2)))
    assert found == scored(0.1, stop, Patience(0.5, 3)).terminate()


@pytest.mark.parametrize(("mode", "too_little", "enough"), [("max", 0.75, 1.0), ("min", 0.25, 0.0)])
def test_what_is_better_by_too_little_is_not_better(
    mode: Any, too_little: float, enough: float
) -> None:
    stop = early_stopping("score", mode=mode, patience=9, min_delta=0.25)
    for score, kept in ((too_little, Patience(0.5, 1)), (enough, Patience(enough, 0))):
        found = handler_of(stop)(scored(score, stop, Patience(0.5)))
        assert found.part(stop.part) == kept


def numbered(batch: float) -> float:
    return batch


def keeping(stop: EarlyStopping) -> Loop[float, float, str]:
    loop = Loop[float, float, str](outputs(numbered))
    return loop | mean("score", over=Events.ITERATION_COMPLETED) | stop


@given(
    st.lists(st.floats(), min_size=1),
    st.integers(1, 5),
    st.sampled_from(["max", "min"]),
    st.sampled_from([0.0, 0.5]),
)
def test_a_run_ends_where_a_plain_loop_over_its_scores_does(
    scores: list[float], patience: int, mode: Any, min_delta: float
) -> None:
    best, since, taken = math.nan, 0, 0
    for score in scores:
        taken += 1
        gain = score - best if mode == "max" else best - score
        is_first = math.isnan(best) and not math.isnan(score)
        best, since = (score, 0) if is_first or gain > min_delta else (best, since + 1)
        if since == patience:
            break
    stop = early_stopping("score", mode=mode, patience=patience, min_delta=min_delta)
    final = keeping(stop).run(scores, user="kept")
    assert final.iteration == taken
    assert final.user == "kept"
    assert same(final.part(stop.part), Patience(best, since))
    ended = Status.TERMINATED if since == patience else Status.COMPLETED
    assert final.status is ended


def same(one: Patience, other: Patience) -> bool:
    return repr(one) == repr(other)  # not a number is equal to itself here


@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=8), st.integers(1, 3))
def test_a_run_goes_on_through_json_as_if_it_had_not_stopped(
    scores: list[float], patience: int
) -> None:
    stop = early_stopping("score", mode="min", patience=patience)
    loop = keeping(stop)
    moments = list(loop.iterate(scores, user="kept"))
    final = moments[-1].state
    for moment in moments:
        text = json.dumps(loop.snapshot(moment.state).to_dict(batch=float, output=float))
        read = loop.read(json.loads(text), user=str, batch=float, output=float)
        assert same(read.state.part(stop.part), moment.state.part(stop.part))
        assert loop.resume(read, scores) == final
        assert loop.resume(moment.state, scores) == final


def test_two_with_names_of_their_own_do_not_disturb_each_other() -> None:
    first = early_stopping("score", mode="max", patience=2)
    second = early_stopping("score", mode="min", patience=4, name="second")
    final = (keeping(first) | second).run([3.0, 2.0, 2.5, 9.0], user="kept")
    assert final.iteration == 3
    assert final.part(first.part) == Patience(3.0, 2)
    assert final.part(second.part) == Patience(2.0, 1)


def test_it_reads_at_an_event_that_it_is_told_and_at_payload_events() -> None:
    told = early_stopping("own", mode="max", patience=1, at=Events.EPOCH_COMPLETED)

    def score(state: Scored) -> Scored:
        return state.with_metric("own", -state.epoch)

    loop = Loop[float, float, None](outputs(numbered)).on(Events.EPOCH_COMPLETED, score)
    assert (loop | told).run([1.0], max_epochs=9).epoch == 2
    exited = early_stopping("own", mode="max", patience=9, at=Events.EXITED)
    assert (loop | exited).run([1.0]).part(exited.part) == Patience(-1.0, 0)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(TypeError, match="early_stopping takes the name of a metric"):
        early_stopping(lambda: 1.0, mode="max", patience=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"patience=2\.0 of type float"):
        early_stopping("score", mode="max", patience=2.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="patience=0 is too small"):
        early_stopping("score", mode="max", patience=0)
    with pytest.raises(ValueError, match=r"mode='larger' is not \"max\".*or \"min\""):
        early_stopping("score", mode="larger", patience=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="mode"):
        early_stopping("score", patience=1)  # type: ignore[call-arg]
    for min_delta in (-0.1, math.nan):
        with pytest.raises(ValueError, match="min_delta"):
            early_stopping("score", mode="max", patience=1, min_delta=min_delta)
    stop = early_stopping("score", mode="max", patience=1, at=Event("nowhere"))
    with pytest.raises(ValueError, match="nowhere"):
        keeping(stop)


def test_a_metric_that_is_not_set_is_named() -> None:
    stop = early_stopping("score", mode="max", patience=1, at=Events.ITERATION_COMPLETED)
    loop = Loop(outputs(numbered)) | stop
    said = r"early_stopping\('score'.*reads the metric 'score' at .*, where it is not set; set are"
    with pytest.raises(LookupError, match=said) as caught:
        loop.run([1.0])
    assert last_state(caught.value).iteration == 1


def test_it_pickles_with_what_it_keeps() -> None:
    stop = early_stopping("score", mode="max", patience=2)
    loop = keeping(stop)
    again: Any = pickle.loads(pickle.dumps(loop))
    half = loop.on(Events.ITERATION_COMPLETED(once=2), State.interrupt).run(
        [3.0, 2.0, 1.0], user=""
    )
    kept = pickle.loads(pickle.dumps(half))
    assert kept.part(stop.part) == Patience(3.0, 1)
    assert again.resume(kept, [3.0, 2.0, 1.0]).part(stop.part) == Patience(3.0, 2)
