"""Optimizers as functions: SGD, Adam and AdamW, out of place and with a learning rate a member.

They compute what the classes of `torch.optim` do, to rounding, and remember the same under the same
names. So a member goes on with the class of torch, and a training of that class becomes a member.
A learning rate is one number, or a tensor with one for each row.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol, TypeAlias, final

import attrs
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from typing_extensions import override

from fengine.core.describe import call_in_words, typed
from fengine.training.ensembles.by_row import Rate, less, like_rows

# What is remembered of some parameters: of each name one tensor for each of them.
Memory: TypeAlias = Mapping[str, Sequence[Tensor]]
Parameters: TypeAlias = Iterable[nn.Parameter]

_OF_ADAM: Final = ("step", "exp_avg", "exp_avg_sq")


class OwnOptimizer(Protocol):
    """Be an optimizer as a function; made by `sgd`, `adam` or `adamw`.

    >>> optimizer: OwnOptimizer = sgd(0.5)
    >>> optimizer, optimizer.lr
    (sgd(0.5), 0.5)
    """

    @property
    def lr(self) -> float:
        """The learning rate, where nothing else says one."""

    @property
    def remembers(self) -> bool:
        """Whether it remembers anything from one update to the next."""

    def __call__(self, parameters: Parameters, /) -> Optimizer:
        """Return the optimizer of torch that does the same in place."""

    def begin(self, parameters: Sequence[Tensor], /) -> Memory:
        """Return what is remembered before the first update, as far as that is the same for all."""

    def update(
        self,
        parameters: Sequence[Tensor],
        gradients: Sequence[Tensor],
        memory: Memory,
        rate: Rate,
        /,
    ) -> tuple[list[Tensor], Memory]:
        """Return the parameters after an update, and what is remembered then."""


@final
@attrs.frozen(repr=False)
class Sgd:
    """Go down the gradient; made by `sgd`.

    >>> sgd(0.5).update([torch.ones(2)], [torch.ones(2)], {}, torch.tensor([0.5, 0.25]))[0]
    [tensor([0.5000, 0.7500])]
    """

    lr: float
    momentum: float
    dampening: float
    weight_decay: float
    nesterov: bool

    @override
    def __repr__(self) -> str:
        return _in_words("sgd", self, sgd())

    @property
    def remembers(self) -> bool:
        """Whether there is momentum."""
        return bool(self.momentum)

    def __call__(self, parameters: Parameters, /) -> SGD:
        """Return the optimizer of torch that does the same in place."""
        return SGD(parameters, **attrs.asdict(self))

    def begin(self, parameters: Sequence[Tensor], /) -> Memory:
        """Return zeros; nothing where the first update is another one."""
        if not self.momentum or self.dampening:
            return {}
        return {"momentum_buffer": [torch.zeros_like(one) for one in parameters]}

    def update(
        self,
        parameters: Sequence[Tensor],
        gradients: Sequence[Tensor],
        memory: Memory,
        rate: Rate,
        /,
    ) -> tuple[list[Tensor], Memory]:
        """Return the parameters after an update, and what is remembered then."""
        pairs = zip(parameters, gradients, strict=True)
        steps = [g.add(p, alpha=self.weight_decay) if self.weight_decay else g for p, g in pairs]
        if self.momentum:
            past = memory.get("momentum_buffer")
            if past is None:
                found = steps
            else:
                kept = 1 - self.dampening
                pairs = zip(past, steps, strict=True)
                found = [b.mul(self.momentum).add_(g, alpha=kept) for b, g in pairs]
            memory = {"momentum_buffer": found}
            if self.nesterov:
                pairs = zip(steps, found, strict=True)
                steps = [g.add(b, alpha=self.momentum) for g, b in pairs]
            else:
                steps = found
        return [less(p, g, rate) for p, g in zip(parameters, steps, strict=True)], memory


@final
@attrs.frozen(repr=False)
class AdamLike:
    """Go down the gradient, each number by its own size; made by `adam` and `adamw`.

    Args:
        is_decoupled: whether weights decay by themselves, as with AdamW, or by their gradients.

    >>> optimizer = adam(0.5)
    >>> weights = [torch.ones(2)]
    >>> after, memory = optimizer.update(weights, weights, optimizer.begin(weights), 0.5)
    >>> after, memory["step"]
    ([tensor([0.5000, 0.5000])], [tensor([1., 1.])])
    """

    lr: float
    betas: tuple[float, float]
    eps: float
    weight_decay: float
    is_decoupled: bool

    @override
    def __repr__(self) -> str:
        usual = adamw() if self.is_decoupled else adam()
        return _in_words("adamw" if self.is_decoupled else "adam", self, usual)

    @property
    def remembers(self) -> bool:
        """True."""
        return True

    def __call__(self, parameters: Parameters, /) -> Adam:
        """Return the optimizer of torch that does the same in place."""
        kind = AdamW if self.is_decoupled else Adam
        return kind(parameters, self.lr, self.betas, self.eps, self.weight_decay)

    def begin(self, parameters: Sequence[Tensor], /) -> Memory:
        """Return zeros, and that there has been no update in any row."""
        step = torch.zeros(len(parameters[0])) if parameters else torch.zeros(0)
        return {
            "step": [step] * len(parameters),
            "exp_avg": [torch.zeros_like(one) for one in parameters],
            "exp_avg_sq": [torch.zeros_like(one) for one in parameters],
        }

    def update(
        self,
        parameters: Sequence[Tensor],
        gradients: Sequence[Tensor],
        memory: Memory,
        rate: Rate,
        /,
    ) -> tuple[list[Tensor], Memory]:
        """Return the parameters after an update, and what is remembered then."""
        before = memory or self.begin(parameters)
        columns = parameters, gradients, *map(before.__getitem__, _OF_ADAM)
        made = [self._one(rate, *held) for held in zip(*columns, strict=True)]
        after, *remembered = map(list, zip(*made, strict=True))
        return after, dict(zip(_OF_ADAM, remembered, strict=True))

    def _one(
        self, rate: Rate, p: Tensor, g: Tensor, step: Tensor, mean: Tensor, square: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return one parameter after an update, and what is remembered of it then."""
        if self.weight_decay and self.is_decoupled:
            p = less(p, p, rate * self.weight_decay)
        elif self.weight_decay:
            g = g.add(p, alpha=self.weight_decay)
        step = step + 1
        mean = mean.lerp(g, 1 - self.betas[0])
        square = square.mul(self.betas[1]).addcmul_(g, g, value=1 - self.betas[1])
        first, second = self._corrections(step)
        second = like_rows(second, square) if isinstance(second, Tensor) else second
        size = square.sqrt().div_(second).add_(self.eps)
        return less(p, mean, rate / first, size), step, mean, square

    def _corrections(self, step: Tensor) -> tuple[Rate, Rate]:
        """Return what corrects both averages after some updates: numbers, or one for each row."""
        one, two = self.betas
        if not torch.compiler.is_compiling():
            numbers = step.tolist()
            if numbers and numbers.count(numbers[0]) == len(numbers):
                return 1 - one ** numbers[0], math.sqrt(1 - two ** numbers[0])
        exact = step.double()
        return 1 - one**exact, (1 - two**exact).sqrt()


