"""A metric is one number, a float from where it is set on; anything else is refused there."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import attrs
import numpy as np
import pandas as pd
import pytest
import torch

from fengine import Events, Loop, State, outputs
from fengine.features import evaluation

NUMBERS: list[Any] = [
    0.5,
    np.float32(0.5),
    np.float64(0.5),
    np.array(0.5),
    np.array([[0.5]]),
    np.ma.array(0.5),
    torch.tensor(0.5),
    torch.tensor([0.5], requires_grad=True),
    torch.tensor(0.5, dtype=torch.bfloat16),
    pd.Series([0.5]),
    Decimal("0.5"),
    Fraction(1, 2),
]
REFUSED: list[Any] = [
    None,
    True,
    np.True_,
    torch.tensor(True),
    "0.5",
    b"0.5",
    np.str_("0.5"),
    [0.5],
    0.5j,
    torch.tensor(0.5j),
    10**400,
    np.array([0.5, 0.5]),
    np.array([]),
    torch.ones(2),
    np.ma.masked,
    pd.Series([0.5, 0.5]),
    pd.DataFrame({"a": [0.5]}),
]


@pytest.mark.parametrize("value", NUMBERS, ids=range(len(NUMBERS)))
def test_one_number_is_a_float_wherever_it_is_set(value: Any) -> None:
    made: tuple[State[Any, Any], ...] = (
        State().with_metric("m", value),
        State().evolve(metrics={"m": value}),
        State(metrics={"m": value}),
        attrs.evolve(State(), metrics={"m": value}),
    )
    for state in made:
        assert type(state.metrics["m"]) is float
        assert json.loads(json.dumps(state.to_dict()))["metrics"] == {"m": 0.5}


def test_an_int_is_a_float_too() -> None:
    for one in (1, np.int64(1), torch.tensor(1), np.array([1], dtype=np.uint8)):
        assert repr(State().with_metric("m", one).metrics["m"]) == "1.0"


@pytest.mark.parametrize("value", REFUSED, ids=range(len(REFUSED)))
def test_anything_else_is_refused_where_it_is_set(value: Any) -> None:
    state: Any = State()
    ways: list[Callable[[], Any]] = [
        lambda: state.with_metric("m", value),
        lambda: state.evolve(metrics={"m": value}),
        lambda: State(metrics={"m": value}),
        lambda: attrs.evolve(state, metrics={"m": value}),
    ]
    for setting in ways:
        with pytest.raises(TypeError, match=r"the metric 'm' is .* not one number"):
            setting()


def test_the_error_shows_what_was_given() -> None:
    state: Any = State()
    with pytest.raises(TypeError, match=r"Tensor of shape \(2,\), and not one number.*its mean"):
        state.with_metric("loss", torch.ones(2))
    with pytest.raises(TypeError, match="leave the metric out"):
        state.with_metric("loss", None)
    with pytest.raises(TypeError, match="a metric has the name 3 of type int"):
        state.with_metric(3, 0.5)


def test_in_a_run_it_is_refused_in_the_handler_that_sets_it() -> None:
    def report(state: Any) -> Any:
        return state.with_metric("all", torch.ones(3))

    loop: Any = Loop(outputs(abs)).on(Events.EPOCH_COMPLETED, report)
    with pytest.raises(TypeError, match="not one number") as caught:
        loop.run([1])
    assert "in handler test_in_a_run" in caught.value.__notes__[0]


def test_metrics_that_pass_through_an_evaluation_are_floats() -> None:
    def report(state: Any) -> Any:
        return state.with_metric("m", np.float32(0.5))

    inner: Any = Loop(outputs(abs)).on(Events.COMPLETED, report)
    loop: Any = Loop(outputs(abs)) | evaluation(inner, [1], prefix="")
    assert type(loop.run([1]).metrics["m"]) is float
