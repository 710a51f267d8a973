"""What a script is given, and what passes between it and those around it.

The box and the source are its only ways out: one holds the state, the other gives the batches.
`Raised` and `Leaked` carry exceptions of the user's past the generators between.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, Generic, Protocol, TypeVar, final

import attrs

from fengine.core.state import Batch, Output, State, User


@final
class Exhausted(Enum):
    """Stand for the batch that does not come."""

    EXHAUSTED = "exhausted"


EXHAUSTED: Final = Exhausted.EXHAUSTED

Fetched = TypeVar("Fetched", covariant=True)


class Source(Protocol[Fetched]):
    """Give batches; the effect that a script needs for its data.

    A GeneratorExit, and a StopIteration that is not the end of the data, leave `open` and `restart`
    as `Leaked`; a GeneratorExit may leave `fetch` as it is.
    """

    @property
    def announced(self) -> bool:
        """Whether there is data, so that fetching from it is announced by events."""

    def open(self, state: State[Batch, Output, User]) -> State[Batch, Output, User]:
        """Get ready to fetch at the place where the state stands; called at each epoch."""

    def fetch(self) -> Fetched | Exhausted:
        """Give the next batch, or EXHAUSTED."""

    def end_pass(self, state: State[Batch, Output, User]) -> None:
        """Take note that the data has no batch behind those that the state has drawn."""

    def restart(self, drawn: int) -> None:
        """Start iteration over the data again, behind so many batches of the pass before."""

    def ran_dry(self, state: State[Batch, Output, User]) -> None:
        """Take note that a restarted iteration gave nothing; may raise."""


@final
@attrs.define(eq=False, repr=False)
class Box(Generic[Batch, Output, User]):
    """Hold the one current state of a run, and the payload of the event being fired.

    The script and its driver take turns with it; nothing else of a run is mutable.
    """

    state: State[Batch, Output, User]
    payload: object = None


@final
class Raised(Exception):
    """Carry what a handler raised into the script, whatever its type."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        super().__init__(error)


@final
class Leaked(Exception):
    """Carry what generators take for their own, a StopIteration or GeneratorExit of the user's."""

    def __init__(self, error: StopIteration | GeneratorExit) -> None:
        self.error = error
        super().__init__(error)
