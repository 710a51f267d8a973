"""Lending: what a functional step says of itself to its loop and to features."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, final

import attrs
from torch import nn

from fengine import State
from fengine.training.functional.keeping_in_state import Place
from fengine.training.functional.lender import Lender
from fengine.training.functional.loan import Loan
from fengine.training.functional.train_state import TrainState


@final
@attrs.frozen
class Lending:
    """Say what a step lends, and where the state keeps it.

    >>> from torch.optim import SGD
    >>> from fengine.training.functional.keeping_in_state import InUser
    >>> model = nn.Linear(1, 1)
    >>> lending = Lending(Lender(model, SGD(model.parameters(), 0.1)), InUser())
    >>> lending.lent_with(nn.Sequential(model)), lending.lent_with(nn.Linear(1, 1))
    ('model', None)
    """

    lender: Lender
    place: Place

    @property
    def things(self) -> Mapping[str, Any]:
        """What is lent, by name."""
        lender = self.lender
        found = {"model": lender.model, "optimizer": lender.optimizer}
        return found if lender.scaler is None else {**found, "scaler": lender.scaler}

    def context(self) -> Loan:
        """Make the context of an iteration."""
        return Loan(self.lender)

    def read(self, state: State[Any, Any, Any]) -> TrainState:
        """Return the training that a state keeps."""
        return self.place.read(state)

    def write(self, state: State[Any, Any, Any], kept: TrainState) -> State[Any, Any, Any]:
        """Return a state with another training."""
        return self.place.write(state, kept)

    def lent_with(self, thing: object) -> str | None:
        """Return the name of what is lent that a thing is, or shares parameters with."""
        for name, lent in self.things.items():
            if thing is lent:
                return name
        own = getattr(thing, "optimizer", None)  # of a scheduler
        if own is self.lender.optimizer:
            return "optimizer"
        return None if _tensors(thing).isdisjoint(_tensors(self.lender.model)) else "model"


def _tensors(thing: object) -> set[int]:
    """Return which tensors a module has, or something else that holds parameters."""
    if isinstance(thing, nn.Module):
        return {id(one) for one in itertools.chain(thing.parameters(), thing.buffers())}
    held = getattr(thing, "parameters", ())
    return {id(one) for one in held} if isinstance(held, tuple) else set()
