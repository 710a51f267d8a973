"""Learning rates: a sweep over them before a training, to find one to begin with.

The loop itself is run, as a fork: a few iterations, each with a larger rate. Afterwards all that
the loop names is as it was before.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final, SupportsFloat, SupportsIndex, TypeVar, final, overload

import attrs
from torch import Tensor
from torch.optim import Optimizer

from fengine import Events, Loop, State
from fengine.core.describe import describe, require_callable, typed
from fengine.core.metrics import metric
from fengine.core.phases import ITERATION_STARTED, rank_of
from fengine.core.steps import require_not_lent
from fengine.core.table import Table
from fengine.core.taking import RunsLoop
from fengine.features.gradients import require_positive
from fengine.features.nan_guard import is_guarding
from fengine.features.optimizers import is_scheduling
from fengine.features.outside import things_of
from fengine.keep.putting_back import putting_back
from fengine.run.source import source_of
from fengine.training.shuffling import integer
from fengine.writers.log_files import write_whole

B = TypeVar("B")
O = TypeVar("O")  # noqa: E741  # the output, beside the batch and the user
U = TypeVar("U")

# A loss that has grown so much beyond the least one so far will not come back.
_DIVERGED: Final = 4.0
# How much of the losses before is in a smoothed one.
_SMOOTHING: Final = 0.9
# They fire beside the order of a run.
_BESIDE: Final = (Events.INTERRUPT, Events.EXCEPTION_RAISED, Events.EXITED)
_WAY: Final = (
    "have the rate grow by the state, and read the losses of the moments: "
    "Loop(functional_step(..., learning_rate=lambda state: 1e-6 * 1.15**state.iteration))"
    ".iterate(data, user=start)"
)


@final
@attrs.frozen
class LearningRates:
    """Hold the losses of a sweep; made by `find_learning_rate`.

    Args:
        rates: the learning rate of each iteration.
        losses: the loss of each, before its update.

    >>> found = LearningRates((1e-3, 1e-2, 1e-1, 1.0), (3.0, 2.9, 1.0, 9.0))
    >>> found.suggestion
    0.01
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]

    @property
    def smoothed(self) -> tuple[float, ...]:
        """The losses as moving averages, free of the bias of their beginning."""
        smooth = _Smooth()
        return tuple([smooth.add(loss) for loss in self.losses])

    @property
    def suggestion(self) -> float | None:
        """The rate where the smoothed loss falls fastest; None where it never falls.

        The first tenth is left out, since few losses are in its averages.
        """
        first = len(self.losses) // 10
        smoothed, rates = self.smoothed[first:], self.rates[first:]
        falls = [
            ((after - before) / (math.log(larger) - math.log(rate)), rate)
            for before, after, rate, larger in zip(
                smoothed, smoothed[1:], rates, rates[1:], strict=False
            )
            if math.isfinite(after - before)
        ]
        steepest, rate = min(falls, default=(0.0, 0.0))
        return rate if steepest < 0 else None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Draw the losses over the rates, and write them to a PNG file.

        A file that is there is replaced as a whole. It needs matplotlib, of the extra `plots`.

        Raises:
            ModuleNotFoundError: matplotlib is not installed.
            OSError: the file cannot be written.
        """
        try:
            from matplotlib.figure import Figure
        except ModuleNotFoundError as missing:
            raise ModuleNotFoundError(
                "a plot needs matplotlib; install it with: pip install 'fengine[plots]'"
            ) from missing
        figure = Figure(figsize=(7, 3.4), layout="constrained")
        panel = figure.subplots()
        panel.semilogx(self.rates, self.losses, color="tab:blue", alpha=0.35, label="loss")
        panel.semilogx(self.rates, self.smoothed, color="tab:blue", label="smoothed")
        if self.suggestion is not None:
            panel.axvline(
                self.suggestion,
                color="tab:orange",
                linestyle="--",
                label=f"suggestion: {self.suggestion:.2g}",
            )
        panel.set_xlabel("learning rate")
        panel.set_ylabel("loss")
        panel.grid(alpha=0.3)
        panel.legend()
        content = io.BytesIO()
        figure.savefig(content, format="png", dpi=150)
        write_whole(Path(path), content.getvalue())


@attrs.define
class _Smooth:
    """Average losses as they come."""

    total: float = 0.0
    number: int = 0

    def add(self, loss: float) -> float:
        """Return the average with one more loss."""
        self.total = _SMOOTHING * self.total + (1 - _SMOOTHING) * loss
        self.number += 1
        return self.total / (1 - _SMOOTHING**self.number)


@overload
def find_learning_rate(
    loop: Loop[B, O, None],
    data: Iterable[B] | None,
    *,
    smallest: float = ...,
    largest: float = ...,
    iterations: SupportsIndex = ...,
    optimizer: Optimizer | None = ...,
    loss: Callable[[O], SupportsFloat] | None = ...,
) -> LearningRates: ...


@overload
def find_learning_rate(
    loop: Loop[B, O, U],
    data: Iterable[B] | None,
    *,
    smallest: float = ...,
    largest: float = ...,
    iterations: SupportsIndex = ...,
    optimizer: Optimizer | None = ...,
    loss: Callable[[O], SupportsFloat] | None = ...,
    user: U,
) -> LearningRates: ...


def find_learning_rate(
    loop: Loop[B, O, Any],
    data: Iterable[B] | None,
    *,
    smallest: float = 1e-6,
    largest: float = 1.0,
    iterations: SupportsIndex = 100,
    optimizer: Optimizer | None = None,
    loss: Callable[[O], SupportsFloat] | None = None,
    user: object = None,
) -> LearningRates:
    """Run some iterations with growing learning rates, and tell the loss at each.

    The rates grow by one factor from iteration to iteration, within one epoch, for which short data
    is read again. The first group of parameters has these rates, the others keep their ratios to
    it. The sweep ends before where a loss is not finite, or where the smoothed loss is four times
    the least one; a loss that is below 0 never ends it.

    Handlers run up to the update: those at STARTED, EPOCH_STARTED and ITERATION_STARTED, such as
    `frozen`, and within the step, such as clipping. Those after it do not, nor do evaluations,
    schedules, `stop_on_nan` and what only looks on. Afterwards all is put back as by
    `Loop.try_out`, also where something raises.

    Args:
        loop: a training.
        data: as for `Loop.run`, but no iterator, whose batches could not be given back.
        smallest: the first rate, above 0.
        largest: the last rate.
        iterations: how many, from 2.
        optimizer: the one whose rates grow; None: the only one that the loop names.
        loss: makes the loss of an output; None: the output is the loss.
        user: as for `Loop.run`.

    Raises:
        TypeError: an argument is of the wrong kind, `data` is an iterator, or, in the run, a loss
            is not one number.
        ValueError: the rates do not grow, the loop does not name one optimizer, or keeps it in the
            state; `data` is empty; or the rate of the first group is 0 and that of another one is
            not.
        BaseException: as `Loop.run` does.

    >>> import torch
    >>> from fengine.training import training_step
    >>> model = torch.nn.Linear(1, 1)
    >>> step = training_step(model, torch.optim.SGD(model.parameters(), 0.1), torch.nn.MSELoss())
    >>> pairs = [(torch.ones(2, 1), torch.zeros(2, 1))]
    >>> found = find_learning_rate(Loop(step), pairs, smallest=0.25, largest=4, iterations=5)
    >>> [round(rate, 3) for rate in found.rates]
    [0.25, 0.5, 1.0, 2.0, 4.0]
    """
    number = _require_growing(smallest, largest, iterations)
    if not isinstance(loop, Loop):
        raise TypeError(f"find_learning_rate takes a Loop first, not {typed(loop)}")
    if loss is not None:
        require_callable(loss, "loss", "output")
    if isinstance(data, Iterator):
        raise TypeError(
            f"data is an iterator ({type(data).__name__}), whose batches could not be given back; "
            "give what it is made from, such as a list or DataLoader"
        )
    if data is not None:
        source_of(data)  # which refuses what is no data
    growing = _only_optimizer(loop) if optimizer is None else _require_optimizer(optimizer)
    require_not_lent(loop.step, growing, _WAY, "find_learning_rate")
    factor = (largest / smallest) ** (1 / (number - 1))
    sweep = _Sweep(growing, smallest, factor, loss, _ratios(growing))
    external = loop.external
    if not any(one is growing for one in external.values()):
        external = external.set("the optimizer of the sweep", growing)
    with putting_back(external, data):
        swept = _up_to_update(loop).on(Events.ITERATION_STARTED, sweep.set_rate)
        swept = swept.on(Events.ITERATION_COMPLETED, sweep.note)
        swept.run(data, user=user, max_epochs=1, epoch_length=number)
    return LearningRates(tuple(sweep.rates), tuple(sweep.losses))


def _require_growing(smallest: float, largest: float, iterations: SupportsIndex) -> int:
    require_positive("smallest", smallest)
    require_positive("largest", largest)
    number = integer("iterations", iterations)
    if not math.isfinite(largest) or not largest > smallest:
        raise ValueError(
            f"the rates grow from smallest={smallest} to largest={largest}, which has to be a "
            "number above it"
        )
    if number < 2:
        raise ValueError(f"iterations={number} is below 2, and one rate is no sweep")
    return number


def _ratios(optimizer: Optimizer) -> list[float]:
    """Return the rate of each group over that of the first, where a schedule began with them."""
    rates = [float(group.get("initial_lr", group["lr"])) for group in optimizer.param_groups]
    if not any(rates):
        return [1.0] * len(rates)
    if not rates[0]:
        raise ValueError(
            f"the groups of the optimizer have the rates {rates}, and no ratio to the first one, "
            "which is 0; give it a rate"
        )
    return [rate / rates[0] for rate in rates]


@attrs.define(eq=False)
class _Sweep:
    optimizer: Optimizer
    smallest: float
    factor: float
    loss: Callable[[Any], SupportsFloat] | None
    ratios: list[float]
    rates: list[float] = attrs.field(factory=list)
    losses: list[float] = attrs.field(factory=list)
    least: float = math.inf
    smooth: _Smooth = attrs.field(factory=_Smooth)

    def set_rate(self, state: State[B, O, U]) -> State[B, O, U]:
        rate = self.smallest * self.factor ** len(self.rates)
        for group, ratio in zip(self.optimizer.param_groups, self.ratios, strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate * ratio)
            else:
                group["lr"] = rate * ratio
        self.rates.append(rate)
        return state

    def note(self, state: State[B, O, U]) -> State[B, O, U]:
        loss = _number(state.output if self.loss is None else self._loss_of(state.output))
        self.losses.append(loss)
        smoothed = self.smooth.add(loss)
        self.least = min(self.least, smoothed)
        has_grown = self.least > 0 and smoothed > _DIVERGED * self.least
        return state.terminate() if has_grown or not math.isfinite(loss) else state

    def _loss_of(self, output: object) -> SupportsFloat:
        assert self.loss is not None, "whoever calls has looked"
        try:
            return self.loss(output)
        except Exception as error:
            error.add_note(
                f"in loss={describe(self.loss)} of find_learning_rate, which makes the loss of an "
                "output of the step; leave it out where that is the loss itself"
            )
            raise


def _number(loss: Any) -> float:
    try:
        return metric("loss", loss)
    except TypeError as error:
        error.add_note(
            "the sweep reads the losses of a training: say how to make one of an output, "
            "find_learning_rate(..., loss=function of the output)"
        )
        raise


def _only_optimizer(loop: Loop[Any, Any, Any]) -> Optimizer:
    found = {name: one for name, one in things_of(loop).items() if isinstance(one, Optimizer)}
    if len(found) != 1:
        named = ", ".join(found) or "none"
        raise ValueError(
            f"the loop names {len(found)} optimizers ({named}), and one is to be swept; give "
            "optimizer="
        )
    return next(iter(found.values()))


def _require_optimizer(optimizer: Optimizer) -> Optimizer:
    if not isinstance(getattr(optimizer, "param_groups", None), list):
        raise TypeError(f"optimizer={typed(optimizer)} is not an optimizer of torch")
    return optimizer


def _is_left_out(handler: object) -> bool:
    return isinstance(handler, RunsLoop) or is_scheduling(handler) or is_guarding(handler)


def _up_to_update(loop: Loop[B, O, U]) -> Loop[B, O, U]:
    """Return the loop with the handlers that run in each iteration up to the update."""
    table = Table(
        tuple(
            one
            for one in loop.table.acting().registrations
            if one.event not in _BESIDE
            and rank_of(one.event.name) <= ITERATION_STARTED
            and not _is_left_out(one.handler)
        )
    )
    return attrs.evolve(loop, table=table)
