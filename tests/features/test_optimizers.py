"""Schedules of torch step where they say, as by hand, and the learning rate is a metric."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    ConstantLR,
    CosineAnnealingLR,
    CyclicLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)

from fengine import Events, Loop, NameTaken, State, outputs
from fengine.features import evaluation, learning_rate, lr_schedule
from fengine.metrics import mean
from fengine.testing import assert_resume_exact
from fengine.training import Update, training_step, windows

Pair = tuple[Tensor, Tensor]
EPOCHS = 3
DATA: list[Pair] = [(torch.full((2, 1), float(n)), torch.ones(2, 1)) for n in range(1, 5)]
SCORES = [1.0, 2.0, 3.0]


def make(kind: type[Optimizer] = SGD, **options: Any) -> tuple[nn.Module, Optimizer]:
    torch.manual_seed(0)
    model = nn.Linear(1, 1)
    optimizer: Any = kind
    return model, optimizer(model.parameters(), lr=0.01, **options)


def training(model: nn.Module, optimizer: Optimizer) -> Loop[Pair, Tensor, None]:
    return Loop(training_step(model, optimizer, mse_loss))


def rate(optimizer: Optimizer) -> float:
    return float(optimizer.param_groups[0]["lr"])


def by_lambda(number: int) -> float:
    return 1 / (1 + number)


def sequential(optimizer: Optimizer) -> SequentialLR:
    warming = LinearLR(optimizer, 0.1, total_iters=4)
    rest = CosineAnnealingLR(optimizer, 8)
    return SequentialLR(optimizer, [warming, rest], milestones=[4])


def chained(optimizer: Optimizer) -> ChainedScheduler:
    return ChainedScheduler([ConstantLR(optimizer, 0.1, 3), ExponentialLR(optimizer, 0.9)])


SCHEDULERS: dict[str, Callable[[Any], Any]] = {
    "OneCycleLR": lambda optimizer: OneCycleLR(optimizer, 0.1, total_steps=12),
    "StepLR": lambda optimizer: StepLR(optimizer, 2),
    "LambdaLR": lambda optimizer: LambdaLR(optimizer, by_lambda),
    "CyclicLR": lambda optimizer: CyclicLR(optimizer, 0.01, 0.1, 3, cycle_momentum=False),
    "SequentialLR": sequential,
    "ChainedScheduler": chained,
}
ANY = pytest.mark.parametrize("name", SCHEDULERS)
PLACES = pytest.mark.parametrize("at", [None, Events.EPOCH_COMPLETED], ids=repr)


def optimizer_for(name: str) -> tuple[nn.Module, Optimizer]:
    return make(momentum=0.9) if name == "OneCycleLR" else make()


def by_hand(name: str, at: object) -> tuple[nn.Module, list[float]]:
    """Train as a user without any engine would, and give the rate after each iteration."""
    model, optimizer = optimizer_for(name)
    scheduler = SCHEDULERS[name](optimizer)
    rates = []
    for _ in range(EPOCHS):
        for x, y in DATA:
            optimizer.zero_grad()
            mse_loss(model(x), y).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if at is None:
                scheduler.step()
            rates.append(rate(optimizer))
        if at is not None:
            scheduler.step()
    return model, rates


@ANY
@PLACES
def test_rates_and_weights_are_bitwise_those_by_hand(name: str, at: Any) -> None:
    expected, rates = by_hand(name, at)
    model, optimizer = optimizer_for(name)
    seen: list[float] = []

    def note(state: State[Pair, Tensor]) -> State[Pair, Tensor]:
        seen.append(rate(optimizer))
        return state

    scheduler = SCHEDULERS[name](optimizer)
    loop = training(model, optimizer) | lr_schedule(scheduler, at=at)
    loop.on(Events.ITERATION_COMPLETED, note).run(DATA, max_epochs=EPOCHS)
    assert seen == rates
    assert len(set(rates)) > 1
    assert all(map(torch.equal, model.parameters(), expected.parameters()))


# In a new process nobody has stepped the optimizer yet, which torch takes for a wrong order.
@pytest.mark.filterwarnings(r"ignore:Detected call of `lr_scheduler.step\(\)` before:UserWarning")
@ANY
@PLACES
def test_it_goes_on_exactly_from_every_moment(name: str, at: Any) -> None:
    def remake() -> Any:
        model, optimizer = optimizer_for(name)
        loop = training(model, optimizer) | lr_schedule(SCHEDULERS[name](optimizer), at=at)
        return loop | learning_rate(optimizer), DATA, {"max_epochs": 2}

    assert_resume_exact(remake)


@ANY
def test_a_snapshot_holds_the_scheduler(name: str) -> None:
    model, optimizer = optimizer_for(name)
    scheduler = SCHEDULERS[name](optimizer)
    loop = training(model, optimizer) | lr_schedule(scheduler)
    assert loop.external["scheduler"] is scheduler
    snapshot = loop.snapshot(loop.run(DATA, max_epochs=1))
    before = copy.deepcopy(scheduler.state_dict()), rate(optimizer)
    loop.run(DATA, max_epochs=1)
    assert (scheduler.state_dict(), rate(optimizer)) != before
    loop.restore(snapshot)
    assert (scheduler.state_dict(), rate(optimizer)) == before


def test_in_windows_it_steps_once_an_update() -> None:
    model, optimizer = make()
    loop: Any = training(model, optimizer) | lr_schedule(ExponentialLR(optimizer, 0.5))
    loop.run(windows(DATA, 2))
    assert rate(optimizer) == 0.01 * 0.5**2


def test_it_steps_at_filtered_and_several_events() -> None:
    model, optimizer = make()
    at = Update.COMPLETED(every=2)
    loop = training(model, optimizer) | lr_schedule(ExponentialLR(optimizer, 0.5), at=at)
    loop.run(DATA)
    assert rate(optimizer) == 0.01 * 0.5**2
    model, optimizer = make()
    both = Events.ITERATION_COMPLETED | Events.EPOCH_COMPLETED
    loop = training(model, optimizer) | lr_schedule(ExponentialLR(optimizer, 0.5), at=both)
    loop.run(DATA)
    assert rate(optimizer) == 0.01 * 0.5**5


def test_it_has_stepped_before_a_handler_of_the_end_of_the_iteration() -> None:
    model, optimizer = make()
    seen: list[float] = []

    def note(state: State[Pair, Tensor]) -> State[Pair, Tensor]:
        seen.append(rate(optimizer))
        return state

    loop = training(model, optimizer).on(Events.ITERATION_COMPLETED, note)
    (loop | lr_schedule(ExponentialLR(optimizer, 0.5))).run(DATA[:2])
    assert seen == [0.005, 0.0025]


# A schedule by a metric.


def scoring(loop: Any) -> Any:
    """Set a metric of epoch after epoch."""

    def score(state: Any) -> Any:
        return state.with_metric("score", SCORES[state.epoch - 1])

    at = Events.EPOCH_COMPLETED
    return loop.with_metrics("score", at=at).on(at, score)


def test_a_plateau_steps_by_the_metric_where_it_is_set() -> None:
    model, optimizer = make()
    plateau = ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
    loop = training(model, optimizer) | scoring | lr_schedule(plateau, metric="score")
    seen: list[float] = []

    def note(state: Any) -> Any:
        seen.append(rate(optimizer))
        return state

    loop.on(Events.EPOCH_COMPLETED, note).run(DATA, max_epochs=3)
    assert seen == [0.01, 0.005, 0.0025]
    assert plateau.best == 1.0


def test_a_plateau_steps_by_the_loss_of_an_evaluation_as_by_hand() -> None:
    def number(batch: float) -> float:
        return batch

    held_out = Loop(outputs(number)) | mean("loss")
    model, optimizer = make()
    plateau = ReduceLROnPlateau(optimizer, factor=0.5, patience=1)
    loop = training(model, optimizer) | evaluation(held_out, [1.0, 2.0])
    loop = loop | lr_schedule(plateau, metric="val_loss") | learning_rate(optimizer)
    found = [m.state for m in loop.iterate(DATA, max_epochs=5) if m.event is Events.EPOCH_COMPLETED]
    by_hand = ReduceLROnPlateau(SGD(model.parameters(), lr=0.01), factor=0.5, patience=1)
    expected = []
    for _ in range(5):
        by_hand.step(1.5)
        expected.append(rate(by_hand.optimizer))
    assert [state.metrics["lr"] for state in found] == expected
    assert expected[-1] == 0.0025


def test_a_plateau_steps_at_the_event_it_is_told() -> None:
    model, optimizer = make()
    plateau = ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
    at = Events.EPOCH_COMPLETED(every=2)
    loop = training(model, optimizer) | scoring | lr_schedule(plateau, metric="score", at=at)
    loop.run(DATA, max_epochs=3)
    assert (plateau.best, plateau.last_epoch) == (2.0, 1)


def test_a_plateau_goes_on_exactly() -> None:
    def remake() -> Any:
        model, optimizer = make()
        plateau = ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
        loop = training(model, optimizer) | scoring | lr_schedule(plateau, metric="score")
        return loop | learning_rate(optimizer), DATA, {"max_epochs": 3}

    assert_resume_exact(remake)


def test_a_metric_that_is_not_set_at_the_event_is_named() -> None:
    model, optimizer = make()
    at = Events.ITERATION_COMPLETED
    plateau = lr_schedule(ReduceLROnPlateau(optimizer), metric="score", at=at)
    with pytest.raises(LookupError, match=r"lr_schedule\(.*reads the metric 'score' at"):
        (training(model, optimizer) | scoring | plateau).run(DATA)


# What is refused.


def test_a_plateau_without_a_metric_is_refused() -> None:
    _, optimizer = make()
    with pytest.raises(ValueError, match="a ReduceLROnPlateau steps by a metric; say which"):
        lr_schedule(ReduceLROnPlateau(optimizer))


@ANY
def test_a_metric_for_another_scheduler_is_refused(name: str) -> None:
    _, optimizer = optimizer_for(name)
    with pytest.raises(ValueError, match=f"a {name} steps by no metric; leave out metric='loss'"):
        lr_schedule(SCHEDULERS[name](optimizer), metric="loss")


def test_what_is_no_scheduler_is_refused() -> None:
    model, optimizer = make()
    for other, said in (
        (optimizer, "takes a scheduler, not a SGD"),
        (StepLR, "takes a scheduler of torch, not the class StepLR"),
        (model, "takes a scheduler of torch, not Linear"),
        (None, "takes a scheduler of torch, not None"),
    ):
        with pytest.raises(TypeError, match=said):
            lr_schedule(other)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="lr_schedule takes the name of a metric"):
        lr_schedule(ReduceLROnPlateau(optimizer), metric=abs)  # type: ignore[arg-type]


@ANY
def test_a_scheduler_of_another_optimizer_is_refused(name: str) -> None:
    model, optimizer = optimizer_for(name)
    _, other = optimizer_for(name)
    said = f"lr_schedule\\({name}\\) schedules a SGD that this loop does not step"
    with pytest.raises(ValueError, match=said):
        training(model, optimizer) | lr_schedule(SCHEDULERS[name](other))


@ANY
def test_the_same_scheduler_twice_is_refused(name: str) -> None:
    model, optimizer = optimizer_for(name)
    scheduler = SCHEDULERS[name](optimizer)
    loop = training(model, optimizer) | lr_schedule(scheduler)
    for again in (
        lr_schedule(scheduler),
        lr_schedule(scheduler, name="other", at=Events.EPOCH_COMPLETED),
    ):
        with pytest.raises(ValueError, match="the scheduler is in the loop already"):
            loop | again


def test_two_schedulers_have_two_names() -> None:
    model, optimizer = make()
    one, other = StepLR(optimizer, 4, 0.5), ReduceLROnPlateau(optimizer, factor=0.1, patience=0)
    loop = training(model, optimizer) | scoring | lr_schedule(one)
    with pytest.raises(NameTaken, match="two have the thing outside the state 'scheduler'"):
        loop | lr_schedule(other, metric="score")
    loop = loop | lr_schedule(other, metric="score", name="plateau")
    assert {"scheduler", "plateau"} <= set(loop.external)
    loop.run(DATA, max_epochs=2)
    assert rate(optimizer) == pytest.approx(0.01 * 0.5**2 * 0.1)


def test_a_metric_that_nobody_sets_before_is_refused() -> None:
    model, optimizer = make()
    plateau = lr_schedule(ReduceLROnPlateau(optimizer), metric="val_loss")
    with pytest.raises(ValueError, match="which no feature before it sets; set are loss"):
        training(model, optimizer) | mean("loss") | plateau


def test_a_step_that_does_not_tell_of_its_updates_is_asked_for_an_event() -> None:
    _, optimizer = make()
    loop: Any = Loop(outputs(abs))
    with pytest.raises(ValueError, match="say when to step, such as at=Events"):
        loop | lr_schedule(StepLR(optimizer, 1))


# The learning rate.


def test_the_rate_of_an_optimizer_with_one_group_is_one_metric() -> None:
    model, optimizer = make()
    feature = learning_rate(optimizer)
    loop = training(model, optimizer) | lr_schedule(ExponentialLR(optimizer, 0.5)) | feature
    assert loop.metrics["lr"] is Events.EPOCH_COMPLETED
    found = [m.state for m in loop.iterate(DATA, max_epochs=2) if m.event is Events.EPOCH_COMPLETED]
    assert [dict(state.metrics) for state in found] == [{"lr": 0.01 / 2**4}, {"lr": 0.01 / 2**8}]


def test_each_group_of_several_has_a_metric() -> None:
    model = nn.Linear(1, 1)
    groups = [{"params": [model.weight], "lr": 0.5}, {"params": [model.bias], "lr": 0.25}]
    optimizer = SGD(groups, lr=1.0)
    loop = training(model, optimizer) | lr_schedule(StepLR(optimizer, 2, 0.5))
    final = (loop | learning_rate(optimizer)).run(DATA)
    assert dict(final.metrics) == {"lr_0": 0.125, "lr_1": 0.0625}
    named = (loop | learning_rate(optimizer, name="rate")).run(DATA)
    assert set(named.metrics) == {"rate_0", "rate_1"}


def test_the_rate_is_set_where_it_is_said() -> None:
    model, optimizer = make()
    at = Events.ITERATION_COMPLETED
    loop = training(model, optimizer) | lr_schedule(ExponentialLR(optimizer, 0.5))
    loop = loop | learning_rate(optimizer, name="rate", at=at)
    seen: list[float] = []

    def note(state: State[Pair, Tensor]) -> State[Pair, Tensor]:
        seen.append(state.metrics["rate"])
        return state

    loop.on(at, note).run(DATA[:2])
    assert seen == [0.005, 0.0025]
    with_payload = training(model, optimizer) | learning_rate(optimizer, at=Update.COMPLETED)
    assert "lr" in with_payload.run(DATA).metrics


def test_a_rate_that_is_a_tensor_is_a_number_as_a_metric() -> None:
    torch.manual_seed(0)
    model = nn.Linear(1, 1)
    optimizer = AdamW(model.parameters(), lr=torch.tensor(0.5))
    value = (training(model, optimizer) | learning_rate(optimizer)).run(DATA).metrics["lr"]
    assert type(value) is float
    assert value == 0.5


def test_two_rates_have_two_names() -> None:
    model, optimizer = make()
    loop = training(model, optimizer) | learning_rate(optimizer)
    with pytest.raises(NameTaken, match="two have the metric 'lr'"):
        loop | learning_rate(optimizer)
    final = (loop | learning_rate(make(AdamW)[1], name="other")).run(DATA)
    assert dict(final.metrics) == {"lr": 0.01, "other": 0.01}


def test_what_is_no_optimizer_is_refused() -> None:
    model, optimizer = make()
    for other in (model, SGD, StepLR(optimizer, 1), None):
        with pytest.raises(TypeError, match="learning_rate takes an optimizer of torch"):
            learning_rate(other)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="learning_rate takes the name of a metric"):
        learning_rate(optimizer, name=3)  # type: ignore[arg-type]
