"""Trainers and evaluators: every system that can train here, by name, made of equal parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from torch import nn
from torch.optim import Optimizer

from fengine import Loop
from tests.benchmarks import lightning_peers as peers
from tests.benchmarks.by_hand import LossFunction, Run, evaluation_by_hand, training_by_hand
from tests.benchmarks.systems import ACCELERATE, BARE, ENGINE, FABRIC, IGNITE, LOOP, TRAINER

AGAIN: Final = "bare loop, a second time"


def loop_training(model: nn.Module, optimizer: Optimizer, loss_fn: LossFunction) -> Run:
    """Train by a `Loop`."""
    from fengine.training import training_step

    return Loop(training_step(model, optimizer, loss_fn)).run


def loop_evaluation(model: nn.Module) -> Run:
    """Evaluate by a `Loop`."""
    from fengine.training import evaluation_step

    return Loop(evaluation_step(model)).run


def engine_training(model: nn.Module, optimizer: Optimizer, loss_fn: LossFunction) -> Run:
    """Train by an `Engine`."""
    from fengine.engine import create_supervised_trainer

    return create_supervised_trainer(model, optimizer, loss_fn).run


def engine_evaluation(model: nn.Module) -> Run:
    """Evaluate by an `Engine`."""
    from fengine.engine import create_supervised_evaluator

    return create_supervised_evaluator(model).run


def ignite_training(model: nn.Module, optimizer: Optimizer, loss_fn: LossFunction) -> Run:
    """Train by an engine of pytorch-ignite."""
    from ignite.engine import create_supervised_trainer

    return create_supervised_trainer(model, optimizer, loss_fn).run


def ignite_evaluation(model: nn.Module) -> Run:
    """Evaluate by an engine of pytorch-ignite."""
    from ignite.engine import create_supervised_evaluator

    return create_supervised_evaluator(model).run


# What trains and what evaluates, by name; and the package that it needs, if it may not be there.
_SYSTEMS: Final[Mapping[str, tuple[str | None, Callable[..., Run], Callable[..., Run]]]] = {
    BARE: (None, training_by_hand, evaluation_by_hand),
    AGAIN: (None, training_by_hand, evaluation_by_hand),
    LOOP: (None, loop_training, loop_evaluation),
    ENGINE: (None, engine_training, engine_evaluation),
    IGNITE: ("ignite", ignite_training, ignite_evaluation),
    FABRIC: ("lightning", peers.fabric_training, peers.fabric_evaluation),
    TRAINER: ("lightning", peers.trainer_training, peers.trainer_evaluation),
    ACCELERATE: ("accelerate", peers.accelerate_training, peers.accelerate_evaluation),
}


def trainers(have: frozenset[str]) -> Mapping[str, Callable[..., Run]]:
    """Give the functions that make a training here, by name."""
    return {
        name: training
        for name, (package, training, _) in _SYSTEMS.items()
        if package is None or package in have
    }


def evaluators(have: frozenset[str]) -> Mapping[str, Callable[..., Run]]:
    """Give the functions that make an evaluation here, by name."""
    return {
        name: evaluation
        for name, (package, _, evaluation) in _SYSTEMS.items()
        if package is None or package in have
    }
