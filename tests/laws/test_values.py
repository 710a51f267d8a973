"""Laws of values: equality is a bool, and what is pickled or copied comes back equal."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

import attrs
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from immutables import Map

from fengine import Event, Events, Filter, Loop, State, outputs, stages, tap, where
from fengine.core.equality import same
from fengine.core.requests import NO_REQUESTS
from fengine.features import evaluation
from fengine.testing import Program, filters, programs, states
from tests.firing import fire


@attrs.frozen
class Weights:
    values: Any
    name: str = "weights"


@dataclasses.dataclass(frozen=True)
class Statistics:
    values: Any
    name: str = "statistics"


class Pair(NamedTuple):
    values: Any
    name: str = "pair"


DTYPES = st.sampled_from(["float32", "float64", "int64", "bool", "complex64"])
ARRAYS = DTYPES.flatmap(
    lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, max_dims=2, min_side=0))
)
TENSORS = ARRAYS.map(torch.tensor)
LEAVES = ARRAYS | TENSORS | st.floats() | st.integers() | st.text(max_size=2) | st.none()
NESTED = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=2), inner, max_size=3)
        | st.dictionaries(st.text(max_size=2), inner, max_size=3).map(Map)
        | st.builds(Weights, inner)
        | st.builds(Statistics, inner)
        | st.builds(Pair, inner)
    ),
    max_leaves=5,
)


@given(NESTED)
def test_a_state_equals_its_copy_whatever_it_holds(value: object) -> None:
    state = State(user=value, batch=value, output=[value])
    copied = State(user=copy.deepcopy(value), batch=copy.deepcopy(value), output=[value])
    assert (state == copied) is True
    assert (state != copied) is False
    assert pickle.loads(pickle.dumps(state)) == state


@given(NESTED, NESTED)
def test_equality_of_states_is_a_bool_and_symmetric(a: object, b: object) -> None:
    equal = State(user=a) == State(user=b)
    assert type(equal) is bool
    assert equal == (State(user=b) == State(user=a))
    assert equal == (State(batch=[a]) == State(batch=[b])) == same({"key": a}, {"key": b})


DIFFERENT = [
    (torch.zeros(2), torch.zeros(3)),
    (torch.zeros(2), torch.zeros(1, 2)),
    (torch.zeros(2), torch.zeros(2, dtype=torch.float64)),
    (torch.zeros(2), torch.tensor([0.0, 1.0])),
    (torch.zeros(()), 0.0),
    (torch.zeros(2), np.zeros(2, dtype=np.float32)),
    (np.zeros(2), np.zeros(3)),
    (np.zeros(2), np.zeros(2, dtype=np.float32)),
    (np.zeros(2), [0.0, 0.0]),
    ([torch.zeros(2)], [torch.ones(2)]),
    ({"a": torch.zeros(2)}, {"a": torch.ones(2)}),
    ({"a": torch.zeros(2)}, {"b": torch.zeros(2)}),
    (Weights(torch.zeros(2)), Weights(torch.ones(2))),
    (Statistics(torch.zeros(2)), Statistics(torch.ones(2))),
    (Pair(torch.zeros(2)), Pair(torch.ones(2))),
    (Weights(1), Statistics(1)),
    ("1", 1),
    (None, 0),
    (float("nan"), 0.0),
]


@pytest.mark.parametrize(("a", "b"), DIFFERENT, ids=repr)
def test_states_that_hold_different_things_are_unequal(a: object, b: object) -> None:
    assert (State(user=a) == State(user=b)) is False
    assert (State(batch=a) != State(batch=b)) is True


def test_not_a_number_equals_itself_at_its_place() -> None:
    holed = torch.tensor([float("nan"), 1.0])
    assert State(output=holed) == State(output=holed.clone())
    assert State(output=holed) != State(output=holed.flip(0))
    assert State(output=float("nan")) == State(output=float("nan"))


def test_a_gradient_is_not_part_of_the_value() -> None:
    weights = torch.ones(2, requires_grad=True)
    assert State(output=weights) == State(output=weights.detach().clone())


def test_a_state_has_no_hash() -> None:
    with pytest.raises(TypeError, match="unhashable type: 'State'"):
        hash(State())


def test_a_state_equals_nothing_else() -> None:
    assert (State() == "state") is False
    assert State() != Loop(outputs(double))


@given(states(NESTED, NESTED, NESTED))
def test_a_state_survives_pickling_and_copying(state: State[Any, Any, Any]) -> None:
    for restored in (pickle.loads(pickle.dumps(state)), copy.deepcopy(state), copy.copy(state)):
        assert restored == state
        assert type(restored) is State


@pytest.mark.parametrize("restored", [pickle.loads(pickle.dumps(State())), copy.deepcopy(State())])
def test_a_restored_state_runs_as_fast_as_it_did(restored: State[Any, Any, Any]) -> None:
    assert restored.requests is NO_REQUESTS  # what a run asks several times in each iteration


@given(programs())
def test_a_loop_survives_pickling_and_copying(program: Program) -> None:
    loop = program.loop()
    for restored in (pickle.loads(pickle.dumps(loop)), copy.deepcopy(loop)):
        assert restored == loop
        assert hash(restored) == hash(loop)
        assert restored.table.compiled() == loop.table.compiled()


def double(batch: int) -> int:
    return 2 * batch


def first(state: State[Any, Any, Any]) -> int:
    return int(state.batch)


def is_late(state: State[Any, Any, Any]) -> bool:
    return state.iteration > 1


@given(filters(spans=("run", "epoch"), predicates=[is_late]))
def test_a_filter_survives_pickling_and_copying(filter: Filter) -> None:
    for restored in (pickle.loads(pickle.dumps(filter)), copy.deepcopy(filter)):
        assert restored == filter
        assert hash(restored) == hash(filter)


HALVED = Event("halved")
PARTS: list[Callable[[], Any]] = [
    lambda: outputs(double),
    lambda: stages(first).emit(HALVED).then(double),
    lambda: where(is_late),
    lambda: Events.EPOCH_STARTED(every=2, when=is_late) | Events.STARTED,
    lambda: Events.EXITED(where(is_late)),
    lambda: tap(first),
    lambda: evaluation(Loop(outputs(double)), (1, 2)),
    lambda: Loop(outputs(abs)) | evaluation(Loop(outputs(double)), (1, 2)),
    lambda: Loop(stages(first).emit(HALVED).then(double)).on(HALVED, State.terminate),
    lambda: Loop(outputs(double)).register(HALVED).on(HALVED(when=is_late), State.terminate),
]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: repr(part())[:40])
def test_whatever_a_loop_is_made_of_is_a_value(part: Callable[[], Any]) -> None:
    value = part()
    for again in (part(), pickle.loads(pickle.dumps(value)), copy.deepcopy(value)):
        assert again == value
        assert hash(again) == hash(value)


def test_a_restored_state_fires_like_the_original() -> None:
    table = Loop(outputs(double)).on(Events.ITERATION_COMPLETED(every=2), State.terminate).table
    state: State[Any, Any] = State(iteration=4, event=Events.ITERATION_COMPLETED)
    restored = pickle.loads(pickle.dumps(state))
    assert fire(table.compiled(), restored.event, restored) == state.terminate()
