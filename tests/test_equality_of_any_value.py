"""Equality of states is a bool, and the right one, whatever a state holds."""

from __future__ import annotations

import collections
import copy
import pickle
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import attrs
import numpy as np
import pandas as pd
import pytest
import torch
from typing_extensions import override

from fengine import Loop, Snapshot, State, diff, first_difference, outputs

RECORD = np.dtype([("a", int), ("b", float)])
NAN = float("nan")
masked: Any = np.ma.array
coo: Any = partial(torch.sparse_coo_tensor, check_invariants=True)


def array_of(*elements: Any) -> Any:
    made = np.empty(len(elements), dtype=object)
    for place, element in enumerate(elements):
        made[place] = element
    return made


def record_of(*rows: Any) -> Any:
    return np.array([*rows], RECORD)


def nested(layout: Any, *rows: list[float]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls them a prototype
        return torch.nested.nested_tensor(list(map(torch.tensor, rows)), layout=layout)


def sparse(convert: Callable[[Any], Any], corner: float = 3.0) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls some of them a beta
        return convert(torch.tensor([[0.0, 1.0, 0.0, 0.0], [2.0, 0.0, 0.0, corner]]))


def ring(first: int) -> Any:
    made: list[Any] = [first]
    made.append(made)
    return made


def map_of_itself(first: int) -> Any:
    made: dict[str, Any] = {"first": first}
    made["itself"] = made
    return made


def nest(depth: int, inmost: object) -> Any:
    made = inmost
    for _ in range(depth):
        made = [made]
    return made


class Raising:
    def __init__(self, held: Any) -> None:
        self.held = held

    @override
    def __eq__(self, other: object) -> bool:
        raise KeyError("it does not compare")

    __hash__ = None  # type: ignore[assignment]


class Elementwise(Raising):
    @override
    def __eq__(self, other: Any) -> Any:
        return self.held == other.held

    __hash__ = None


class InSlots:
    __slots__ = ("held",)

    def __init__(self, held: Any) -> None:
        self.held = held

    @override
    def __eq__(self, other: object) -> bool:
        raise ValueError("it does not compare")

    __hash__ = None  # type: ignore[assignment]


class Frame:
    """Compare element by element, and have `equals`, as the frames of most libraries do."""

    def __init__(self, *held: int) -> None:
        self.held = held

    @override
    def __eq__(self, other: object) -> Any:
        return np.array([True, False])

    def equals(self, other: Any) -> bool:
        return bool(self.held == other.held)

    __hash__ = None  # type: ignore[assignment]


@attrs.frozen
class Bag:
    members: tuple[int, ...] = attrs.field(eq=frozenset)


FRAME = pd.DataFrame({"a": [1, 2], "b": ["x", None]})
ROWS = pd.MultiIndex.from_tuples([(1, 2), (3, 4)], names=["one", "two"])
COMPRESSED: list[Callable[[Any], Any]] = [
    lambda t: t.to_sparse(),
    lambda t: t.to_sparse(1),
    lambda t: t.to_sparse_csr(),
    lambda t: t.to_sparse_csc(),
    lambda t: t.to_sparse_bsr((1, 2)),
    lambda t: t.to_sparse_bsc((1, 2)),
]
NARROW = [
    torch.bfloat16,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.uint16,
    torch.uint32,
    torch.uint64,
]

# What equals a copy of itself, beside what it does not equal though it looks alike.
CASES: list[tuple[Any, Any]] = [
    (array_of(np.ones(2), np.ones(3)), array_of(np.ones(2), np.zeros(3))),
    (array_of(None, NAN), array_of(None, 0.0)),
    (array_of(torch.ones(2)), array_of(torch.zeros(2))),
    (array_of(array_of(np.ones(2))), array_of(array_of(np.ones(3)))),
    (masked([1, 2], mask=[0, 1]), masked([1, 2], mask=[1, 0])),
    (masked([1.0, NAN]), masked([1.0, 2.0])),
    (masked([1, 2]), masked([1, 2], mask=[0, 1])),
    (masked([1, 2], mask=[0, 1]), masked([3, 2], mask=[0, 1])),
    (masked([(1, 2.0)], RECORD, mask=[(0, 1)]), masked([(1, 2.0)], RECORD)),
    (record_of((1, NAN)), record_of((2, NAN))),
    (record_of((1, NAN)), record_of((1, 0.0))),
    (record_of((1, NAN))[0], record_of((2, NAN))[0]),
    (record_of((1, NAN)).view(np.recarray), record_of((2, NAN)).view(np.recarray)),
    (np.array(["NaT"], "M8[s]"), np.array(["2020"], "M8[s]")),
    (np.array(["a"], np.dtypes.StringDType()), np.array(["b"], np.dtypes.StringDType())),
    (np.void(b"ab"), np.void(b"ac")),
    (pd.Series([1.0, NAN]), pd.Series([1.0, 2.0])),
    (pd.Series([1, 2]), pd.Series([1, 2], index=[1, 2])),
    (pd.Series([1, 2]), pd.Series([1, 2, 3])),
    (pd.Series([1], name="a"), pd.Series([1], name="b")),
    (pd.Series([1]), pd.Series([1.0])),
    (pd.Series([np.ones(2), None]), pd.Series([np.zeros(2), None])),
    (pd.Series([1, None], dtype="Int64"), pd.Series([2, None], dtype="Int64")),
    (FRAME, FRAME.assign(a=[1, 3])),
    (FRAME, FRAME.rename(columns={"a": "c"})),
    (FRAME, FRAME.astype({"a": float})),
    (FRAME, FRAME.iloc[:1]),
    (FRAME.astype({"b": "category"}), FRAME),
    (FRAME.set_index(ROWS), FRAME),
    (pd.DataFrame(), pd.DataFrame({"a": []})),
    (pd.DataFrame({"a": [np.ones(2)]}), pd.DataFrame({"a": [np.zeros(2)]})),
    (pd.Index([1, 2]), pd.Index([1, 3])),
    (ROWS, ROWS.rename(["one", "three"])),
    (pd.array([1, None]), pd.array([2, None])),
    (pd.Categorical(["a"]), pd.Categorical(["b"])),
    (pd.CategoricalDtype(["a"]), pd.CategoricalDtype(["b"])),
    (pd.Timestamp("2020"), pd.Timestamp("2021")),
    (pd.NA, None),
    *(
        (nested(layout, [1.0, NAN], [3.0]), nested(layout, [1.0], [NAN, 3.0]))
        for layout in (
            torch.strided,
            torch.jagged,
        )
    ),
    (nested(torch.strided, [1.0]), torch.tensor([[1.0]])),
    *((sparse(convert), sparse(convert, NAN)) for convert in COMPRESSED),
    (torch.ones(2).to_sparse(), torch.ones(2)),
    (torch.zeros(2, 2).to_sparse(), torch.zeros(2, 3).to_sparse()),
    *((torch.tensor([1, 2]).to(dtype), torch.tensor([1, 4]).to(dtype)) for dtype in NARROW),
    (ring(1), ring(2)),
    (map_of_itself(1), map_of_itself(2)),
    (nest(400, 1), nest(400, 2)),
    (Raising(np.ones(2)), Raising(np.zeros(2))),
    (Elementwise(np.ones(2)), Elementwise(np.zeros(2))),
    (Elementwise([Elementwise(np.ones(2))]), Elementwise([Elementwise(np.zeros(2))])),
    (InSlots(np.ones(2)), InSlots(np.zeros(2))),
    (Frame(1), Frame(2)),
    (Bag((1, 2)), Bag((1, 3))),
    (complex(NAN, 1.0), complex(NAN, 2.0)),
    (collections.OrderedDict(a=np.ones(2)), collections.OrderedDict(a=np.zeros(2))),
    (collections.deque([np.ones(2)]), collections.deque([np.zeros(2)])),
]


def copied(value: object) -> Any:
    try:
        return copy.deepcopy(value)
    except RuntimeError:  # of nested tensors
        return pickle.loads(pickle.dumps(value))


@pytest.mark.parametrize(("value", "other"), CASES, ids=range(len(CASES)))
def test_it_equals_its_copy_and_not_another_one(value: Any, other: Any) -> None:
    for field in ("user", "output", "batch"):
        state, twin, unlike = (
            State[Any, Any, Any](**{field: held}) for held in (value, copied(value), other)
        )
        assert (state == twin) is True
        assert (twin == state) is True
        assert (state == unlike) is False
        assert (unlike == state) is False
        assert (State(user=[value]) == State(user=[copied(value)])) is True
        assert (Snapshot(State(), {"a": value}) == Snapshot(State(), {"a": other})) is False


@pytest.mark.parametrize(("value", "other"), CASES, ids=range(len(CASES)))
def test_what_differs_is_said_where_it_is_not_equal(value: Any, other: Any) -> None:
    assert not diff(State(user=value), State(user=copied(value)))
    found = diff(State(user=value), State(user=other))
    assert found
    for line in str(found).splitlines():
        assert line.startswith("user")


def test_what_is_stored_in_another_way_has_the_same_content() -> None:
    coalesced = coo([[0], [1]], [1.0], (2, 4))
    twice = coo([[0, 0], [1, 1]], [0.5, 0.5], (2, 4))
    zero = coo([[0, 1], [1, 1]], [1.0, 0.0], (2, 4))
    hybrid = coo([[0]], [[0.0, 1.0, 0.0, 0.0]], (2, 4))
    pairs: list[tuple[Any, Any]] = [
        (coalesced, twice),
        (coalesced, zero),
        (coalesced, hybrid),
        (masked([1, 2], mask=[0, 1]), masked([1, 3], mask=[0, 1])),
        (masked([1, 2]), masked([1, 2], mask=[0, 0])),
        (pd.Series([1, 2]), pd.Series([1, 2], index=[0, 1])),
        (Bag((1, 2)), Bag((2, 1))),
        (ring(1), [1, ring(1)]),
        ({"a": np.ones(2)}, collections.OrderedDict(a=np.ones(2))),
    ]
    for a, b in pairs:
        assert (State(user=a) == State(user=b)) is True
        assert (State(user=b) == State(user=a)) is True


def test_values_nested_deeper_than_python_calls_compare() -> None:
    assert (State(user=nest(5000, 1)) == State(user=nest(5000, 1))) is True
    assert (State(user=nest(5000, 1)) == State(user=nest(5000, 2))) is False
    (difference,) = diff(nest(2000, 1), nest(2000, 2))
    assert (difference.before, difference.after) == (1, 2)


def test_a_value_that_holds_itself_differs_in_its_parts() -> None:
    assert str(diff(State(user=ring(1)), State(user=ring(2)))) == "user[0]: 1 -> 2"
    assert str(diff(map_of_itself(1), map_of_itself(2))) == "first: 1 -> 2"


def test_differences_of_arrays_and_frames_are_one_line() -> None:
    both: list[tuple[Any, Any, str]] = [
        (nested(torch.strided, [1.0]), nested(torch.strided, [2.0]), "nested Tensor float32 of 1"),
        (sparse(COMPRESSED[0]), sparse(COMPRESSED[0], 4.0), "some elements differ"),
        (FRAME, FRAME.assign(a=[1, 3]), "DataFrame of shape (2, 2): some elements differ"),
        (pd.Series([1]), pd.Series([1, 2]), "Series of shape (1,) -> Series of shape (2,)"),
        (np.array([1, 2]), np.array([1, 3]), "1 of 2 elements differ"),
    ]
    for before, after, said in both:
        text = str(diff(State(user=before), State(user=after)))
        assert said in text
        assert "\n" not in text


def test_runs_over_frames_are_compared() -> None:
    loop: Any = Loop(outputs(lambda frame: frame * 2))
    assert first_difference(loop.iterate([FRAME]), loop.iterate([FRAME.copy()])) is None
    assert first_difference(loop.iterate([FRAME]), loop.iterate([FRAME.iloc[:1]])) is not None
