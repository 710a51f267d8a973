"""Settling: which settings the members of an ensemble have in an iteration, and their rates.

The settings are in the state, for each member. They have to be those that the step computes with,
but for the learning rate, which a step may say itself, and which may differ between the members
where the optimizer can do so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias, final

import attrs
import torch
from torch import Tensor
from torch.optim import Optimizer

from fengine import State
from fengine.core.describe import typed
from fengine.core.equality import same
from fengine.training.ensembles.by_row import Rate
from fengine.training.ensembles.ensemble_state import EnsembleState
from fengine.training.functional.lender import Lender
from fengine.training.functional.values import Values

Rates: TypeAlias = float | Sequence[float] | Tensor
Scheduled: TypeAlias = Rates | Callable[[State[Any, Any, Any]], Rates]
Groups: TypeAlias = tuple[tuple[Values[Any], ...], ...]

# How something is computed, and not what.
_OF_SPEED: Final = frozenset({"foreach", "fused", "capturable", "differentiable"})
_OTHERS: Final = frozenset({"params", "lr", "initial_lr"})


@final
@attrs.frozen(eq=False)
class Settled:
    """Hold an ensemble whose settings are those of an iteration, and the rate of each row."""

    ensemble: EnsembleState
    rates: tuple[float, ...]

    def rate(self) -> Rate:
        """Return the rate of all members that are trained, or a tensor of that of each row."""
        pairs = zip(self.rates, self.ensemble.is_training, strict=True)
        rates = {rate for rate, is_training in pairs if is_training}
        return rates.pop() if len(rates) == 1 else self.rate_of_rows()

    def rate_of_rows(self) -> Tensor:
        """Return a tensor of the rate of each row."""
        return torch.tensor(self.rates, dtype=torch.float64)


@final
@attrs.define(eq=False)
class Settling:
    """Settle what the members of an ensemble are updated with.

    Args:
        lender: has the optimizer, or the one of torch that does what a function of ours does.
        is_own: whether the settings of that optimizer are the ones that count, so that those in
            the state have to be equal.
        is_alike: whether all members have to have the same settings.
        known: settings that have been settled with their rates, by which it is seen that nothing
            is another one.
    """

    lender: Lender
    is_own: bool
    is_alike: bool
    known: tuple[Groups, tuple[float, ...]] | None = None

    def settle(self, ensemble: EnsembleState, wanted: Sequence[float] | None) -> Settled:
        """Return the ensemble with the learning rates that are wanted; None: with its own.

        Args:
            ensemble: the ensemble.
            wanted: a rate for each member.

        Raises:
            ValueError: the settings of a member are others than those of the step.
        """
        known = self.known
        if known is not None and known[0] is ensemble.param_groups:
            rates = known[1]
        else:
            rates = self._read(ensemble)
        if wanted is not None:
            ensemble, rates = _with_rates(ensemble, rates, wanted)
        if self.is_alike and (known is None or known[0] is not ensemble.param_groups):
            self._require_alike(ensemble)
        self.known = ensemble.param_groups, rates
        return Settled(ensemble, rates)

    def _read(self, ensemble: EnsembleState) -> tuple[float, ...]:
        """Return the rates of settings that have been looked at."""
        layout = self.lender.layout
        own = self.lender.settings()
        for groups, number in zip(ensemble.param_groups, ensemble.numbers, strict=True):
            layout.require_groups(groups)
            if self.is_own:
                self._require_own(own[0], groups[0], number)
        return tuple(float(groups[0]["lr"]) for groups in ensemble.param_groups)

    def _require_own(self, own: Values[Any], given: Values[Any], number: int) -> None:
        for name, one in own.items():
            if name not in _OTHERS | _OF_SPEED and not same(given.get(name, one), one):
                raise ValueError(
                    f"member {number} has {name}={given.get(name)!r} in its settings, and the step "
                    f"computes with {name}={one!r}; make the members by step.init(models), or by a "
                    "functional_step with the very optimizer: optimizer(model.parameters())"
                )

    def _require_alike(self, ensemble: EnsembleState) -> None:
        pairs = zip(ensemble.numbers, ensemble.param_groups, ensemble.is_training, strict=True)
        trained = [(number, groups) for number, groups, on in pairs if on]
        _, first = trained[0]
        for number, groups in trained:
            for one, own in zip(groups, first, strict=True):
                name = next((key for key in own if not same(own[key], one.get(key))), None)
                if name is not None:
                    kind = type(self.lender.optimizer).__name__
                    raise ValueError(
                        f"the members have different settings: {name} is {one.get(name)!r} in "
                        f"member {number}, and {own[name]!r} in member {trained[0][0]}. One {kind} "
                        "updates all of them with one setting; rates that differ go with sgd, adam "
                        "and adamw of fengine.training, or with method='loop'"
                    )


def _with_rates(
    ensemble: EnsembleState, rates: tuple[float, ...], wanted: Sequence[float]
) -> tuple[EnsembleState, tuple[float, ...]]:
    """Return the ensemble with other rates of those that are trained, and the rate of each row."""
    rows = zip(ensemble.numbers, ensemble.is_training, rates, strict=True)
    now = tuple([wanted[number] if on else rate for number, on, rate in rows])
    if now == rates and len(ensemble.param_groups[0]) == 1:
        return ensemble, rates
    groups = tuple(
        [
            tuple([one.replacing("lr", _like(one["lr"], rate)) for one in own]) if on else own
            for own, rate, on in zip(ensemble.param_groups, now, ensemble.is_training, strict=True)
        ]
    )
    return attrs.evolve(ensemble, param_groups=groups), now


def rates_of(given: Rates, size: int) -> tuple[float, ...]:
    """Return a learning rate for each member.

    Raises:
        TypeError: a rate is no number.
        ValueError: a rate is below 0 or not finite, or they are not as many as the members.

    >>> rates_of(0.5, 2), rates_of(torch.tensor([0.5, 0.25]), 2)
    ((0.5, 0.5), (0.5, 0.25))
    """
    rates = numbers_of(given)
    if isinstance(rates, float):
        return (rates,) * size
    if len(rates) != size:
        raise ValueError(
            f"{len(rates)} learning rates are given for {size} members; give one for each, in "
            "their order, or one number for all"
        )
    return rates


def numbers_of(given: object) -> float | tuple[float, ...]:
    """Return learning rates as numbers.

    Raises:
        TypeError: a rate is no number.
        ValueError: a rate is below 0 or not finite, or there is none.

    >>> numbers_of([1, 0.5])
    (1.0, 0.5)
    """
    rates: Any = given.tolist() if isinstance(given, Tensor) else given
    if isinstance(rates, str) or not isinstance(rates, Sequence):
        return _number(rates)
    if not rates:
        raise ValueError("learning_rate is empty; give a rate for each member")
    return tuple(map(_number, rates))


def _number(rate: object) -> float:
    if isinstance(rate, Tensor) and rate.numel() == 1:
        rate = rate.item()
    if isinstance(rate, bool) or not isinstance(rate, int | float):
        raise TypeError(f"a learning rate is {typed(rate)}, and not a number")
    if not (math.isfinite(rate) and rate >= 0):
        raise ValueError(f"a learning rate is {rate}, and not a finite number from 0 on")
    return float(rate)


def _like(before: object, rate: float) -> object:
    return torch.full_like(before, rate) if isinstance(before, Tensor) else rate


def require_one_rate(optimizer: Optimizer, rates: float | tuple[float, ...]) -> None:
    """Refuse several rates for an optimizer that takes one.

    Raises:
        ValueError: they differ.

    >>> require_one_rate(torch.optim.SGD([torch.ones(1)], 0.1), (0.1, 0.2))
    Traceback (most recent call last):
    ValueError: the SGD of torch takes one learning rate, and 2 that differ are given; rates that...
    """
    if isinstance(rates, tuple) and len(set(rates)) > 1:
        raise ValueError(
            f"the {type(optimizer).__name__} of torch takes one learning rate, and {len(rates)} "
            "that differ are given; rates that differ go with sgd, adam and adamw of "
            "fengine.training, or with method='loop'"
        )
