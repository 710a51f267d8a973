"""When a stop acts: at each event, what is asked for there and the trace that follows, by hand.

The run is one of two epochs of two batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest

from fengine import (
    DOCUMENTED,
    END_EPOCH,
    END_RUN,
    IGNITE_0_5_5,
    SKIP_BATCH,
    DataExhausted,
    Event,
    Events,
    Loop,
    Outcome,
    PayloadEvent,
    Recovery,
    Semantics,
    State,
    Status,
    Table,
    compose,
    outputs,
    stages,
)

AnyEvent = Event | PayloadEvent[Any]
AnyState = State[Any, Any, Any]
AnyLoop = Loop[Any, Any, Any]
Ask = Callable[[AnyState], AnyState]

OWN = Event("between")
SHORT: dict[str, AnyEvent] = {
    "S": Events.STARTED,
    "ES": Events.EPOCH_STARTED,
    "BS": Events.GET_BATCH_STARTED,
    "DS": Events.DATALOADER_STOP_ITERATION,
    "BC": Events.GET_BATCH_COMPLETED,
    "IS": Events.ITERATION_STARTED,
    "OWN": OWN,
    "IC": Events.ITERATION_COMPLETED,
    "TE": Events.TERMINATE_SINGLE_EPOCH,
    "EC": Events.EPOCH_COMPLETED,
    "IN": Events.INTERRUPT,
    "T": Events.TERMINATE,
    "E": Events.EXCEPTION_RAISED,
    "C": Events.COMPLETED,
    "X": Events.EXITED,
}
NAMES = {event.name: short for short, event in SHORT.items()}

ONE = "BS BC IS IC"  # an iteration
FIRST = "BS DS BC IS IC"  # one that finds the data at its end, and starts it again
EPOCH = f"ES {ONE} {ONE} EC"
WHOLE = f"S {EPOCH} ES {FIRST} {ONE} EC C X"
EPOCH_AGAIN = f"{EPOCH} C X"  # the second epoch, where the first was cut and the data started again


def identity(batch: Any) -> Any:
    return batch


def batch_of(state: AnyState) -> Any:
    return state.batch


def terminate(state: AnyState) -> AnyState:
    return state.terminate()


def terminate_silently(state: AnyState) -> AnyState:
    return state.terminate(skip_completed=True)


def terminate_epoch(state: AnyState) -> AnyState:
    return state.terminate_epoch()


def terminate_epoch_silently(state: AnyState) -> AnyState:
    return state.terminate_epoch(skip_epoch_completed=True)


def interrupt(state: AnyState) -> AnyState:
    return state.interrupt()


def asking(semantics: Semantics, ask: Ask, place: str) -> AnyLoop:
    """Build a loop that asks at the first firing of an event."""
    event: Any = SHORT[place]
    return Loop(outputs(identity), semantics=semantics).on(event, at_firing(1, ask))


def at_firing(number: int, ask: Ask) -> Any:
    """Make a handler that asks when it is called for the n-th time, whatever the event counts."""
    calls: list[AnyState] = []

    def asked(state: AnyState, payload: object = None) -> AnyState:
        calls.append(state)
        return ask(state) if len(calls) == number else state

    return asked


def trace(loop: AnyLoop, data: Any = (0, 1), **limits: Any) -> str:
    """Run, and give what fired in short."""
    limits = {"max_epochs": 2} | limits
    return shortly(loop.iterate(data, **limits))


def shortly(moments: Iterator[Any]) -> str:
    fired = []
    try:
        for moment in moments:
            fired.append(NAMES[moment.event.name])
    except (RuntimeError, DataExhausted):
        pass
    return " ".join(fired)


STOPS_AFTER_THE_ITERATION = f"S ES {ONE} T C X"
CUTS_AFTER_THE_ITERATION = f"S ES {ONE} TE EC {EPOCH_AGAIN}"

TABLE: dict[Ask, dict[str, tuple[str, str]]] = {
    # What is asked, where, and what follows: as documented, and in version 0.5.5.
    terminate: {
        "S": ("S T C X", "S T C X"),
        "ES": (STOPS_AFTER_THE_ITERATION, "S ES T C X"),
        "BS": (STOPS_AFTER_THE_ITERATION, "S ES BS T C X"),
        "BC": (STOPS_AFTER_THE_ITERATION, "S ES BS BC T C X"),
        "IS": (STOPS_AFTER_THE_ITERATION, "S ES BS BC IS T C X"),
        "IC": (STOPS_AFTER_THE_ITERATION, f"S ES {ONE} T C X"),
        "EC": (f"S {EPOCH} T C X", f"S {EPOCH} T C X"),
        "DS": (f"S {EPOCH} ES {FIRST} T C X", f"S {EPOCH} ES BS DS T C X"),
        "C": (WHOLE, WHOLE),
        "X": (WHOLE, WHOLE),
    },
    terminate_silently: {
        "S": ("S T X", "S T X"),
        "IC": (f"S ES {ONE} T X", f"S ES {ONE} T X"),
        "IS": (f"S ES {ONE} T X", "S ES BS BC IS T X"),
    },
    terminate_epoch: {
        "S": (CUTS_AFTER_THE_ITERATION, "S E X"),
        "ES": (CUTS_AFTER_THE_ITERATION, "S ES E X"),
        "BS": (CUTS_AFTER_THE_ITERATION, f"S ES BS TE EC {EPOCH_AGAIN}"),
        "BC": (CUTS_AFTER_THE_ITERATION, f"S ES BS BC TE EC {EPOCH_AGAIN}"),
        "IS": (CUTS_AFTER_THE_ITERATION, f"S ES BS BC IS TE EC {EPOCH_AGAIN}"),
        "IC": (CUTS_AFTER_THE_ITERATION, f"S ES {ONE} TE EC {EPOCH_AGAIN}"),
        "EC": (WHOLE, WHOLE),
        "DS": (f"S {EPOCH} ES {FIRST} TE EC C X", f"S {EPOCH} ES BS DS TE EC C X"),
        "C": (WHOLE, WHOLE),
        "X": (WHOLE, WHOLE),
    },
    terminate_epoch_silently: {
        "IC": (f"S ES {ONE} TE {EPOCH_AGAIN}", f"S ES {ONE} TE {EPOCH_AGAIN}"),
        "IS": (f"S ES {ONE} TE {EPOCH_AGAIN}", f"S ES BS BC IS TE {EPOCH_AGAIN}"),
    },
    interrupt: {
        "S": ("S IN X",) * 2,
        "ES": ("S ES IN X",) * 2,
        "BS": ("S ES BS IN X",) * 2,
        "BC": ("S ES BS BC IN X",) * 2,
        "IS": ("S ES BS BC IS IN X",) * 2,
        "IC": (f"S ES {ONE} IN X",) * 2,
        "EC": (f"S {EPOCH} IN X",) * 2,
        "DS": (f"S {EPOCH} ES BS DS IN X",) * 2,
        "C": (WHOLE,) * 2,
        "X": (WHOLE,) * 2,
    },
}

CASES = [
    pytest.param(semantics, ask, place, expected[column], id=f"{ask.__name__}-{place}-{name}")
    for ask, places in TABLE.items()
    for place, expected in places.items()
    for column, (semantics, name) in enumerate(
        [(DOCUMENTED, "documented"), (IGNITE_0_5_5, "ignite")]
    )
]


@pytest.mark.parametrize(("semantics", "ask", "place", "expected"), CASES)
def test_when_a_stop_acts(semantics: Semantics, ask: Ask, place: str, expected: str) -> None:
    assert trace(asking(semantics, ask, place)) == expected


BEHIND = {
    # Asked for at an event that another request leads to.
    "TE": (terminate_epoch, "IC"),
    "T": (terminate, "IC"),
    "IN": (interrupt, "IC"),
}
BEHIND_CASES = [
    ("TE", terminate, f"S ES {ONE} TE EC T C X"),
    ("TE", terminate_silently, f"S ES {ONE} TE EC T X"),
    ("TE", terminate_epoch, f"S ES {ONE} TE EC {EPOCH_AGAIN}"),
    ("TE", interrupt, f"S ES {ONE} TE EC IN X"),
    ("T", terminate, f"S ES {ONE} T C X"),
    ("T", terminate_silently, f"S ES {ONE} T X"),
    ("T", terminate_epoch, f"S ES {ONE} T C X"),
    ("T", interrupt, f"S ES {ONE} T C X"),
    ("IN", terminate, f"S ES {ONE} IN X"),
    ("IN", terminate_epoch, f"S ES {ONE} IN X"),
    ("IN", interrupt, f"S ES {ONE} IN X"),
]


@pytest.mark.parametrize("semantics", [DOCUMENTED, IGNITE_0_5_5], ids=["documented", "ignite"])
@pytest.mark.parametrize(("place", "ask", "expected"), BEHIND_CASES)
def test_when_a_stop_acts_that_is_asked_for_while_stopping(
    semantics: Semantics, place: str, ask: Ask, expected: str
) -> None:
    first, where = BEHIND[place]
    event: Any = SHORT[place]
    assert trace(asking(semantics, first, where).on(event(once=1), ask)) == expected


TOGETHER = [
    ((terminate, terminate_epoch, interrupt), "IC", f"S ES {ONE} T C X"),
    ((terminate_epoch, interrupt), "IC", f"S ES {ONE} TE EC IN X"),
    ((terminate, terminate_epoch), "EC", f"S {EPOCH} T C X"),
    ((terminate, interrupt), "ES", "S ES IN X"),  # the terminate waits, the interrupt does not
]


@pytest.mark.parametrize(("asks", "place", "expected"), TOGETHER)
def test_which_of_several_stops_acts_first(
    asks: tuple[Ask, ...], place: str, expected: str
) -> None:
    assert trace(asking(DOCUMENTED, compose(*asks), place)) == expected


def test_a_stop_that_waits_is_kept_over_a_pause() -> None:
    loop = asking(DOCUMENTED, compose(terminate, interrupt), "ES")
    paused = loop.run([0, 1], max_epochs=2)
    assert shortly(loop.iterate([0, 1], after=paused)) == f"{ONE} T C X"


@pytest.mark.parametrize("semantics", [DOCUMENTED, IGNITE_0_5_5], ids=["documented", "ignite"])
@pytest.mark.parametrize(
    ("ask", "rest"),
    [(terminate, "T C X"), (terminate_epoch, f"TE EC {EPOCH_AGAIN}"), (interrupt, "IN X")],
)
def test_a_stop_between_stages_or_in_the_step_acts_behind_the_iteration(
    semantics: Semantics, ask: Ask, rest: str
) -> None:
    course = stages(batch_of).emit(OWN).then(identity)
    between: AnyLoop = Loop(course, semantics=semantics).on(OWN(once=1), ask)
    rest = rest.replace("IS", "IS OWN")
    assert trace(between) == f"S ES BS BC IS OWN IC {rest}"

    def step(state: AnyState) -> AnyState:
        return ask(state) if state.iteration == 1 else state

    rest = rest.replace(" OWN", "")
    assert trace(Loop(step, semantics=semantics)) == f"S ES {ONE} {rest}"


class Unsized:
    """Give two batches, and no length."""

    def __iter__(self) -> Iterator[int]:
        return iter((0, 1))


@pytest.mark.parametrize(
    ("ask", "expected"),
    [
        (terminate, f"S ES {ONE} {ONE} BS T C X"),
        (terminate_epoch, f"S ES {ONE} {ONE} BS TE EC {EPOCH_AGAIN}"),
        (interrupt, f"S ES {ONE} {ONE} BS IN X"),
    ],
)
def test_a_stop_acts_at_once_where_no_batch_comes(ask: Ask, expected: str) -> None:
    loop: AnyLoop = Loop(outputs(identity)).on(Events.GET_BATCH_STARTED, at_firing(3, ask))
    assert trace(loop, Unsized()) == expected


def test_a_stop_acts_at_once_where_the_data_ends_for_good() -> None:
    loop: AnyLoop = Loop(outputs(identity))
    assert trace(loop, iter((0, 1)), epoch_length=3) == f"S ES {ONE} {ONE} BS DS E X"
    for place in (Events.GET_BATCH_STARTED(once=3), Events.DATALOADER_STOP_ITERATION):
        stopping = loop.on(place, terminate)
        expected = f"S ES {ONE} {ONE} BS DS T C X"
        assert trace(stopping, iter((0, 1)), epoch_length=3) == expected


@pytest.mark.parametrize(
    ("data", "limits", "expected"),
    [
        ((0, 1), {}, WHOLE),
        (Unsized(), {}, f"S ES {ONE} {ONE} BS EC ES BS DS BC IS IC {ONE} EC C X"),
        (None, {"epoch_length": 2}, "S ES IS IC IS IC EC ES IS IC IS IC EC C X"),
        ((0, 1), {"max_epochs": None, "max_iters": 1}, f"S ES {ONE} T C X"),
        ((0, 1), {"max_epochs": None, "max_iters": 2}, f"S {EPOCH} C X"),
        ((0, 1), {"max_epochs": None, "max_iters": 3}, f"S {EPOCH} ES {FIRST} T C X"),
        ((0, 1), {"max_epochs": 1, "epoch_length": 3}, f"S ES {ONE} {ONE} {FIRST} EC C X"),
        ((0, 1), {"epoch_length": 1}, f"S ES {ONE} EC ES {ONE} EC C X"),
        (iter((0, 1)), {"epoch_length": 1}, f"S ES {ONE} EC ES {ONE} EC C X"),
        (iter((0, 1)), {"max_epochs": 1}, f"S ES {ONE} {ONE} BS EC C X"),
    ],
)
def test_a_run_that_nobody_stops(data: Any, limits: Any, expected: str) -> None:
    assert trace(Loop(outputs(identity)), data, **limits) == expected


class Trouble(Exception):
    """Go wrong."""


def failing_once(place: str) -> AnyLoop:
    """Build a loop in which the first handler call at an event fails, or the first step."""
    calls: list[str] = []

    def fail(state: AnyState) -> AnyState:
        calls.append(place)
        if len(calls) == 1:
            raise Trouble
        return state

    if place == "step":
        return Loop(fail)
    event: Any = SHORT[place]
    return Loop(outputs(identity)).on(event, fail)


REST = f"{ONE} {ONE} EC ES {FIRST} {ONE} EC C X"
SECOND = f"{ONE} EC ES {FIRST} {ONE} EC C X"
RECOVERIES = {
    # Where something fails once, and what follows SKIP_BATCH, END_EPOCH and END_RUN.
    "S": (f"S E ES {REST}", f"S E ES {REST}", "S E X"),
    "ES": (f"S ES E {REST}", f"S ES E EC {EPOCH_AGAIN}", "S ES E X"),
    "BS": (f"S ES BS E {REST}", f"S ES BS E EC {EPOCH_AGAIN}", "S ES BS E X"),
    "BC": (
        f"S ES BS BC E {SECOND}",
        f"S ES BS BC E EC ES {ONE} BS EC C X",
        "S ES BS BC E X",
    ),
    "IS": (
        f"S ES BS BC IS E {SECOND}",
        f"S ES BS BC IS E EC ES {ONE} BS EC C X",
        "S ES BS BC IS E X",
    ),
    "step": (
        f"S ES BS BC IS E {SECOND}",
        f"S ES BS BC IS E EC ES {ONE} BS EC C X",
        "S ES BS BC IS E X",
    ),
    "IC": (
        f"S ES {ONE} E {SECOND}",
        f"S ES {ONE} E EC ES {ONE} BS EC C X",
        f"S ES {ONE} E X",
    ),
    "EC": (
        f"S {EPOCH} E ES {FIRST} {ONE} EC C X",
        f"S {EPOCH} E ES {FIRST} {ONE} EC C X",
        f"S {EPOCH} E X",
    ),
    "DS": (
        f"S {EPOCH} ES BS DS E {FIRST} {ONE} EC C X",
        f"S {EPOCH} ES BS DS E EC C X",
        f"S {EPOCH} ES BS DS E X",
    ),
    "C": (f"{WHOLE[:-1]}E X",) * 3,
}


@pytest.mark.parametrize("answer", [SKIP_BATCH, END_EPOCH, END_RUN])
@pytest.mark.parametrize("place", RECOVERIES)
def test_where_a_run_goes_on_after_a_recovery(place: str, answer: Recovery) -> None:
    loop = failing_once(place).on(
        Events.EXCEPTION_RAISED, lambda state, error: state.recover(answer)
    )
    fired: list[str] = []
    for event in SHORT.values():
        if event is not OWN:
            loop = noting(loop, event, fired)
    loop.run([0, 1], max_epochs=2)
    assert " ".join(fired) == RECOVERIES[place][list(Recovery).index(answer)]


def noting(loop: AnyLoop, event: Any, fired: list[str]) -> AnyLoop:
    """Give the loop with a note taken of each firing of an event, before its other handlers."""

    def note(state: AnyState, payload: object = None) -> AnyState:
        fired.append(NAMES[event.name])
        return state

    first: AnyLoop = Loop(loop.step).on(event, note)
    return attrs.evolve(loop, table=Table(first.table.registrations + loop.table.registrations))


def test_an_epoch_of_unknown_length_that_was_cut_teaches_no_length() -> None:
    loop = failing_once("IC").on(
        Events.EXCEPTION_RAISED, lambda state, error: state.recover(END_EPOCH)
    )
    final = loop.run(Unsized(), max_epochs=3)
    assert (final.epoch, final.status, final.limits.epoch_length) == (3, Status.COMPLETED, 2)


OUTCOMES = {
    "completed": (asking(DOCUMENTED, identity, "S"), {}, Status.COMPLETED),
    "max_iters": (Loop(outputs(identity)), {"max_epochs": None, "max_iters": 1}, Status.COMPLETED),
    "terminated": (asking(DOCUMENTED, terminate, "IC"), {}, Status.TERMINATED),
    "terminated silently": (asking(DOCUMENTED, terminate_silently, "S"), {}, Status.TERMINATED),
    "terminated at the end": (asking(DOCUMENTED, terminate, "EC"), {}, Status.TERMINATED),
    "epoch terminated": (asking(DOCUMENTED, terminate_epoch, "IC"), {}, Status.COMPLETED),
    "interrupted": (asking(DOCUMENTED, interrupt, "IC"), {}, Status.INTERRUPTED),
    "interrupted and terminated": (
        asking(DOCUMENTED, interrupt, "IC").on(Events.INTERRUPT, State.terminate),
        {},
        Status.INTERRUPTED,
    ),
}


@pytest.mark.parametrize(("loop", "limits", "status"), OUTCOMES.values(), ids=OUTCOMES)
def test_exited_is_last_and_carries_the_outcome(loop: AnyLoop, limits: Any, status: Status) -> None:
    outcomes: list[Outcome] = []

    def keep(state: AnyState, outcome: Outcome) -> AnyState:
        assert state.status is outcome.status
        outcomes.append(outcome)
        return state

    limits = {"max_epochs": 2} | limits
    moments = list(loop.on(Events.EXITED, keep).iterate([0, 1], **limits))
    assert moments[-1].event is Events.EXITED
    assert outcomes == [Outcome(status)]
    assert moments[-1].state.status is status


@pytest.mark.parametrize("answer", [SKIP_BATCH, END_EPOCH])
def test_a_recovered_exception_is_no_outcome(answer: Recovery) -> None:
    outcomes: list[Outcome] = []

    def keep(state: AnyState, outcome: Outcome) -> AnyState:
        outcomes.append(outcome)
        return state

    loop = failing_once("IC").on(Events.EXITED, keep)
    loop.on(Events.EXCEPTION_RAISED, lambda state, error: state.recover(answer)).run([0, 1])
    assert outcomes == [Outcome(Status.COMPLETED)]
