"""A training stops on what is not finite, and its weights are those of the iteration before."""

from __future__ import annotations

import copy
import logging
import math
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from fengine import SKIP_BATCH, Events, Loop, State, last_state, outputs, stages
from fengine.features import StopOnNan, clip_grad_norm, ema, stop_on_nan
from fengine.metrics import mean
from fengine.testing import assert_resume_exact
from fengine.training import (
    Backprop,
    ForwardPass,
    Update,
    Updated,
    Window,
    training_step,
    windows,
)
from tests.features.digests import digest
from tests.features.peers import ignite_trainer

Pair = tuple[Tensor, Tensor]
BOTH = pytest.mark.parametrize("gradients", [False, True], ids=["loss", "gradients"])


def make() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    return model, torch.optim.Adam(model.parameters(), lr=0.05)


def batches(count: int = 6, *, bad: float | None = None, place: int = 3) -> list[Pair]:
    """Make batches, one of which has a target that is not finite."""
    generator = torch.Generator().manual_seed(1)
    made = [
        (torch.randn(6, 4, generator=generator), torch.randn(6, 1, generator=generator))
        for _ in range(count)
    ]
    if bad is not None:
        made[place - 1][1][2] = bad
    return made


def training(
    model: nn.Module, optimizer: torch.optim.Optimizer, **options: Any
) -> Loop[Pair, Tensor, None]:
    return Loop(training_step(model, optimizer, mse_loss, **options))


def trained(data: list[Pair], epochs: int = 1) -> str:
    """Train without the guard, and give the digest of what comes of it."""
    model, optimizer = make()
    training(model, optimizer).run(data, max_epochs=epochs)
    return digest(model, optimizer)


@BOTH
@pytest.mark.parametrize(("bad", "shown"), [(math.nan, "nan"), (math.inf, "inf")])
def test_the_weights_are_those_of_the_iteration_before(
    gradients: bool, bad: float, shown: str
) -> None:
    model, optimizer = make()
    loop = training(model, optimizer) | stop_on_nan(gradients=gradients)
    data = batches(bad=bad)
    said = rf"the loss is {shown} at epoch 1, iteration 3, so nothing is updated: the parameters"
    with pytest.raises(FloatingPointError, match=said) as caught:
        loop.run(data)
    assert digest(model, optimizer) == trained(data[:2])
    assert last_state(caught.value).iteration == 3
    batch: Any = last_state(caught.value).batch
    assert batch is data[2]


@BOTH
def test_in_a_later_epoch_it_names_that(gradients: bool) -> None:
    model, optimizer = make()
    loop = training(model, optimizer) | stop_on_nan(gradients=gradients)
    data = batches(3)

    def spoil(state: State[Pair, Tensor]) -> State[Pair, Tensor]:
        return state.evolve(batch=(state.batch[0] * math.nan, state.batch[1]))

    with pytest.raises(FloatingPointError, match="the loss is nan at epoch 2, iteration 5"):
        loop.on(Events.ITERATION_STARTED(once=5), spoil).run(data, max_epochs=2)
    assert digest(model, optimizer) == trained([*data, data[0]])


@BOTH
def test_what_is_finite_is_left_as_it_is(gradients: bool) -> None:
    model, optimizer = make()
    loop = training(model, optimizer) | stop_on_nan(gradients=gradients)
    loop.run(batches(), max_epochs=2)
    assert digest(model, optimizer) == trained(batches(), epochs=2)


def skip(state: State[Any, Tensor], error: BaseException) -> State[Any, Tensor]:
    return state.recover(SKIP_BATCH) if isinstance(error, FloatingPointError) else state


@BOTH
def test_a_handler_leaves_the_batch_out_and_goes_on(gradients: bool) -> None:
    model, optimizer = make()
    loop = training(model, optimizer) | stop_on_nan(gradients=gradients) | mean("loss")
    data = batches(bad=math.nan)
    final = loop.on(Events.EXCEPTION_RAISED, skip).run(data, max_epochs=2)
    assert digest(model, optimizer) == trained(data[:2] + data[3:], epochs=2)
    assert (final.epoch, final.iteration) == (2, 12)
    assert math.isfinite(final.metrics["loss"])


def test_another_exception_is_not_recovered_from() -> None:
    model, optimizer = make()
    loop = (training(model, optimizer) | stop_on_nan()).on(Events.EXCEPTION_RAISED, skip)
    with pytest.raises(TypeError, match="batch"):
        loop.run([1])  # type: ignore[list-item]


