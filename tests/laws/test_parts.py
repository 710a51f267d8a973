"""Parts are a lens on the state, and a loop without features is the loop that it was."""

from __future__ import annotations

import json
import math
import pickle
from enum import Enum
from typing import Any, Literal

import attrs
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from immutables import Map

from fengine import Events, Loop, Part, SnapshotError, State, diff, outputs
from fengine.testing import states


class Mood(Enum):
    CALM = 1
    WILD = (2, 3)


@attrs.frozen
class Inner:
    number: int = 0
    ratio: float = 0.0


@attrs.frozen
class Other:
    number: int = 0


@attrs.frozen
class Record:
    inner: Inner = Inner()
    several: tuple[Inner, ...] = ()
    pair: tuple[int, str] = (0, "")
    mood: Mood = Mood.CALM
    word: Literal["a", "b"] = "a"
    maybe: float | None = None
    either: Inner | Other = Inner()
    named: Map[str, Inner] = Map()
    tensor: torch.Tensor | float = 0.0


FINITE = st.floats(allow_nan=False)
INNERS = st.builds(Inner, st.integers(), FINITE)
RECORDS = st.builds(
    Record,
    inner=INNERS,
    several=st.lists(INNERS, max_size=3).map(tuple),
    pair=st.tuples(st.integers(), st.text(max_size=3)),
    mood=st.sampled_from(Mood),
    word=st.sampled_from(["a", "b"]),
    maybe=st.none() | FINITE,
    either=INNERS | st.builds(Other, st.integers()),
    named=st.dictionaries(st.text(max_size=3), INNERS, max_size=3).map(Map),
    tensor=FINITE,
)
KEY = Part("record", Record())
OTHER = Part("other", 0)
STATES = states(st.integers(), st.integers(), st.none())


@given(STATES, RECORDS, RECORDS, st.integers())
def test_a_part_is_a_lens(state: Any, one: Record, two: Record, number: int) -> None:
    assert state.with_part(KEY, one).part(KEY) == one
    assert state.with_part(KEY, state.part(KEY)) == state
    assert state.with_part(KEY, one).with_part(KEY, two) == state.with_part(KEY, two)
    both = state.with_part(KEY, one).with_part(OTHER, number)
    assert both == state.with_part(OTHER, number).with_part(KEY, one)
    assert (both.part(KEY), both.part(OTHER)) == (one, number)
    assert both.evolve(user=None).parts == both.parts


@given(STATES, RECORDS)
def test_to_set_the_initial_value_is_to_have_none(state: Any, record: Record) -> None:
    changed = state.with_part(KEY, record)
    assert changed.with_part(KEY, KEY.initial) == state
    assert changed.with_part(KEY, Record()) == state
    assert state.with_part(KEY, Record()) is state
    assert ("record" in changed.parts) == (record != Record())


@given(STATES, RECORDS)
def test_nothing_is_changed_in_place(state: Any, record: Record) -> None:
    kept = pickle.dumps(state)
    state.with_part(KEY, record).with_part(OTHER, 3)
    assert pickle.loads(kept) == state


@given(RECORDS)
def test_a_record_comes_back_through_json(record: Record) -> None:
    state: State[Any, Any, Record] = State(user=record).with_part(KEY, record)
    text = json.dumps(state.to_dict())
    again: Any = State.from_dict(json.loads(text), parts={"record": KEY}, user=Record)
    assert again == state
    assert diff(again, state).parts == ()


def test_tensors_are_written_as_they_are() -> None:
    record = Record(tensor=torch.tensor([1.0, math.nan]))
    plain = State().with_part(KEY, record).to_dict()
    assert plain["parts"]["record"]["tensor"] is record.tensor
    assert State.from_dict(plain, parts={"record": KEY}).part(KEY).tensor is record.tensor


WRONG = {
    "a number as text": ({"inner": {"number": "7"}}, "parts.record.inner.number: '7' of type str"),
    "a float for an int": ({"inner": {"number": 7.5}}, "parts.record.inner.number: 7.5"),
    "a bool for an int": ({"inner": {"number": True}}, "parts.record.inner.number: True"),
    "in a tuple": ({"several": [{"number": 1}, {"number": "x"}]}, r"parts.record.several\[1\]"),
    "a name too many": ({"inner": {"nubmer": 7}}, "parts.record.inner: .*nubmer"),
    "no member": ({"mood": "ANGRY"}, "parts.record.mood: 'ANGRY' is not one of CALM, WILD"),
    "no literal": ({"word": "c"}, "parts.record.word"),
    "none of a union": ({"maybe": "x"}, "parts.record.maybe: 'x' of type str is not"),
    "an untold union": ({"either": {"number": 1}}, "parts.record.either: .* is not one of Inner"),
    "in a map": ({"named": {"a": {"ratio": "x"}}}, "parts.record.named"),
    "no record": ([1], r"parts.record"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named_by_its_path(name: str) -> None:
    plain, said = WRONG[name]
    whole = State().to_dict() | {"parts": {"record": plain}}
    with pytest.raises(SnapshotError, match=said):
        State.from_dict(whole, parts={"record": KEY})


def test_a_record_that_holds_what_it_does_not_say_is_refused_as_it_is_written() -> None:
    wrong: Any = Record(maybe="text")  # type: ignore[arg-type]
    with pytest.raises(SnapshotError, match=r"parts.record: .* 'text' of type str is not"):
        State().with_part(KEY, wrong).to_dict()


def test_a_part_that_nobody_knows_is_refused() -> None:
    plain = State().with_part(OTHER, 1).to_dict()
    with pytest.raises(SnapshotError, match=r"parts.other: is no known part; known are record"):
        State.from_dict(plain, parts={"record": KEY})


@pytest.mark.parametrize("initial", [None, [], {}, set(), bytearray()])
def test_a_part_that_could_change_in_place_or_has_no_type_is_refused(initial: Any) -> None:
    with pytest.raises(TypeError, match="the part 'x' begins as"):
        Part("x", initial)


@pytest.mark.parametrize(("initial", "value"), [(0, 0.5), (0.0, "x"), (Inner(), Other()), ("", 1)])
def test_a_part_keeps_its_type(initial: Any, value: Any) -> None:
    with pytest.raises(TypeError, match="the part 'x' is a"):
        State().with_part(Part("x", initial), value)


def test_an_int_is_a_float() -> None:
    key = Part("x", 0.5)
    assert type(State().with_part(key, 3).part(key)) is float
    with pytest.raises(TypeError):
        State().with_part(key, True)


@pytest.mark.parametrize("name", [3, None])
def test_a_name_is_a_string(name: Any) -> None:
    with pytest.raises(TypeError, match="a part has the name"):
        Part(name, 0)
    with pytest.raises(ValueError, match="not empty"):
        Part("", 0)


def test_parts_with_tensors_compare_by_content() -> None:
    assert Part("x", torch.ones(2)) == Part("x", torch.ones(2))
    assert Part("x", torch.ones(2)) != Part("x", torch.zeros(2))


def test_a_loop_without_features_is_the_very_same() -> None:
    loop: Any = Loop(outputs(abs))

    def nothing(loop: Any) -> Any:
        return loop

    assert loop | nothing is loop
    assert (loop | nothing).table is loop.table


def test_a_feature_is_a_function() -> None:
    def one(loop: Any) -> Any:
        return loop.on(Events.STARTED, State.interrupt)

    def two(loop: Any) -> Any:
        return loop.with_part(OTHER)

    loop: Any = Loop(outputs(abs))
    assert loop | one | two == two(one(loop))
    assert (loop | one) | two == loop | (lambda known: known | one | two)
