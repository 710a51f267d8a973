"""A loss of the model and the batch trains on any batches, as a loop written by hand does."""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from typing import Any

import attrs
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss
from typing_extensions import override

from fengine import Events, Loop, State, last_state
from fengine.features import clip_grad_norm
from fengine.metrics import mean
from fengine.training import (
    Backprop,
    ForwardPass,
    Update,
    Updated,
    Window,
    count_samples,
    training_step,
    windows,
)

Named = dict[str, Tensor]
Pair = tuple[Tensor, Tensor]


class Two(nn.Module):
    """Take two inputs, and make two outputs."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.left, self.right = nn.Linear(3, 4).double(), nn.Linear(2, 4).double()
        self.scores, self.number = nn.Linear(4, 5).double(), nn.Linear(4, 1).double()

    @override
    def forward(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        hidden = torch.tanh(self.left(left) + self.right(right))
        return self.scores(hidden), self.number(hidden)


def two_losses(model: Two, batch: Named) -> Tensor:
    """Add the losses of both outputs."""
    scores, number = model(batch["left"], batch["right"])
    return cross_entropy(scores, batch["kind"]) + 0.5 * mse_loss(number, batch["number"])


def adam(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=0.05)


def batches(sizes: Iterable[int] = (4, 4, 4, 4, 2)) -> list[Named]:
    generator = torch.Generator().manual_seed(1)
    return [
        {
            "left": torch.randn(size, 3, generator=generator, dtype=torch.float64),
            "right": torch.randn(size, 2, generator=generator, dtype=torch.float64),
            "kind": torch.randint(5, (size,), generator=generator),
            "number": torch.randn(size, 1, generator=generator, dtype=torch.float64),
        }
        for size in sizes
    ]


def joined(data: Iterable[Named]) -> Named:
    parts = list(data)
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def assert_bitwise_equal(one: nn.Module, other: nn.Module) -> None:
    for ours, its in zip(one.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(ours, its)


@pytest.mark.parametrize("heard", [(), (Backprop.STARTED, Backprop.COMPLETED, Update.COMPLETED)])
def test_dict_batches_and_several_inputs_and_losses_train_as_by_hand(heard: Any) -> None:
    by_hand = Two()
    optimizer = adam(by_hand)
    losses = []
    for batch in batches() * 2:
        optimizer.zero_grad()
        loss = two_losses(by_hand, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.detach())

    model, found = Two(), list[Tensor]()

    def keep(state: State[Named, Tensor]) -> State[Named, Tensor]:
        found.append(state.output)
        return state

    loop: Any = Loop(training_step(model, adam(model), loss=two_losses))
    loop = loop.on(Events.ITERATION_COMPLETED, keep)
    for event in heard:  # which keeps the stages apart
        loop = loop.on(event, lambda state, payload: state)
    loop.run(batches(), max_epochs=2)
    assert torch.equal(torch.stack(found), torch.stack(losses))
    assert_bitwise_equal(model, by_hand)


def test_with_a_loss_of_predictions_it_is_the_same() -> None:
    data = [(torch.ones(4, 3), torch.zeros(4, 1)), (torch.zeros(2, 3), torch.ones(2, 1))]
    models = []
    for own in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 1))

        def of_pair(model: nn.Module, batch: Pair) -> Tensor:
            return mse_loss(model(batch[0]), batch[1])

        torch.manual_seed(7)
        if own:
            Loop(training_step(model, adam(model), loss=of_pair)).run(data, max_epochs=3)
        else:
            Loop(training_step(model, adam(model), mse_loss)).run(data, max_epochs=3)
        models.append(model)
    assert_bitwise_equal(*models)


def test_the_events_tell_the_batch_and_its_loss() -> None:
    data, seen = batches([3, 2]), list[tuple[str, Any]]()
    model = Two()

    def note(state: State[Named, Tensor], forward: ForwardPass) -> State[Named, Tensor]:
        assert state.event is not None
        assert forward.x is state.batch
        assert (forward.y, forward.y_pred) == (None, None)
        assert forward.loss.requires_grad
        seen.append((state.event.name, forward.loss.item()))
        return state

    def updated(state: State[Named, Tensor], update: Updated) -> State[Named, Tensor]:
        assert not update.loss.requires_grad
        seen.append(("update_completed", update.loss.item()))
        return state

    (
        Loop(training_step(model, adam(model), loss=two_losses))
        .on(Backprop.STARTED, note)
        .on(Backprop.COMPLETED, note)
        .on(Update.COMPLETED, updated)
        .run(data)
    )
    names = ["backprop_started", "backprop_completed", "update_completed"]
    assert [name for name, _ in seen] == names * 2
    assert len({loss for _, loss in seen}) == 2


@pytest.mark.parametrize("size", [1, 2, 3, 9])
def test_windows_of_dict_batches_train_as_one_large_batch(size: int) -> None:
    data = batches([2, 5, 1, 3, 4])
    by_hand = Two()
    large = [joined(data[begin : begin + size]) for begin in range(0, 5, size)]
    Loop(training_step(by_hand, adam(by_hand), loss=two_losses)).run(large, max_epochs=2)

    model = Two()
    step = training_step(model, adam(model), loss=two_losses)
    loop = Loop[Window[Named], Tensor](step) | mean("loss")
    final = loop.run(windows(data, size), max_epochs=2)
    assert final.iteration == 2 * len(large)
    for ours, its in zip(model.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(ours, its)


def test_windows_weigh_as_they_are_told() -> None:
    data = batches([2, 2])
    by_hand = Two()
    optimizer = adam(by_hand)
    loss = 0.25 * two_losses(by_hand, data[0]) + 0.75 * two_losses(by_hand, data[1])
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()

    model = Two()
    weights = {id(data[0]["kind"]): 1.0, id(data[1]["kind"]): 3.0}
    step = training_step(
        model, adam(model), loss=two_losses, weight=lambda batch: weights[id(batch["kind"])]
    )
    loop: Any = Loop(step)
    final = loop.run(windows(data, 2))
    torch.testing.assert_close(final.output, loss.detach())
    for ours, its in zip(model.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(ours, its)


def test_batches_of_any_type_are_given_as_they_are() -> None:
    @attrs.frozen(eq=False)
    class Graph:
        nodes: Tensor

    seen: list[object] = []

    def of_graph(model: nn.Linear, batch: Graph) -> Tensor:
        seen.append(batch)
        loss: Tensor = model(batch.nodes).mean()
        return loss

    model = nn.Linear(2, 1)
    data = [Graph(torch.ones(rows, 2)) for rows in (3, 1)]
    step = training_step(model, adam(model), loss=of_graph, weight=lambda graph: len(graph.nodes))
    assert Loop(step).run(data).iteration == 2
    loop: Any = Loop(step)
    assert loop.run(windows(data, 2)).iteration == 1
    assert seen == data * 2


def test_a_model_that_makes_its_own_loss_is_trained() -> None:
    class Own(nn.Linear):
        def loss(self, batch: Tensor) -> Tensor:
            loss: Tensor = self(batch).square().mean()
            return loss

    model = Own(2, 1)
    step = training_step(model, adam(model), loss=Own.loss)
    loop = Loop(step) | mean("loss") | clip_grad_norm(model, 1.0)
    final = loop.run([torch.ones(3, 2)] * 20, max_epochs=2)
    assert final.output.item() < final.metrics["loss"]


class Recorded(Tensor):
    """Note the devices that it is asked to move to."""

    asked: list[tuple[object, bool]]

    @override
    def to(self, *given: Any, **named: Any) -> Any:
        self.asked.append((given[0], named["non_blocking"]))
        return super().to(*given, **named)


def recorded(*shape: int) -> Recorded:
    tensor = torch.ones(*shape).as_subclass(Recorded)
    tensor.asked = []
    return tensor


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu")])
@pytest.mark.parametrize("size", [None, 2], ids=["batches", "windows"])
def test_batches_are_moved_to_the_device_that_is_given(device: Any, size: int | None) -> None:
    model = nn.Linear(2, 1)

    def of_nest(model: nn.Module, batch: Any) -> Tensor:
        assert batch["name"] == "one"
        assert type(batch["x"]) is list
        loss: Tensor = model(torch.as_tensor(batch["x"][0]).as_subclass(Tensor)).mean()
        return loss

    for given, asked in (
        ({"device": device}, [(device, False)]),
        ({"device": device, "non_blocking": True}, [(device, True)]),
        ({}, []),
    ):
        x = recorded(3, 2)
        batch: Any = {"x": [x], "name": "one"}
        step: Any = training_step(model, adam(model), loss=of_nest, **given)
        data: Any = [batch]
        Loop(step).run(data if size is None else windows(data, size))
        assert x.asked == asked


def test_the_model_is_moved_as_the_step_is_made() -> None:
    model, asked = nn.Linear(2, 1), list[object]()
    vars(model)["to"] = asked.append
    training_step(model, adam(model), loss=lambda model, batch: batch, device="cpu")
    training_step(model, adam(model), loss=lambda model, batch: batch)
    assert asked == ["cpu"]


def test_a_batch_that_cannot_be_moved_is_refused_where_it_comes() -> None:
    model = nn.Linear(2, 1)
    step: Any = training_step(model, adam(model), loss=lambda model, batch: batch, device="cpu")
    with pytest.raises(TypeError, match="cannot move a object to cpu") as caught:
        Loop(step).run([object()])
    assert last_state(caught.value).iteration == 1


def test_the_model_is_in_training_mode_and_put_back() -> None:
    model = nn.Sequential(nn.Linear(2, 1), nn.Dropout(0.5)).eval()
    seen: list[bool] = []

    def noting(model: nn.Module, batch: Tensor) -> Tensor:
        seen.append(model.training)
        loss: Tensor = model(batch).mean()
        return loss

    Loop(training_step(model, adam(model), loss=noting)).run([torch.ones(3, 2)] * 2)
    assert seen == [True, True]
    assert not model.training


def test_equal_steps_are_equal_and_a_loop_of_them_pickles() -> None:
    model = Two()
    optimizer = adam(model)
    loop = Loop(training_step(model, optimizer, loss=two_losses))
    other = training_step(model, optimizer, loss=two_losses, weight=len)
    assert loop != Loop(other)
    again = pickle.loads(pickle.dumps(loop))
    assert again.run(batches()).iteration == 5
    assert loop == Loop(training_step(model, optimizer, loss=two_losses))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "none of loss_fn and loss= are given"),
        ({"loss_fn": mse_loss, "loss": two_losses}, "both of loss_fn and loss= are given"),
    ],
)
def test_there_is_either_a_loss_of_predictions_or_one_of_the_users_own(
    given: Any, said: str
) -> None:
    model = Two()
    step: Any = training_step
    with pytest.raises(TypeError, match=said) as caught:
        step(model, adam(model), **given)
    assert "give loss_fn, which takes (y_pred, y), or loss=, which takes (model, batch)" in str(
        caught.value
    )


def test_wrong_arguments_are_refused_when_the_step_is_made() -> None:
    model = Two()
    step: Any = training_step
    with pytest.raises(TypeError, match=r"loss takes \(model, batch\)"):
        step(model, adam(model), loss=lambda batch: batch)
    with pytest.raises(TypeError, match="loss"):
        step(model, adam(model), loss=3)
    with pytest.raises(TypeError, match="prepare_batch= makes pairs for loss_fn"):
        step(model, adam(model), loss=two_losses, prepare_batch=lambda b, d, n: (b, b))
    with pytest.raises(TypeError, match=r"weight takes \(batch\)"):
        step(model, adam(model), loss=two_losses, weight=lambda: 1)
    with pytest.raises(TypeError, match="model is the class Two"):
        step(Two, adam(model), loss=two_losses)


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (lambda model, batch: 0.5, "returned 0.5 of type float"),
        (lambda model, batch: model(batch), "of shape (3, 1)"),
        (lambda model, batch: batch.mean(), "does not depend on a parameter"),
    ],
)
def test_a_loss_without_backward_is_explained(loss: Any, said: str) -> None:
    model = nn.Linear(2, 1)
    with pytest.raises((RuntimeError, AttributeError)) as caught:
        Loop(training_step(model, adam(model), loss=loss)).run([torch.ones(3, 2)])
    assert any(said in note for note in caught.value.__notes__)


def test_a_mean_of_the_losses_counts_the_samples_of_the_batches() -> None:
    def first(model: nn.Module, batch: Named) -> Tensor:
        loss: Tensor = batch["x"].mean() + 0 * model(batch["x"]).mean()
        return loss

    make: Any = training_step
    model = nn.Linear(2, 1)
    data = [{"x": torch.full((rows, 2), value)} for rows, value in ((3, 1.0), (1, 5.0))]
    for given, wanted in (({}, 2.0), ({"weight": lambda batch: 1}, 3.0)):
        step = make(model, adam(model), loss=first, **given)
        assert (Loop(step) | mean("loss")).run(data).metrics["loss"] == wanted
    assert count_samples(data[0]) == 3
