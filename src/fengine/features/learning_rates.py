"""Learning rates: a sweep over them before a training, to find one to begin with.

The loop itself is run, as a fork: a few iterations, each with a larger rate. Afterwards all that
the loop names is as it was before.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, TypeVar, final

import attrs
from torch import Tensor
from torch.optim import Optimizer

from fengine import Events, Loop, State
from fengine.core.phases import PHASES
from fengine.core.table import Table
from fengine.features.gradients import require_positive
from fengine.features.optimizers import is_scheduling
from fengine.keep.putting_back import putting_back
from fengine.training.shuffling import integer
from fengine.writers.log_files import write_whole

B = TypeVar("B")
O = TypeVar("O")  # noqa: E741  # the output, beside the batch and the user
U = TypeVar("U")

# A loss that has grown so much beyond the least one so far will not come back.
_DIVERGED: Final = 4.0
# How much of the losses before is in a smoothed one.
_SMOOTHING: Final = 0.9


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
        found, average = [], 0.0
        for number, loss in enumerate(self.losses, start=1):
            average = _SMOOTHING * average + (1 - _SMOOTHING) * loss
            found.append(average / (1 - _SMOOTHING**number))
        return tuple(found)

    @property
    def suggestion(self) -> float | None:
        """The rate where the smoothed loss falls fastest; None where it never falls."""
        smoothed = self.smoothed
        falls = [
            ((after - before) / (math.log(larger) - math.log(rate)), rate)
            for before, after, rate, larger in zip(
                smoothed, smoothed[1:], self.rates, self.rates[1:], strict=False
            )
            if math.isfinite(after - before)
        ]
        steepest, rate = min(falls, default=(0.0, 0.0))
        return rate if steepest < 0 else None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Draw the losses over the rates, and write them to a PNG file.

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


def find_learning_rate(
    loop: Loop[B, O, U],
    data: Iterable[B],
    *,
    smallest: float = 1e-6,
    largest: float = 1.0,
    iterations: int = 100,
    optimizer: Optimizer | None = None,
    loss: Callable[[O], float | Tensor] | None = None,
    user: Any = None,
) -> LearningRates:
    """Run some iterations with growing learning rates, and tell the loss at each.

    The rates grow by one factor from iteration to iteration. Groups of parameters keep their ratios
    to the first one. The sweep ends early where the loss is not finite, or far above the least one.
    Handlers within the step run, such as clipping. All others do not, and neither do schedules.
    Afterwards all that the loop names is as it was.

    Args:
        loop: a training; its outputs are losses.
        data: the batches; no iterator, whose batches could not be given back.
        smallest: the first rate, above 0.
        largest: the last rate.
        iterations: how many, from 2.
        optimizer: the one whose rates grow; None: the only one that the loop names.
        loss: makes the loss of an output, if that is something else.
        user: as for `Loop.run`.

    Raises:
        TypeError: an argument is of the wrong kind, or `data` is an iterator.
        ValueError: the rates do not grow, or the loop does not name one optimizer.
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
    require_positive("smallest", smallest)
    require_positive("largest", largest)
    number = integer("iterations", iterations)
    if largest <= smallest or number < 2:
        raise ValueError(
            f"smallest={smallest}, largest={largest} and iterations={number} are no growing rates"
        )
    if iter(data) is data:
        raise TypeError(
            f"data is an iterator ({type(data).__name__}), whose batches could not be given back; "
            "give what it is made from, such as a list or DataLoader"
        )
    growing = _only_optimizer(loop) if optimizer is None else optimizer
    sweep = _Sweep(growing, smallest, (largest / smallest) ** (1 / (number - 1)), loss)
    with putting_back({**loop.external, "the optimizer of the sweep": growing}, data):
        bare: Loop[B, O, Any] = _within_step(loop)
        bare = bare.on(Events.ITERATION_STARTED, sweep.set_rate)
        bare.on(Events.ITERATION_COMPLETED, sweep.note).run(data, user=user, max_iters=number)
    return LearningRates(tuple(sweep.rates), tuple(sweep.losses))


@attrs.define(eq=False)
class _Sweep:
    optimizer: Optimizer
    smallest: float
    factor: float
    loss: Callable[[Any], float | Tensor] | None
    rates: list[float] = attrs.field(factory=list)
    losses: list[float] = attrs.field(factory=list)
    _before: list[float] = attrs.field(factory=list)

    def set_rate(self, state: State[B, O, U]) -> State[B, O, U]:
        groups = self.optimizer.param_groups
        if not self.rates:
            self._before = [float(group["lr"]) for group in groups]
        rate, first = self.smallest * self.factor ** len(self.rates), self._before[0]
        for group, before in zip(groups, self._before, strict=True):
            ratio = before / first if first else 1.0
            lr = group["lr"]
            if isinstance(lr, Tensor):
                lr.fill_(rate * ratio)
            else:
                group["lr"] = rate * ratio
        self.rates.append(rate)
        return state

    def note(self, state: State[B, O, U]) -> State[B, O, U]:
        output: Any = state.output
        loss = float(output if self.loss is None else self.loss(output))
        self.losses.append(loss)
        least = min(self.losses)
        diverged = not math.isfinite(loss) or (least > 0 and loss > _DIVERGED * least)
        return state.terminate() if diverged else state


def _only_optimizer(loop: Loop[Any, Any, Any]) -> Optimizer:
    found = {name: one for name, one in loop.external.items() if isinstance(one, Optimizer)}
    if len(found) != 1:
        named = ", ".join(found) or "none"
        raise ValueError(
            f"the loop names {len(found)} optimizers ({named}), and one is to be swept; give "
            "optimizer="
        )
    return next(iter(found.values()))


def _within_step(loop: Loop[B, O, U]) -> Loop[B, O, U]:
    """Return the loop with the handlers of its step alone, but for schedules."""
    table = Table(
        tuple(
            one
            for one in loop.table.registrations
            if one.event.name not in PHASES and not is_scheduling(one.handler)
        )
    )
    return attrs.evolve(loop, table=table)
