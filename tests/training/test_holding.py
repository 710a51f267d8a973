"""A training whose optimizer holds nothing of the model is refused as the run begins."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD

from fengine import Events, Loop, Status, last_state, tap
from fengine.engine import create_supervised_trainer
from fengine.training import training_step, windows

DATA = [(torch.ones(2, 1), torch.zeros(2, 1))] * 2
MSE: Any = nn.functional.mse_loss


def data_of(kind: str) -> Any:
    return DATA if kind == "batches" else windows(DATA, 2)


KINDS = pytest.mark.parametrize("kind", ["batches", "windows"])


@KINDS
def test_a_model_that_was_rebuilt_is_refused_before_anything_runs(kind: str) -> None:
    begun: list[Any] = []
    optimizer = SGD(nn.Linear(1, 1).parameters(), 0.1)
    model = nn.Linear(1, 1)
    loop = Loop(training_step(model, optimizer, MSE)).on(Events.STARTED, tap(begun.append))
    for run in (loop.run, lambda data: list(loop.iterate(data))):
        with pytest.raises(ValueError, match="none of the 2 parameters of the SGD") as caught:
            run(data_of(kind))
        assert "after the optimizer? Make the optimizer last" in str(caught.value)
        assert last_state(caught.value).status is Status.READY
    assert begun == []


@KINDS
def test_so_it_is_where_a_run_goes_on(kind: str) -> None:
    model = nn.Linear(1, 1)
    loop = Loop(training_step(model, SGD(model.parameters(), 0.1), MSE))
    paused = loop.on(Events.EPOCH_STARTED, lambda state: state.interrupt()).run(data_of(kind))
    other = Loop(training_step(copy.deepcopy(model), SGD(model.parameters(), 0.1), MSE))
    with pytest.raises(ValueError, match="none of the 2 parameters"):
        other.resume(paused, data_of(kind))
    assert loop.resume(paused, data_of(kind)).status is Status.COMPLETED


def test_a_model_whose_parameters_are_replaced_between_two_runs_is_refused() -> None:
    model = nn.Sequential(nn.Linear(1, 1))
    loop: Any = Loop(training_step(model, SGD(model.parameters(), 0.1), MSE))
    loop.run(DATA)
    model[0] = nn.Linear(1, 1)
    with pytest.raises(ValueError, match="none of the 2 parameters"):
        loop.run(DATA)


def test_what_is_trained_beside_the_model_is_not_refused() -> None:
    model = nn.Linear(1, 1)
    scale = nn.Parameter(torch.ones(1))

    def scaled(y_pred: Any, y: Any) -> Any:
        return MSE(scale * y_pred, y)

    both = SGD([*model.parameters(), scale], 0.1)
    assert Loop(training_step(model, both, scaled)).run(DATA).iteration == 2
    frozen = nn.Linear(1, 1).requires_grad_(False)
    alone = SGD([scale], 0.1)
    assert Loop(training_step(frozen, alone, scaled)).run(DATA).iteration == 2


def test_wrapped_and_lazy_models_are_held() -> None:
    wrapped = nn.Sequential(nn.Linear(1, 1))
    assert Loop(training_step(wrapped, SGD(wrapped[0].parameters(), 0.1), MSE)).run(DATA).epoch == 1
    lazy = nn.LazyLinear(1)
    assert Loop(training_step(lazy, SGD(lazy.parameters(), 0.1), MSE)).run(DATA).epoch == 1


@KINDS
def test_a_loop_prints_what_is_not_held(kind: str) -> None:
    model = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1), nn.Linear(1, 1, bias=False))
    held = SGD(model[0].parameters(), 0.1)
    loop: Any = Loop(training_step(model, held, MSE))
    said = (
        "  the SGD does not hold 3 of the 5 trainable parameters of the Sequential: "
        "1.weight, 1.bias, 2.weight"
    )
    assert said in str(loop).splitlines()
    assert loop.run(data_of(kind)).epoch == 1
    assert said in str(pickle.loads(pickle.dumps(loop)))
    model[1:].requires_grad_(False)
    assert "does not hold" not in str(loop)
    assert "does not hold" not in str(Loop(training_step(model, SGD(model.parameters(), 0.1), MSE)))


def test_a_loop_prints_what_of_many_is_not_held() -> None:
    model = nn.Sequential(*[nn.Linear(1, 1) for _ in range(3)])
    loop: Any = Loop(training_step(model, SGD(model[0].parameters(), 0.1), MSE))
    assert "hold 4 of the 6 trainable parameters" in str(loop)
    assert "1.weight, 1.bias, 2.weight, ..." in str(loop)


def test_a_trainer_is_refused_too() -> None:
    optimizer = SGD(nn.Linear(1, 1).parameters(), 0.1)
    trainer = create_supervised_trainer(nn.Linear(1, 1), optimizer, MSE)
    for _ in range(2):
        with pytest.raises(ValueError, match="none of the 2 parameters"):
            trainer.run(DATA)
        assert trainer.state.iteration == 0


@pytest.mark.parametrize("steps", [1, 2])
def test_a_trainer_that_holds_the_model_runs(steps: int) -> None:
    model = nn.Linear(1, 1)
    optimizer = SGD(model.parameters(), 0.1)
    trainer = create_supervised_trainer(model, optimizer, MSE, gradient_accumulation_steps=steps)
    assert trainer.run(DATA).iteration == 2
