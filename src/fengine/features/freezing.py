"""Freezing: parts of a model that are not trained in the first epochs, or at all.

A frozen parameter needs no gradient, so backward does not reach it, and optimizers leave it as it
is. Which parts are frozen follows from the epoch. It is named outside the state, so that a run that
goes on from a snapshot within an epoch has the same parts frozen.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, SupportsIndex, TypeVar, final

import attrs
from torch import nn
from typing_extensions import override

from fengine import Events, Loop, State
from fengine.core.describe import call_in_words
from fengine.training.shuffling import integer

B = TypeVar("B")
O = TypeVar("O")  # noqa: E741  # the output, beside the batch and the user
U = TypeVar("U")


@final
@attrs.frozen(eq=False)
class Flags:
    """Say of parameters whether they are frozen, and take that up again.

    >>> flags = Flags(tuple(nn.Linear(1, 1).parameters()))
    >>> flags.freeze(True)
    >>> flags.state_dict()
    {'frozen': [True, True]}
    """

    parameters: tuple[nn.Parameter, ...] = attrs.field(repr=False)

    def freeze(self, frozen: bool) -> None:
        """Freeze the parameters, and let go of their gradients; or train them again."""
        self.load_state_dict({"frozen": [frozen] * len(self.parameters)})

    def state_dict(self) -> dict[str, Any]:
        """Return which are frozen."""
        return {"frozen": [not parameter.requires_grad for parameter in self.parameters]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Freeze those that were frozen, and no others.

        Raises:
            ValueError: there were more of them, or fewer.
        """
        for parameter, frozen in zip(self.parameters, state_dict["frozen"], strict=True):
            parameter.requires_grad_(not frozen)
            if frozen:
                parameter.grad = None


@final
@attrs.frozen(repr=False)
class Frozen:
    """Freeze parameters; made by `frozen`.

    >>> frozen(nn.Linear(1, 1), until=2).until
    2
    """

    flags: Flags
    until: int | None
    name: str

    @override
    def __repr__(self) -> str:
        shown: dict[str, object] = {} if self.until is None else {"until": self.until}
        if self.name != "frozen":
            shown["name"] = self.name
        return call_in_words("frozen", _Words(f"{len(self.flags.parameters)} parameters"), **shown)

    def __call__(self, loop: Loop[B, O, U], /) -> Loop[B, O, U]:
        """Return the loop with what freezes.

        Raises:
            ValueError: the name stands for something else already.
        """
        return loop.with_external(**{self.name: self.flags}).on(
            Events.EPOCH_STARTED, _Freezing(self)
        )


@final
@attrs.frozen(repr=False)
class _Words:
    words: str

    @override
    def __repr__(self) -> str:
        return self.words


@final
@attrs.frozen(repr=False)
class _Freezing:
    feature: Frozen

    @override
    def __repr__(self) -> str:
        return repr(self.feature)

    def __call__(self, state: State[B, O, U]) -> State[B, O, U]:
        until = self.feature.until
        self.feature.flags.freeze(until is None or state.epoch <= until)
        return state


def frozen(
    part: nn.Module | Iterable[nn.Parameter],
    *,
    until: SupportsIndex | None = None,
    name: str = "frozen",
) -> Frozen:
    """Make a feature that freezes a part of a model, up to the end of an epoch or for the run.

    Give the optimizer all parameters from the start: it passes over those that are frozen, and has
    those that are trained later. Batch norm in a frozen part still follows the batches.

    Law: the weights are bitwise those of a loop by hand that sets `requires_grad` at the beginning
    of each epoch.

    Args:
        part: a module, or some parameters.
        until: the last epoch in which it is frozen; None: all of them.
        name: the name outside the state; several parts need several names.

    Raises:
        TypeError: `part` is neither, or `until` is not an int.
        ValueError: there is no parameter, or `until` is below 1.

    >>> from torch import optim
    >>> from fengine.training import training_step
    >>> model = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    >>> step = training_step(model, optim.SGD(model.parameters(), 0.1), nn.MSELoss())
    >>> Loop(step) | frozen(model[0], until=3)
    Loop(...frozen(2 parameters, until=3)...)
    """
    known: Any = part
    if not isinstance(known, nn.Module | Iterable) or isinstance(known, type):
        raise TypeError(f"part={part!r} is neither a module nor some parameters")
    parameters = tuple(known.parameters() if isinstance(known, nn.Module) else known)
    for parameter in parameters:
        if not isinstance(parameter, nn.Parameter):
            raise TypeError(f"part holds {parameter!r}, which is no parameter")
    if not parameters:
        raise ValueError(f"part={part!r} has no parameter to freeze")
    epochs = None if until is None else integer("until", until)
    if epochs is not None and epochs < 1:
        raise ValueError(f"until={epochs} freezes nothing; give the last epoch, from 1")
    return Frozen(Flags(parameters), epochs, name)
