"""The supervised engines, made with all arguments of version 0.5.5, by position."""

from __future__ import annotations

from typing import Any

import torch
from ignite.engine import Events, create_supervised_evaluator, create_supervised_trainer
from ignite.engine import _prepare_batch as prepare_batch  # as the engines of contrib import it
from ignite.metrics import MeanSquaredError
from torch.nn.functional import mse_loss

from tests.engine.unmodified.setups import setup
from tests.engine.unmodified.setups.common import plain, trace, training


def called(model: Any, x: Any) -> Any:
    return model(2 * x)


@setup("engine/__init__.py")
def supervised_engines() -> Any:
    parts = training()
    trainer = create_supervised_trainer(
        parts.model,
        parts.optimizer,
        mse_loss,
        "cpu",
        False,
        prepare_batch,
        torch.tanh,
        lambda x, y, y_pred, loss: {"loss": loss.item(), "mean": y_pred.mean().item()},
        False,
        None,
        False,
        2,
        called,
    )
    evaluator = create_supervised_evaluator(
        parts.model, {"mse": MeanSquaredError()}, "cpu", False, prepare_batch, torch.tanh
    )
    noted, outputs = trace(trainer), []
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda: outputs.append(plain(trainer.state.output))
    )
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run(parts.data))
    trainer.run(parts.data[:4], max_epochs=2)
    return [noted, outputs, plain(evaluator.state.metrics), plain(parts.model.state_dict())]