def _in_words(name: str, optimizer: Sgd | AdamLike, usual: OwnOptimizer) -> str:
    shown = {
        field.name: getattr(optimizer, field.name)
        for field in attrs.fields(type(optimizer))
        if field.name != "lr" and getattr(optimizer, field.name) != getattr(usual, field.name)
    }
    return call_in_words(name, optimizer.lr, **shown)


def sgd(
    lr: float = 1e-3,
    *,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
) -> OwnOptimizer:
    """Make an SGD for ensembles, with the arguments of `torch.optim.SGD`.

    Law: it computes what that class does with each member alone, to rounding. Called with
    parameters, it makes an optimizer of that class.

    Raises:
        TypeError: an argument is of the wrong kind.
        ValueError: an argument is out of its range.

    >>> sgd(0.1, momentum=0.9)
    sgd(0.1, momentum=0.9)
    >>> type(sgd(0.1)(nn.Linear(1, 1).parameters())).__name__
    'SGD'
    """
    return _checked(Sgd(lr, momentum, dampening, weight_decay, nesterov))


def adam(
    lr: float = 1e-3,
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> OwnOptimizer:
    """Make an Adam for ensembles, with the arguments of `torch.optim.Adam`.

    Law: it computes what that class does with each member alone, to rounding. Called with
    parameters, it makes an optimizer of that class.

    Raises:
        TypeError: an argument is of the wrong kind.
        ValueError: an argument is out of its range.

    >>> adam(0.1, weight_decay=0.01)
    adam(0.1, weight_decay=0.01)
    """
    return _checked(AdamLike(lr, betas, eps, weight_decay, is_decoupled=False))


def adamw(
    lr: float = 1e-3,
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 1e-2,
) -> OwnOptimizer:
    """Make an AdamW for ensembles, with the arguments of `torch.optim.AdamW`.

    Law: it computes what that class does with each member alone, to rounding. Called with
    parameters, it makes an optimizer of that class.

    Raises:
        TypeError: an argument is of the wrong kind.
        ValueError: an argument is out of its range.

    >>> adamw(0.1)
    adamw(0.1)
    """
    return _checked(AdamLike(lr, betas, eps, weight_decay, is_decoupled=True))


def _checked(optimizer: OwnOptimizer) -> OwnOptimizer:
    """Return an optimizer whose arguments the class of torch takes."""
    lr: object = optimizer.lr
    if isinstance(lr, bool) or not isinstance(lr, int | float):
        raise TypeError(
            f"lr={typed(lr)} is not a number; learning rates that differ between the members go "
            "with the step: ensemble_step(..., learning_rate=rates)"
        )
    _ = optimizer([nn.Parameter(torch.zeros(1))])
    return optimizer
