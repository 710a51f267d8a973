"""Training: what the Engine keeps of pytorch-ignite, and the steps for `Loop` do otherwise.

The model is a row of weights, and an input has a single 1 in it: the gradient of a mean of outputs
says by which part each sample counts.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, nn
from typing_extensions import override

from fengine import Events, Loop, State, tap
from fengine.training import (
    Backprop,
    ForwardPass,
    evaluation_step,
    training_step,
    windows,
)
from tests.engine.rows.records import apis
from tests.engine.rows.sides import Side

APIS: Final = apis()

AnyState = State[Any, Any, Any]
AnyLoop = Loop[Any, Any, Any]
Pair = tuple[Tensor, Tensor]

SAMPLES: Final = torch.eye(4)


def batches(*sizes: int) -> list[Pair]:
    """Give the four samples in batches of these sizes."""
    return [(x, torch.zeros(len(x))) for x in torch.split(SAMPLES, [*sizes])]


ONE_BY_ONE: Final = batches(1, 1, 1, 1)


def mean_output(y_pred: Tensor, y: Tensor) -> Tensor:
    return y_pred.mean()


class Descent(torch.optim.SGD):
    """Note by which part each sample counts in an update."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model.parameters(), lr=1.0)
        self.updates: list[list[float]] = []

    @override
    def step(self, closure: Any = None) -> Any:
        (weights,) = self.param_groups[0]["params"]
        self.updates.append([round(part, 2) for part in weights.grad.flatten().tolist()])
        return super().step(closure)


def parts() -> tuple[nn.Module, Descent, Any]:
    model = nn.Linear(4, 1, bias=False)
    return model, Descent(model), mean_output


def accumulating(side: Side, steps: int) -> tuple[Any, Descent]:
    model, optimizer, loss_fn = parts()
    trainer = side.package.create_supervised_trainer(
        model, optimizer, loss_fn, gradient_accumulation_steps=steps
    )
    return trainer, optimizer


def windowed() -> tuple[AnyLoop, Descent]:
    model, optimizer, loss_fn = parts()
    return Loop(training_step(model, optimizer, loss_fn)), optimizer


# Accumulation

THREE: Final = [0.33, 0.33, 0.33, 0.0]


def train_on_windows() -> object:
    loop, optimizer = windowed()
    loop.run(windows(ONE_BY_ONE, 3), max_epochs=2)
    return optimizer.updates


@APIS(
    "E1 Q-18",
    "gradients of 3 batches accumulated, in epochs of 4",
    (
        "the iterations of the run are counted, and the last two train nothing",
        [THREE, [0.33, 0.33, 0.0, 0.33]],
    ),
    (
        "`windows(data, 3)`: the last window of each epoch is shorter",
        [THREE, [0.0, 0.0, 0.0, 1.0]] * 2,
    ),
    train_on_windows,
)
def train_on_what_fills_a_window(side: Side) -> object:
    trainer, optimizer = accumulating(side, 3)
    trainer.run(ONE_BY_ONE, max_epochs=2)
    return optimizer.updates


def train_on_one_window() -> object:
    loop, optimizer = windowed()
    loop.run(windows(batches(1, 3), 2))
    return optimizer.updates


@APIS(
    "E2",
    "gradients of a batch of 1 and a batch of 3 accumulated",
    ("each batch counts the same", [[0.5, 0.17, 0.17, 0.17]]),
    ("each sample counts the same, as in one batch of 4", [[0.25] * 4]),
    train_on_one_window,
)
def train_on_unequal_batches(side: Side) -> object:
    trainer, optimizer = accumulating(side, 2)
    trainer.run(batches(1, 3))
    return optimizer.updates


def go_on_behind_a_window() -> object:
    loop, optimizer = windowed()
    pausing = loop.on(Events.ITERATION_COMPLETED(once=1), State.interrupt)
    loop.resume(pausing.run(windows(ONE_BY_ONE, 2)), windows(ONE_BY_ONE, 2))
    return optimizer.updates[1]


@APIS(
    "E3",
    "gradients of 2 batches accumulated, in a run that was saved in its 1st iteration",
    ("goes on within a window, whose first gradients are lost", [0.5, 0.0, 0.0, 0.0]),
    ("goes on with the next window: each is one iteration", [0.0, 0.0, 0.5, 0.5]),
    go_on_behind_a_window,
)
def go_on_within_a_window(side: Side) -> object:
    trainer, optimizer = accumulating(side, 2)
    trainer.load_state_dict({"iteration": 1, "epoch_length": 4, "max_epochs": 1})
    trainer.run(ONE_BY_ONE)
    return optimizer.updates[0]


