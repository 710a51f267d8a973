"""Where a state keeps an ensemble, and what an ensemble step says of itself to features."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeAlias, final

import attrs

from fengine import Part, State
from fengine.core.describe import typed
from fengine.training.ensembles.ensemble_state import EnsembleState
from fengine.training.functional.keeping_in_state import InUser
from fengine.training.functional.lender import Lender
from fengine.training.functional.lending import Lending

AnyState: TypeAlias = State[Any, Any, Any]


@final
@attrs.frozen
class EnsembleInUser:
    """Keep an ensemble as the user's record.

    >>> from fengine.training import TrainState, stack
    >>> kept = EnsembleInUser().write(State(), stack([TrainState()]))
    >>> EnsembleInUser().read(kept).size
    1
    """

    def read(self, state: AnyState) -> EnsembleState:
        """Return the ensemble.

        Raises:
            TypeError: the user's record is another one.
        """
        found: object = state.user
        if type(found) is not EnsembleState:
            raise TypeError(
                f"state.user is {typed(found)}, and not an EnsembleState, which an ensemble step "
                "keeps there; begin with loop.run(data, user=stack(trainings)), or with "
                "user=step.init(models). For a record of your own beside it, have the step keep it "
                "in a part: step.at(key)"
            )
        return found

    def write(self, state: AnyState, ensemble: EnsembleState) -> AnyState:
        """Return a state with another ensemble."""
        return state.evolve(user=ensemble)


@final
@attrs.frozen
class EnsembleInPart:
    """Keep an ensemble as a part.

    >>> from fengine.training import TrainState, stack
    >>> key = Part("ensemble", stack([TrainState()]))
    >>> EnsembleInPart(key).read(State()).size
    1
    """

    key: Part[EnsembleState]

    def read(self, state: AnyState) -> EnsembleState:
        """Return the ensemble."""
        return state.part(self.key)

    def write(self, state: AnyState, ensemble: EnsembleState) -> AnyState:
        """Return a state with another ensemble."""
        return state.with_part(self.key, ensemble)


Kept: TypeAlias = EnsembleInUser | EnsembleInPart


@final
@attrs.frozen
class LendingEnsemble:
    """Say what an ensemble step computes with, and where the state keeps the ensemble.

    >>> from torch import nn
    >>> from torch.optim import SGD
    >>> model = nn.Linear(1, 1)
    >>> lending = LendingEnsemble(Lender(model, SGD(model.parameters(), 0.1)), EnsembleInUser())
    >>> lending.lent_with(model), list(lending.things)
    ('model', ['model', 'optimizer'])
    """

    lender: Lender
    place: Kept

    @property
    def things(self) -> Mapping[str, Any]:
        """What it computes with, by name."""
        return Lending(self.lender, InUser()).things

    def context(self) -> AbstractContextManager[None]:
        """Make a context that does nothing: an iteration has the model to itself as it computes."""
        return nullcontext()

    def read(self, state: AnyState) -> EnsembleState:
        """Return the ensemble that a state keeps."""
        return self.place.read(state)

    def write(self, state: AnyState, kept: EnsembleState) -> AnyState:
        """Return a state with another ensemble."""
        return self.place.write(state, kept)

    def lent_with(self, thing: object) -> str | None:
        """Return the name of what it computes with that a thing is, or shares parameters with."""
        return Lending(self.lender, InUser()).lent_with(thing)
