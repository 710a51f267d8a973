"""The value that a training is: parameters, buffers, optimizer and random state in one record."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, final

import attrs
import torch
from torch import Tensor
from typing_extensions import override

from fengine.core.equality import same
from fengine.training.functional.values import Values


@final
@attrs.frozen(eq=False)
class OptimizerState:
    """Hold what an optimizer has beside its class: its settings, and what it remembers.

    Args:
        param_groups: the settings of each group of parameters, such as `lr`, by name; `params` are
            the names of the parameters.
        state: what the optimizer remembers of each parameter, by the name of the parameter.

    >>> OptimizerState((Values({"lr": 0.5, "params": ("weight",)}),)).param_groups[0]["lr"]
    0.5
    """

    param_groups: tuple[Values[Any], ...] = ()
    state: Values[Values[Any]] = attrs.field(factory=Values)

    @override
    def __eq__(self, other: object) -> bool:
        """Compare as states do: tensors by their content. Always a bool."""
        return isinstance(other, OptimizerState) and _are_same(self, other)

    __hash__ = None  # type: ignore[assignment]  # tensors compare by content


@final
@attrs.frozen(eq=False)
class TrainState:
    """Hold a training as a value; made by the `init` of a functional step.

    It never changes: a step returns another one. So to keep one is to keep a reference, and several
    trainings can go on from the same one.

    Args:
        parameters: the parameters of the model, by name.
        buffers: its buffers, by name, such as the statistics of batch norm.
        optimizer: the settings of the optimizer and what it remembers.
        random: the states of torch's random generators, by device.
        scaler: the state of the scaler; empty without one.
        updates: how many updates have been made.
        stepped: whether the newest iteration has updated the parameters; False where a scaler has
            left the update out.

    >>> from torch import nn, optim
    >>> from fengine.training import functional_step
    >>> model = nn.Linear(1, 1)
    >>> start = functional_step(model, optim.SGD(model.parameters(), 0.5), nn.MSELoss()).init()
    >>> list(start.parameters), start.learning_rates, start.updates
    (['weight', 'bias'], (0.5,), 0)
    >>> start == start.with_learning_rate(0.5), start == start.with_learning_rate(0.25)
    (True, False)
    """

    parameters: Values[Tensor] = attrs.field(factory=Values)
    buffers: Values[Tensor] = attrs.field(factory=Values)
    optimizer: OptimizerState = attrs.field(factory=OptimizerState)
    random: Values[Tensor] = attrs.field(factory=Values)
    scaler: Values[Any] = attrs.field(factory=Values)
    updates: int = 0
    stepped: bool = True

    @property
    def learning_rates(self) -> tuple[float, ...]:
        """The learning rate of each group of parameters."""
        return tuple(float(group["lr"]) for group in self.optimizer.param_groups)

    def with_learning_rate(self, rate: float | Sequence[float]) -> TrainState:
        """Return this training with another learning rate.

        Args:
            rate: one for all groups of parameters, or one for each.

        Raises:
            TypeError: a rate is no number.
            ValueError: a rate is below 0 or not finite, or they are not as many as the groups.

        >>> groups = Values({"lr": 0.5}), Values({"lr": 0.5})
        >>> two = TrainState(optimizer=OptimizerState(groups))
        >>> two.with_learning_rate([0.1, 0.2]).learning_rates
        (0.1, 0.2)
        """
        groups = with_rates(self.optimizer.param_groups, rate)
        return attrs.evolve(self, optimizer=attrs.evolve(self.optimizer, param_groups=groups))

    @override
    def __eq__(self, other: object) -> bool:
        """Compare as states do: tensors by their content. Always a bool."""
        return isinstance(other, TrainState) and _are_same(self, other)

    __hash__ = None  # type: ignore[assignment]  # tensors compare by content

    @override
    def __repr__(self) -> str:
        held = self.parameters
        number = "donated" if held.is_donated else sum(map(torch.numel, held.values()))
        return f"TrainState(<{number} parameters>, updates={self.updates})"


def _are_same(one: Any, other: Any) -> bool:
    return all(
        same(getattr(one, field.name), getattr(other, field.name))
        for field in attrs.fields(type(one))
    )


def with_rates(
    groups: tuple[Values[Any], ...], rate: float | Sequence[float]
) -> tuple[Values[Any], ...]:
    """Return the settings of groups of parameters with other learning rates.

    Raises:
        TypeError: a rate is no number.
        ValueError: a rate is below 0 or not finite, or they are not as many as the groups.

    >>> with_rates((Values({"lr": 0.5}),), 0.25)
    (Values({'lr': 0.25}),)
    """
    rates: Sequence[object] = rate if isinstance(rate, Sequence) else [rate] * len(groups)
    if len(rates) != len(groups):
        raise ValueError(
            f"{len(rates)} learning rates are given for {len(groups)} groups of parameters; give "
            "one for each, or one number for all"
        )
    return tuple(
        group.replacing("lr", _like(group["lr"], one))
        for group, one in zip(groups, rates, strict=True)
    )


def _like(before: object, rate: object) -> object:
    """Return a learning rate, as a tensor where there was one."""
    if isinstance(rate, bool) or not isinstance(rate, int | float | Tensor):
        raise TypeError(
            f"the learning rate is {rate!r} of type {type(rate).__name__}, and not a number"
        )
    number = float(rate)
    if not (math.isfinite(number) and number >= 0):
        raise ValueError(f"the learning rate is {number}, and not a finite number from 0 on")
    return torch.full_like(before, number) if isinstance(before, Tensor) else number
