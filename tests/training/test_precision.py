"""Mixed precision: autocast over forward and loss alone, and gradients that a scaler has unscaled.

The processor computes in both narrow types, so that all of it is tried on every machine.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from typing_extensions import override

from fengine import Events, Loop, State, last_state
from fengine.features import clip_grad_norm, lr_schedule
from fengine.metrics import mean
from fengine.testing import assert_resume_exact
from fengine.training import (
    Backprop,
    ForwardPass,
    Prediction,
    RandomState,
    Update,
    Updated,
    Window,
    evaluation_step,
    training_step,
    windows,
)

Pair = tuple[Tensor, Tensor]
Plain = State[Pair, Tensor]
NARROW = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
FORMS = pytest.mark.parametrize("form", ["loss_fn", "loss"])


def is_open() -> bool:
    return torch.is_autocast_enabled("cpu")


def batches(count: int = 5, size: int = 6) -> list[Pair]:
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(size, 4, generator=generator), torch.randn(size, 1, generator=generator))
        for _ in range(count)
    ]


def make(seed: int = 0) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
    return model, torch.optim.Adam(model.parameters(), lr=0.05)


def scaling(init_scale: float = 256.0, **options: Any) -> torch.amp.GradScaler:
    return torch.amp.GradScaler("cpu", init_scale=init_scale, **options)


def assert_bitwise_equal(one: nn.Module, other: nn.Module) -> None:
    for ours, its in zip(one.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(ours, its)


# Where autocast is open.


class Watched(nn.Linear):
    """Say at forward and at backward whether autocast is open."""

    def __init__(self, seen: list[tuple[str, bool]]) -> None:
        super().__init__(4, 1)
        self.seen = seen

    @override
    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(("forward", is_open()))
        y_pred = super().forward(x)
        if y_pred.requires_grad:
            y_pred.register_hook(self._backward)  # type: ignore[no-untyped-call]
        return y_pred

    def _backward(self, gradient: Tensor) -> None:
        self.seen.append(("backward", is_open()))


def watching(form: str, **options: Any) -> tuple[Any, list[tuple[str, bool]]]:
    """Give a loop that says where autocast is open: the model and the loss, and its handlers."""
    seen: list[tuple[str, bool]] = []
    model = Watched(seen)

    def compared(y_pred: Tensor, y: Tensor) -> Tensor:
        seen.append(("loss", is_open()))
        return mse_loss(y_pred, y)

    def own(model: Watched, batch: Pair) -> Tensor:
        return compared(model(batch[0]), batch[1])

    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    step: Any = (
        training_step(model, sgd, compared, **options)
        if form == "loss_fn"
        else training_step(model, sgd, loss=own, **options)
    )
    loop: Any = Loop(step)
    for event in (
        Events.ITERATION_STARTED,
        Backprop.STARTED,
        Backprop.COMPLETED,
        Update.COMPLETED,
        Events.ITERATION_COMPLETED,
    ):

        def note(state: Any, payload: object = None) -> Any:
            seen.append((state.event.name, is_open()))
            return state

        loop = loop.on(event, note)
    return loop, seen


@FORMS
@NARROW
def test_it_is_open_over_forward_and_loss_alone(form: str, dtype: torch.dtype) -> None:
    loop, seen = watching(form, autocast=dtype)
    loop.run(batches(2))
    assert (
        seen
        == [
            ("iteration_started", False),
            ("forward", True),
            ("loss", True),
            ("backprop_started", False),
            ("backward", False),
            ("backprop_completed", False),
            ("update_completed", False),
            ("iteration_completed", False),
        ]
        * 2
    )
    assert not is_open()


@FORMS
def test_in_windows_it_is_closed_at_each_backward(form: str) -> None:
    loop, seen = watching(form, autocast=torch.bfloat16)
    loop.run(windows(batches(3), 3))
    assert seen == [
        ("iteration_started", False),
        *[("forward", True), ("loss", True), ("backward", False)] * 2,
        ("forward", True),
        ("loss", True),
        ("backprop_started", False),
        ("backward", False),
        ("backprop_completed", False),
        ("update_completed", False),
        ("iteration_completed", False),
    ]


@FORMS
def test_without_it_nothing_is_open(form: str) -> None:
    loop, seen = watching(form)
    loop.run(batches(1))
    assert len(seen) == 8
    assert not any(opened for _, opened in seen)


def test_where_nobody_listens_it_is_open_over_the_same() -> None:
    seen: list[tuple[str, bool]] = []
    model = Watched(seen)
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    Loop(training_step(model, sgd, mse_loss, autocast=torch.bfloat16)).run(batches(2))
    assert seen == [("forward", True), ("backward", False)] * 2


def test_a_loss_function_that_raises_leaves_it_closed() -> None:
    def failing(y_pred: Tensor, y: Tensor) -> Tensor:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Loop(training_step(*make(), failing, autocast=torch.bfloat16)).run(batches(1))
    assert not is_open()


def test_what_a_user_has_opened_stays_open() -> None:
    loop, seen = watching("loss_fn", autocast=torch.bfloat16)
    with torch.autocast("cpu", torch.float16):
        loop.run(batches(1))
        assert torch.get_autocast_dtype("cpu") is torch.float16
    assert all(opened for _, opened in seen)
    assert not is_open()


@NARROW
def test_the_model_computes_in_the_dtype_and_its_weights_stay_wide(dtype: torch.dtype) -> None:
    model, optimizer = make()
    seen: list[torch.dtype] = []

    def note(state: Plain, forward: ForwardPass) -> Plain:
        assert isinstance(forward.y_pred, Tensor)
        seen.append(forward.y_pred.dtype)
        return state

    loop = Loop(training_step(model, optimizer, mse_loss, autocast=dtype))
    loop.on(Backprop.STARTED, note).run(batches(1))
    assert seen == [dtype]
    assert {one.dtype for one in model.parameters()} == {torch.float32}
    assert {one.grad.dtype for one in model.parameters() if one.grad is not None} == {torch.float32}


@NARROW
def test_weights_are_bitwise_those_of_a_loop_by_hand(dtype: torch.dtype) -> None:
    by_hand, optimizer = make()
    torch.manual_seed(7)
    losses = []
    for x, y in batches() * 2:
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype):
            loss = mse_loss(by_hand(x), y)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.detach())

    model, optimizer = make()
    torch.manual_seed(7)
    loop = Loop(training_step(model, optimizer, mse_loss, autocast=dtype))
    final = loop.run(batches(), max_epochs=2)
    assert torch.equal(final.output, losses[-1])
    assert_bitwise_equal(model, by_hand)

    wide, optimizer = make()
    torch.manual_seed(7)
    Loop(training_step(wide, optimizer, mse_loss)).run(batches(), max_epochs=2)
    assert not torch.equal(next(wide.parameters()), next(model.parameters()))


def test_a_device_says_where_it_is_open() -> None:
    loop, seen = watching("loss_fn", autocast=torch.bfloat16, device="cpu")
    loop.run(batches(1))
    assert dict(seen)["forward"]


# In the evaluation.


@NARROW
def test_an_evaluation_computes_in_the_dtype_and_leaves_it_closed(dtype: torch.dtype) -> None:
    seen: list[tuple[str, bool]] = []
    model = Watched(seen)

    def note(state: Any) -> Any:
        seen.append((state.event.name, is_open()))
        return state

    loop = Loop[Pair, Prediction[Tensor, Tensor]](evaluation_step(model, autocast=dtype))
    loop = loop.on(Events.ITERATION_COMPLETED, note)
    final = loop.run(batches(2))
    assert seen == [("forward", True), ("iteration_completed", False)] * 2
    x, _ = batches(2)[-1]
    with torch.autocast("cpu", dtype), torch.no_grad():
        expected = model(x)
    assert final.output.y_pred.dtype is dtype
    assert torch.equal(final.output.y_pred, expected)
    seen.clear()
    for moment in loop.iterate(batches(2)):
        assert not is_open(), moment.event
    assert ("forward", True) in seen


def test_an_evaluation_without_it_computes_as_it_is() -> None:
    seen: list[tuple[str, bool]] = []
    model = Watched(seen)
    final = Loop(evaluation_step(model)).run(batches(1))
    assert seen == [("forward", False)]
    assert final.output.y_pred.dtype is torch.float32


@pytest.mark.parametrize(
    ("autocast", "error", "said"),
    [
        ("bfloat16", TypeError, "autocast='bfloat16' is not a torch.dtype"),
        (True, TypeError, "autocast=True is not a torch.dtype"),
        (torch.float32, ValueError, "is not torch.bfloat16 or torch.float16"),
        (torch.int8, ValueError, "is not torch.bfloat16 or torch.float16"),
    ],
)
def test_what_is_no_narrow_dtype_is_refused_when_the_step_is_made(
    autocast: Any, error: type[Exception], said: str
) -> None:
    model, optimizer = make()
    with pytest.raises(error, match=said):
        training_step(model, optimizer, mse_loss, autocast=autocast)
    with pytest.raises(error, match=said):
        evaluation_step(model, autocast=autocast)


# A scaler.


def gradients(model: nn.Module) -> list[Tensor]:
    return [one.grad.clone() for one in model.parameters() if one.grad is not None]


@pytest.mark.parametrize("size", [None, 2], ids=["batches", "windows"])
def test_the_gradients_are_unscaled_where_backward_is_completed(size: int | None) -> None:
    found: list[list[list[Tensor]]] = []
    for scaler in (None, scaling()):
        model, optimizer = make()
        seen: list[list[Tensor]] = []

        def note(
            state: Any, payload: Any, seen: list[list[Tensor]] = seen, model: nn.Module = model
        ) -> Any:
            seen.append(gradients(model))
            return state

        step: Any = training_step(model, optimizer, mse_loss, scaler=scaler)
        loop: Any = Loop(step)
        loop = loop.on(Backprop.COMPLETED, note)
        torch.manual_seed(7)
        data: Any = batches(4)
        loop.run(data if size is None else windows(data, size))
        found.append(seen)
    assert len(found[0]) == (4 if size is None else 2)
    for plain, scaled in zip(*found, strict=True):
        for one, other in zip(plain, scaled, strict=True):
            torch.testing.assert_close(other, one)


def test_the_loss_that_is_told_and_put_out_is_not_scaled() -> None:
    losses = []
    for scaler in (None, scaling(1024.0)):
        seen: list[Tensor] = []

        def note(state: Plain, payload: Any, seen: list[Tensor] = seen) -> Plain:
            seen.append(payload.loss.detach())
            return state

        torch.manual_seed(7)
        loop = Loop(training_step(*make(), mse_loss, scaler=scaler))
        loop = loop.on(Backprop.STARTED, note).on(Update.COMPLETED, note)
        final = loop.run(batches(1))
        losses.append(torch.stack([*seen, final.output]))
    assert torch.equal(losses[0], losses[1])
    assert (losses[0] == losses[0][0]).all()


def train_by_hand(
    model: nn.Module, optimizer: Any, scaler: Any, max_norm: float | None, dtype: Any
) -> None:
    """Train as the documentation of torch says."""
    for x, y in batches() * 3:
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype, enabled=dtype is not None):
            loss = mse_loss(model(x), y)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        if max_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        scaler.step(optimizer)
        scaler.update()


@pytest.mark.parametrize("max_norm", [None, 0.01])
@pytest.mark.parametrize("dtype", [None, torch.float16, torch.bfloat16], ids=str)
def test_training_with_a_scaler_is_bitwise_that_by_hand(max_norm: float | None, dtype: Any) -> None:
    by_hand, optimizer = make()
    torch.manual_seed(7)
    scaler = scaling(growth_interval=2)
    train_by_hand(by_hand, optimizer, scaler, max_norm, dtype)

    for listening in (False, True):
        model, optimizer = make()
        torch.manual_seed(7)
        ours = scaling(growth_interval=2)
        loop: Any = Loop(training_step(model, optimizer, mse_loss, scaler=ours, autocast=dtype))
        if max_norm is not None:
            loop = loop | clip_grad_norm(model, max_norm)
        if listening:
            loop = loop.on(Update.COMPLETED, lambda state, payload: state)
        loop.run(batches(), max_epochs=3)
        assert_bitwise_equal(model, by_hand)
        assert ours.state_dict() == scaler.state_dict()
        assert ours.get_scale() > 256.0  # it has grown


def with_inf(at: set[int], count: int = 5) -> list[Pair]:
    """Give batches, some of which make gradients that are not finite."""
    return [
        (x * torch.inf if place in at else x, y)
        for place, (x, y) in enumerate(batches(count), start=1)
    ]


def halving(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
    return torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)


def linear() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    return model, torch.optim.SGD(model.parameters(), lr=1.0)


def test_where_a_gradient_is_not_finite_the_update_is_left_out_and_told_so() -> None:
    model, optimizer = linear()
    scaler = scaling(growth_interval=1000)
    seen: list[tuple[bool, float, float]] = []
    weights: list[Tensor] = []

    def note(state: Plain, updated: Updated) -> Plain:
        seen.append((updated.stepped, optimizer.param_groups[0]["lr"], scaler.get_scale()))
        weights.append(copy.deepcopy(next(model.parameters()).detach()))
        return state

    loop = Loop(training_step(model, optimizer, mse_loss, scaler=scaler))
    loop = loop | lr_schedule(halving(optimizer))
    loop.on(Update.COMPLETED, note).run(with_inf({2, 4}))
    assert seen == [
        (True, 0.5, 256.0),
        (False, 0.5, 128.0),
        (True, 0.25, 128.0),
        (False, 0.25, 64.0),
        (True, 0.125, 64.0),
    ]
    alike = [torch.equal(weights[place - 1], weights[place]) for place in range(1, 5)]
    assert alike == [True, False, True, False]


def test_a_gradient_of_one_batch_that_is_not_finite_leaves_out_the_window() -> None:
    model, optimizer = linear()
    seen: list[bool] = []

    def note(state: State[Window[Pair], Tensor], updated: Updated) -> Any:
        seen.append(updated.stepped)
        return state

    step = training_step(model, optimizer, mse_loss, scaler=scaling())
    loop = Loop[Window[Pair], Tensor](step).on(Update.COMPLETED, note)
    loop.run(windows(with_inf({3}, 6), 2))
    assert seen == [True, False, True]


def test_a_scale_that_grows_is_an_update_that_happened() -> None:
    model, optimizer = linear()
    seen: list[bool] = []

    def note(state: Plain, updated: Updated) -> Plain:
        seen.append(updated.stepped)
        return state

    scaler = scaling(growth_interval=1)
    loop = Loop(training_step(model, optimizer, mse_loss, scaler=scaler))
    loop.on(Update.COMPLETED, note).run(batches())
    assert seen == [True] * 5
    assert scaler.get_scale() == 256.0 * 2**5


def test_a_scaler_that_is_switched_off_does_nothing() -> None:
    plain, optimizer = make()
    torch.manual_seed(7)
    Loop(training_step(plain, optimizer, mse_loss)).run(batches())

    model, optimizer = make()
    torch.manual_seed(7)
    off = torch.amp.GradScaler("cpu", enabled=False)
    seen: list[bool] = []

    def note(state: Plain, updated: Updated) -> Plain:
        seen.append(updated.stepped)
        return state

    loop = Loop(training_step(model, optimizer, mse_loss, scaler=off))
    loop.on(Update.COMPLETED, note).run(batches())
    assert seen == [True] * 5
    assert_bitwise_equal(model, plain)


def test_a_loss_without_backward_is_explained_with_a_scaler_too() -> None:
    def squares(y_pred: Tensor, y: Tensor) -> Tensor:
        return (y_pred - y) ** 2

    with pytest.raises(RuntimeError) as caught:
        Loop(training_step(*make(), squares, scaler=scaling())).run(batches(1))
    assert any("of shape (6, 1)" in note for note in caught.value.__notes__)
    assert last_state(caught.value).iteration == 1


def test_the_mean_of_losses_in_a_narrow_dtype_is_summed_in_a_wide_one() -> None:
    def whole(y_pred: Tensor, y: Tensor) -> Tensor:
        return (y_pred * 0).mean() + 1.0

    step = training_step(*make(), whole, autocast=torch.bfloat16)
    loop = Loop(step) | mean("loss")
    data = batches(400, size=1)
    assert loop.run(data).metrics["loss"] == 1.0  # bfloat16 counts no further than 256


# What a snapshot holds.


def test_the_scaler_is_named_beside_what_is_trained() -> None:
    model, optimizer = make()
    scaler = scaling()
    loop = Loop(training_step(model, optimizer, mse_loss, scaler=scaler))
    assert dict(loop.external) == {
        "model": model,
        "optimizer": optimizer,
        "random": RandomState(),
        "scaler": scaler,
    }
    assert "scaler" not in Loop(training_step(model, optimizer, mse_loss)).external
    final = loop.run(batches())
    assert loop.snapshot(final).external["scaler"] == scaler.state_dict()


def test_a_snapshot_brings_the_scale_back() -> None:
    model, optimizer = linear()
    scaler = scaling(growth_interval=1000)
    loop = Loop(training_step(model, optimizer, mse_loss, scaler=scaler))
    snapshot = loop.snapshot(loop.run(with_inf({2})))
    assert scaler.get_scale() == 128.0
    loop.run(with_inf({1, 2, 3}))
    assert scaler.get_scale() == 16.0
    loop.restore(snapshot)
    assert scaler.get_scale() == 128.0


def test_it_goes_on_exactly_from_every_moment() -> None:
    def remake() -> Any:
        model, optimizer = make()
        scaler = scaling(growth_interval=2)
        step = training_step(model, optimizer, mse_loss, scaler=scaler, autocast=torch.bfloat16)
        loop = Loop(step) | clip_grad_norm(model, 0.5) | lr_schedule(halving(optimizer))
        return loop, with_inf({2}), {"max_epochs": 2}

    assert_resume_exact(remake)
