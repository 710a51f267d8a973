"""Trainings and evaluations with one feature each, in pytorch-ignite."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from itertools import count
from typing import TYPE_CHECKING, cast

from torch import Tensor, nn

from tests.benchmarks.by_hand import Run
from tests.benchmarks.featured_things import CLASSES, DAY, DECAY, MAX_NORM, Pair, Sink, Trained

if TYPE_CHECKING:
    from ignite.engine import Engine


def training(own: Trained) -> Engine:
    from ignite.engine import create_supervised_trainer

    return create_supervised_trainer(own.model, own.optimizer, own.loss_fn)


def own_step(own: Trained, clips: bool) -> Run:
    from ignite.engine import Engine

    backward: Callable[[Tensor], object] = Tensor.backward

    def step(engine: Engine, batch: Pair) -> float:
        own.model.train()
        own.optimizer.zero_grad()
        x, y = batch
        loss = own.loss_fn(own.model(x), y)
        backward(loss)
        if clips:
            nn.utils.clip_grad_norm_(own.model.parameters(), MAX_NORM)
        own.optimizer.step()
        return loss.item()

    return Engine(step).run


def scheduling(own: Trained) -> Run:
    from ignite.engine import Events as Moments
    from ignite.handlers import LRScheduler

    trainer = training(own)
    trainer.add_event_handler(Moments.ITERATION_COMPLETED, LRScheduler(own.scheduler()))
    return trainer.run


def telling_rate(own: Trained) -> Run:
    from ignite.engine import Events as Moments

    def tell(engine: Engine) -> None:
        engine.state.metrics["lr"] = own.optimizer.param_groups[0]["lr"]

    trainer = training(own)
    trainer.add_event_handler(Moments.ITERATION_COMPLETED, tell)
    return trainer.run


def averaging(own: Trained) -> Run:
    from ignite.metrics import Average

    trainer = training(own)
    Average().attach(trainer, "loss")
    return trainer.run


def showing(own: Trained, terminal: bool) -> Run:
    from ignite.handlers import ProgressBar

    trainer = training(own)
    ProgressBar(file=Sink(terminal)).attach(trainer)
    return trainer.run


def profiling(own: Trained) -> Run:
    from ignite.handlers import BasicTimeProfiler

    trainer = training(own)
    BasicTimeProfiler().attach(trainer)
    return trainer.run


def evaluation(model: nn.Module) -> Run:
    from ignite.engine import create_supervised_evaluator

    return create_supervised_evaluator(model).run


def accuracy(model: nn.Module) -> Run:
    from ignite.engine import create_supervised_evaluator
    from ignite.metrics import Accuracy

    return create_supervised_evaluator(model, metrics={"accuracy": Accuracy()}).run


def mean_loss(model: nn.Module) -> Run:
    from ignite.engine import create_supervised_evaluator
    from ignite.metrics import Loss

    return create_supervised_evaluator(model, metrics={"loss": Loss(nn.CrossEntropyLoss())}).run


def torch_metric(model: nn.Module) -> Run:
    from ignite.engine import Events as Moments
    from ignite.engine import create_supervised_evaluator
    from torchmetrics.classification import MulticlassAccuracy

    metric = MulticlassAccuracy(CLASSES)

    def begin(engine: Engine) -> None:
        metric.reset()

    def count(engine: Engine) -> None:
        metric.update(*cast("Pair", engine.state.output))

    def report(engine: Engine) -> None:
        engine.state.metrics["accuracy"] = metric.compute().item()

    evaluator = create_supervised_evaluator(model)
    evaluator.add_event_handler(Moments.EPOCH_STARTED, begin)
    evaluator.add_event_handler(Moments.ITERATION_COMPLETED, count)
    evaluator.add_event_handler(Moments.EPOCH_COMPLETED, report)
    return evaluator.run


def averaging_weights(own: Trained) -> Run:
    from ignite.engine import Events as Moments
    from ignite.handlers import EMAHandler

    trainer = training(own)
    EMAHandler(own.model, momentum=1 - DECAY).attach(trainer, event=Moments.ITERATION_COMPLETED)
    return trainer.run


def guarding(own: Trained) -> Run:
    from ignite.engine import Events as Moments
    from ignite.handlers import TerminateOnNan

    trainer = training(own)
    trainer.add_event_handler(Moments.ITERATION_COMPLETED, TerminateOnNan())
    return trainer.run


def limiting_time(own: Trained) -> Run:
    from ignite.engine import Events as Moments
    from ignite.handlers import TimeLimit

    trainer = training(own)
    trainer.add_event_handler(Moments.ITERATION_COMPLETED, TimeLimit(DAY))
    return trainer.run


def keeping_best(own: Trained) -> Run:
    from ignite.engine import Events as Moments
    from ignite.handlers import Checkpoint

    kept: dict[str, object] = {}

    def save(checkpoint: Mapping[str, object], filename: str, metadata: object = None) -> None:
        kept.update(copy.deepcopy(checkpoint))

    scores = count()  # rising from run to run: what it has saved it remembers

    def score(engine: Engine) -> float:
        return next(scores)

    trainer = training(own)
    keeping = Checkpoint({"model": own.model}, save, n_saved=1, score_function=score)
    trainer.add_event_handler(Moments.ITERATION_COMPLETED, keeping)
    return trainer.run


def moving(own: Trained) -> Run:
    from ignite.engine import create_supervised_trainer

    return create_supervised_trainer(own.model, own.optimizer, own.loss_fn, device="cpu").run


def freezing(own: Trained) -> Run:
    from ignite.engine import Events as Moments

    def freeze() -> None:
        own.model.bias.requires_grad_(False)

    trainer = training(own)
    trainer.add_event_handler(Moments.EPOCH_STARTED, freeze)
    return trainer.run
