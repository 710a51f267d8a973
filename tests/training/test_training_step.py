"""The training step trains as a loop written by hand does, and its events say what happens."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import attrs
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from typing_extensions import override

from fengine import Events, Loop, State, last_state
from fengine.features import evaluation
from fengine.training import (
    Backprop,
    ForwardPass,
    RandomState,
    Update,
    Updated,
    evaluation_step,
    training_step,
    windows,
)
from fengine.training.preparing import Device

Pair = tuple[Tensor, Tensor]
Plain = State[Pair, Tensor]


def make(seed: int = 0) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1))
    return model, torch.optim.Adam(model.parameters(), lr=0.05)


def batches(count: int = 5) -> list[Pair]:
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(6, 4, generator=generator), torch.randn(6, 1, generator=generator))
        for _ in range(count)
    ]


def train_by_hand(
    model: nn.Module, optimizer: torch.optim.Optimizer, epochs: int, max_norm: float | None = None
) -> list[Tensor]:
    """Train as a user without any engine would, and give the losses."""
    losses = []
    for _ in range(epochs):
        for x, y in batches():
            model.train()
            optimizer.zero_grad()
            loss = mse_loss(model(x), y)
            loss.backward()  # type: ignore[no-untyped-call]
            if max_norm is not None:
                nn.utils.clip_grad_norm_(model.parameters(), max_norm)
            optimizer.step()
            losses.append(loss.detach())
    return losses


def assert_bitwise_equal(one: nn.Module, other: nn.Module) -> None:
    assert pickle.dumps([*map(Tensor.tolist, one.state_dict().values())]) == pickle.dumps(
        [*map(Tensor.tolist, other.state_dict().values())]
    )


@pytest.mark.parametrize("heard", [(), (Backprop.STARTED, Backprop.COMPLETED, Update.COMPLETED)])
def test_weights_and_losses_are_bitwise_those_of_a_loop_by_hand(heard: tuple[Any, ...]) -> None:
    by_hand, optimizer = make()
    torch.manual_seed(7)
    expected = train_by_hand(by_hand, optimizer, epochs=3)

    model, optimizer = make()
    losses: list[Tensor] = []

    def keep(state: Plain) -> Plain:
        losses.append(state.output)
        return state

    torch.manual_seed(7)
    loop = Loop(training_step(model, optimizer, mse_loss)).on(Events.ITERATION_COMPLETED, keep)
    seen: list[object] = []
    for event in heard:  # which keeps the stages apart

        def note(state: Plain, payload: object) -> Plain:
            seen.append(payload)
            return state

        loop = loop.on(event, note)
    loop.run(batches(), max_epochs=3)
    assert len(seen) == len(heard) * len(losses)
    assert torch.equal(torch.stack(losses), torch.stack(expected))
    assert_bitwise_equal(model, by_hand)


def test_clipping_in_a_handler_is_clipping_by_hand() -> None:
    by_hand, optimizer = make()
    torch.manual_seed(7)
    train_by_hand(by_hand, optimizer, epochs=2, max_norm=0.01)

    model, optimizer = make()

    def clip(state: Plain, forward: ForwardPass) -> Plain:
        nn.utils.clip_grad_norm_(model.parameters(), 0.01)
        return state

    torch.manual_seed(7)
    step = training_step(model, optimizer, mse_loss)
    Loop(step).on(Backprop.COMPLETED, clip).run(batches(), max_epochs=2)
    assert_bitwise_equal(model, by_hand)

    unclipped, optimizer = make()
    torch.manual_seed(7)
    Loop(training_step(unclipped, optimizer, mse_loss)).run(batches(), max_epochs=2)
    assert not torch.equal(unclipped.state_dict()["0.weight"], model.state_dict()["0.weight"])


def test_each_event_stands_where_it_says() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.25)
    seen: list[tuple[str, float | None, float]] = []
    losses: list[Tensor] = []

    def note(name: str) -> None:
        gradient = None if model.weight.grad is None else model.weight.grad.item()
        seen.append((name, gradient, model.weight.item()))

    def noting(state: Plain, forward: ForwardPass) -> Plain:
        assert state.event is not None
        assert forward.x is state.batch[0]
        assert forward.y is state.batch[1]
        assert isinstance(forward.y_pred, Tensor)
        assert forward.loss.requires_grad
        note(state.event.name)
        return state

    def updated(state: Plain, update: Updated) -> Plain:
        assert not update.loss.requires_grad
        assert update.stepped
        losses.append(update.loss)
        note("update_completed")
        return state

    loop = (
        Loop(training_step(model, optimizer, mse_loss))
        .on(Backprop.STARTED, noting)
        .on(Backprop.COMPLETED, noting)
        .on(Update.COMPLETED, updated)
    )
    final = loop.run([(torch.ones(1, 1), torch.zeros(1, 1))], max_epochs=2)
    assert final.output is losses[-1]
    assert seen == [
        ("backprop_started", None, 1.0),
        ("backprop_completed", 2.0, 1.0),
        ("update_completed", 2.0, 0.5),
        ("backprop_started", None, 0.5),
        ("backprop_completed", 1.0, 0.5),
        ("update_completed", 1.0, 0.25),
    ]


def test_filters_on_its_events_count_iterations() -> None:
    model, optimizer = make()
    seen: list[int] = []

    def note(state: Plain, forward: ForwardPass) -> Plain:
        seen.append(state.iteration)
        return state

    loop = Loop(training_step(model, optimizer, mse_loss)).on(Backprop.COMPLETED(every=4), note)
    loop.run(batches(), max_epochs=2)
    assert seen == [4, 8]


@attrs.frozen
class Largest:
    loss: float = 0.0


def test_a_handler_between_the_stages_keeps_the_users_record() -> None:
    model, optimizer = make()

    def keep_largest(
        state: State[Pair, Tensor, Largest], forward: ForwardPass
    ) -> State[Pair, Tensor, Largest]:
        return state.evolve(user=Largest(max(state.user.loss, forward.loss.item())))

    loop = Loop[Pair, Tensor, Largest](training_step(model, optimizer, mse_loss))
    final = loop.on(Backprop.STARTED, keep_largest).run(batches(), user=Largest())
    assert final.user.loss >= final.output.item() > 0


def test_nothing_of_the_graph_outlives_the_step() -> None:
    model, optimizer = make()
    final = Loop(training_step(model, optimizer, mse_loss)).run(batches())
    assert final.output.grad_fn is None
    assert final.output.device == torch.device("cpu")


class Counting(nn.Linear):
    """Count how often the mode is set."""

    set_to: list[bool]

    @override
    def train(self, mode: bool = True) -> Counting:
        self.__dict__.setdefault("set_to", []).append(mode)
        super().train(mode)
        return self


def test_the_training_mode_is_set_once_where_it_is_missing_and_taken_back_behind_the_run() -> None:
    model = Counting(4, 1)
    loop = Loop(training_step(model, torch.optim.SGD(model.parameters()), mse_loss))
    loop.run(batches())
    model.eval()
    loop.run(batches(), max_epochs=2)
    assert model.set_to == [False, True, False]
    assert not model.training


def flags(model: nn.Module) -> list[bool]:
    return [module.training for module in model.modules()]


def test_behind_a_run_every_module_is_in_the_mode_it_was_in() -> None:
    model, optimizer = make()
    model.eval()
    model.get_submodule("2").train()
    before = flags(model)
    loop = Loop(training_step(model, optimizer, mse_loss))
    moments = loop.iterate(batches())
    next(moments)
    assert flags(model) == [True] * 5
    moments.close()
    assert flags(model) == before == [False, False, False, True, False]
    with pytest.raises(TypeError, match="a batch is a pair"):
        loop.run([*batches(2), torch.ones(1)])  # type: ignore[list-item]
    assert flags(model) == before


def test_a_handler_that_leaves_the_model_in_evaluation_mode_does_not_train_it_so() -> None:
    by_hand, optimizer = make()
    torch.manual_seed(7)
    train_by_hand(by_hand, optimizer, epochs=2)

    model, optimizer = make()

    def look(state: Plain) -> Plain:
        with torch.no_grad():
            model.eval()(state.batch[0])
        return state

    torch.manual_seed(7)
    step = training_step(model, optimizer, mse_loss)
    Loop(step).on(Events.ITERATION_COMPLETED, look).run(batches(), max_epochs=2)
    assert_bitwise_equal(model, by_hand)


def test_an_evaluation_paused_between_batches_leaves_training_as_by_hand() -> None:
    by_hand, optimizer = make()
    torch.manual_seed(7)
    train_by_hand(by_hand, optimizer, epochs=1)

    model, optimizer = make()
    training = Loop(training_step(model, optimizer, mse_loss)).iterate(batches())
    evaluating = Loop(evaluation_step(model)).iterate(batches(), max_epochs=20)
    torch.manual_seed(7)
    for _ in training:
        assert flags(model) == [True] * 5
        next(evaluating)
    assert_bitwise_equal(model, by_hand)


def test_a_part_that_a_handler_freezes_stays_so_step_by_step_too() -> None:
    final = []
    for step_by_step in (False, True):
        model, optimizer = make()
        model.eval()
        step = training_step(model, optimizer, mse_loss)

        def freeze(state: Plain, model: nn.Module = model) -> Plain:
            model.get_submodule("1").eval()
            return state

        loop = Loop(step).on(Events.STARTED, freeze)
        torch.manual_seed(7)
        if step_by_step:
            for _ in loop.iterate(batches()):
                pass
        else:
            loop.run(batches())
        assert flags(model) == [False] * 5
        final.append(model)
    assert_bitwise_equal(*final)


def test_a_training_in_a_handler_of_an_evaluation_keeps_frozen_parts() -> None:
    model, optimizer = make()
    model.get_submodule("1").eval()
    before = flags(model)
    seen: list[list[bool]] = []

    def look(state: Plain) -> Plain:
        seen.append(flags(model))
        return state

    step = training_step(model, optimizer, mse_loss)
    training = Loop(step).on(Events.ITERATION_COMPLETED, look)
    train = evaluation(training, batches(1), at=Events.ITERATION_COMPLETED)
    (Loop(evaluation_step(model)) | train).run(batches(2))
    assert seen == [before] * 2
    assert flags(model) == before


@pytest.mark.parametrize("size", [1, 3])
def test_a_tuple_that_is_no_pair_is_refused(size: int) -> None:
    loop = Loop(training_step(*make(), mse_loss))
    with pytest.raises(TypeError, match="a batch is a pair"):
        loop.run([(torch.ones(1),) * size])  # type: ignore[list-item]


def test_called_as_a_plain_step_it_puts_the_model_back_too() -> None:
    model, optimizer = make()
    model.eval()
    step = training_step(model, optimizer, mse_loss)
    assert step(State(batch=batches(1)[0])).output.item() > 0
    assert flags(model) == [False] * 5


def test_a_part_that_is_kept_in_evaluation_mode_stays_in_it() -> None:
    model, optimizer = make()
    frozen = model.get_submodule("1")
    frozen.eval()
    Loop(training_step(model, optimizer, mse_loss)).run(batches())
    assert (model.training, frozen.training) == (True, False)


def test_the_device_applies_to_the_model_and_the_batches() -> None:
    model = nn.Linear(4, 1)
    seen: list[ForwardPass] = []

    def note(state: Plain, forward: ForwardPass) -> Plain:
        seen.append(forward)
        return state

    # The meta device computes shapes alone, and is there on every machine.
    optimizer = torch.optim.SGD(model.parameters())
    step = training_step(model, optimizer, mse_loss, device="meta")
    assert model.weight.is_meta
    optimizer.param_groups[0]["params"] = list(model.parameters())  # torch has made others there
    final = Loop(step).on(Backprop.COMPLETED, note).run(batches(1))
    assert final.output.is_meta
    for tensor in (seen[0].x, seen[0].y, seen[0].y_pred, seen[0].loss):
        assert isinstance(tensor, Tensor)
        assert tensor.is_meta


def test_prepare_batch_gets_the_device_and_makes_the_pair() -> None:
    model, optimizer = make()
    given: list[tuple[Device | None, bool]] = []

    def from_dict(
        batch: dict[str, Tensor], device: Device | None, non_blocking: bool
    ) -> tuple[Tensor, Tensor]:
        given.append((device, non_blocking))
        return batch["x"], batch["y"]

    step = training_step(
        model, optimizer, mse_loss, device="cpu", non_blocking=True, prepare_batch=from_dict
    )
    final = Loop(step).run([{"x": x, "y": y} for x, y in batches(2)])
    assert given == [("cpu", True)] * 2
    assert final.iteration == 2


def test_equal_steps_are_equal_and_a_loop_of_them_pickles() -> None:
    model, optimizer = make()
    loop = Loop(training_step(model, optimizer, mse_loss))
    assert loop == Loop(training_step(model, optimizer, mse_loss))
    assert hash(loop) == hash(Loop(training_step(model, optimizer, mse_loss)))
    assert loop != Loop(training_step(model, optimizer, mse_loss, non_blocking=True))
    copy = pickle.loads(pickle.dumps(loop))
    assert copy.run(batches()).iteration == 5


def test_it_names_what_it_changes_outside_the_state() -> None:
    model, optimizer = make()
    step = training_step(model, optimizer, mse_loss)
    assert dict(step.external) == {
        "model": model,
        "optimizer": optimizer,
        "random": RandomState(),
    }
    assert Loop(step).external == step.external


def test_a_run_goes_on_from_a_snapshot_of_it_as_it_would_have() -> None:
    whole, optimizer = make()
    torch.manual_seed(7)
    Loop(training_step(whole, optimizer, mse_loss)).run(batches(), max_epochs=2)

    model, optimizer = make()
    loop = Loop(training_step(model, optimizer, mse_loss))
    torch.manual_seed(7)
    moments = loop.iterate(batches(), max_epochs=2)
    third = next(m for m in moments if m.state.iteration == 3)
    snapshot = loop.snapshot(third.state)
    moments.close()

    other, optimizer = make(seed=1)
    torch.manual_seed(8)
    Loop(training_step(other, optimizer, mse_loss)).resume(snapshot, batches())
    assert_bitwise_equal(other, whole)


def test_it_prints_as_it_was_made() -> None:
    model, optimizer = make()
    assert repr(training_step(model, optimizer, mse_loss)) == (
        "training_step(Sequential of 65 parameters, Adam of 65 parameters, mse_loss)"
    )
    precise = training_step(
        model,
        optimizer,
        loss=own_loss,
        autocast=torch.bfloat16,
        scaler=torch.amp.GradScaler("cpu"),
    )
    assert repr(precise) == (
        "training_step(Sequential of 65 parameters, Adam of 65 parameters, loss=own_loss, "
        "autocast=torch.bfloat16, scaler=GradScaler)"
    )


def own_loss(model: nn.Module, batch: Pair) -> Tensor:
    return mse_loss(model(batch[0]), batch[1])


def test_one_step_takes_batches_and_windows_of_them() -> None:
    step: Any = training_step(*make(), mse_loss)
    assert Loop(step).run(windows(batches(), 2)).iteration == 3
    assert Loop(step).run(batches()).iteration == 5
    assert Loop(step).run([*windows(batches(2), 2), *batches(3)]).iteration == 4


@pytest.mark.parametrize(
    ("loss_fn", "said"),
    [
        (lambda y_pred, y: 0.5, "the loss function returned 0.5 of type float"),
        (lambda y_pred, y: (y_pred - y) ** 2, "of shape (6, 1)"),
        (lambda y_pred, y: y.mean(), "does not depend on a parameter"),
    ],
)
def test_a_loss_without_backward_is_explained(
    loss_fn: Callable[[Tensor, Tensor], Tensor], said: str
) -> None:
    model, optimizer = make()
    with pytest.raises((RuntimeError, AttributeError)) as caught:
        Loop(training_step(model, optimizer, loss_fn)).run(batches())
    assert any(said in note for note in caught.value.__notes__)
    assert last_state(caught.value).iteration == 1


def test_an_error_that_says_it_all_gets_no_explanation() -> None:
    model, optimizer = make()

    def refuse(gradient: Tensor) -> None:
        raise ZeroDivisionError

    next(model.parameters()).register_hook(refuse)  # type: ignore[no-untyped-call]
    with pytest.raises(ZeroDivisionError) as caught:
        Loop(training_step(model, optimizer, mse_loss)).run(batches())
    assert not any("loss" in note for note in caught.value.__notes__)


def test_wrong_arguments_are_refused_when_the_step_is_made() -> None:
    model, optimizer = make()
    with pytest.raises(TypeError, match="model is the class Linear; give an instance"):
        training_step(nn.Linear, optimizer, mse_loss)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=r"MSELoss is a class: give an instance of it"):
        training_step(model, optimizer, nn.MSELoss)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"loss_fn takes \(y_pred, y\)"):
        training_step(model, optimizer, lambda y_pred: y_pred)  # type: ignore[arg-type, misc]
    with pytest.raises(TypeError, match=r"prepare_batch takes \(batch, device, non_blocking\)"):
        training_step(model, optimizer, mse_loss, prepare_batch=lambda batch: batch)  # type: ignore[arg-type, misc]
    with pytest.raises(TypeError, match="closure"):
        training_step(model, torch.optim.LBFGS(model.parameters()), mse_loss)


def test_a_batch_that_is_no_pair_is_refused_where_it_comes() -> None:
    model, optimizer = make()
    step = training_step(model, optimizer, mse_loss)
    with pytest.raises(TypeError, match=r"one Tensor of shape \(2, 4\)") as caught:
        Loop(step).run([torch.ones(2, 4)])  # type: ignore[list-item]
    assert any("in the step at epoch 1, iteration 1" in note for note in caught.value.__notes__)
