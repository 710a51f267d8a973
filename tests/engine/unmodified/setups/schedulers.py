"""Schedules: of the parameters of an optimizer, of the batch size, of attributes of the state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from ignite.engine import Engine, Events
from ignite.handlers import (
    BatchSizeScheduler,
    ConcatScheduler,
    CosineAnnealingScheduler,
    ExpStateScheduler,
    FastaiLRFinder,
    LambdaStateScheduler,
    LinearCyclicalScheduler,
    LRScheduler,
    MultiStepStateScheduler,
    ParamGroupScheduler,
    PiecewiseLinear,
    PiecewiseLinearStateScheduler,
    ReduceLROnPlateauScheduler,
    StepStateScheduler,
    create_lr_scheduler_with_warmup,
)
from torch.optim.lr_scheduler import StepLR

from tests.engine.unmodified.setups import setup
from tests.engine.unmodified.setups.common import echo, plain, training


def scheduled(
    make: Callable[[torch.optim.Optimizer], Any], event: Any = Events.ITERATION_STARTED
) -> Any:
    """Train with a schedule; give the history it kept, its state and what the training came to."""
    parts = training()
    scheduler = make(parts.optimizer)
    parts.trainer.add_event_handler(event, scheduler)
    rates: list[Any] = []
    parts.trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda: rates.append(parts.optimizer.param_groups[0]["lr"])
    )
    parts.trainer.run(parts.data, max_epochs=2)
    history = getattr(parts.trainer.state, "param_history", None)
    return [rates, plain(history), plain(scheduler.state_dict()), parts.result()]


@setup("handlers/param_scheduler.py")
def cyclical_schedules() -> Any:
    options: Any = {"start_value": 0.1, "end_value": 0.01, "cycle_size": 4, "save_history": True}
    return [
        scheduled(lambda sgd: LinearCyclicalScheduler(sgd, "lr", **options)),
        scheduled(lambda sgd: LinearCyclicalScheduler(sgd, "lr", monotonic=True, **options)),
        scheduled(lambda sgd: CosineAnnealingScheduler(sgd, "lr", cycle_mult=1.5, **options)),
        scheduled(lambda sgd: CosineAnnealingScheduler(sgd, "lr", warmup_duration=2, **options)),
    ]


@setup("handlers/param_scheduler.py")
def piecewise_schedule() -> Any:
    milestones = [(2, 0.1), (5, 0.02), (8, 0.05)]
    return [
        scheduled(lambda sgd: PiecewiseLinear(sgd, "lr", milestones, save_history=True)),
        scheduled(
            lambda sgd: PiecewiseLinear(sgd, "lr", milestones, save_history=True),
            Events.ITERATION_STARTED(every=2),
        ),
    ]


@setup("handlers/param_scheduler.py")
def schedules_one_after_the_other() -> Any:
    def make(sgd: torch.optim.Optimizer) -> ConcatScheduler:
        up = LinearCyclicalScheduler(sgd, "lr", 0.01, 0.1, 6)
        down = CosineAnnealingScheduler(sgd, "lr", 0.1, 0.0, 8)
        return ConcatScheduler([up, down], [3], save_history=True)

    return scheduled(make)


@setup("handlers/param_scheduler.py")
def schedules_of_parameter_groups() -> Any:
    parts = training()
    weight, bias = parts.model.parameters()
    sgd = torch.optim.SGD([{"params": [weight]}, {"params": [bias]}], lr=0.1)
    scheduler = ParamGroupScheduler(
        [
            LinearCyclicalScheduler(sgd, "lr", 0.1, 0.0, 4, param_group_index=0),
            CosineAnnealingScheduler(sgd, "lr", 0.0, 0.1, 4, param_group_index=1),
        ],
        save_history=True,
    )
    parts.trainer.add_event_handler(Events.ITERATION_STARTED, scheduler)
    rates: list[Any] = []
    parts.trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda: rates.append([g["lr"] for g in sgd.param_groups])
    )
    parts.trainer.run(parts.data, max_epochs=2)
    return [rates, plain(parts.trainer.state.param_history), plain(scheduler.state_dict())]


@setup("handlers/param_scheduler.py")
def schedules_of_torch() -> Any:
    return [
        scheduled(lambda sgd: LRScheduler(StepLR(sgd, 3, 0.5), save_history=True)),
        scheduled(
            lambda sgd: create_lr_scheduler_with_warmup(
                StepLR(sgd, 3, 0.5), 0.0, 4, warmup_end_value=0.1, save_history=True
            )
        ),
    ]


@setup("handlers/param_scheduler.py")
def schedule_that_waits_for_a_plateau() -> Any:
    parts = training(lr=0.4)
    losses = iter([1.0, 0.5, 0.5, 0.5, 0.4, 0.6, 0.6, 0.6])
    scheduler = ReduceLROnPlateauScheduler(
        parts.optimizer,
        metric_name="loss",
        trainer=parts.trainer,
        save_history=True,
        factor=0.5,
        patience=1,
    )

    def note_loss(engine: Engine) -> None:
        engine.state.metrics["loss"] = next(losses)

    parts.evaluator.add_event_handler(Events.COMPLETED, note_loss)
    parts.evaluator.add_event_handler(Events.COMPLETED, scheduler)
    parts.trainer.add_event_handler(
        Events.EPOCH_COMPLETED, lambda: parts.evaluator.run(parts.data[:1])
    )
    parts.trainer.run(parts.data, max_epochs=8)
    return [plain(parts.trainer.state.param_history), plain(scheduler.state_dict()), parts.result()]


@setup("handlers/param_scheduler.py")
def schedule_of_the_batch_size() -> Any:
    numbers: Any = range(12)
    loader = torch.utils.data.DataLoader(numbers, batch_size=2)
    engine: Any = Engine(echo)
    sizes: list[Any] = []
    engine.add_event_handler(
        Events.ITERATION_COMPLETED, lambda: sizes.append(len(engine.state.batch))
    )
    BatchSizeScheduler(loader, lambda epoch: 2 + 2 * epoch, save_history=True).attach(engine)
    engine.run(loader, max_epochs=3)
    return [sizes, plain(engine.state.param_history), engine.state.iteration]


@setup("handlers/state_param_scheduler.py")
def schedules_of_the_state() -> Any:
    engine: Any = Engine(echo)
    engine.state.there = 5.0
    common: Any = {"save_history": True, "create_new": True}
    schedulers = [
        LambdaStateScheduler(lambda index: index**2, "squared", **common),
        PiecewiseLinearStateScheduler([(2, 1.0), (5, 0.0)], "linear", **common),
        ExpStateScheduler(2.0, 0.5, "exp", **common),
        StepStateScheduler(1.0, 0.1, 2, "step", **common),
        MultiStepStateScheduler(1.0, 0.1, [2, 5], "steps", **common),
        ExpStateScheduler(1.0, 2.0, "there"),
    ]
    for scheduler in schedulers[:-1]:
        scheduler.attach(engine, Events.ITERATION_COMPLETED)
    schedulers[-1].attach(engine, Events.EPOCH_COMPLETED(every=2) | Events.STARTED)
    seen: list[Any] = []
    engine.add_event_handler(
        Events.ITERATION_COMPLETED, lambda: seen.append([engine.state.linear, engine.state.there])
    )
    engine.run([0] * 3, max_epochs=3)
    states = [
        {key: plain(value) for key, value in scheduler.state_dict().items() if key != "lambda_obj"}
        for scheduler in schedulers
    ]
    simulated = ExpStateScheduler.simulate_values(
        num_events=3, initial_value=2.0, gamma=0.5, param_name="exp", create_new=True
    )
    return [seen, plain(engine.state.param_history), states, plain(simulated)]


def found(data_epochs: int = 1, **options: Any) -> Any:
    parts = training()
    finder = FastaiLRFinder()
    saved = {"model": parts.model, "optimizer": parts.optimizer}
    with finder.attach(parts.trainer, to_save=saved, **options) as trainer:
        trainer.run(parts.data, max_epochs=data_epochs)
    limits = [parts.trainer.state.max_iters, parts.trainer.state.max_epochs]
    handlers = sum(len(entries) for entries in parts.trainer._event_handlers.values())
    history, suggestion = plain(finder.get_results()), plain(finder.lr_suggestion())
    parts.trainer.run(parts.data, max_epochs=3)
    return [history, suggestion, limits, handlers, parts.result()]


@setup("handlers/lr_finder.py")
def learning_rate_search() -> Any:
    return found(data_epochs=4, end_lr=0.5)


@setup("handlers/lr_finder.py")
def learning_rate_search_beyond_the_run() -> Any:
    return found(data_epochs=1, num_iter=12, end_lr=0.3, step_mode="linear")


@setup("handlers/lr_finder.py")
def learning_rate_search_that_diverges() -> Any:
    return found(data_epochs=5, end_lr=500.0, diverge_th=2.0)
