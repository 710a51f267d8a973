"""The box: a run as it is now, as registers.

A register has the name of a State's field. The script and the Engine's live state write registers
in place, one by one. Whoever else looks at a run gets `state`, a picture of all registers: a State,
which is frozen, and which nothing changes afterwards. Setting `state` writes all registers at once.
Beside the registers, which are in the `__dict__` of the box, a box has a few marks of its own.

Rules of this file and of all that write registers:
- Registers that only make sense together are written in one statement. Between two statements an
  exception may come, from a signal for instance, and whoever goes on finds a whole run.
- What is let go of is written last, since letting go may run code of the user's, which looks.
- A picture may have the registers themselves for as long as none of them is written, and whoever
  made it looks on. Before the next one is written, the box has others: a state's, or its `own`.
- The box alone decides how long a batch and an output live. Whoever takes a picture drops it before
  the next batch is fetched.

Here are the moves that happen at most once an epoch, and what passes between the script and those
around it. The moves of each iteration are in the script.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any, Final, Generic, final

import attrs
from immutables import Map

from fengine.core.events import AnyEvent, Events
from fengine.core.limits import Limits
from fengine.core.missing import Missing
from fengine.core.notes import Notes
from fengine.core.outcome import Failure, Status
from fengine.core.phases import is_counted
from fengine.core.requests import Requests, shared
from fengine.core.state import Batch, Output, State, User, new_object, set_fields
from fengine.run.ports import Preempting


@final
class Box(Generic[Batch, Output, User]):
    """Hold a run as it is now.

    Args:
        state: the run to begin or to go on with.
        preemption: tells whether the process is asked to end; None where nobody does.

    Attributes:
        exiting: whether the handlers of EXITED are still to run.
        called: whether one of them has been called, where an exception came in between.
        left: goes through the handlers that are being called; those still to call.
        made: what those that have been called have made of the run; None if they have made nothing.
        named: the names of all handlers of the event up to the last of those, or none.
        payload: what the event that is being fired hands to its handlers.
        number: runs are numbered as they begin; the register `_notes` has it in every picture.
        asked: who has asked for something last, and where; None where nobody has, or another rank.
        answered: how many failures of the run have been answered.
        again: calls the first handlers of an event again, or all of them, and drops their states.
        is_shared: whether other ranks run it too, so that requests have to be agreed on.
        agreed: the event at which all ranks have agreed last; None where others came after it.

    >>> box = Box(State(iteration=7))
    >>> before = box.state
    >>> box.iteration += 1
    >>> before.iteration, box.state.iteration
    (7, 8)
    """

    __slots__ = (
        "__dict__",
        "__weakref__",
        "again",
        "agreed",
        "answered",
        "asked",
        "called",
        "exiting",
        "is_shared",
        "left",
        "made",
        "named",
        "number",
        "payload",
        "preemption",
    )

    iteration: int
    epoch: int
    batches: int
    event: AnyEvent | None
    _batch: Batch | Missing
    _output: Output | Missing
    requests: Requests
    user: User
    metrics: Map[str, float]
    limits: Limits
    counts: Map[str, int]
    status: Status
    attributes: Map[str, int]
    passes: int
    parts: Map[str, object]
    _counts_before: Map[str, int]
    _offset: int
    _drawn_before: int
    _exhausted: bool
    _handled: tuple[str, ...] | None
    _notes: Notes

    def __init__(
        self, state: State[Batch, Output, User], preemption: Preempting | None = None
    ) -> None:
        self.exiting = self.called = False
        self.left: Iterator[object] = iter(())
        self.made: State[Batch, Output, User] | None = None
        self.named: tuple[str, ...] = ()
        self.payload: object = None
        self.number = next(RUNS)
        self.answered = 0
        self.again: Callable[[AnyEvent, int | None], None] = call_none
        self.asked: tuple[str, str] | None = None
        self.preemption = preemption
        self.is_shared = False
        self.agreed: AnyEvent | None = None
        self.state = state

    def look(self) -> State[Batch, Output, User]:
        """Take a picture of the run as it is now."""
        state: State[Batch, Output, User] = new_object(State)
        set_fields(state, self.__dict__.copy())
        return state

    def own(self) -> None:
        """Have registers that are in no picture."""
        self.__dict__ = self.__dict__.copy()

    @property
    def state(self) -> State[Batch, Output, User]:
        """A picture of the run as it is now."""
        return self.look()

    @state.setter
    def state(self, state: State[Batch, Output, User]) -> None:
        self.__dict__ = state.__dict__.copy()

    @property
    def failure(self) -> Failure | None:
        """What failed, as long as nothing has answered it."""
        return self._notes.failure

    @property
    def drawn(self) -> int:
        """How many batches were drawn from the data since its iteration was last started."""
        return self.batches + self._offset

    def asking(self, **changes: Any) -> Requests:
        """Return the requests with some of them replaced."""
        asked = {name: getattr(self.requests, name) for name in _REQUESTS}
        return shared(Requests(**{**asked, **changes}))

    def ask(self, **changes: Any) -> None:
        """Replace some of the requests."""
        self.requests = self.asking(**changes)

    def noting(self, **changes: Any) -> Notes:
        """Return the notes with some of them replaced."""
        return attrs.evolve(self._notes, **changes)

    def limit(self, name: str, value: int | None) -> None:
        """Replace one limit by what a user asks for, unchecked."""
        notes = self.noting(length_of_data=False) if name == "epoch_length" else self._notes
        self.limits, self._notes = self.limits.replacing(name, value), notes

    def is_done(self) -> bool:
        """Tell whether the limits are reached."""
        return self.limits.are_reached(self.epoch, self.iteration)

    def begin_epoch(self, *, heard: bool) -> None:
        """Stand at EPOCH_STARTED of the next epoch, for which no batch has been fetched."""
        self.epoch, self.batches, self._offset, self._counts_before, self.event, self._handled = (
            self.epoch + 1,
            0,
            self.drawn,
            self.counts,
            Events.EPOCH_STARTED,
            () if heard else None,
        )

    def stand_at(self, event: AnyEvent, *, heard: bool) -> None:
        """Stand at an event, and count its firing if the loop does."""
        counts = self.counted(event) if is_counted(event.name, event.attr) else self.counts
        self.counts, self.event, self._handled = counts, event, () if heard else None

    def counted(self, event: AnyEvent) -> Map[str, int]:
        """Return the counts with one more firing of an event."""
        return self.counts.set(event.name, self.counts.get(event.name, 0) + 1)

    def learn_epoch_length(self) -> None:
        """Take the batches of this epoch for every epoch, or those of the pass it began in."""
        length = max(self.batches, self.drawn)
        notes = self.noting(length_of_data=True)
        self.limits, self._notes = self.limits.replacing("epoch_length", length), notes

    def ends_with_data(self) -> bool:
        """Tell whether the epoch is over where the data ends.

        An epoch length that the data said, or has shown, is an upper bound. One that a user asked
        for is reached: the data is started again. So it is for an epoch that has no batch yet.
        """
        return self.batches > 0 and (self.limits.epoch_length is None or self._notes.length_of_data)


def call_none(event: AnyEvent, most: int | None) -> None:
    """Call nobody: there are no handlers before the driver begins."""


# Tells a run that began within another one from one that came after it, and nothing else.
RUNS: Final = itertools.count()
# The runs that are under way, by their number.
RUNNING: Final[dict[int | None, Box[Any, Any, Any]]] = {}
_REQUESTS: Final = ("terminate", "terminate_epoch", "interrupt", "recovery")


@final
class Raised(Exception):
    """Carry what the driver met at an event into the script, whatever its type."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        super().__init__(error)


@final
class Leaked(Exception):
    """Carry what generators take for their own: a StopIteration or GeneratorExit of the user's."""

    def __init__(self, error: StopIteration | GeneratorExit) -> None:
        self.error = error
        super().__init__(error)
