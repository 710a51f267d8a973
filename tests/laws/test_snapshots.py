"""Laws of states as plain data: what is written, read and gone on with is the same run."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st
from immutables import Map

from fengine import (
    Event,
    Events,
    Limits,
    Loop,
    Moment,
    Part,
    Snapshot,
    SnapshotError,
    State,
    Status,
    Terminate,
    outputs,
)
from fengine.core.missing import MISSING
from fengine.core.registry import BUILT_IN_EVENTS
from fengine.testing import Act, Ask, Data, Program, data, programs, states
from fengine.testing.program import Played

from .recording import Recording, record
from .test_runs import REPLAYED, WITHIN_RUN, goes_on_elsewhere, not_listening_to

OWN = BUILT_IN_EVENTS.register(*(Event(name) for name in ("loaded", "computed", "updated")))


def identity(value: Any) -> Any:
    return value


SEEN, RATIO = Part("seen", 0), Part("ratio", 0.5)
PARTS: Any = {"seen": SEEN, "ratio": RATIO}


def written(state: Played, *, with_batch: bool) -> str:
    """Write a state of a program down as text."""
    return json.dumps(state.to_dict(user=dict, batch=identity if with_batch else None))


def restored(text: str, program: Program) -> Played:
    """Read a state of a program from text."""
    loop = program.loop()
    state: Played = State.from_dict(
        json.loads(text), events=loop.registry, parts=loop.parts, user=Map, output=tuple
    )
    return state


@given(
    states(
        st.integers() | st.none(),
        st.floats() | st.none(),
        st.text() | st.none(),
        parts={SEEN: st.integers(), RATIO: st.floats()},
    )
)
def test_reading_what_was_written_gives_the_same_state(state: State[Any, Any, Any]) -> None:
    plain = state.to_dict(batch=identity)
    assert State.from_dict(plain, events=OWN, parts=PARTS) == state
    assert State.from_dict(json.loads(json.dumps(plain)), events=OWN, parts=PARTS) == state
    snapshot = Snapshot(state, {"model": {"weight": 0.5}}, [1, 2])
    written = snapshot.to_dict(batch=identity)
    assert Snapshot.from_dict(written, events=OWN, parts=PARTS) == snapshot


@given(states(st.integers(), st.integers(), st.integers()))
def test_writing_leaves_the_state_alone(state: State[Any, Any, Any]) -> None:
    before = copy.deepcopy(state)
    plain = state.to_dict()
    assert plain == state.to_dict()
    assert state == before


def rest_of(program: Program, state: Played) -> Recording:
    return record(program.iterate(after=state))


@given(programs(data=REPLAYED))
@example(
    Program(
        Data("unsized", 2),
        Limits(max_epochs=2),
        (Act("iteration_completed", 1, Ask(State().terminate_epoch().requests)),),
    )
)
def test_a_run_goes_on_from_text_at_every_event(program: Program) -> None:
    whole = record(program.iterate())
    for number, moment in enumerate(whole.moments, start=1):
        state = restored(written(moment.state, with_batch=False), program)
        rest = rest_of(program, state)
        expected = rest_of(program, moment.state)
        assert rest.moments == expected.moments, f"after {moment.event}, number {number}"
        assert rest.fails_like(expected)
        if not goes_on_elsewhere(moment):
            assert rest.moments == whole.moments[number:]
            assert rest.fails_like(whole)


@given(programs(data=data(["iterator", "generator"])))
def test_a_run_over_an_iterator_goes_on_from_text_with_its_batch(program: Program) -> None:
    for moment in record(program.iterate()).moments:
        state = restored(written(moment.state, with_batch=True), program)
        assert state == moment.state
        rest, expected = rest_of(program, state), rest_of(program, moment.state)
        assert rest.moments == expected.moments
        assert rest.fails_like(expected)


@given(programs(data=REPLAYED))
def test_a_state_that_was_read_is_written_again_as_it_was(program: Program) -> None:
    for moment in record(program.iterate()).moments:
        text = written(moment.state, with_batch=False)
        assert written(restored(text, program), with_batch=False) == text


ELSEWHERE = Path(__file__).with_name("resuming.py")


@settings(max_examples=2, phases=[Phase.generate])
@given(st.lists(programs(data=REPLAYED), min_size=12, max_size=20))
def test_a_run_goes_on_in_a_new_process_at_every_event(several: list[Program]) -> None:
    tasks, expected = [], []
    for program in several:
        whole = record(program.iterate())
        tasks.append(
            (program, [written(moment.state, with_batch=False) for moment in whole.moments])
        )
        for number, moment in enumerate(whole.moments, start=1):
            if goes_on_elsewhere(moment):
                rest = rest_of(program, moment.state).moments
            else:
                rest = whole.moments[number:]
            texts = [(m.event.name, written(m.state, with_batch=True)) for m in rest]
            expected.append([[name, json.loads(text)] for name, text in texts])
    done = subprocess.run(
        [sys.executable, str(ELSEWHERE)], input=pickle.dumps(tasks), capture_output=True, check=True
    )
    assert json.loads(done.stdout) == expected


@given(
    programs(), st.sampled_from([copy.deepcopy, lambda moment: pickle.loads(pickle.dumps(moment))])
)
def test_a_moment_of_a_suspended_run_pickles(
    program: Program, passed_on: Callable[[Any], Any]
) -> None:
    for moment in record(program.iterate()).moments:
        again: Moment[Any, Any, Any] = passed_on(moment)
        assert again == moment
        assert again.event == moment.event
        snapshot = program.loop().snapshot(moment.state)
        assert passed_on(snapshot) == snapshot


# Where limits end a run, others let it go on.

AT_THE_END = ("terminate", "completed", "exited")


def without_limit(program: Program) -> Program:
    """Give the program without asking for what limits alone ask for."""
    acts = (
        act
        for act in program.acts
        if not isinstance(act.deed, Ask) or act.deed.requests.terminate is not Terminate.LIMIT
    )
    return attrs.evolve(program, acts=tuple(acts))


UNENDED = [event for event in WITHIN_RUN if event.name not in AT_THE_END]


@given(
    programs(data=REPLAYED, events=UNENDED).map(without_limit),
    st.sampled_from(["max_epochs", "max_iters"]),
    st.integers(1, 6),
)
def test_a_run_with_other_limits_equals_one_that_had_them_from_its_start(
    program: Program, name: str, number: int
) -> None:
    program = not_listening_to(program, *AT_THE_END, "interrupt")
    limits: Any = {name: number}
    wanted = Limits(epoch_length=program.limits.epoch_length, **limits)
    short = record(program.iterate())
    long = record(attrs.evolve(program, limits=wanted).iterate())
    for position, moment in enumerate(short.moments, start=1):
        if goes_on_elsewhere(moment) or is_behind(moment.state, name, number):
            continue
        state = moment.state.with_limits(**limits)
        if state.status.has_ended:
            assert state.status is Status.TERMINATED
            continue
        if state.event == moment.state.event:
            common = position
            assert state == long.moments[common - 1].state
        else:  # where limits ended the run, after its last epoch or iteration
            common = short.trace.index("terminate" if "terminate" in short.trace else "completed")
        rest = rest_of(program, state)
        assert rest.moments == long.moments[common:], f"after {moment.event}, number {position}"
        assert rest.fails_like(long)


def is_behind(state: Played, name: str, number: int) -> bool:
    """Tell whether a run with another limit would have ended before a state."""
    try:
        state.with_limits(**{name: number})
    except ValueError:
        return True
    # An epoch of unknown length has ended after the iteration that was to be the last.
    return name == "max_iters" and state.iteration == number and state.event in AFTER_THE_LAST


AFTER_THE_LAST = (Events.EPOCH_COMPLETED, Events.TERMINATE_SINGLE_EPOCH, Events.COMPLETED)


LOOP: Any = Loop(outputs(identity))


def test_a_finished_run_is_extended() -> None:
    short = LOOP.run([1, 2, 3], max_epochs=2)
    assert LOOP.resume(short, [1, 2, 3]) == short
    assert LOOP.resume(short.with_limits(max_epochs=4), [1, 2, 3]) == LOOP.run(
        [1, 2, 3], max_epochs=4
    )
    cut = LOOP.run([1, 2, 3], max_iters=4)
    assert LOOP.resume(cut.with_limits(max_iters=8), [1, 2, 3]) == LOOP.run([1, 2, 3], max_iters=8)
    assert LOOP.resume(cut.with_limits(max_epochs=2), [1, 2, 3]) == LOOP.run(
        [1, 2, 3], max_epochs=2
    )


def test_a_run_that_was_stopped_stays_stopped() -> None:
    loop = LOOP.on(Events.ITERATION_COMPLETED(once=4), State.terminate)
    stopped = loop.run([1, 2, 3], max_epochs=2)
    longer = stopped.with_limits(max_epochs=9)
    assert (longer.status, longer.limits.max_epochs) == (Status.TERMINATED, 9)
    with pytest.warns(UserWarning, match="asked to end"):
        assert loop.resume(longer, [1, 2, 3]) == longer


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({}, "one of them"),
        ({"max_epochs": 3, "max_iters": 9}, "one of them"),
        ({"max_epochs": 1}, "max_epochs=1 ends before the run, which is at number 2"),
        ({"max_iters": 5}, "max_iters=5 ends before the run, which is at number 6"),
        ({"max_epochs": 0}, "max_epochs=0 is too small"),
    ],
    ids=["none", "both", "epochs", "iterations", "zero"],
)
def test_limits_that_make_no_sense_are_refused(limits: dict[str, int], words: str) -> None:
    final = LOOP.run([1, 2, 3], max_epochs=2)
    with pytest.raises(ValueError, match=words):
        final.with_limits(**limits)
    with pytest.raises(TypeError, match=r"max_epochs=2\.5"):
        final.with_limits(max_epochs=2.5)


def test_an_iteration_under_way_counts() -> None:
    moments = LOOP.iterate([1, 2, 3])
    waiting = next(m for m in moments if m.event is Events.GET_BATCH_STARTED).state
    assert waiting.iteration == 0
    waiting.with_limits(max_iters=1)
    third = next(m for m in moments if m.event is Events.GET_BATCH_COMPLETED and m.state.batch == 3)
    with pytest.raises(ValueError, match="which is at number 3"):
        third.state.with_limits(max_iters=2)


# Reading refuses what was not written so, and says where.

PLAIN = (
    State(
        iteration=7,
        epoch=2,
        batches=3,
        event=Events.ITERATION_COMPLETED,
        output=0.5,
        metrics=Map({"loss": 0.25}),
        limits=Limits(max_epochs=3, epoch_length=4),
        counts=Map({"terminate_single_epoch": 1}),
    )
    .terminate()
    .with_attribute("chunk", 2)
    .to_dict()
)


def changed(path: str, value: object) -> dict[str, Any]:
    """Give the plain state with another value at a path."""
    plain = copy.deepcopy(PLAIN)
    *parents, last = path.split(".")
    inner: Any = plain
    for name in parents:
        inner = inner[name]
    inner[last] = value
    return plain


WRONG: dict[str, tuple[str, object, str]] = {
    "newer": ("schema", 3, "newer fengine"),
    "schema 0": ("schema", 0, "no schema"),
    "schema true": ("schema", True, "no schema"),
    "bool": ("iteration", True, "not an int"),
    "float": ("epoch", 2.0, "not an int"),
    "negative": ("batches", -1, "at least 0"),
    "event": ("event", "epoch_complete", "no known event"),
    "own event": ("event", "loaded", "events=loop.registry"),
    "event int": ("event", 3, "no known event"),
    "requests": ("requests", [], "not a dict"),
    "request": ("requests.terminate", "ANNOUNCED", "announced, silent"),
    "no request": ("requests.pause", None, "not known"),
    "metric": ("metrics.loss", "low", "int or a float"),
    "metric bool": ("metrics.loss", True, "int or a float"),
    "limit": ("limits.max_epochs", 0, "at least 1"),
    "limit float": ("limits.epoch_length", 2.5, "not an int"),
    "count": ("counts.terminate_single_epoch", -1, "at least 0"),
    "count unknown": ("counts.loaded", 1, "no known event"),
    "status": ("ledger.status", "done", "completed"),
    "attribute": ("ledger.attributes.chunk", 1.5, "not an int"),
    "offset": ("ledger.offset", -4, "below 0"),
    "passes": ("ledger.passes", -1, "at least 0"),
    "flag": ("ledger.has_data", 1, "not a bool"),
    "failure": ("ledger.failure", "a handler", "at_event"),
    "output": ("output", 0.5, "not a dict"),
    "output extra": ("output.kind", "float", "not known"),
    "beyond epochs": ("epoch", 4, "beyond the limit, which is 3"),
    "beyond length": ("batches", 5, "beyond the limit, which is 4"),
    "due": ("ledger.drawn_before", 2, "first pass"),
    "counted before": ("ledger.counts_before.terminate", 1, "more than"),
    "parts": ("parts", [], "not a dict"),
    "part unknown": ("parts.seen", 1, "no known part"),
}


@pytest.mark.parametrize(("path", "value", "words"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_in_plain_data_is_named(path: str, value: object, words: str) -> None:
    with pytest.raises(SnapshotError, match=words) as raised:
        State.from_dict(changed(path, value))
    assert raised.value.path == path
    assert pickle.loads(pickle.dumps(raised.value)).path == path
    inside = Snapshot(State()).to_dict() | {"state": changed(path, value)}
    with pytest.raises(SnapshotError, match=words) as raised:
        Snapshot.from_dict(inside)
    assert raised.value.path == f"state.{path}"


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (lambda plain: plain["limits"].update(max_epochs=None, max_iters=6), "iteration"),
        (lambda plain: plain.update(epoch=0), "iteration"),
        (
            lambda plain: (
                plain["ledger"].update(has_data=False) or plain["limits"].update(epoch_length=None)
            ),
            "ledger.has_data",
        ),
        (lambda plain: plain["ledger"].update(batch_due=True, offset=-3), "ledger.batch_due"),
        (
            lambda plain: (
                plain["ledger"].update(batch_due=True) or plain.update(batch={"value": 1})
            ),
            "ledger.batch_due",
        ),
        (lambda plain: plain.update(event="get_batch_completed"), "batch"),
        (lambda plain: plain.update(event="exited"), "event"),
        (lambda plain: plain.update(event="get_batch_started", batches=4), "batches"),
        (lambda plain: plain.update(epoch=0, iteration=0, batches=0), "epoch"),
        (lambda plain: plain.update(iteration=0), "iteration"),
        (lambda plain: plain["ledger"].update(status="completed"), "ledger.status"),
        (lambda plain: plain["counts"].update({3: 1}), "counts"),
        (lambda plain: plain.pop("user"), "user"),
        (lambda plain: plain["ledger"].pop("passes"), "ledger.passes"),
    ],
    ids=[
        "iters",
        "epoch",
        "length",
        "nothing drawn",
        "twice",
        "no batch",
        "aside",
        "full",
        "no epoch",
        "no iteration",
        "ended",
        "key",
        "missing",
        "missing inside",
    ],
)
def test_what_contradicts_itself_is_refused(change: Callable[[Any], object], path: str) -> None:
    plain = copy.deepcopy(PLAIN)
    change(plain)
    with pytest.raises(SnapshotError) as raised:
        State.from_dict(plain)
    assert raised.value.path == path


def test_what_a_reader_of_the_users_raises_is_named() -> None:
    with pytest.raises(SnapshotError, match=r"user: read_best .*KeyError\('best'\)") as raised:
        State.from_dict(PLAIN | {"user": {}}, user=read_best)
    assert isinstance(raised.value.__cause__, KeyError)
    inside = Snapshot(State()).to_dict() | {"state": PLAIN | {"user": {}}}
    with pytest.raises(SnapshotError, match=r"state\.user: read_best"):
        Snapshot.from_dict(inside, user=read_best)


def read_best(plain: Any) -> float:
    return float(plain["best"])


def test_a_batch_that_no_data_gave_is_left_out() -> None:
    loop: Any = LOOP.on(Events.STARTED, lambda state: state.evolve(batch=7))
    state = next(loop.iterate([1, 2])).state
    read: State[Any, Any] = State.from_dict(state.to_dict())
    assert read == attrs.evolve(state, batch=MISSING)
    assert loop.resume(read, [1, 2]).iteration == 2


JUNK: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.integers(-2, 3) | st.floats() | st.text(max_size=3) | st.just([])
)


def paths(plain: dict[str, Any], above: str = "") -> list[str]:
    found = []
    for name, value in plain.items():
        found.append(above + name)
        if isinstance(value, dict):
            found.extend(paths(value, f"{above}{name}."))
    return found


@given(st.sampled_from(paths(PLAIN)), JUNK | st.dictionaries(st.text(max_size=3), JUNK))
def test_whatever_stands_in_plain_data_is_read_as_it_is_or_refused(path: str, value: Any) -> None:
    plain = changed(path, value)
    try:
        state: State[Any, Any, Any] = State.from_dict(plain)
    except SnapshotError:
        return
    assert State.from_dict(state.to_dict()) == state
    assert state.to_dict() == plain or path in ("output", "output.value", "user", "batch")


@pytest.mark.parametrize("plain", [None, [], "state", 3, State()], ids=repr)
def test_what_is_no_dict_is_refused(plain: object) -> None:
    with pytest.raises(SnapshotError, match="not a dict"):
        State.from_dict(plain)
    with pytest.raises(SnapshotError, match="not a dict"):
        Snapshot.from_dict(plain)


def test_a_metric_that_is_no_number_is_not_written() -> None:
    state: Any = State()
    vars(state)["metrics"] = Map(loss="low")  # as one that version 0.1 pickled may have
    with pytest.raises(SnapshotError, match=r"metrics\.loss"):
        state.to_dict()


def test_a_snapshot_names_its_external_things() -> None:
    plain = Snapshot(State()).to_dict() | {"external": {1: {}}}
    with pytest.raises(SnapshotError, match="external"):
        Snapshot.from_dict(plain)
