"""What the tests of the supervised engines are made of: watched parts, and modules as stand-ins."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from types import ModuleType
from typing import Any, Final
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from typing_extensions import override

import fengine.engine
import fengine.engine.ignite.stand_in

PACKAGES: Final[tuple[Any, ...]] = (fengine.engine, fengine.engine.ignite.stand_in)
X, Y = torch.ones(4, 2), torch.zeros(4, 1)
BATCHES: Final = [(X, Y)] * 7


class Watched(nn.Linear):
    """Note the modes that it computes in, and where it is to be moved, which it refuses."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__(2, 1)
        self.seen: list[tuple[bool, bool, bool]] = []
        self.moves: list[Any] = []

    @override
    def forward(self, x: Tensor) -> Tensor:
        autocast = torch.is_autocast_enabled("cpu")
        self.seen.append((self.training, torch.is_grad_enabled(), autocast))
        return super().forward(x)

    @override
    def to(self, *args: Any, **kwargs: Any) -> Any:
        self.moves.append(args)
        return self


class Counted(torch.optim.SGD):
    """Write down what is asked of it: z for zero_grad, s for step."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model.parameters(), lr=0.1)
        self.asked = ""

    @override
    def zero_grad(self, set_to_none: bool = True) -> None:
        self.asked += "z"
        super().zero_grad(set_to_none)

    @override
    def step(self, closure: Any = None) -> Any:
        self.asked += "s"
        return super().step(closure)


def parts() -> tuple[Watched, Counted, Any]:
    """Make a model and its optimizer, with a loss function."""
    model = Watched()
    return model, Counted(model), mse_loss


def trainers() -> list[Callable[..., Any]]:
    """Give the factory of trainers of each package, for further keywords."""
    return [partial(package.create_supervised_trainer, *parts()) for package in PACKAGES]


def evaluators() -> list[Callable[..., Any]]:
    """Give the factory of evaluators of each package, for further keywords."""
    return [partial(package.create_supervised_evaluator, Watched()) for package in PACKAGES]


def give_loss(x: Any, y: Any, y_pred: Any, loss: Tensor) -> Tensor:
    return loss


def doubled(output: Tensor) -> Tensor:
    return 2 * output


def as_it_is(batch: Any, device: Any, non_blocking: bool) -> Any:
    return batch


def modules(**named: ModuleType | None) -> AbstractContextManager[Any]:
    """Have these modules, with `__` for a dot; None for one that is absent."""
    return mock.patch.dict(
        sys.modules, {name.replace("__", "."): found for name, found in named.items()}
    )


def module(**values: Any) -> ModuleType:
    """Make a module with these names in it."""
    made = ModuleType("stand_in")
    vars(made).update(values)
    return made


def with_apex(optimizers: list[Any] | None = None) -> AbstractContextManager[Any]:
    """Have an apex that doubles the loss."""

    @contextmanager
    def scale_loss(loss: Tensor, optimizer: Any) -> Iterator[Tensor]:
        if optimizers is not None:
            optimizers.append(optimizer)
        yield 2 * loss

    return modules(apex=module(), apex__amp=module(scale_loss=scale_loss))


def with_xla(barriers: list[bool] | None = None) -> AbstractContextManager[Any]:
    """Have a torch_xla that steps at once."""

    def optimizer_step(optimizer: Any, *, barrier: bool = False) -> None:
        if barriers is not None:
            barriers.append(barrier)
        optimizer.step()

    model = module(optimizer_step=optimizer_step)
    return modules(torch_xla=module(), torch_xla__core=module(), torch_xla__core__xla_model=model)
