"""Plan: what a run will fire and call, found by going through the script with nothing to run.

The script of the loop says the events; the step is left out, the data is counted only, and no
handler is called. So a plan knows nothing of what handlers will ask for, and where a filter looks
at the state it says that only the run can tell. So it does of the events that a generator fires:
each is planned once in an iteration, and whom it calls is unsure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final, Generic, TypeVar, cast, final

import attrs
from typing_extensions import override

from fengine.core.describe import is_generator_function
from fengine.core.events import AnyEvent, Event, PayloadEvent
from fengine.core.filters import decided
from fengine.core.handlers import AnyHandler
from fengine.core.limits import Limits
from fengine.core.missing import MISSING, Missing
from fengine.core.phases import PHASES, Fires
from fengine.core.registration import Registration
from fengine.core.semantics import Semantics
from fengine.core.state import Batch, Output, State, User
from fengine.core.steps import Stages, outputs
from fengine.core.table import Table, count, count_in_epoch
from fengine.look.loop_in_words import registration_in_words
from fengine.run.box import Box
from fengine.run.place import note_restart
from fengine.run.script import script
from fengine.run.source import AnyBox, DataExhausted
from fengine.run.stepping import Step

Item = TypeVar("Item")


@final
@attrs.frozen
class Firing(Generic[Batch, Output, User]):
    """Hold one event of a plan, with the handlers that it calls.

    Args:
        event: the event.
        epoch: the epoch that it is in.
        iteration: the iteration that it is in.
        handlers: those that it surely calls, in their order.
        perhaps: those of which a predicate of the state, or a counter of the user's, decides.

    >>> from fengine import Loop
    >>> next(iter(Loop(outputs(abs)).plan(epoch_length=2))).event
    Events.STARTED
    """

    event: AnyEvent
    epoch: int
    iteration: int
    handlers: tuple[AnyHandler[Batch, Output, User], ...]
    perhaps: tuple[AnyHandler[Batch, Output, User], ...]


@final
@attrs.frozen
class Plan(Generic[Batch, Output, User]):
    """Give the firings of a run, one after the other; made by `Loop.plan`.

    It can be gone through again and again, and prints as a summary. Where nobody knows how many
    batches an epoch has, it may have no end.

    >>> from fengine import Events, Loop
    >>> loop = Loop(outputs(abs)).on(Events.EPOCH_COMPLETED(every=2), State.terminate)
    >>> plan = loop.plan(epoch_length=3, max_epochs=5)
    >>> [firing.epoch for firing in plan if firing.handlers]
    [2, 4]
    """

    limits: Limits
    batches: int | None
    step: Step[Batch, Output, User] | None
    semantics: Semantics
    table: Table[Batch, Output, User]

    def __iter__(self) -> Iterator[Firing[Batch, Output, User]]:
        """Go through the run from its start."""
        listening = self.table.for_run()
        for event, state in self._course():
            sure: list[AnyHandler[Batch, Output, User]] = []
            perhaps: list[AnyHandler[Batch, Output, User]] = []
            for registration in listening.get(event.name, ()):
                verdict = self._verdict(registration, event, state)
                if verdict is not False:
                    (sure if verdict else perhaps).append(registration.handler)
            yield Firing(event, state.epoch, state.iteration, tuple(sure), tuple(perhaps))

    @property
    def has_end(self) -> bool:
        """Whether it is known that the run comes to an end.

        >>> from fengine import Loop
        >>> Loop(outputs(abs)).plan(epoch_length=None).has_end
        False
        """
        known = (self.limits.epoch_length, self.limits.max_iters, self.batches)
        return any(number is not None for number in known)

    def never(self) -> tuple[Registration[Batch, Output, User], ...]:
        """Return the registrations that this run never calls; none where no end is known.

        Not among them are those for events of which a run alone decides: TERMINATE,
        TERMINATE_SINGLE_EPOCH, INTERRUPT and EXCEPTION_RAISED.

        >>> from fengine import Events, Loop
        >>> loop = Loop(outputs(abs)).on(Events.ITERATION_COMPLETED(every=10), State.terminate)
        >>> [registration.filter for registration in loop.plan(epoch_length=9).never()]
        [every(10)]
        """
        if not self.has_end:
            return ()
        listening = self.table.for_run()
        silent = {
            (name, place): one
            for name, registrations in listening.items()
            for place, one in enumerate(registrations)
        }
        for event, state in self._course():
            for place, registration in enumerate(listening.get(event.name, ())):
                if self._verdict(registration, event, state) is not False:
                    silent.pop((event.name, place), None)
            if not silent:
                break
        return tuple(one for one in silent.values() if not _is_unforeseen(one.event))

    def empty_epochs(self) -> range:
        """Give the epochs that get no batch, as the data ends before them.

        >>> from fengine import Loop
        >>> Loop(outputs(abs)).plan(epoch_length=4, max_epochs=5, batches=10).empty_epochs()
        range(4, 6)
        """
        length = self.limits.epoch_length or self.batches or 1
        wanted = self.limits.max_epochs
        if wanted is None:
            wanted = -(-(self.limits.max_iters or 0) // length)
        given = wanted if self.batches is None else min(wanted, -(-self.batches // length))
        return range(given + 1, wanted + 1)

    @override
    def __str__(self) -> str:
        """Return the number of firings of each event, and of the calls of each handler."""
        if not self.has_end:
            return (
                "no end known: nobody says how many batches an epoch has; the run ends where its "
                "data ends, or where a handler or the step ends it. Give epoch_length=, batches= "
                "or max_iters= for a plan of it"
            )
        fired: Counter[AnyEvent] = Counter()
        calls: Counter[tuple[str, int]] = Counter()
        listening = self.table.for_run()
        unsure: set[tuple[str, int]] = set()
        for event, state in self._course():
            fired[event] += 1
            for place, registration in enumerate(listening.get(event.name, ())):
                verdict = self._verdict(registration, event, state)
                calls[event.name, place] += verdict is not False
                if verdict is None:
                    unsure.add((event.name, place))
        lines = []
        for event, number in fired.items():
            unknown = self._is_fired_by_generator(event)
            lines.append(f"{event!r:34}{'any' if unknown else number:>9}")
            for place, one in enumerate(listening.get(event.name, ())):
                bound = "at most " if (event.name, place) in unsure else ""
                called = "as often as its filter holds" if unknown and one.filter else "any"
                said = called if unknown else f"{bound}{calls[event.name, place]}"
                lines.append(f"  {registration_in_words(one)}: {said}")
        lines += [
            f"never called: {registration_in_words(one)}, at {one.event!r}" for one in self.never()
        ]
        empty = self.empty_epochs()
        if empty:
            lines.append(
                f"no batch in {len(empty)} of {empty.stop - 1} epochs, from epoch {empty.start} "
                f"on: the data gives {self.batches}"
            )
        return "\n".join(lines)

    def _course(self) -> Iterator[tuple[AnyEvent, State[Batch, Output, User]]]:
        """Go through the script; give each event with the state that it stands at."""
        box: Box[Batch, Output, User] = Box(State(limits=self.limits))
        source: _Counted[Batch] = _Counted(self.limits.epoch_length, self.batches)
        step = cast("Step[Batch, Output, User]", self._without_functions())
        waits = self.semantics.finish_iteration
        for event in script(box, step, source, _EVERYTHING, finish_iteration=waits):
            box._handled, box.exiting = None, False
            yield event, box.state

    def _verdict(
        self,
        registration: Registration[Batch, Output, User],
        event: AnyEvent,
        state: State[Batch, Output, User],
    ) -> bool | None:
        """Tell whether a firing calls a handler; None where only the run can tell."""
        if self._is_fired_by_generator(event):
            return None
        if registration.filter is None:
            return True
        if event.attr is not None and event.name not in PHASES:
            return decided(registration.filter, None, None)
        return decided(registration.filter, count(event, state), count_in_epoch(event, state))

    def _is_fired_by_generator(self, event: AnyEvent) -> bool:
        return event.name not in PHASES and is_generator_function(self.step)

    def _without_functions(self) -> object:
        """Keep the events of the step, and nothing that it does."""
        parts: Iterable[object] = ()
        if isinstance(self.step, Stages):
            parts = self.step.parts
        elif is_generator_function(self.step):
            heard = (one.event for one in self.table.registrations)
            own = dict.fromkeys(event for event in heard if event.name not in PHASES)
            parts = (_nothing, *own)
        events = tuple(one if isinstance(one, Event | PayloadEvent) else _nothing for one in parts)
        return Stages(events) if events else outputs(_nothing)


@final
class _Everything:
    """Hold every name."""

    def __contains__(self, name: object) -> bool:
        return True


_EVERYTHING: Final = _Everything()


@final
@attrs.define(eq=False)
class _Counted(Generic[Item]):
    """Give as many batches as data of this length would, none of which is there.

    Args:
        length: the number of batches in one pass over the data; None: it has no end.
        total: how many there are in all; None: as many as are asked for.
    """

    length: int | None
    total: int | None
    announced: bool = True
    _given: int = 0
    _in_pass: int = 0

    def open(self, box: AnyBox) -> None:
        """Do nothing."""

    def fetch(self) -> Item | Missing:
        """Return nothing in the place of a batch."""
        ended = self._in_pass == self.length if self.total is None else self._given == self.total
        if ended:
            return MISSING
        self._given += 1
        self._in_pass += 1
        return cast("Item", None)

    def end_pass(self, box: AnyBox) -> None:
        """Do nothing."""

    def restart(self, box: AnyBox) -> None:
        """Begin another pass."""
        self._in_pass = 0
        note_restart(box)

    def ran_dry(self, box: AnyBox) -> None:
        """End the run, as data that has ended does."""
        raise DataExhausted(box.iteration, None)


def _is_unforeseen(event: AnyEvent) -> bool:
    return event.name in PHASES and PHASES[event.name].fires is Fires.ON_REQUEST


def _nothing(value: object) -> None:
    pass
