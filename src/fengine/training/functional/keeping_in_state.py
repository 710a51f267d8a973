"""Where a state keeps a training: as the user's record, or as a part."""

from __future__ import annotations

from typing import Any, TypeAlias, final

import attrs

from fengine import Part, State
from fengine.training.functional.train_state import TrainState

AnyState: TypeAlias = State[Any, Any, Any]


@final
@attrs.frozen
class InUser:
    """Keep a training as the user's record.

    >>> kept = InUser().write(State(), TrainState(updates=3))
    >>> kept.user.updates, InUser().read(kept).updates
    (3, 3)
    """

    def read(self, state: AnyState) -> TrainState:
        """Return the training.

        Raises:
            TypeError: the user's record is another one.
        """
        found: object = state.user
        if type(found) is not TrainState:
            raise TypeError(
                f"state.user is {found!r} of type {type(found).__name__}, and not a TrainState, "
                "which a functional step keeps there; begin with loop.run(data, user=step.init()). "
                "For a record of your own beside it, have the step keep it in a part: step.at(key)"
            )
        return found

    def write(self, state: AnyState, train_state: TrainState) -> AnyState:
        """Return a state with another training."""
        return state.evolve(user=train_state)


@final
@attrs.frozen
class InPart:
    """Keep a training as a part.

    >>> key = Part("training", TrainState())
    >>> InPart(key).read(InPart(key).write(State(), TrainState(updates=3))).updates
    3
    """

    key: Part[TrainState]

    def read(self, state: AnyState) -> TrainState:
        """Return the training."""
        return state.part(self.key)

    def write(self, state: AnyState, train_state: TrainState) -> AnyState:
        """Return a state with another training."""
        return state.with_part(self.key, train_state)


Place: TypeAlias = InUser | InPart
