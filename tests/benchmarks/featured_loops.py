"""Trainings and evaluations with one feature each, in a Loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from fengine import Event, Events, Loop, State
from tests.benchmarks.by_hand import Pairs, Run
from tests.benchmarks.featured_things import (
    CLASSES,
    DAY,
    DECAY,
    MAX_NORM,
    Pair,
    Sink,
    Trained,
    new_folder,
)

if TYPE_CHECKING:
    from fengine.training import ForwardPass


def training(own: Trained) -> Loop[Pair, Tensor]:
    from fengine.training import training_step

    return Loop(training_step(own.model, own.optimizer, own.loss_fn))


def evaluation(model: nn.Module) -> Loop[Pair, Any]:
    from fengine.training import evaluation_step

    return Loop(evaluation_step(model))


def unfused(own: Trained) -> Run:
    from fengine.training import Backprop

    def handler(
        state: State[Pair, Tensor, None], forward: ForwardPass
    ) -> State[Pair, Tensor, None]:
        return state

    return training(own).on(Backprop.COMPLETED, handler).run


def clipping(own: Trained) -> Run:
    from fengine.features import clip_grad_norm

    return (training(own) | clip_grad_norm(own.model, MAX_NORM)).run


def scheduling(own: Trained) -> Run:
    from fengine.features import lr_schedule

    return (training(own) | lr_schedule(own.scheduler())).run


def telling_rate(own: Trained) -> Run:
    from fengine.features import learning_rate

    return (training(own) | learning_rate(own.optimizer, at=Events.ITERATION_COMPLETED)).run


def logging(own: Trained, at: Event) -> Run:
    from fengine.features import learning_rate, log_to
    from fengine.writers import jsonl

    loop = training(own) | learning_rate(own.optimizer, at=at)
    return (loop | log_to(jsonl(new_folder() / "log.jsonl"), at=at)).run


def averaging(own: Trained) -> Run:
    from fengine.metrics import mean

    return (training(own) | mean("loss")).run


def showing(own: Trained, terminal: bool) -> Run:
    from fengine.features import progress

    return (training(own) | progress(file=Sink(terminal))).run


def counting(own: Trained) -> Run:
    from fengine.features import throughput

    return (training(own) | throughput()).run


def profiling(own: Trained) -> Run:
    from fengine.features import profiled

    return (training(own) | profiled(file=Sink(False))).run


def accuracy(model: nn.Module) -> Run:
    from fengine.metrics import accuracy

    return (evaluation(model) | accuracy()).run


def mean_loss(model: nn.Module) -> Run:
    from fengine.metrics import mean_loss

    return (evaluation(model) | mean_loss(nn.CrossEntropyLoss())).run


def torch_metric(model: nn.Module) -> Run:
    from torchmetrics.classification import MulticlassAccuracy

    from fengine.metrics import torch_metric

    return (evaluation(model) | torch_metric(MulticlassAccuracy(CLASSES))).run


def averaging_weights(own: Trained) -> Run:
    from fengine.features import ema

    return (training(own) | ema(own.model, DECAY)).run


def guarding(own: Trained, gradients: bool) -> Run:
    from fengine.features import stop_on_nan

    return (training(own) | stop_on_nan(gradients=gradients)).run


def limiting_time(own: Trained) -> Run:
    from fengine.features import time_limit

    return (training(own) | time_limit(DAY)).run


def keeping_best(own: Trained) -> Run:
    from fengine.features import keep_best

    def count_down(state: State[Pair, Tensor, None]) -> State[Pair, Tensor, None]:
        return state.with_metric("left", -state.iteration)

    done = Events.ITERATION_COMPLETED
    best = keep_best("left", mode="min", at=done, model=own.model)
    return (training(own).on(done, count_down) | best).run


def moving(own: Trained) -> Run:
    from fengine.training import to_device

    loop = training(own)

    def run(data: Pairs) -> object:
        return loop.run(to_device(data, "cpu"))

    return run


def freezing(own: Trained) -> Run:
    from fengine.features import frozen

    return (training(own) | frozen([own.model.bias])).run