# The step


def clip_in_a_handler() -> object:
    model, optimizer, loss_fn = parts()

    def clip(state: AnyState, forward: ForwardPass) -> AnyState:
        nn.utils.clip_grad_norm_(model.parameters(), max_norm=0.25)
        return state

    step = training_step(model, optimizer, loss_fn)
    Loop(step).on(Backprop.COMPLETED, clip).run(ONE_BY_ONE[:1])
    return optimizer.updates


@APIS(
    "E4",
    "a handler that clips the gradients of a supervised step",
    ("clips too early or too late: no event comes between backward and update", [[1.0, 0, 0, 0]]),
    ("is one of `Backprop.COMPLETED`", [[0.25, 0, 0, 0]]),
    clip_in_a_handler,
)
def clip_between_iterations(side: Side) -> object:
    model, optimizer, loss_fn = parts()
    trainer = side.package.create_supervised_trainer(model, optimizer, loss_fn)
    trainer.add_event_handler(
        side.events.ITERATION_STARTED | side.events.ITERATION_COMPLETED,
        lambda: nn.utils.clip_grad_norm_(model.parameters(), max_norm=0.25),
    )
    trainer.run(ONE_BY_ONE[:1])
    return optimizer.updates


@APIS(
    "E9",
    "the output of a supervised training step",
    ("is a number, so each iteration waits for its device", "float"),
    ("is the loss, detached and still on its device", "Tensor"),
    lambda: type(Loop(training_step(*parts())).run(ONE_BY_ONE).output).__name__,
)
def output_of_training(side: Side) -> object:
    trainer = side.package.create_supervised_trainer(*parts())
    return type(trainer.run(ONE_BY_ONE).output).__name__


@APIS(
    "E15",
    "the output of a supervised evaluation step",
    ("is the tuple `(y_pred, y)`", "tuple"),
    ("is a `Prediction`, which has `y_pred` and `y` by name", "Prediction"),
    lambda: type(Loop(evaluation_step(parts()[0])).run(ONE_BY_ONE).output).__name__,
)
def output_of_evaluation(side: Side) -> object:
    evaluator = side.package.create_supervised_evaluator(parts()[0])
    return type(evaluator.run(ONE_BY_ONE).output).__name__


# The modes of modules


def with_dropout() -> tuple[nn.Sequential, Descent, Any]:
    model, optimizer, loss_fn = parts()
    return nn.Sequential(model, nn.Dropout(0.5)), optimizer, loss_fn


def modes(model: nn.Module) -> list[bool]:
    return [part.training for part in model.modules()]


def train_and_freeze() -> object:
    model, optimizer, loss_fn = with_dropout()
    seen: list[list[bool]] = []

    def freeze(state: AnyState) -> None:
        model[1].eval()

    def note(state: AnyState) -> None:
        seen.append(modes(model))

    loop: AnyLoop = Loop(training_step(model, optimizer, loss_fn))
    loop = loop.on(Events.ITERATION_STARTED, tap(freeze)).on(Events.ITERATION_COMPLETED, tap(note))
    loop.run(ONE_BY_ONE[:2])
    return seen


@APIS(
    "E11",
    "a part of the model that a handler puts into evaluation mode",
    ("is in training mode again when the step trains", [[True, True, True]] * 2),
    ("stays in evaluation mode", [[True, True, False]] * 2),
    train_and_freeze,
)
def train_every_part(side: Side) -> object:
    model, optimizer, loss_fn = with_dropout()
    seen: list[list[bool]] = []
    trainer = side.package.create_supervised_trainer(model, optimizer, loss_fn)
    trainer.add_event_handler(side.events.ITERATION_STARTED, model[1].eval)
    trainer.add_event_handler(side.events.ITERATION_COMPLETED, lambda: seen.append(modes(model)))
    trainer.run(ONE_BY_ONE[:2])
    return seen


def modes_behind_an_evaluation() -> object:
    model, *_ = with_dropout()
    Loop(evaluation_step(model)).run(ONE_BY_ONE)
    return modes(model)


@APIS(
    "E12",
    "the model after an evaluation",
    ("stays in evaluation mode", [False, False, False]),
    ("has each part in the mode it was in", [True, True, True]),
    modes_behind_an_evaluation,
)
def modes_behind_an_evaluator(side: Side) -> object:
    model, *_ = with_dropout()
    side.package.create_supervised_evaluator(model).run(ONE_BY_ONE)
    return modes(model)
