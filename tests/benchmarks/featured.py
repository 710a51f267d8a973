"""Trainings and evaluations with one feature each: in a Loop, pytorch-ignite and the Trainer.

In each system a feature is used as its guide shows. What is not ready-made there is a handler or a
line of the user's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from torch import nn

from fengine import Events
from tests.benchmarks import featured_ignite as ignite
from tests.benchmarks import featured_loops as loops
from tests.benchmarks import featured_trainers as trainers
from tests.benchmarks.by_hand import Run
from tests.benchmarks.featured_things import Trained, new_classifier
from tests.benchmarks.systems import IGNITE, LOOP, TRAINER

PLAIN: Final = "without a feature"
OWN_STEP: Final = "without a feature, in a step of the user's own"

UNFUSED: Final = "the step, unfused"
CLIP: Final = "clip_grad_norm"
SCHEDULE: Final = "lr_schedule, StepLR"
RATE: Final = "learning_rate"
LOG_OF_EPOCHS: Final = "learning_rate, logged at each epoch"
LOG_OF_ITERATIONS: Final = "learning_rate, logged at each iteration"
MEAN: Final = "mean of the loss"
NO_TERMINAL: Final = "progress, to no terminal"
TERMINAL: Final = "progress, to a terminal"
THROUGHPUT: Final = "throughput"
PROFILED: Final = "profiled, handlers"
AVERAGE: Final = "ema"
GUARD: Final = "stop_on_nan"
GUARD_GRADIENTS: Final = "stop_on_nan, of gradients too"
TIME_LIMIT: Final = "time_limit"
BEST: Final = "keep_best, a copy at each iteration"
TO_DEVICE: Final = "to_device, the CPU"
FROZEN: Final = "frozen, the bias"

ACCURACY: Final = "accuracy"
MEAN_LOSS: Final = "mean_loss"
TORCH_METRIC: Final = "torch_metric"

Key: TypeAlias = tuple[str, str]

_PACKAGES: Final = {IGNITE: "ignite", TRAINER: "lightning"}
# What comes with Lightning: torchmetrics and tqdm.
_OF_LIGHTNING: Final = frozenset({NO_TERMINAL, TERMINAL, TORCH_METRIC})

_TRAININGS: Final[Mapping[Key, Callable[[Trained], Run]]] = {
    (LOOP, PLAIN): lambda own: loops.training(own).run,
    (LOOP, UNFUSED): loops.unfused,
    (LOOP, CLIP): loops.clipping,
    (LOOP, SCHEDULE): loops.scheduling,
    (LOOP, RATE): loops.telling_rate,
    (LOOP, LOG_OF_EPOCHS): lambda own: loops.logging(own, Events.EPOCH_COMPLETED),
    (LOOP, LOG_OF_ITERATIONS): lambda own: loops.logging(own, Events.ITERATION_COMPLETED),
    (LOOP, MEAN): loops.averaging,
    (LOOP, NO_TERMINAL): lambda own: loops.showing(own, False),
    (LOOP, TERMINAL): lambda own: loops.showing(own, True),
    (LOOP, THROUGHPUT): loops.counting,
    (LOOP, PROFILED): loops.profiling,
    (LOOP, AVERAGE): loops.averaging_weights,
    (LOOP, GUARD): lambda own: loops.guarding(own, gradients=False),
    (LOOP, GUARD_GRADIENTS): lambda own: loops.guarding(own, gradients=True),
    (LOOP, TIME_LIMIT): loops.limiting_time,
    (LOOP, BEST): loops.keeping_best,
    (LOOP, TO_DEVICE): loops.moving,
    (LOOP, FROZEN): loops.freezing,
    (IGNITE, PLAIN): lambda own: ignite.training(own).run,
    (IGNITE, OWN_STEP): lambda own: ignite.own_step(own, clips=False),
    (IGNITE, CLIP): lambda own: ignite.own_step(own, clips=True),
    (IGNITE, SCHEDULE): ignite.scheduling,
    (IGNITE, RATE): ignite.telling_rate,
    (IGNITE, MEAN): ignite.averaging,
    (IGNITE, NO_TERMINAL): lambda own: ignite.showing(own, False),
    (IGNITE, TERMINAL): lambda own: ignite.showing(own, True),
    (IGNITE, PROFILED): ignite.profiling,
    (IGNITE, AVERAGE): ignite.averaging_weights,
    (IGNITE, GUARD): ignite.guarding,
    (IGNITE, TIME_LIMIT): ignite.limiting_time,
    (IGNITE, BEST): ignite.keeping_best,
    (IGNITE, TO_DEVICE): ignite.moving,
    (IGNITE, FROZEN): ignite.freezing,
    (TRAINER, PLAIN): trainers.training,
    (TRAINER, CLIP): trainers.clipping,
    (TRAINER, SCHEDULE): trainers.scheduling,
    (TRAINER, RATE): trainers.telling_rate,
    (TRAINER, LOG_OF_EPOCHS): lambda own: trainers.logging(own, each_step=False),
    (TRAINER, LOG_OF_ITERATIONS): lambda own: trainers.logging(own, each_step=True),
    (TRAINER, MEAN): trainers.averaging,
    (TRAINER, THROUGHPUT): trainers.counting,
    (TRAINER, PROFILED): trainers.profiling,
    (TRAINER, NO_TERMINAL): lambda own: trainers.showing(own, False),
    (TRAINER, TERMINAL): lambda own: trainers.showing(own, True),
    (TRAINER, AVERAGE): trainers.averaging_weights,
    (TRAINER, GUARD): trainers.guarding,
    (TRAINER, TIME_LIMIT): trainers.limiting_time,
    (TRAINER, BEST): trainers.keeping_best,
    (TRAINER, FROZEN): trainers.freezing,
}
_EVALUATIONS: Final[Mapping[Key, Callable[[nn.Module], Run]]] = {
    (LOOP, PLAIN): lambda model: loops.evaluation(model).run,
    (LOOP, ACCURACY): loops.accuracy,
    (LOOP, MEAN_LOSS): loops.mean_loss,
    (LOOP, TORCH_METRIC): loops.torch_metric,
    (IGNITE, PLAIN): ignite.evaluation,
    (IGNITE, ACCURACY): ignite.accuracy,
    (IGNITE, MEAN_LOSS): ignite.mean_loss,
    (IGNITE, TORCH_METRIC): ignite.torch_metric,
    (TRAINER, PLAIN): trainers.evaluation,
    (TRAINER, ACCURACY): trainers.accuracy,
    (TRAINER, MEAN_LOSS): trainers.mean_loss,
    (TRAINER, TORCH_METRIC): trainers.torch_metric,
}


def systems_with_features(have: frozenset[str]) -> list[str]:
    """Name the systems that are here."""
    return [LOOP, *(name for name, package in _PACKAGES.items() if package in have)]


def trainings(have: frozenset[str]) -> Mapping[Key, Run]:
    """Make the trainings that can be made here, each with a model of its own."""
    return {key: make(Trained.new()) for key, make in _TRAININGS.items() if _can_be_made(key, have)}


def evaluations(have: frozenset[str]) -> Mapping[Key, Run]:
    """Make the evaluations that can be made here, each with a model of its own."""
    return {
        key: make(new_classifier()) for key, make in _EVALUATIONS.items() if _can_be_made(key, have)
    }


def _can_be_made(key: Key, have: frozenset[str]) -> bool:
    system, feature = key
    return system in systems_with_features(have) and (
        feature not in _OF_LIGHTNING or "lightning" in have
    )
