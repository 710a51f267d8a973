"""The parts of a supervised task that a user may replace: their types, and what is used otherwise.

Lives here: the defaults of the parameters that all factories share, each a plain function, so that
an engine with it can be pickled. How the parts work together is in `process_functions`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from fengine.engine.engine import Engine
from fengine.training.preparing import moved

Device: TypeAlias = str | torch.device | int | None
PrepareBatch: TypeAlias = Callable[..., tuple[Any, Any]]
LossFunction: TypeAlias = Callable[[Any, Any], Tensor]
TrainingOutput: TypeAlias = Callable[[Any, Any, Any, Tensor], Any]
EvaluationOutput: TypeAlias = Callable[[Any, Any, Any], Any]
ModelFunction: TypeAlias = Callable[[nn.Module, Any], Any]
ModelTransform: TypeAlias = Callable[[Any], Any]
ProcessFunction: TypeAlias = Callable[[Engine, Any], Any]


def split_batch(batch: Any, device: Device = None, non_blocking: bool = False) -> tuple[Any, Any]:
    """Split a batch into inputs and targets, both on the device; the default of `prepare_batch`.

    Args:
        batch: anything that unpacks into two.
        device: where to; None: nothing is moved.
        non_blocking: let a copy from pinned memory to a GPU go on in the background.

    Raises:
        TypeError: there is something in it that cannot be moved.
        ValueError: the batch does not unpack into two.

    >>> split_batch((torch.ones(1), torch.zeros(1)))
    (tensor([1.]), tensor([0.]))
    """
    x, y = batch
    if device is None:
        return x, y
    return moved(x, device, non_blocking), moved(y, device, non_blocking)


def call_model(model: nn.Module, x: Any) -> Any:
    """Return what a model makes of its inputs; the default of `model_fn`.

    >>> call_model(nn.Identity(), 3)
    3
    """
    return model(x)


def unchanged(output: Any) -> Any:
    """Return the output of a model as it is; the default of `model_transform`.

    >>> unchanged(3)
    3
    """
    return output


def loss_value(x: Any, y: Any, y_pred: Any, loss: Tensor) -> Any:
    """Return the loss as a number; the default of a trainer's `output_transform`.

    >>> loss_value(None, None, None, torch.tensor(0.5))
    0.5
    """
    return loss.item()


def prediction_and_target(x: Any, y: Any, y_pred: Any) -> Any:
    """Return what metrics take; the default of an evaluator's `output_transform`.

    >>> prediction_and_target(None, "y", "y_pred")
    ('y_pred', 'y')
    """
    return y_pred, y