def test_in_windows_it_judges_the_loss_of_the_whole_window() -> None:
    for place in (3, 4):  # the first batch of a window, and its last one
        model, optimizer = make()
        step = training_step(model, optimizer, mse_loss)
        loop = Loop[Window[Pair], Tensor](step) | stop_on_nan()
        with pytest.raises(FloatingPointError, match="the loss is nan at epoch 1, iteration 2"):
            loop.run(windows(batches(bad=math.nan, place=place), 2))
        anew, of_anew = make()
        plain = Loop[Window[Pair], Tensor](training_step(anew, of_anew, mse_loss))
        plain.run(windows(batches()[:2], 2))
        assert digest(model, optimizer) == digest(anew, of_anew)


def test_what_forward_changes_by_itself_has_been_changed() -> None:
    torch.manual_seed(0)
    norm, last = nn.BatchNorm1d(4), nn.Linear(4, 1)
    model = nn.Sequential(norm, last)
    loop = training(model, torch.optim.SGD(model.parameters(), lr=0.1)) | stop_on_nan()
    before = digest(last)
    with pytest.raises(FloatingPointError):
        loop.run([(torch.full((6, 4), math.nan), torch.ones(6, 1))])
    assert digest(last) == before
    assert norm.running_mean is not None
    assert norm.running_mean.isnan().all()


# Gradients.


def spoil(tensor: Tensor) -> Tensor:
    return tensor.sqrt() - tensor.sqrt().detach()  # whose gradient at 0 is infinite


def infinite_gradients() -> tuple[nn.Module, torch.optim.Optimizer, Loop[Pair, Tensor, None]]:
    """Make a loss that is finite, with gradients that are not."""
    model, optimizer = make()

    def loss(module: nn.Module, batch: Pair) -> Tensor:
        first: Any = module.get_submodule("0")
        zero = (first.weight * 0).sum() if batch[1].isnan().any() else torch.zeros(())
        return mse_loss(module(batch[0]), batch[1].nan_to_num()) + spoil(zero)

    return model, optimizer, Loop(training_step(model, optimizer, loss=loss))


def test_gradients_are_judged_where_that_is_asked_for() -> None:
    data = batches(bad=math.nan)
    model, optimizer, loop = infinite_gradients()
    said = (
        r"the gradients of model\.0\.weight are not finite, where the loss is [0-9.]+, "
        "at epoch 1, iteration 3, so nothing is updated"
    )
    with pytest.raises(FloatingPointError, match=said):
        (loop | stop_on_nan(gradients=True)).run(data)
    found = digest(model, optimizer)
    model, optimizer, loop = infinite_gradients()
    loop.run(data[:2])
    assert found == digest(model, optimizer)
    with pytest.raises(FloatingPointError, match="the loss is nan at epoch 1, iteration 4"):
        (loop | stop_on_nan()).run(data)
    assert not all(one.isfinite().all() for one in model.parameters())


def test_the_first_parameters_that_are_not_finite_are_named_once() -> None:
    model, optimizer = make()

    def poison(state: Any, forward: ForwardPass) -> Any:
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, math.inf)
        return state

    step = training_step(model, optimizer, mse_loss).changing(same=model)
    loop = Loop[Pair, Tensor](step).on(Backprop.COMPLETED, poison)
    said = r"of model\.0\.weight, model\.0\.bias, model\.2\.weight and 1 more are not finite"
    with pytest.raises(FloatingPointError, match=said):
        (loop | stop_on_nan(gradients=True)).run(batches())


def test_before_clipping_the_right_ones_are_named() -> None:
    _, _, loop = infinite_gradients()
    model: Any = loop.external["model"]
    data, guard = batches(bad=math.nan), stop_on_nan(gradients=True)
    with pytest.raises(FloatingPointError, match=r"of model\.0\.weight are not finite"):
        (loop | guard | clip_grad_norm(model, 1.0)).run(data)
    with pytest.raises(FloatingPointError, match=r"of model\.0\.weight, .* and 1 more are"):
        (loop | clip_grad_norm(model, 1.0) | guard).run(data)


