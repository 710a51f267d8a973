"""Clipping stands between backward and the update, and is bitwise that of a loop by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from fengine import Events, Loop, NameTaken, State, outputs, stages
from fengine.features import clip_grad_norm, clip_grad_value, early_stopping, progress
from fengine.testing import assert_resume_exact
from fengine.training import Backprop, ForwardPass, Window, training_step, windows

Pair = tuple[Tensor, Tensor]
Clip = Callable[[nn.Module], Any]


def make(seed: int = 0) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
    return model, torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)


def batches(count: int = 5) -> list[Pair]:
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(6, 4, generator=generator), torch.randn(6, 1, generator=generator))
        for _ in range(count)
    ]


def training(model: nn.Module, optimizer: torch.optim.Optimizer) -> Loop[Pair, Tensor, None]:
    return Loop(training_step(model, optimizer, mse_loss))


def assert_bitwise_equal(one: nn.Module, other: nn.Module) -> None:
    for ours, its in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, its)


def gradients(module: nn.Module) -> list[Tensor]:
    return [one.grad for one in module.parameters() if one.grad is not None]


def train_by_hand(clip: Clip, data: list[Pair], epochs: int = 2) -> tuple[nn.Module, list[Any]]:
    """Train as a user without any engine would, and give the model and what clipping returns."""
    model, optimizer = make()
    torch.manual_seed(7)
    found = []
    for _ in range(epochs):
        for x, y in data:
            optimizer.zero_grad()
            mse_loss(model(x), y).backward()  # type: ignore[no-untyped-call]
            found.append(clip(model))
            optimizer.step()
    return model, found


WAYS: dict[str, tuple[Clip, Callable[[nn.Module], Any]]] = {
    "norm": (
        lambda model: nn.utils.clip_grad_norm_(model.parameters(), 0.1),
        lambda model: clip_grad_norm(model, 0.1),
    ),
    "whole norm": (
        lambda model: nn.utils.clip_grad_norm_(model.parameters(), 1),
        lambda model: clip_grad_norm(model, 1),
    ),
    "value": (
        lambda model: nn.utils.clip_grad_value_(model.parameters(), 0.01),
        lambda model: clip_grad_value(model, 0.01),
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_weights_are_bitwise_those_of_clipping_by_hand(way: str) -> None:
    by_hand, feature = WAYS[way]
    expected, _ = train_by_hand(by_hand, batches())
    model, optimizer = make()
    torch.manual_seed(7)
    (training(model, optimizer) | feature(model)).run(batches(), max_epochs=2)
    assert_bitwise_equal(model, expected)
    unclipped, _ = train_by_hand(lambda model: None, batches())
    assert not torch.equal(next(model.parameters()), next(unclipped.parameters()))


@pytest.mark.parametrize("way", WAYS)
def test_what_is_clipped_in_windows_are_the_gradients_of_the_window(way: str) -> None:
    by_hand, feature = WAYS[way]
    model, optimizer = make()
    seen: list[list[Tensor]] = []

    def look(state: Any, forward: ForwardPass) -> Any:
        seen.append([gradient.clone() for gradient in gradients(model)])
        return state

    step = training_step(model, optimizer, mse_loss)
    loop = Loop[Window[Pair], Tensor](step).on(Backprop.COMPLETED, look) | feature(model)
    loop.on(Backprop.COMPLETED, look).run(windows(batches(), 2))
    assert len(seen) == 6
    for before, after in zip(seen[::2], seen[1::2], strict=True):
        for parameter, gradient in zip(model.parameters(), before, strict=True):
            parameter.grad = gradient
        by_hand(model)
        assert all(map(torch.equal, after, gradients(model)))


def test_the_norm_before_clipping_is_a_metric_where_it_is_asked_for() -> None:
    def clip(model: nn.Module) -> Any:
        return float(nn.utils.clip_grad_norm_(model.parameters(), 0.1))

    _, norms = train_by_hand(clip, batches())
    model, optimizer = make()
    seen: list[float] = []

    def note(state: State[Pair, Tensor]) -> State[Pair, Tensor]:
        seen.append(state.metrics["norm"])
        return state

    torch.manual_seed(7)
    loop = training(model, optimizer) | clip_grad_norm(model, 0.1, metric="norm")
    assert loop.metrics["norm"] is Backprop.COMPLETED
    final = loop.on(Events.ITERATION_COMPLETED, note).run(batches(), max_epochs=2)
    assert seen == norms
    assert all(isinstance(norm, float) for norm in seen)
    assert max(norms) > 0.1
    assert final.metrics["norm"] == norms[-1]
    assert not (training(model, optimizer) | clip_grad_norm(model, 0.1)).run(batches()).metrics


def test_a_feature_after_it_may_read_the_norm() -> None:
    model, optimizer = make()
    loop = training(model, optimizer) | clip_grad_norm(model, 9.0, metric="norm")
    stop = early_stopping("norm", mode="max", patience=1)
    loop = loop | stop | progress("norm")
    final = (loop | early_stopping("norm", mode="min", patience=99, name="b")).run(batches())
    assert final.part(stop.part).since <= 1
    with pytest.raises(NameTaken, match="'norm'"):
        loop | clip_grad_norm(model, 1.0, metric="norm")


def test_only_the_gradients_of_the_model_are_clipped() -> None:
    model, optimizer = make()
    part = model.get_submodule("2")
    seen: list[list[float]] = []

    def note(state: Any, forward: ForwardPass) -> Any:
        for module in (model.get_submodule("0"), part):
            seen.append([float(gradient.norm()) for gradient in gradients(module)])
        return state

    loop = training(model, optimizer).on(Backprop.COMPLETED, note) | clip_grad_norm(part, 0.001)
    loop.on(Backprop.COMPLETED, note).run(batches(1))
    assert seen[0] == seen[2]
    assert math.hypot(*seen[1]) > 0.01
    assert math.hypot(*seen[3]) == pytest.approx(0.001, rel=1e-3)


def test_a_frozen_part_without_gradients_is_passed_over() -> None:
    model, optimizer = make()
    model.get_submodule("0").requires_grad_(False)
    loop = training(model, optimizer) | clip_grad_norm(model, 0.1, metric="norm")
    assert (loop | clip_grad_value(model, 0.1)).run(batches()).metrics["norm"] > 0


def test_handlers_stand_before_and_after_it_in_their_order() -> None:
    model, optimizer = make()
    seen: list[float] = []

    def note(state: Any, forward: ForwardPass) -> Any:
        seen.append(max(float(gradient.abs().max()) for gradient in gradients(model)))
        return state

    most = 2.0**-10
    loop = training(model, optimizer).on(Backprop.COMPLETED, note) | clip_grad_value(model, most)
    loop.on(Backprop.COMPLETED, note).run(batches(1))
    assert seen[0] > most == seen[1]


def test_it_goes_on_exactly_from_every_moment() -> None:
    def remake() -> Any:
        model, optimizer = make()
        loop = training(model, optimizer) | clip_grad_norm(model, 0.1, metric="norm")
        return loop | clip_grad_value(model, 0.01), batches(3), {"max_epochs": 2}

    assert_resume_exact(remake)


FEATURES: list[Callable[[nn.Module], Any]] = [
    lambda model: clip_grad_norm(model, 1.0),
    lambda model: clip_grad_value(model, 1.0),
]


@pytest.mark.parametrize("feature", FEATURES, ids=["norm", "value"])
def test_a_step_that_does_not_tell_where_gradients_are_is_refused(feature: Any) -> None:
    model, optimizer = make()
    said = (
        r"clip_grad_\w+\(Sequential of 49 parameters, 1.0\) acts at Backprop.COMPLETED, which the "
        r"step of this loop does not fire; put it after "
        r"Loop\(training_step\(...\)\), or have stages of your own emit"
    )

    def train(batch: Pair) -> float:
        optimizer.zero_grad()
        mse_loss(model(batch[0]), batch[1]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return 0.0

    whole: Any = outputs(train)
    two: Any = stages(lambda state: state.batch).then(train)
    loops: list[Loop[Any, Any, Any]] = [Loop(whole), Loop(two), Loop()]
    for loop in loops:
        with pytest.raises(ValueError, match=said):
            loop | feature(model)


@pytest.mark.parametrize("way", WAYS)
def test_stages_of_ones_own_that_tell_it_are_clipped_too(way: str) -> None:
    by_hand, feature = WAYS[way]
    expected, _ = train_by_hand(by_hand, batches())
    model, optimizer = make()

    def forward(state: State[Pair, Tensor]) -> ForwardPass:
        x, y = state.batch
        optimizer.zero_grad()
        y_pred = model(x)
        loss = mse_loss(y_pred, y)
        loss.backward()  # type: ignore[no-untyped-call]
        return ForwardPass(x, y, y_pred, loss)

    def update(made: ForwardPass) -> Tensor:
        optimizer.step()
        return made.loss.detach()

    step = stages(forward).emit(Backprop.COMPLETED).then(update)
    torch.manual_seed(7)
    loop: Any = Loop(step)
    (loop | feature(model)).run(batches(), max_epochs=2)
    assert_bitwise_equal(model, expected)


@pytest.mark.parametrize("make_feature", [clip_grad_norm, clip_grad_value])
def test_wrong_arguments_are_refused_when_the_feature_is_made(make_feature: Any) -> None:
    model, optimizer = make()
    with pytest.raises(TypeError, match="model is the class Linear; give an instance"):
        make_feature(nn.Linear, 1.0)
    for no_model in (optimizer, list(model.parameters()), None):
        with pytest.raises(TypeError, match=r"give an instance of torch\.nn\.Module"):
            make_feature(no_model, 1.0)
    for other in (True, "1", None, torch.tensor(1.0)):
        with pytest.raises(TypeError, match=r"max_(norm|value)=.* is not a number"):
            make_feature(model, other)
    for number in (0, 0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match=r"max_(norm|value)=.* is not above 0"):
            make_feature(model, number)


def test_the_name_of_the_metric_is_a_string() -> None:
    model, _ = make()
    with pytest.raises(TypeError, match="clip_grad_norm takes the name of a metric, not 3"):
        clip_grad_norm(model, 1.0, metric=3)  # type: ignore[arg-type]
