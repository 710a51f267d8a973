"""Laws of recording: it changes nothing, and what is recorded can be gone on from."""

from __future__ import annotations

import itertools
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fengine import Recorder, State, diff, first_difference, last_state
from fengine.core.equality import same
from fengine.testing import Program, programs, states
from fengine.testing.program import Seen

from .recording import record
from .test_runs import REPLAYED, goes_on_elsewhere
from .test_values import NESTED


def limits_of(program: Program) -> dict[str, Any]:
    return attrs.asdict(program.limits)


@given(programs(), st.booleans())
def test_recording_a_run_changes_nothing_of_it(program: Program, handlers: bool) -> None:
    plain = record(program.iterate())
    recorder = Recorder(program.loop(), handlers=handlers)
    recorded = record(
        recorder.loop.iterate(program.data.fresh(), user=Seen(), **limits_of(program))
    )
    assert recorded.moments == plain.moments
    assert recorded.fails_like(plain)
    assert notes(recorded.error) == notes(plain.error)
    entries = [(entry.event, entry.state) for entry in recorder.entries]
    assert entries == [(moment.event, moment.state) for moment in plain.moments]


def notes(error: Exception | None) -> list[str]:
    return getattr(error, "__notes__", [])


@given(programs())
def test_a_whole_run_and_a_pulled_one_are_recorded_alike(program: Program) -> None:
    eager, lazy = Recorder(program.loop()), Recorder(program.loop())
    expected = record(lazy.loop.iterate(program.data.fresh(), user=Seen(), **limits_of(program)))
    if expected.error is None:
        final = eager.loop.run(program.data.fresh(), user=Seen(), **limits_of(program))
        assert final == expected.final
    else:
        with pytest.raises(type(expected.error)) as raised:
            eager.loop.run(program.data.fresh(), user=Seen(), **limits_of(program))
        assert last_state(raised.value) == last_state(expected.error)
    assert eager.entries == lazy.entries


@given(programs(data=REPLAYED), st.integers(1, 100), st.integers(1, 5))
def test_a_ring_keeps_the_last_of_what_was_consumed(
    program: Program, pulled: int, last: int
) -> None:
    recorder = Recorder(program.loop(), last=last)
    moments = recorder.loop.iterate(program.data.fresh(), user=Seen(), **limits_of(program))
    try:
        consumed = list(itertools.islice(moments, pulled))
    except Exception:
        return
    moments.close()
    assert [entry.state for entry in recorder.entries] == [m.state for m in consumed[-last:]]


@given(programs(data=REPLAYED), st.booleans())
def test_every_entry_can_be_gone_on_from(program: Program, batches: bool) -> None:
    recorder = Recorder(program.loop(), batches=batches)
    whole = record(recorder.loop.iterate(program.data.fresh(), user=Seen(), **limits_of(program)))
    for number, entry in enumerate(recorder.entries, start=1):
        if goes_on_elsewhere(whole.moments[number - 1]):
            continue
        assert batches or not entry.state.has_batch
        rest = record(
            program.loop().iterate(program.data.fresh(), after=entry.snapshot, replay=True)
        )
        assert rest.moments == whole.moments[number:]
        assert rest.fails_like(whole)


@given(programs())
def test_the_calls_of_an_entry_lead_from_one_state_to_the_next(program: Program) -> None:
    recorder = Recorder(program.loop(), handlers=True)
    record(recorder.loop.iterate(program.data.fresh(), user=Seen(), **limits_of(program)))
    for entry in recorder.entries:
        (first, _), *called = entry.calls
        assert first is None
        assert all(handler is not None for handler, _ in called)
        assert entry.calls[-1][1] == entry.state


@given(NESTED, NESTED)
def test_there_is_a_difference_where_and_only_where_states_are_unequal(a: Any, b: Any) -> None:
    one: State[Any, Any, Any] = State(user=a)
    other: State[Any, Any, Any] = State(user=b, epoch=1)
    assert bool(diff(a, b)) == (not same(a, b))
    assert bool(diff(State(user=a), State(user=b))) == (State(user=a) != State(user=b))
    found = diff(one, other)
    assert {part.path for part in found} >= {"epoch"}
    assert len({part.path for part in found}) == len(found)
    assert len(str(found).splitlines()) >= len(found)


@given(states(st.integers(), st.integers(), st.integers()), NESTED)
def test_a_state_differs_in_what_was_changed(state: State[Any, Any, Any], value: Any) -> None:
    changed = state.evolve(output=value)
    assert all(part.path.startswith("output") for part in diff(state, changed))
    assert not diff(state, state)


@given(programs(), programs())
def test_the_first_difference_is_behind_equal_moments(one: Program, other: Program) -> None:
    ours, theirs = record(one.iterate()).moments, record(other.iterate()).moments
    found = first_difference(ours, theirs)
    if found is None:
        assert ours == theirs
        return
    assert ours[: found.number - 1] == theirs[: found.number - 1]
    assert found.one != found.other
    assert found.one in (None, *ours[found.number - 1 : found.number])
    assert str(found)
    assert first_difference(ours, iter(ours)) is None
