"""Wishes: what is asked of an Engine: to end the run, to end the epoch, or to pause.

Handlers, signal handlers and other threads ask alike. A queue takes what they ask at any time and
loses nothing, which writing the requests of the run from there could.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final, Literal, TypeAlias, final

import attrs

from fengine.core.requests import Interrupt, Terminate, TerminateEpoch
from fengine.run.box import Box

Flag: TypeAlias = bool | Literal["skip_completed", "skip_epoch_completed"]

_FLAGS: Final[dict[Any, Flag]] = {
    None: False,
    Terminate.ANNOUNCED: True,
    Terminate.SILENT: "skip_completed",
    Terminate.LIMIT: True,
    TerminateEpoch.ANNOUNCED: True,
    TerminateEpoch.SILENT: "skip_epoch_completed",
    Interrupt.ANNOUNCED: True,
}


@final
@attrs.frozen(eq=False)
class Wishes:
    """Keep what is asked, in its order, until the run takes it."""

    posted: deque[tuple[str, Any]] = attrs.field(factory=deque)

    def terminate(self, flag: object) -> None:
        """Ask for the end of the run, or no longer."""
        kind = Terminate.SILENT if flag == "skip_completed" else Terminate.ANNOUNCED
        self.posted.append(("terminate", kind if flag else None))

    def terminate_epoch(self, flag: object) -> None:
        """Ask for the end of the epoch, or no longer."""
        silent = flag == "skip_epoch_completed"
        kind = TerminateEpoch.SILENT if silent else TerminateEpoch.ANNOUNCED
        self.posted.append(("terminate_epoch", kind if flag else None))

    def interrupt(self, flag: object) -> None:
        """Ask for a pause, or no longer."""
        self.posted.append(("interrupt", Interrupt.ANNOUNCED if flag else None))

    def flag(self, name: str, box: Box[Any, Any, Any]) -> Flag:
        """Return what is asked for by a name, here or in the requests of a run."""
        posted = [value for kind, value in tuple(self.posted) if kind == name]
        return _FLAGS[posted[-1] if posted else getattr(box.requests, name)]

    def take(self, box: Box[Any, Any, Any]) -> None:
        """Write what is asked into the requests of a run."""
        while self.posted:
            name, value = self.posted.popleft()
            box.ask(**{name: value})
