"""Laws of whole runs, on generated programs: order, counters, resuming, laziness, exceptions."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any, cast

import attrs
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from fengine import (
    Events,
    Interrupt,
    Limits,
    Moment,
    Recovery,
    Requests,
    State,
    Status,
    last_state,
)
from fengine.core.registration import members
from fengine.testing import Act, Ask, Data, Fail, Fault, Program, assert_word, data, programs
from fengine.testing.batches import Batch
from fengine.testing.program import Output, Played, Seen

from .recording import record

ANSWERED = tuple(Recovery)
REPLAYED = data(["list", "sized", "unsized", "none"])
WITHIN_RUN = [
    event
    for event in Events.all()
    if event not in (Events.INTERRUPT, Events.EXCEPTION_RAISED, Events.EXITED)
]


def interrupted_and_failing(failure: Fail) -> Program:
    """Give a run whose pause fails, which is hard to come upon."""
    interrupt = Ask(Requests(interrupt=Interrupt.ANNOUNCED))
    acts = (Act("iteration_completed", 1, interrupt), Act("interrupt", 1, failure))
    return Program(Data("list", 3), Limits(max_epochs=2), acts)


@given(programs())
@example(interrupted_and_failing(Fail(Recovery.SKIP_BATCH)))
@example(interrupted_and_failing(Fail(Recovery.END_EPOCH)))
def test_every_trace_is_a_word_of_the_event_grammar(program: Program) -> None:
    run = record(program.iterate())
    in_exited = isinstance(run.error, Fault) and run.error.place == "exited"
    assert_word(
        run.moments,
        semantics=program.semantics,
        data=program.data.kind != "none",
        emitted=program.emitted,
        complete=not in_exited,  # what fails gives no moment
    )


def goes_on_elsewhere(moment: Moment[Batch, Output, Seen]) -> bool:
    """Tell whether resuming from here departs from the run on purpose.

    What was interrupted goes on, and what failed is tried again.
    """
    if moment.state.status in (Status.INTERRUPTED, Status.FAILED):
        return True
    return moment.event == Events.EXCEPTION_RAISED and moment.state.requests.recovery is None


def same_state(state: Played) -> Played:
    return state


def pickled(state: Played) -> Played:
    restored: Played = pickle.loads(pickle.dumps(state))
    return restored


@pytest.mark.filterwarnings("ignore:the run was asked to end:UserWarning")
@given(programs(data=REPLAYED), st.sampled_from([same_state, pickled, copy.deepcopy]))
def test_a_resumed_run_goes_on_like_the_uninterrupted_one(
    program: Program, passed_on: Callable[[Played], Played]
) -> None:
    whole = record(program.iterate())
    for number, moment in enumerate(whole.moments, start=1):
        if goes_on_elsewhere(moment):
            continue
        rest = record(program.iterate(after=passed_on(moment.state)))
        assert rest.trace == whole.trace[number:], f"after {moment.event}, number {number}"
        assert rest.moments == whole.moments[number:]
        assert rest.fails_like(whole)
        if whole.error is None:
            again = program.loop().resume(moment.state, program.data.fresh(), replay=True)
            assert again == whole.final


@given(programs(data=REPLAYED, events=WITHIN_RUN, recoveries=ANSWERED))
def test_an_interrupted_run_goes_on_until_it_equals_the_uninterrupted_one(
    program: Program,
) -> None:
    program = not_listening_to(program, "interrupt", "exited")
    parts = [record(program.iterate())]
    while parts[-1].error is None and parts[-1].final.status is Status.INTERRUPTED:
        parts.append(record(program.iterate(after=parts[-1].final)))
    through = record(without_interrupts(program).iterate())
    events = [name for part in parts for name in part.trace if name != "interrupt"]
    assert [name for name in events if name != "exited"] == through.trace[:-1]
    assert parts[-1].fails_like(through)
    assert forgetting(parts[-1].final, "interrupt") == forgetting(through.final, "interrupt")


def not_listening_to(program: Program, *names: str) -> Program:
    """Give the program without the listeners of some events."""
    others = (
        event
        for event in program.listened
        if not any(single.name in names for single, _ in members(event))
    )
    return attrs.evolve(program, listened=tuple(others))


def without_interrupts(program: Program) -> Program:
    """Give the program that asks for everything but interrupts."""
    acts = [
        attrs.evolve(act, deed=Ask(attrs.evolve(act.deed.requests, interrupt=None)))
        if isinstance(act.deed, Ask)
        else act
        for act in program.acts
    ]
    return attrs.evolve(program, acts=tuple(acts))


def forgetting(state: Played, name: str) -> Played:
    """Give a state in which an event has not fired, nor is an interrupt asked for."""
    counts: Any = without_key(state.counts, name)
    return attrs.evolve(
        state,
        counts=counts,
        counts_before=without_key(state._counts_before, name),
        requests=attrs.evolve(state.requests, interrupt=None),
    )


def without_key(counts: Seen, name: str) -> Seen:
    return counts.delete(name) if name in counts else counts


@given(programs())
def test_counters_are_monotone_and_within_their_limits(program: Program) -> None:
    before: Played = State(user=Seen())
    for moment in record(program.iterate()).moments:
        state, limits = moment.state, moment.state.limits
        assert state.iteration - before.iteration in (0, 1)
        assert state.epoch - before.epoch in (0, 1)
        if state.epoch == before.epoch:
            assert state.batches - before.batches in (0, 1)
        else:
            assert state.batches == 0
        assert all(state.counts[name] >= number for name, number in before.counts.items())
        assert limits.max_epochs is None or state.epoch <= limits.max_epochs
        assert limits.max_iters is None or state.iteration <= limits.max_iters
        assert limits.epoch_length is None or state.batches <= limits.epoch_length
        before = state


@given(programs(data=REPLAYED, events=WITHIN_RUN, recoveries=ANSWERED))
@example(
    Program(
        Data("unsized", 2),
        Limits(max_epochs=3),
        (Act("stage 1", 2, Fail(Recovery.END_EPOCH)),),
    )
)
def test_a_run_that_nobody_stops_reaches_its_limits(program: Program) -> None:
    acts = tuple(act for act in program.acts if not stops(act))
    final = record(attrs.evolve(program, acts=acts).iterate()).final
    assert final.status is Status.COMPLETED
    assert program.limits.max_epochs in (None, final.epoch)
    assert program.limits.max_iters in (None, final.iteration)


def stops(act: Act) -> bool:
    """Tell whether an act may end a run, or an epoch without its being made up for."""
    if isinstance(act.deed, Ask):
        return act.deed.requests != Requests()
    return act.deed.recovery is Recovery.END_RUN


@given(programs())
def test_a_lazily_pulled_run_equals_an_eager_one(program: Program) -> None:
    lazy = record(program.iterate())
    if lazy.error is None:
        assert program.run() == lazy.final
        return
    with pytest.raises(type(lazy.error)) as raised:
        program.run()
    assert raised.value.args == lazy.error.args
    assert last_state(raised.value) == last_state(lazy.error)


@given(programs(data=REPLAYED, events=WITHIN_RUN, recoveries=()), st.data())
def test_a_mended_loop_goes_on_from_the_last_complete_state(
    program: Program, draw: st.DataObject
) -> None:
    program = not_listening_to(program, "exception_raised", "exited")
    place, firing = draw.draw(st.sampled_from(places_of(program)))
    others = tuple(act for act in program.acts if (act.place, act.firing) != (place, firing))
    mended = attrs.evolve(program, acts=(*others, Act(place, firing, Ask(Requests()))))
    broken = attrs.evolve(program, acts=(*others, Act(place, firing, Fail())))

    whole, failed = record(mended.iterate()), record(broken.iterate())
    assume(whole.error is None)
    assert isinstance(failed.error, Fault)
    assert failed.trace[-2:] == ["exception_raised", "exited"]
    rest = record(mended.iterate(after=state_left_by(failed.error)))
    assert failed.trace[:-2] + rest.trace == whole.trace
    assert forgetting(rest.final, "exception_raised") == forgetting(whole.final, "exception_raised")
    again = record(broken.iterate())
    assert again.moments == failed.moments
    assert again.fails_like(failed)


def places_of(program: Program) -> list[tuple[str, int]]:
    """List where a run can be made to fail: at which firing of an event, in which stage."""
    recording = record(program.iterate())
    trace, places = recording.trace, []
    for at, moment in enumerate(recording.moments):
        name = moment.event.name
        if name not in ("interrupt", "exception_raised", "exited"):
            places.append((name, trace[: at + 1].count(name)))
        if name == "iteration_completed":
            stages = range(1, len(program.emitted) + 2)
            places.extend((f"stage {stage}", moment.state.iteration) for stage in stages)
    return places


def state_left_by(error: Exception) -> Played:
    state: Any = last_state(error)
    return cast("Played", state)
