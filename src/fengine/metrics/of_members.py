"""Metrics of the members of an ensemble: one result for each, and what is best and usual of them.

The counts are those of one model, with a tensor of shape (K,) where that has a number. So counts
merge as they do for one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, TypeAlias, final

import attrs
import torch
from torch import Tensor
from torch.func import vmap

from fengine import State
from fengine.metrics.monoid import Metric

Mode: TypeAlias = Literal["max", "min"]


@final
@attrs.frozen
class MemberValues:
    """Hold a metric of each member of an ensemble, in their order.

    A member whose value is not a number, as one that is no longer trained or has gone astray, is
    neither the best nor in the mean.

    Args:
        values: the values; none where nothing has been measured.

    >>> of_each = MemberValues((0.5, 0.75, float("nan")))
    >>> of_each.best("max"), of_each.mean()
    (0.75, 0.625)
    """

    values: tuple[float, ...] = ()

    def best(self, mode: Mode) -> float:
        """Return the best value: the largest or the smallest; not a number where there is none."""
        numbers = [one for one in self.values if not math.isnan(one)]
        choose = max if mode == "max" else min
        return choose(numbers, default=math.nan)

    def mean(self) -> float:
        """Return the mean; not a number where there is none."""
        numbers = [one for one in self.values if not math.isnan(one)]
        return sum(numbers) / len(numbers) if numbers else math.nan


def member_values(state: State[Any, Any, Any], name: str) -> tuple[float, ...]:
    """Return a metric of each member of an ensemble, which `accuracy` and the like have measured.

    Args:
        state: of a run whose loop measures an ensemble, or evaluates one.
        name: what the metric is called, without `_best` or `_mean`.

    Raises:
        LookupError: it has not been measured.

    >>> import torch
    >>> from torch import nn
    >>> from fengine import Loop
    >>> from fengine.metrics import mean
    >>> from fengine.training import ensemble_step, sgd
    >>> model = nn.Linear(1, 1)
    >>> step = ensemble_step(model, sgd(0.1), nn.MSELoss())
    >>> loop = Loop(step) | mean("loss")
    >>> data = [(torch.ones(4, 1), torch.ones(4, 1))]
    >>> final = loop.run(data, user=step.init([model, nn.Linear(1, 1)]))
    >>> len(member_values(final, "loss")), sorted(final.metrics)
    (2, ['loss_best', 'loss_mean'])
    """
    part: object = state.parts.get(name)
    values = part.values if isinstance(part, MemberValues) else getattr(part, "value", None)
    if not (isinstance(values, tuple) and values):
        raise LookupError(
            f"the metric {name!r} of the members is not measured at {state.event!r}: the loop has "
            f"no accuracy(), mean_loss() or mean() of that name over an ensemble, nor an "
            "evaluation with one, or its span has not ended yet"
        )
    return values


@final
@attrs.frozen
class EachMember:
    """Hold the result of a metric over members, before it is reported."""

    values: MemberValues
    mode: Mode

    def metrics(self, name: str) -> dict[str, float]:
        """Return what is set as metrics."""
        best, mean = names_of_members(name)
        return {best: self.values.best(self.mode), mean: self.values.mean()}


def names_of_members(name: str) -> tuple[str, str]:
    """Return the names of what is set as metrics.

    >>> names_of_members("loss")
    ('loss_best', 'loss_mean')
    """
    return f"{name}_best", f"{name}_mean"


@final
@attrs.frozen
class OverMembers:
    """The metric that counts for each member what another metric counts for one model.

    Args:
        metric: that metric; its counts hold tensors.
        mode: which value is the best.
        of: counts an output of all members.

    >>> from fengine.metrics import Mean, Ratio
    >>> of_each = OverMembers(Mean(), "min", lambda pair: Ratio(pair[0] * pair[1], pair[1]))
    >>> of_each.compute(of_each.of((torch.tensor([1.0, 3.0]), 2.0)))
    EachMember(values=MemberValues(values=(1.0, 3.0)), mode='min')
    """

    metric: Metric[Any, Any]
    mode: Mode
    of: Callable[[Any], Any]

    @property
    def empty(self) -> Any:
        """The count of nothing."""
        return self.metric.empty

    def merge(self, total: Any, other: Any, /) -> Any:
        """Return the count of both."""
        return self.metric.merge(total, other)

    def compute(self, total: Any, /) -> EachMember:
        """Return the result of each member."""
        held = attrs.asdict(total, recurse=False)
        tensors = {name: one for name, one in held.items() if isinstance(one, Tensor) and one.ndim}
        rows = zip(*[one.unbind() for one in tensors.values()], strict=True)
        each = [attrs.evolve(total, **dict(zip(tensors, row, strict=True))) for row in rows]
        compute: Callable[[Any], Any] = self.metric.compute
        return EachMember(MemberValues(tuple(map(compute, each))), self.mode)


def over_rows(function: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    """Return what a function makes of each row of a tensor, in one call where that can be.

    >>> over_rows(torch.sum, torch.ones(2, 3))
    tensor([3., 3.])
    """
    try:
        made: Tensor = vmap(function)(rows)
    except RuntimeError:  # of a function that vmap refuses, or of one that fails in any case
        made = torch.stack([function(row) for row in rows])
    return made


def rows_of(y_pred: object, feature: str) -> Tensor:
    """Return the predictions of members, each a row.

    Raises:
        TypeError: they are no tensor.
    """
    if not isinstance(y_pred, Tensor):
        raise TypeError(
            f"{feature} of an ensemble takes predictions in one tensor of shape (K, n, ...), and "
            f"the members make a {type(y_pred).__name__}; measure it by a metric of your own: "
            "measure(name, metric)"
        )
    return y_pred
