"""Entry: one event of a recorded run."""

from __future__ import annotations

from typing import Any, Generic, final

import attrs

from fengine.core.events import AnyEvent, take_up
from fengine.core.handlers import AnyHandler
from fengine.core.state import Batch, Output, State, User
from fengine.keep.snapshot import Snapshot


@final
@attrs.frozen
class Entry(Generic[Batch, Output, User]):
    """Hold an event of a run with a snapshot of it after its handlers; made by a `Recorder`.

    Args:
        event: the event.
        snapshot: the run there; `Loop.resume` goes on from it.
        calls: each handler that was called with the state it left, if the recorder keeps them;
            first of all the state before them, with None.

    >>> from fengine import Loop, Recorder, outputs
    >>> recorder = Recorder(Loop(outputs(abs)))
    >>> final = recorder.loop.run([-1])
    >>> recorder.entries[-1].state == final
    True
    """

    event: AnyEvent
    snapshot: Snapshot[Batch, Output, User]
    calls: tuple[tuple[AnyHandler[Batch, Output, User] | None, State[Batch, Output, User]], ...] = (
        attrs.field(default=(), eq=False, repr=False)
    )

    def __setstate__(self, kept: Any) -> None:
        """Take up what `copy` and `pickle` kept, of version 0.1 too."""
        take_up(self, kept)

    @property
    def state(self) -> State[Batch, Output, User]:
        """The state that the handlers left."""
        return self.snapshot.state
