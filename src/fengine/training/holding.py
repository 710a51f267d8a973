"""Holding: whether an optimizer holds the parameters of the model that is trained with it.

A model that was rebuilt after its optimizer was made is not changed by a training, which nothing
else notices: the loss is a number, gradients come and go.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Final, final

import attrs
from torch import Tensor, nn
from torch.optim import Optimizer

_MOST_NAMED: Final = 3


@final
@attrs.frozen
class Holding:
    """Make contexts that are refused where an optimizer holds nothing of a model.

    >>> import torch
    >>> model = nn.Linear(1, 1)
    >>> Holding(nn.Linear(1, 1), torch.optim.SGD(model.parameters(), 0.1))()
    Traceback (most recent call last):
    ValueError: none of the 2 parameters of the SGD is one of the 2 trainable parameters of the...
    """

    model: nn.Module
    optimizer: Optimizer = attrs.field(repr=False)

    def __call__(self) -> AbstractContextManager[None]:
        """Make a context.

        Raises:
            ValueError: the model has parameters to train, and the optimizer holds others only.
        """
        require_held(self.model, self.optimizer)
        return nullcontext()

    def remarks(self) -> Iterator[str]:
        """Return a line that names the trainable parameters which the optimizer does not hold."""
        trainable, held = _trainable(self.model), _held(self.optimizer)
        missing = [name for name, parameter in trainable.items() if id(parameter) not in held]
        if missing and held:
            more = ", ..." if len(missing) > _MOST_NAMED else ""
            yield (
                f"the {type(self.optimizer).__name__} does not hold {len(missing)} of the "
                f"{len(trainable)} trainable parameters of the {type(self.model).__name__}: "
                f"{', '.join(missing[:_MOST_NAMED])}{more}"
            )


def require_held(model: nn.Module, optimizer: Optimizer) -> None:
    """Refuse an optimizer that holds no parameter of a model which has some to train.

    Raises:
        ValueError: it holds others only.
    """
    known: object = model
    if not isinstance(known, nn.Module):
        return
    held, trainable = _held(optimizer), _trainable(model)
    if held and trainable and held.isdisjoint(map(id, model.parameters())):
        kind = type(optimizer).__name__
        raise ValueError(
            f"none of the {len(held)} parameters of the {kind} is one of the {len(trainable)} "
            f"trainable parameters of the {type(model).__name__}, so the training would change "
            "nothing in the model. Was the model made, or given other parameters, after the "
            f"optimizer? Make the optimizer last: {kind}(model.parameters(), ...)"
        )


def _trainable(model: nn.Module) -> dict[str, Tensor]:
    return {name: one for name, one in model.named_parameters() if one.requires_grad}


def _held(optimizer: Optimizer) -> frozenset[int]:
    """Return which parameters an optimizer holds; none where it does not say so."""
    groups: object = getattr(optimizer, "param_groups", None)
    if not isinstance(groups, list):
        return frozenset()
    return frozenset(id(parameter) for group in groups for parameter in group["params"])