def test_frozen_parts_have_none_and_sparse_ones_are_judged_too() -> None:
    torch.manual_seed(0)
    words = nn.Embedding(5, 3, sparse=True)
    model = nn.Sequential(words, nn.Linear(3, 1).requires_grad_(False))
    optimizer = torch.optim.SGD(words.parameters(), lr=0.1)

    def loss(module: nn.Module, batch: Pair) -> Tensor:
        made: Tensor = module(batch[0]) * batch[1] * batch[1]
        return made.sum()

    step = training_step(model, optimizer, loss=loss)
    loop = Loop[Pair, Tensor](step) | stop_on_nan(gradients=True)
    numbers = torch.tensor([0, 2, 2])
    assert loop.run([(numbers, torch.ones(()))] * 2).iteration == 2
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    nn.init.ones_(model.get_submodule("1").weight)  # type: ignore[arg-type]
    with pytest.raises(FloatingPointError, match=r"of model\.0\.weight are not finite, .* is 0\.0"):
        loop.run([(numbers, torch.tensor(1e30))])  # whose square is beyond float32


def test_gradients_whose_sum_is_beyond_their_dtype_are_finite() -> None:
    model, optimizer = make()
    value = torch.finfo(torch.float32).max

    def poison(state: Any, forward: ForwardPass) -> Any:
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, value)
        return state

    loop = training(model, optimizer).on(Backprop.COMPLETED, poison)
    assert (loop | stop_on_nan(gradients=True)).run(batches(1)).iteration == 1


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16, torch.complex64])
def test_gradients_of_several_dtypes_are_judged_together(dtype: torch.dtype) -> None:
    model, optimizer = make()
    more = nn.ParameterDict({"extra": nn.Parameter(torch.ones(3, dtype=dtype))})
    step = training_step(model, optimizer, mse_loss).changing(more=more)
    bad = [False, False, True]

    def poison(state: Any, forward: ForwardPass) -> Any:
        more["extra"].grad = torch.ones(3, dtype=dtype)
        if bad[state.iteration - 1]:
            more["extra"].grad[1] = math.inf
        return state

    loop = Loop[Pair, Tensor](step).on(Backprop.COMPLETED, poison)
    said = r"of more\.extra are not finite, .* iteration 3"
    with pytest.raises(FloatingPointError, match=said):
        (loop | stop_on_nan(gradients=True)).run(batches())


def test_a_training_without_gradients_of_the_model_has_none_to_judge() -> None:
    model, optimizer = make()

    def forget(state: Any, forward: ForwardPass) -> Any:
        optimizer.zero_grad()
        return state

    loop = training(model, optimizer).on(Backprop.COMPLETED, forget)
    assert (loop | stop_on_nan(gradients=True)).run(batches()).iteration == 6


def test_a_scaler_is_left_to_deal_with_gradients() -> None:
    model, optimizer = make()
    stepped: list[bool] = []

    def note(state: State[Pair, Tensor], updated: Updated) -> State[Pair, Tensor]:
        stepped.append(updated.stepped)
        return state

    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    loop = training(model, optimizer, scaler=scaler) | stop_on_nan(gradients=True)
    loop = loop.on(Update.COMPLETED, note)
    loop.run([(x, 100 * y) for x, y in batches()], max_epochs=2)
    assert False in stepped
    before = digest(model, optimizer)
    with pytest.raises(FloatingPointError, match="the loss is nan at epoch 1, iteration 1"):
        loop.run(batches(bad=math.nan, place=1))
    assert digest(model, optimizer) == before


def test_a_scaler_that_is_off_leaves_nothing_out_so_gradients_are_judged() -> None:
    model, optimizer, _ = infinite_gradients()
    off = torch.amp.GradScaler("cpu", enabled=False)

    def poison(state: Any, forward: ForwardPass) -> Any:
        model.get_submodule("0").weight.grad.fill_(math.nan)  # type: ignore[union-attr, operator]
        return state

    loop = training(model, optimizer, scaler=off).on(Backprop.COMPLETED, poison)
    with pytest.raises(FloatingPointError, match=r"of model\.0\.weight are not finite"):
        (loop | stop_on_nan(gradients=True)).run(batches())


# Beside pytorch-ignite.


