"""A window of batches trains as one large batch that holds them all, whatever their sizes."""

from __future__ import annotations

import math
import pickle
import weakref
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss
from torch.utils.data import DataLoader
from typing_extensions import override

from fengine import Events, Loop, State, outputs
from fengine.training import (
    Backprop,
    ForwardPass,
    Shuffled,
    TrainingStep,
    Update,
    Updated,
    Window,
    training_step,
    windows,
)
from fengine.training.preparing import Device

Pair = tuple[Tensor, Tensor]
Pairs = Window[Pair]

sizes_of_batches = st.lists(st.integers(1, 5), min_size=1, max_size=7)
sizes_of_windows = st.integers(1, 8)


def batches(sizes: Iterable[int]) -> list[Pair]:
    generator = torch.Generator().manual_seed(1)
    return [
        (
            torch.randn(size, 3, generator=generator, dtype=torch.float64),
            torch.randn(size, 1, generator=generator, dtype=torch.float64),
        )
        for size in sizes
    ]


def total(window: Window[int]) -> int:
    return sum(window)


def over_windows(step: TrainingStep[Pair]) -> Loop[Pairs, Tensor, None]:
    return Loop(step)


def joined(window: Iterable[Pair]) -> Pair:
    xs, ys = zip(*window, strict=True)
    return torch.cat(xs), torch.cat(ys)


