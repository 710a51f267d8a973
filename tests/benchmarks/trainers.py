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
    from fengine.training import supervised

    return Loop(supervised(model, optimizer, loss_fn)).run


def loop_evaluation(model: nn.Module) -> Run:
    """Evaluate by a `Loop`."""
    from fengine.training import supervised_evaluation

    return Loop(supervised_evaluation(model)).run


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


def trainers(have: frozenset[str]) -> Mapping[str, Callable[..., Run]]:
    """Give the functions that make a training here, by name."""
    found: dict[str, Callable[..., Run]] = {
        BARE: training_by_hand,
        AGAIN: training_by_hand,
        LOOP: loop_training,
        ENGINE: engine_training,
    }
    if "ignite" in have:
        found[IGNITE] = ignite_training
    if "lightning" in have:
        found[FABRIC] = peers.fabric_training
        found[TRAINER] = peers.trainer_training
    if "accelerate" in have:
        found[ACCELERATE] = peers.accelerate_training
    return found


def evaluators(have: frozenset[str]) -> Mapping[str, Callable[..., Run]]:
    """Give the functions that make an evaluation here, by name."""
    found: dict[str, Callable[..., Run]] = {
        BARE: evaluation_by_hand,
        AGAIN: evaluation_by_hand,
        LOOP: loop_evaluation,
        ENGINE: engine_evaluation,
    }
    if "ignite" in have:
        found[IGNITE] = ignite_evaluation
    if "lightning" in have:
        found[FABRIC] = peers.fabric_evaluation
        found[TRAINER] = peers.trainer_evaluation
    if "accelerate" in have:
        found[ACCELERATE] = peers.accelerate_evaluation
    return found
