"""Laws of trees: what is split is joined again, with its types and to the bit."""

from __future__ import annotations

import json
import math
from collections import Counter, OrderedDict, defaultdict
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from immutables import Map
from torch import nn

from fengine.checkpoints.tree import NotPlain, join, split

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.complex_numbers(allow_nan=False)
    | st.sampled_from([torch.float16, torch.bool, torch.device("cpu"), torch.Size([2, 3])])
    | st.floats(allow_nan=False).map(np.float64)
    | st.integers(-100, 100).map(np.int8)
)
KEYS = st.integers() | st.text() | st.booleans() | st.sampled_from(["$tensor", "$dict", ""])
HASHABLE = st.integers() | st.text()
TREES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(KEYS, inner, max_size=3)
        | st.dictionaries(KEYS, inner, max_size=3).map(OrderedDict)
        | st.dictionaries(HASHABLE, inner, max_size=3).map(Map)
        | st.sets(HASHABLE, max_size=3)
        | st.frozensets(HASHABLE, max_size=3)
        | st.lists(HASHABLE, max_size=4).map(Counter)
    ),
    max_leaves=8,
)


def back(tree: object) -> Any:
    plain, tensors = split(tree)
    return join(json.loads(json.dumps(plain, allow_nan=False)), tensors.__getitem__)


def shown(tree: Any) -> Any:
    """Return what tells two trees apart that `==` does not: types, order and signs."""
    if isinstance(tree, dict | Map):
        pairs = [(shown(key), shown(value)) for key, value in tree.items()]
        return type(tree), sorted(pairs, key=repr) if isinstance(tree, Map) else pairs
    if isinstance(tree, list | tuple):
        return type(tree), [shown(one) for one in tree]
    if isinstance(tree, set | frozenset):
        return type(tree), sorted(map(repr, tree))
    return type(tree), repr(tree)


@given(TREES)
def test_a_tree_is_joined_as_it_was_split(tree: Any) -> None:
    assert shown(back({"tree": tree})) == shown({"tree": tree})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.0, 5e-324, "\ud800", 10**400])
def test_odd_values_come_back(value: object) -> None:
    assert repr(back([value])[0]) == repr(value)


DTYPES = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float8_e4m3fn,
    torch.int64,
    torch.uint8,
    torch.bool,
    torch.complex64,
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (2, 3)])
def test_tensors_of_each_dtype_and_shape_come_back(dtype: torch.dtype, shape: Any) -> None:
    tensor = torch.ones(shape).to(dtype)
    found = back({"t": tensor})["t"]
    assert (found.dtype, found.shape) == (tensor.dtype, tensor.shape)
    assert torch.equal(found.to(torch.complex64), tensor.to(torch.complex64))


def test_tensors_come_back_as_they_lay() -> None:
    base = torch.arange(12.0).reshape(3, 4)
    tree = {
        "transposed": base.t(),
        "part": base[:, 1:3],
        "row": base[1],
        "expanded": torch.ones(1).expand(4),
        "conjugate": torch.tensor([1 + 2j]).conj(),
        "parameter": nn.Parameter(base.clone()),
        "last": base.reshape(1, 3, 2, 2).to(memory_format=torch.channels_last),
    }
    found = back(tree)
    for name, tensor in tree.items():
        assert type(found[name]) is torch.Tensor
        assert torch.equal(found[name], tensor.detach()), name
        assert not found[name].requires_grad
    assert found["transposed"].stride() == tree["transposed"].stride()


def test_tied_tensors_are_written_once_and_are_one_again() -> None:
    weight = torch.ones(3)
    plain, tensors = split({"a": weight, "b": weight, "c": weight.view(3)})
    assert len(tensors) == 1
    found = join(plain, tensors.__getitem__)
    assert found["a"] is found["b"] is found["c"]


def test_a_tensor_that_can_be_written_as_it_lies_is_not_copied() -> None:
    weight = torch.ones(3)
    _, tensors = split({"a": {"b": weight}})
    assert tensors["a.b"].data_ptr() == weight.data_ptr()


def test_names_of_tensors_are_told_apart() -> None:
    one, two = torch.ones(1), torch.zeros(1)
    found = back({"a.b": {"c": one}, "a": {"b.c": two}, "e": {"1": one.clone(), 1: two.clone()}})
    assert (found["a.b"]["c"], found["a"]["b.c"]) == (one, two)
    assert (found["e"]["1"], found["e"][1]) == (one, two)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.uint32).reshape(2, 3),
        np.zeros((0, 2)),
        np.array(2.5),
        np.array([True, False]),
        np.arange(4, dtype=np.int64)[::2],
    ],
)
def test_arrays_come_back(array: Any) -> None:
    found = back({"a": array})["a"]
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    assert np.array_equal(found, array)


def test_the_versions_of_modules_come_back() -> None:
    state = nn.BatchNorm1d(2).state_dict()
    assert back(state)._metadata == state._metadata  # type: ignore[attr-defined]


NO_TENSORS = dict[str, torch.Tensor]().__getitem__


class Own:
    pass


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (len, "builtin_function_or_method"),
        (Own(), "Own"),
        (Own, "type"),
        (defaultdict(list), "defaultdict"),
        (torch.eye(2).to_sparse(), "sparse"),
        (torch.empty(2, device="meta"), "meta"),
        (np.array(["a"]), "dtype <U1"),
        (np.array([object()]), "dtype object"),
    ],
)
def test_what_is_not_plain_is_refused_by_its_path(value: object, said: str) -> None:
    with pytest.raises(NotPlain, match=rf"^one\.2\.bad .*{said}"):
        split({"one": [0, 0, {"bad": value}]})


def test_a_tree_that_is_too_deep_is_refused() -> None:
    deep: Any = []
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(NotPlain, match="100 levels"):
        split(deep)
    with pytest.raises(NotPlain, match="100 levels"):
        join(deep, NO_TENSORS)
    around: Any = []
    around.append(around)
    with pytest.raises(NotPlain, match="100 levels"):
        split(around)


@pytest.mark.parametrize(
    "plain",
    [
        {"$tensor": "none"},
        {"$tensor": 3},
        {"$dtype": "ones"},
        {"$dtype": "nn"},
        {"$device": "moon"},
        {"$float": "0x"},
        {"$bytes": "%"},
        {"$complex": [1, 2, 3]},
        {"$dict": [1, 2]},
        {"$number": "AA==", "dtype": "O"},
        {"$array": None, "dtype": "O", "shape": [1]},
        {"$import": "os"},
        {"$": 1},
    ],
)
def test_what_no_tree_was_split_into_is_refused(plain: Any) -> None:
    with pytest.raises(NotPlain):
        join({"a": plain}, NO_TENSORS)