class Recording(nn.Module):
    """Keep the rows that went through it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()
        self.rows: list[Tensor] = []

    @override
    def forward(self, x: Tensor) -> Tensor:
        self.rows.extend(x)
        y_pred: Tensor = self.layers(x)
        return y_pred

    def weights(self) -> Tensor:
        return nn.utils.parameters_to_vector(self.parameters())

    def gradients(self) -> Tensor:
        return torch.cat(
            [weight.grad.flatten() for weight in self.parameters() if weight.grad is not None]
        )


def adam(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=0.05)


@given(sizes_of_batches, sizes_of_windows)
def test_law_it_trains_as_on_one_batch_for_each_window(sizes: list[int], size: int) -> None:
    data = batches(sizes)
    by_hand = Recording()
    optimizer = adam(by_hand)
    losses, gradients = [], []
    for _ in range(2):
        for begin in range(0, len(data), size):
            x, y = joined(data[begin : begin + size])
            optimizer.zero_grad()
            loss = mse_loss(by_hand(x), y)
            loss.backward()  # type: ignore[no-untyped-call]
            losses.append(loss.item())
            gradients.append(by_hand.gradients())
            optimizer.step()

    model = Recording()
    seen: list[Tensor] = []
    found: list[float] = []

    def note_gradients(state: State[Pairs, Tensor], forward: ForwardPass) -> State[Pairs, Tensor]:
        seen.append(model.gradients())
        return state

    def note_loss(state: State[Pairs, Tensor]) -> State[Pairs, Tensor]:
        found.append(state.output.item())
        return state

    final = (
        over_windows(training_step(model, adam(model), mse_loss))
        .on(Backprop.COMPLETED, note_gradients)
        .on(Events.ITERATION_COMPLETED, note_loss)
        .run(windows(data, size), max_epochs=2)
    )
    assert final.iteration == 2 * math.ceil(len(data) / size)
    assert torch.equal(torch.stack(model.rows), joined(data + data)[0])
    torch.testing.assert_close(torch.stack(seen), torch.stack(gradients))
    torch.testing.assert_close(found, losses)
    torch.testing.assert_close(model.weights(), by_hand.weights())


@given(sizes_of_batches, sizes_of_windows)
def test_law_joined_windows_are_the_data(data: list[int], size: int) -> None:
    cut = windows(data, size)
    assert list(chain.from_iterable(cut)) == list(chain.from_iterable(cut)) == data
    assert {len(window) for window in list(cut)[:-1]} <= {size}
    assert len(list(cut)) == len(cut)  # type: ignore[arg-type]
    assert list(windows(iter(data), size)) == list(cut)


@given(sizes_of_batches)
def test_law_windows_of_one_batch_are_plain_training(sizes: list[int]) -> None:
    data = batches(sizes)
    plain, model = Recording(), Recording()
    Loop(training_step(plain, adam(plain), mse_loss)).run(data, max_epochs=2)
    step = training_step(model, adam(model), mse_loss)
    over_windows(step).run(windows(data, 1), max_epochs=2)
    assert torch.equal(model.weights(), plain.weights())


def test_windows_of_an_iterator_go_on_where_it_stands() -> None:
    numbers = iter([1, 2, 3, 4, 5])
    cut = windows(numbers, 2)
    assert next(iter(cut)) == Window((1, 2))
    assert list(cut) == [Window((3, 4)), Window((5,))]
    assert list(windows(numbers, 2)) == []


def test_windows_of_data_without_a_length_have_none() -> None:
    class Unsized:
        def __iter__(self) -> Iterator[int]:
            return iter([1, 2, 3])

    final = Loop(outputs(total)).run(windows(Unsized(), 2), max_epochs=2)
    assert (final.iteration, final.limits.epoch_length, final.output) == (4, 2, 3)


def test_a_run_over_windows_resumes_at_each_of_its_events() -> None:
    data = windows([1, 2, 3, 4, 5], 2)
    loop = Loop(outputs(total))
    moments = list(loop.iterate(data, max_epochs=2))
    for moment in moments:
        assert loop.resume(moment.state, data) == moments[-1].state


def test_windows_of_a_shuffled_loader_are_shuffled_in_each_pass() -> None:
    shuffled = Shuffled(6, seed=0)
    loader: DataLoader[int] = DataLoader(
        range(6),  # type: ignore[arg-type]  # torch takes any sequence
        batch_size=1,
        sampler=shuffled,
        collate_fn=list,
    )
    seen: list[object] = []

    def note(window: Window[int]) -> None:
        seen.extend(window)

    Loop(outputs(note)).run(windows(loader, 3), max_epochs=2)
    shuffled.set_epoch(0)
    first = list(loader)
    shuffled.set_epoch(1)
    assert seen == [*first, *loader]
    assert first != list(loader)


def test_a_run_that_ends_within_an_epoch_leaves_no_gradient_unused() -> None:
    data = batches([2, 3, 4])
    by_hand = Recording()
    step = training_step(by_hand, adam(by_hand), mse_loss)
    Loop(step).run([joined(data[:2]), joined(data[2:]), joined(data[:2])])

    model = Recording()
    loop = over_windows(training_step(model, adam(model), mse_loss))
    loop.on(Events.ITERATION_COMPLETED(once=3), State.terminate).run(windows(data, 2), max_epochs=9)
    torch.testing.assert_close(model.weights(), by_hand.weights())


def test_a_loss_over_tokens_is_weighed_by_tokens() -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 6, 4, dtype=torch.float64)
    y = torch.randint(5, (3, 6))
    y[0, 1:], y[1, 4:], y[2] = -100, -100, -100  # what does not count; of the last, nothing does

    def over_tokens(y_pred: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(y_pred.flatten(0, -2), y.flatten())

    def tokens(batch: Pair) -> int:
        return int((batch[1] != -100).sum())

    def make() -> nn.Linear:
        torch.manual_seed(1)
        return nn.Linear(4, 5).double()

    whole, model, unweighed = make(), make(), make()

    def sgd(model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), lr=1.0)

    Loop(training_step(whole, sgd(whole), over_tokens)).run([(x, y)])
    data = list(zip(x, y, strict=True))
    step = training_step(model, sgd(model), over_tokens, weight=tokens)
    over_windows(step).run(windows(data, 3))
    torch.testing.assert_close(model.weight, whole.weight)

    step = training_step(unweighed, sgd(unweighed), over_tokens)
    over_windows(step).run(windows(data[:2], 2))
    assert (unweighed.weight - whole.weight).abs().max() > 0.01


@pytest.mark.parametrize("weights", [(0, 0), (2, -1), (1.0, math.nan)])
def test_weights_without_a_mean_are_refused_before_anything_is_done(
    weights: tuple[float, float],
) -> None:
    model = Recording()
    left = iter(weights)
    step = training_step(model, adam(model), mse_loss, weight=lambda batch: next(left))
    with pytest.raises(ValueError, match="the batches of a window weigh"):
        over_windows(step).run(windows(batches([1, 1]), 2))
    assert model.rows == []


def test_each_event_fires_once_for_a_window() -> None:
    model = Recording()
    data = batches([2, 3, 1])
    seen: list[tuple[str, int]] = []

    def note(state: State[Pairs, Tensor], forward: ForwardPass) -> State[Pairs, Tensor]:
        assert state.event is not None
        assert forward.x is state.batch.batches[-1][0]
        seen.append((state.event.name, state.iteration))
        return state

    def updated(state: State[Pairs, Tensor], update: Updated) -> State[Pairs, Tensor]:
        assert not update.loss.requires_grad
        assert update.stepped
        seen.append(("update_completed", state.iteration))
        return state

    (
        over_windows(training_step(model, adam(model), mse_loss))
        .on(Backprop.STARTED, note)
        .on(Backprop.COMPLETED, note)
        .on(Update.COMPLETED, updated)
        .run(windows(data, 2))
    )
    names = ("backprop_started", "backprop_completed", "update_completed")
    assert seen == [(name, iteration) for iteration in (1, 2) for name in names]


def test_only_one_batch_of_a_window_is_in_the_model_at_a_time() -> None:
    alive: list[weakref.ref[Tensor]] = []

    class Watched(nn.Linear):
        @override
        def forward(self, x: Tensor) -> Tensor:
            assert [ref for ref in alive if ref() is not None] == []
            y_pred = super().forward(x)
            alive.append(weakref.ref(y_pred))
            return y_pred

    model = Watched(3, 1).double()
    loop = over_windows(training_step(model, adam(model), mse_loss))
    loop.run(windows(batches([2] * 6), 3))
    assert len(alive) == 6


def test_batches_are_moved_one_by_one_and_the_model_with_the_step() -> None:
    model = nn.Linear(3, 1)
    moved: list[tuple[Device | None, bool]] = []

    def prepare(batch: dict[str, Tensor], device: Device | None, non_blocking: bool) -> Pair:
        moved.append((device, non_blocking))
        return batch["x"].to("meta"), batch["y"].to("meta")

    def rows(batch: dict[str, Tensor]) -> int:
        return len(batch["x"])

    optimizer = adam(model)
    step = training_step(
        model,
        optimizer,
        mse_loss,
        device="meta",  # it computes shapes alone, and is there on every machine
        non_blocking=True,
        prepare_batch=prepare,
        weight=rows,
    )
    assert model.weight.is_meta
    optimizer.param_groups[0]["params"] = list(model.parameters())  # torch has made others there
    data = [{"x": torch.ones(2, 3), "y": torch.ones(2, 1)}] * 3
    loop = Loop[Window[dict[str, Tensor]], Tensor, None](step)
    assert loop.run(windows(data, 2)).output.is_meta
    assert moved == [("meta", True)] * 3


def test_the_training_mode_is_set_where_it_is_missing() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 1)).double()
    step = training_step(model, adam(model), mse_loss)
    model.eval()
    over_windows(step).run(windows(batches([2, 2]), 2))
    assert model[1].num_batches_tracked == 2  # as it counts in training mode alone
    assert not model[1].training
    model.train()
    model[1].eval()
    over_windows(step).run(windows(batches([2, 2]), 2))
    assert (model.training, model[1].training) == (True, False)


def test_equal_steps_are_equal_and_a_loop_of_them_pickles() -> None:
    model = Recording()
    optimizer = adam(model)
    loop = over_windows(training_step(model, optimizer, mse_loss))
    assert loop == over_windows(training_step(model, optimizer, mse_loss))
    copy = pickle.loads(pickle.dumps((loop, windows(batches([2, 1, 3]), 2))))
    assert copy[0].run(copy[1]).iteration == 2


def test_a_loss_without_backward_is_explained() -> None:
    model = Recording()
    step = training_step(model, adam(model), lambda y_pred, y: (y_pred - y) ** 2)
    with pytest.raises(RuntimeError) as caught:
        over_windows(step).run(windows(batches([2, 2]), 2))
    assert any("of shape (2, 1)" in note for note in caught.value.__notes__)


@pytest.mark.parametrize(
    "batch",
    [
        3,
        {"x": "words"},
        {"x": torch.ones(2, 3), "y": torch.ones(3)},
        (torch.ones(2, 3), torch.ones(2, 3), torch.ones(3)),
        (torch.ones(2, 3), [1, 2]),
        (None, torch.ones(())),
    ],
    ids=["number", "dict without", "dict", "triple", "list of targets", "one target"],
)
def test_what_cannot_be_counted_is_refused_before_anything_is_done(batch: object) -> None:
    model = Recording()
    step: Any = training_step(model, adam(model), mse_loss)
    with pytest.raises(TypeError, match="give the step weight="):
        Loop(step).run(windows([batch, batch], 2))
    assert model.rows == []


def test_one_step_takes_windows_and_batches_and_a_window_of_one_needs_no_weight() -> None:
    def never(batch: Pair) -> float:
        raise AssertionError

    model = Recording()
    step: Any = training_step(model, adam(model), mse_loss, weight=never)
    assert Loop(step).run(batches([2, 3])).iteration == 2
    assert Loop(step).run(windows(batches([2, 3]), 1)).iteration == 2


def test_a_window_holds_its_batches_and_compares_by_their_content() -> None:
    data = batches([2, 3])
    (window,) = windows(data, 2)
    assert window.batches == tuple(data)
    assert list(window) == data
    assert len(window) == 2
    assert window == Window(tuple(batches([2, 3])))
    assert window != Window(tuple(batches([2, 4])))
    assert window != tuple(data)
    assert pickle.loads(pickle.dumps(window)) == window


def test_wrong_arguments_are_refused_when_the_step_is_made() -> None:
    model = Recording()
    with pytest.raises(TypeError, match="model is the class Recording"):
        training_step(Recording, adam(model), mse_loss)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=r"weight takes \(batch\)"):
        training_step(model, adam(model), mse_loss, weight=lambda: 1)  # type: ignore[arg-type, misc]
    with pytest.raises(TypeError, match="closure"):
        training_step(model, torch.optim.LBFGS(model.parameters()), mse_loss)
    with pytest.raises(ValueError, match="size=0 is below 1"):
        windows([1], 0)
    with pytest.raises(TypeError, match="size=True of type bool is not an int"):
        windows([1], True)
    with pytest.raises(TypeError, match="data=3 of type int is not an iterable"):
        windows(3, 1)  # type: ignore[arg-type]
