"""What the set-ups share: a small training, a record of events, stand-ins for what is absent."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from itertools import count
from typing import Any, Final
from unittest import mock

import attrs
import numpy as np
import torch
from ignite.engine import Engine, Events, create_supervised_evaluator, create_supervised_trainer
from torch.nn.functional import mse_loss

_FILTER: Final = re.compile(r"\(filter=.*\)")  # may print as a memory address


def plain(value: Any) -> Any:
    """Give a value as JSON can hold it: numbers exactly, other objects by their type."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return _FILTER.sub("(filter)", value)
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, torch.Tensor | np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(plain(key)): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Enum):
        return value.name
    return f"<{type(value).__name__}>"


def note(engine: Engine, name: str, noted: list[Any], iter_counter: int | None = None) -> None:
    """Add an event, and where the run is, to a list."""
    more = [] if iter_counter is None else [iter_counter]
    noted.append([name, engine.state.epoch, engine.state.iteration, *more])


def trace(engine: Engine) -> list[Any]:
    """Have an engine note its events in a list, all but the one that would take exceptions."""
    noted: list[Any] = []
    for event in Events:
        if event != Events.EXCEPTION_RAISED:
            engine.add_event_handler(event, note, event.name, noted)
    return noted


def echo(engine: Any, batch: Any) -> Any:
    """Be a process function whose output is the batch."""
    return batch


@attrs.frozen
class Training:
    """Hold a linear regression that starts the same each time."""

    model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    trainer: Any  # an Engine, with any attribute on its state
    evaluator: Any
    data: list[tuple[torch.Tensor, torch.Tensor]]

    def result(self) -> Any:
        """Give what the training came to."""
        state = self.trainer.state
        parameters = {name: plain(value) for name, value in self.model.state_dict().items()}
        return [parameters, state.epoch, state.iteration, plain(state.metrics)]


def training(lr: float = 0.1) -> Training:
    """Make a training of 5 batches an epoch."""
    torch.manual_seed(0)
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    inputs = torch.randn(5, 3, 2)
    targets = inputs.sum(dim=2, keepdim=True) + 0.1 * torch.randn(5, 3, 1)
    return Training(
        model,
        optimizer,
        create_supervised_trainer(model, optimizer, mse_loss),
        create_supervised_evaluator(model),
        list(zip(inputs, targets, strict=True)),
    )


def clock() -> Callable[[], float]:
    """Make a clock that is one second later each time it is read."""
    ticks = count()
    return lambda: float(next(ticks))


@contextmanager
def fake_timers() -> Iterator[None]:
    """Have the timers of pytorch-ignite read a clock that counts how often it is read."""
    with mock.patch("ignite.handlers.timing.perf_counter", clock()):
        yield


@contextmanager
def stand_in(package: str, *submodules: str) -> Iterator[mock.MagicMock]:
    """Put an object that takes any call in the place of a package that is not installed."""
    whole = mock.MagicMock(name=package)
    modules = {package: whole}
    for submodule in submodules:
        module, dotted = whole, package
        for part in submodule.split("."):
            module, dotted = getattr(module, part), f"{dotted}.{part}"
            modules[dotted] = module
    with mock.patch.dict(sys.modules, modules):
        yield whole


def calls(whole: mock.MagicMock) -> Any:
    """Give the calls that a stand-in has taken."""
    return [[name, plain(args), plain(kwargs)] for name, args, kwargs in whole.mock_calls]
