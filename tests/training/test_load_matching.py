"""What fits a model is loaded, the rest is listed, and an error changes nothing."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from typing_extensions import override

from fengine import diff
from fengine.training import Matched, load_matching

SHAPES = st.dictionaries(st.sampled_from("abcd"), st.integers(1, 3))


def holding(sizes: Mapping[str, int]) -> nn.ParameterDict:
    return nn.ParameterDict({name: torch.randn(size) for name, size in sizes.items()})


@given(SHAPES, SHAPES)
def test_law_each_name_is_in_one_list(wanted: dict[str, int], given_: dict[str, int]) -> None:
    model, trained = holding(wanted), holding(given_).state_dict()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    matched = load_matching(model, trained)
    assert sorted(matched.loaded + matched.missing + matched.misfit) == sorted(wanted)
    assert sorted(matched.loaded + matched.unexpected + matched.misfit) == sorted(given_)
    for name, value in model.state_dict().items():
        assert torch.equal(value, (trained if name in matched.loaded else before)[name])


def test_a_state_dict_that_fits_is_loaded_as_torch_loads_it() -> None:
    def make() -> nn.Sequential:
        return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))

    trained, model, theirs = make(), make(), make()
    trained(torch.randn(5, 2))
    theirs.load_state_dict(trained.state_dict())
    held = list(model.parameters())
    matched = load_matching(model, trained.state_dict())
    assert matched == Matched(tuple(sorted(theirs.state_dict())), (), (), ())
    assert not diff(model.state_dict(), theirs.state_dict())
    assert all(one is other for one, other in zip(held, model.parameters(), strict=True))


def test_a_prefix_is_not_guessed_and_is_told() -> None:
    trained = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    wrapped = {f"module.{name}": value for name, value in trained.state_dict().items()}
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    matched = load_matching(model, wrapped)
    assert matched.loaded == ()
    assert str(matched) == (
        "loaded 0 of 4\n"
        "missing 4: 0.bias, 0.weight, 1.bias, 1.weight\n"
        "unexpected 4, which all begin with 'module.': "
        "module.0.bias, module.0.weight, module.1.bias, module.1.weight"
    )
    plain = {name.removeprefix("module."): value for name, value in wrapped.items()}
    assert str(load_matching(model, plain)) == "loaded 4 of 4"


def test_names_with_no_common_beginning_have_none_told() -> None:
    matched = Matched((), (), ("head.bias", "header.bias", "x"), ())
    assert str(matched) == "loaded 0 of 0\nunexpected 3: head.bias, header.bias, x"
    matched = Matched((), (), ("head.bias", "header.bias"), ())
    assert str(matched) == "loaded 0 of 0\nunexpected 2: head.bias, header.bias"
    assert str(Matched((), (), ("a.b.c",), ())) == "loaded 0 of 0\nunexpected 1: a.b.c"


def test_of_many_names_the_first_are_printed() -> None:
    names = tuple(f"{number:02}" for number in range(20))
    assert str(Matched((), names, (), ())).endswith("05, 06, 07, and 12 more")


def test_it_pickles_and_compares() -> None:
    model = nn.Linear(2, 1)
    matched = load_matching(model, nn.Linear(3, 1).state_dict())
    assert matched == Matched(("bias",), (), (), ("weight",)) == pickle.loads(pickle.dumps(matched))
    assert str(matched) == "loaded 1 of 2\nmisfit 1: weight (1, 3) instead of (1, 2)"
    assert repr(matched) == (
        "Matched(loaded=('bias',), missing=(), unexpected=(), misfit=('weight',))"
    )


class Extra(nn.Module):
    """Have something beside its tensors, and raise where it is told to."""

    def __init__(self, extra: object, fails: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2))
        self.extra, self.fails = extra, fails

    @override
    def get_extra_state(self) -> object:
        return self.extra

    @override
    def set_extra_state(self, state: Any) -> None:
        self.extra = state
        if self.fails and state == "new":
            raise RuntimeError("the extra state is not taken")


def test_what_a_module_saves_beside_its_tensors_is_loaded() -> None:
    model = nn.Sequential(Extra("old"))
    assert load_matching(model, nn.Sequential(Extra("new")).state_dict()).missing == ()
    assert model[0].extra == "new"


def test_an_error_changes_nothing() -> None:
    model = nn.Sequential(nn.Linear(2, 2), Extra("old", fails=True), nn.Linear(2, 2))
    before = {name: value for name, value in model.state_dict().items() if name != "1._extra_state"}
    before = {name: value.clone() for name, value in before.items()}
    trained = nn.Sequential(nn.Linear(2, 2), Extra("new"), nn.Linear(2, 2))
    with pytest.raises(RuntimeError, match="the extra state is not taken"):
        load_matching(model, trained.state_dict())
    after = model.state_dict()
    assert after.pop("1._extra_state") == "old"
    assert not diff(before, dict(after))


def test_a_shared_weight_keeps_one_value() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = model[0].weight
    weights: dict[str, Tensor] = {"0.weight": torch.ones(2, 2)}
    assert load_matching(model, weights).missing == ("0.bias", "1.bias", "1.weight")
    assert torch.equal(model.state_dict()["1.weight"], torch.ones(2, 2))


def test_a_lazy_layer_takes_the_shape_that_is_given() -> None:
    model = nn.LazyLinear(3)
    assert load_matching(model, nn.Linear(2, 3).state_dict()).loaded == ("bias", "weight")
    assert model.weight.shape == (3, 2)


def test_values_that_are_no_tensors_do_not_fit() -> None:
    matched = load_matching(nn.Linear(1, 1), {"weight": [[1.0]], "bias": None})
    assert matched.misfit == ("bias", "weight")
    assert "weight a list instead of (1, 1)" in str(matched)


def test_a_whole_checkpoint_is_all_unexpected() -> None:
    model = nn.Linear(1, 1)
    matched = load_matching(model, {"model": model.state_dict(), "epoch": 3})
    assert (matched.loaded, matched.unexpected) == ((), ("epoch", "model"))
    assert load_matching(model, {}).missing == ("bias", "weight")


@pytest.mark.parametrize(
    ("model", "given", "said"),
    [
        (nn.Linear, {}, "model is the class Linear; give an instance"),
        (nn.Linear(1, 1), nn.Linear(1, 1), "state_dict is a Linear; give its state_dict"),
        (nn.Linear(1, 1), "model.pt", "state_dict is of type str, not a mapping"),
        (nn.Linear(1, 1), {0: torch.ones(1)}, "has the key 0 of type int"),
    ],
)
def test_bad_input_is_refused(model: Any, given: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        load_matching(model, given)
