"""Recorder: keep the moments of a run as snapshots, to look at and to go on from.

It is a loop with more handlers: one after the others at every event and, where asked for, one after
each of them. So whatever runs that loop is recorded, as far as it comes, and the run itself is the
same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Generic, final

import attrs
from typing_extensions import override

from fengine.core.events import AnyEvent, Events
from fengine.core.handlers import AnyHandler
from fengine.core.missing import MISSING
from fengine.core.phases import is_report
from fengine.core.registration import Registration
from fengine.core.state import Batch, Output, State, User
from fengine.core.table import Table
from fengine.core.taking import Looking
from fengine.keep.snapshot import taken
from fengine.look.entry import Entry
from fengine.loop import Loop
from fengine.run.place import without_batch


def _size(last: int | None) -> int | None:
    if last is None:
        return None
    if type(last) is not int:
        raise TypeError(f"last={last!r} of type {type(last).__name__} is not an int")
    if last < 1:
        raise ValueError(f"last={last} keeps nothing; give a number from 1, or None for all")
    return last


@final
@attrs.define(eq=False)
class Recorder(Generic[Batch, Output, User]):
    """Record a run of a loop; run the `loop` of it, and read its `entries`.

    Laws: what is run equals a run of the loop itself; the entries are the moments that
    `Loop.iterate` gives.

    Args:
        of: the loop to record, with all its handlers.
        data: the data of the run, if it knows its own place; see `Loop.snapshot`.
        last: keep this many entries, and forget earlier ones; None keeps all.
        batches: keep the batches. Otherwise going on fetches the batch of that moment again.
        outputs: keep the outputs.
        handlers: keep what each single handler did, for `blame`.

    Raises:
        TypeError: `of` is not a Loop, or `last` not an int.
        ValueError: `last` is below 1.

    >>> from fengine import Events, Loop, outputs
    >>> loop = Loop(outputs(lambda batch: 2 * batch))
    >>> recorder = Recorder(loop)
    >>> final = recorder.loop.run([1, 2, 3], max_epochs=5)
    >>> second = next(one for one in recorder.entries if one.state.epoch == 2)
    >>> loop.resume(second.snapshot, [1, 2, 3]) == final
    True
    """

    of: Loop[Batch, Output, User] = attrs.field()
    data: Iterable[Batch] | None = attrs.field(default=None, kw_only=True, repr=False)
    last: int | None = attrs.field(default=None, kw_only=True, converter=_size)
    batches: bool = attrs.field(default=True, kw_only=True)
    outputs: bool = attrs.field(default=True, kw_only=True)
    handlers: bool = attrs.field(default=False, kw_only=True)
    _entries: deque[Entry[Batch, Output, User]] = attrs.field(init=False, repr=False)
    _calls: list[tuple[AnyHandler[Batch, Output, User] | None, State[Batch, Output, User]]] = (
        attrs.field(init=False, factory=list, repr=False)
    )

    @of.validator
    def _check_loop(self, field: object, of: object) -> None:
        if not isinstance(of, Loop):
            raise TypeError(f"a Recorder takes a Loop, not {of!r} of type {type(of).__name__}")

    @_entries.default
    def _no_entries(self) -> deque[Entry[Batch, Output, User]]:
        return deque(maxlen=self.last)

    @property
    def entries(self) -> tuple[Entry[Batch, Output, User], ...]:
        """What has been recorded so far, in order."""
        return tuple(self._entries)

    @property
    def loop(self) -> Loop[Batch, Output, User]:
        """The loop with the recorder in it; a recorder is for one run of it."""
        listening = self.of.table.for_run()
        registrations: list[Registration[Batch, Output, User]] = []
        for event in self.of.registry.events:
            registrations.extend(self._recording(event, listening.get(event.name, ())))
        return attrs.evolve(self.of, table=Table(tuple(registrations)))

    def _recording(
        self, event: AnyEvent, registrations: Iterable[Registration[Batch, Output, User]]
    ) -> Iterator[Registration[Batch, Output, User]]:
        if self.handlers:
            yield Registration(event, None, _Called(self, None))
        for one in registrations:
            # They are in order already.
            yield attrs.evolve(one, runs_before=(), runs_after=())
            if self.handlers:
                yield Registration(event, None, _Called(self, one.handler))
        yield Registration(event, None, _Fired(self, event))

    def _note_call(
        self,
        handler: AnyHandler[Batch, Output, User] | None,
        state: State[Batch, Output, User],
    ) -> None:
        if handler is None or not self._calls:
            self._calls = [(None, state)]
        elif self._calls[-1][1] is not state:
            self._calls.append((handler, state))

    def _note_event(self, event: AnyEvent, state: State[Batch, Output, User]) -> None:
        if event is Events.STARTED and self._entries:
            raise RuntimeError(
                "this recorder holds a run already, and another one has started; make a recorder "
                "for each run: Recorder(loop)"
            )
        before = self._entries[-1].snapshot if self._entries else None
        names = state._handled if is_report(event.name) else None
        kept = self._kept(attrs.evolve(state, handled=names))
        snapshot = taken(self.of.external, kept, self.data, before)
        calls = tuple((handler, self._kept(left)) for handler, left in self._calls)
        self._calls = []
        self._entries.append(Entry(event, snapshot, calls))

    def _kept(self, state: State[Batch, Output, User]) -> State[Batch, Output, User]:
        if not self.batches:
            state = without_batch(state)
        if not self.outputs and state.has_output:
            state = attrs.evolve(state, output=MISSING)
        return state


@final
@attrs.frozen
class _Called(Looking, Generic[Batch, Output, User]):
    """Note the state that a handler left."""

    recorder: Recorder[Batch, Output, User] = attrs.field(repr=False)
    handler: AnyHandler[Batch, Output, User] | None

    def __call__(
        self, state: State[Batch, Output, User], payload: object = None
    ) -> State[Batch, Output, User]:
        self.recorder._note_call(self.handler, state)
        return state


@final
@attrs.frozen(repr=False)
class _Fired(Looking, Generic[Batch, Output, User]):
    """Note an event after its handlers."""

    recorder: Recorder[Batch, Output, User]
    event: AnyEvent

    @override
    def __repr__(self) -> str:
        return "Recorder"

    def __call__(
        self, state: State[Batch, Output, User], payload: object = None
    ) -> State[Batch, Output, User]:
        self.recorder._note_event(self.event, state)
        return state