def test_pytorch_ignite_stops_after_the_update() -> None:
    from ignite.engine import Events as IgniteEvents
    from ignite.handlers import TerminateOnNan

    data = batches(bad=math.nan)
    theirs, their_optimizer = make()
    engine, handler = ignite_trainer(theirs, their_optimizer), TerminateOnNan()
    handler.logger.setLevel(logging.CRITICAL)
    engine.add_event_handler(IgniteEvents.ITERATION_COMPLETED, handler)
    engine.run(data)
    model, optimizer = make()
    with pytest.raises(FloatingPointError) as caught:
        (training(model, optimizer) | stop_on_nan()).run(data)
    assert engine.state.iteration == last_state(caught.value).iteration == 3
    assert not all(one.isfinite().all() for one in theirs.parameters())
    assert all(one.isfinite().all() for one in model.parameters())


# What it stands in.


def test_it_goes_on_exactly_from_every_moment() -> None:
    def remake() -> Any:
        model, optimizer = make()
        loop = training(model, optimizer) | stop_on_nan(gradients=True)
        loop = loop.on(Events.EXCEPTION_RAISED, skip)
        return loop, batches(4, bad=math.nan), {"max_epochs": 2}

    assert_resume_exact(remake)


def test_it_prints_compares_and_pickles() -> None:
    model, optimizer = make()
    assert repr(stop_on_nan()) == "stop_on_nan()"
    assert repr(stop_on_nan(gradients=True)) == "stop_on_nan(gradients=True)"
    assert stop_on_nan() == stop_on_nan() != stop_on_nan(gradients=True)
    assert hash(stop_on_nan()) == hash(stop_on_nan())
    assert pickle.loads(pickle.dumps(stop_on_nan())) == StopOnNan(gradients=False)
    loop = training(model, optimizer)
    for feature in (stop_on_nan(), stop_on_nan(gradients=True)):
        assert loop | feature == loop | copy.copy(feature)
        assert str(loop | feature).count(repr(feature)) == 1 + feature.gradients
    again = pickle.loads(pickle.dumps(loop | stop_on_nan(gradients=True)))
    with pytest.raises(FloatingPointError):
        again.run(batches(bad=math.nan))
    assert (loop | ema(model, 0.5) | stop_on_nan(gradients=True)).run(batches()).iteration == 6


def test_a_step_that_does_not_tell_of_its_losses_is_refused() -> None:
    model, optimizer = make()

    def forward(state: State[Pair, Tensor]) -> ForwardPass:
        optimizer.zero_grad()
        x, y = state.batch
        y_pred = model(x)
        return ForwardPass(x, y, y_pred, mse_loss(y_pred, y))

    def loss_of(made: ForwardPass) -> Tensor:
        return made.loss.detach()

    begun = stages(forward)
    whole: Any = outputs(abs)
    others: list[Loop[Any, Any, Any]] = [Loop(whole), Loop(), Loop(begun.then(loss_of))]
    for loop in others:
        with pytest.raises(ValueError, match=r"stop_on_nan\(\) acts at Backprop\.STARTED, which"):
            loop | stop_on_nan()
    half = Loop(begun.emit(Backprop.STARTED).then(loss_of))
    with pytest.raises(FloatingPointError, match="the loss is nan at epoch 1, iteration 3"):
        (half | stop_on_nan()).run(batches(bad=math.nan))
    guard = stop_on_nan(gradients=True)
    with pytest.raises(ValueError, match=r"\(gradients=True\) acts at Backprop\.COMPLETED, which"):
        half | guard
    unnamed = begun.emit(Backprop.STARTED).emit(Backprop.COMPLETED).then(loss_of)
    with pytest.raises(ValueError, match=r"names none; have the step name its model: stages"):
        Loop(unnamed) | guard
    named = unnamed.changing(model=model)
    assert (Loop(named) | guard).run(batches()).iteration == 6


def test_a_loss_that_is_no_number_is_left_to_backward() -> None:
    model, optimizer = make()

    def several(module: nn.Module, batch: Pair) -> Tensor:
        losses: Tensor = module(batch[0])
        return losses

    def number(module: nn.Module, batch: Pair) -> Any:
        return 0.5

    for loss in (several, number):
        step: Any = training_step(model, optimizer, loss=loss)
        with pytest.raises((RuntimeError, AttributeError)) as caught:
            (Loop(step) | stop_on_nan()).run(batches())
        assert any("the loss function returned" in note for note in caught.value.__notes__)


def test_wrong_arguments_are_refused() -> None:
    for other in (1, "yes", None):
        with pytest.raises(TypeError, match=r"gradients=.* is not a bool"):
            stop_on_nan(gradients=other)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="positional"):
        stop_on_nan(True)  # type: ignore[call-arg]
