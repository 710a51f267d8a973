"""The functional evaluation step: predictions of the model with what the state keeps.

It changes nothing: not the model, not the state, and not the random state of either.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, final, overload

import attrs
import torch
from torch import nn
from typing_extensions import override

from fengine import Stages, State, stages
from fengine.core.describe import call_in_words, require_callable
from fengine.core.steps import Facts, telling
from fengine.training.counting import count_samples
from fengine.training.evaluation_step import (
    Batch,
    Inputs,
    Predict,
    Predicted,
    Prediction,
    Targets,
)
from fengine.training.functional.keeping_in_state import InUser
from fengine.training.functional.train_state import TrainState
from fengine.training.functional.viewing import View, Viewer
from fengine.training.modes import EvaluationMode
from fengine.training.objectives import require_dtype, shown_precision
from fengine.training.preparing import Device, PrepareBatch, non_blocking_for, prepare_batch
from fengine.training.training_step import require_module


@final
@attrs.frozen(repr=False)
class _PredictWith(Generic[Batch, Predicted, Targets]):
    """Predict with what the state keeps: the only stage."""

    predict: Predict[Batch, Predicted, Targets]
    viewer: Viewer

    @override
    def __repr__(self) -> str:
        return "predict"

    def __call__(
        self, state: State[Batch, Prediction[Predicted, Targets], TrainState]
    ) -> Prediction[Predicted, Targets]:
        with View(self.viewer, InUser().read(state)):
            return self.predict(state.batch)


@overload
def functional_evaluation_step(
    model: nn.Module,
    *,
    device: Device | None = None,
    non_blocking: bool | None = None,
    weight: Callable[[Batch], float] = ...,
    autocast: torch.dtype | None = None,
) -> Stages[Batch, Prediction[Predicted, Targets], Prediction[Predicted, Targets], TrainState]: ...


@overload
def functional_evaluation_step(
    model: nn.Module,
    *,
    device: Device | None = None,
    non_blocking: bool | None = None,
    prepare_batch: PrepareBatch[Batch, Inputs, Targets],
    weight: Callable[[Batch], float] = ...,
    autocast: torch.dtype | None = None,
) -> Stages[Batch, Prediction[Predicted, Targets], Prediction[Predicted, Targets], TrainState]: ...


def functional_evaluation_step(
    model: nn.Module,
    *,
    device: Device | None = None,
    non_blocking: bool | None = None,
    prepare_batch: Callable[..., tuple[object, Targets]] = prepare_batch,
    weight: Callable[[Batch], float] = count_samples,
    autocast: torch.dtype | None = None,
) -> Stages[Batch, Prediction[Predicted, Targets], Prediction[Predicted, Targets], TrainState]:
    """Make the step that predicts with the training that is the user's record.

    It has the arguments of `evaluation_step`. In a training, evaluate with the record of the outer
    run: `evaluation(loop, data, user=OUTER)`.

    Laws: the predictions are bitwise those of `evaluation_step` with a model that the value was
    restored into; the state's record, the model and the random state of the program stay as they
    are.

    Args:
        model: predicts with what it is lent; the one that is trained, or a copy of it.
        device: as for `evaluation_step`.
        non_blocking: as for `evaluation_step`.
        prepare_batch: as for `evaluation_step`.
        weight: as for `evaluation_step`.
        autocast: as for `evaluation_step`.

    Raises:
        TypeError: an argument is of the wrong kind; or, in the run, the user's record is no
            `TrainState`.
        ValueError: in the run, the training is one of another model.
        RuntimeError: in the run, the model is in use, as where a training is within its step.

    >>> from fengine import Loop
    >>> from fengine.features import OUTER, evaluation
    >>> from fengine.metrics import mean_loss
    >>> from fengine.training import functional_step
    >>> model = nn.Linear(1, 1)
    >>> step = functional_step(model, torch.optim.SGD(model.parameters(), 0.1), nn.MSELoss())
    >>> held_out = Loop(functional_evaluation_step(model)) | mean_loss(nn.MSELoss())
    >>> data = [(torch.ones(4, 1), torch.zeros(4, 1))]
    >>> loop = Loop(step) | evaluation(held_out, data, user=OUTER)
    >>> list(loop.run(data, user=step.init()).metrics)
    ['val_loss']
    """
    require_module(model)
    require_callable(prepare_batch, "prepare_batch", "batch", "device", "non_blocking")
    require_callable(weight, "weight", "batch")
    require_dtype(autocast)
    if device is not None:
        model.to(device)
    chosen = non_blocking_for(prepare_batch, non_blocking)
    predict: Predict[Batch, Predicted, Targets] = Predict(
        model, prepare_batch, device, chosen, autocast
    )
    step = stages(_PredictWith(predict, Viewer(model))).within(EvaluationMode(model))
    words = call_in_words("functional_evaluation_step", model, **shown_precision(autocast))
    return telling(step, Facts(weight, Prediction, words))
