"""What is asked of an Engine: to end the run or the epoch, or to pause."""

from __future__ import annotations

from collections import deque
from typing import Any, Final, Literal, TypeAlias

import attrs

from fengine.core.requests import Interrupt, Terminate, TerminateEpoch
from fengine.core.state import with_requests
from fengine.engine.handling import Handling

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


class Control(Handling):
    """Be the part of an Engine that takes requests, from wherever they come."""

    interrupt_resume_enabled: bool = True
    """Whether `interrupt` is allowed."""

    def __init__(self) -> None:
        super().__init__()
        self._posts: deque[tuple[str, Any]] = deque()

    def terminate(self, skip_completed: bool = False) -> None:
        """End the run: after the current iteration, or at the next event behind it.

        Args:
            skip_completed: leave COMPLETED out.

        >>> from fengine.engine import Engine
        >>> engine = Engine(lambda engine, batch: engine.terminate())
        >>> engine.run([1, 2, 3]).iteration
        1
        """
        self.should_terminate = "skip_completed" if _wished(skip_completed) else True

    def terminate_epoch(self, skip_epoch_completed: bool = False) -> None:
        """End the epoch: after the current iteration, or at the next event behind it.

        Args:
            skip_epoch_completed: leave EPOCH_COMPLETED out.

        >>> from fengine.engine import Engine
        >>> engine = Engine(lambda engine, batch: engine.terminate_epoch())
        >>> engine.run([1, 2, 3], max_epochs=2).iteration
        2
        """
        self.should_terminate_single_epoch = (
            "skip_epoch_completed" if _wished(skip_epoch_completed) else True
        )

    def interrupt(self) -> None:
        """Pause the run at the next event; the next `run` goes on from there.

        Raises:
            RuntimeError: `interrupt_resume_enabled` is False.

        >>> from fengine.engine import Engine
        >>> engine = Engine(lambda engine, batch: engine.interrupt())
        >>> [engine.run([1, 2, 3]).iteration for _ in range(3)]
        [1, 2, 3]
        """
        if not self.interrupt_resume_enabled:
            raise RuntimeError(
                f"{type(self).__name__}.interrupt_resume_enabled is False, so interrupt() is "
                "forbidden; set it to True"
            )
        self.should_interrupt = True

    @property
    def should_terminate(self) -> Flag:
        """Whether the run is to end, or has been ended; "skip_completed" without COMPLETED."""
        return _FLAGS[self._asked("terminate")]

    @should_terminate.setter
    def should_terminate(self, flag: Flag) -> None:
        kind = Terminate.SILENT if flag == "skip_completed" else Terminate.ANNOUNCED
        self._posts.append(("terminate", kind if flag else None))

    @property
    def should_terminate_single_epoch(self) -> Flag:
        """Whether the epoch is to end; "skip_epoch_completed" without EPOCH_COMPLETED."""
        return _FLAGS[self._asked("terminate_epoch")]

    @should_terminate_single_epoch.setter
    def should_terminate_single_epoch(self, flag: Flag) -> None:
        silent = flag == "skip_epoch_completed"
        kind = TerminateEpoch.SILENT if silent else TerminateEpoch.ANNOUNCED
        self._posts.append(("terminate_epoch", kind if flag else None))

    @property
    def should_interrupt(self) -> Flag:
        """Whether the run is to pause."""
        return _FLAGS[self._asked("interrupt")]

    @should_interrupt.setter
    def should_interrupt(self, flag: Flag) -> None:
        self._posts.append(("interrupt", Interrupt.ANNOUNCED if flag else None))

    def _asked(self, name: str) -> Any:
        posted = [value for kind, value in tuple(self._posts) if kind == name]
        return posted[-1] if posted else getattr(self._box.state.requests, name)

    def _take_posts(self) -> None:
        """Write what has been asked into the record.

        Requests come from handlers, signal handlers and other threads alike. A queue takes them at
        any time and loses none, which writing the record from there could.
        """
        box = self._box
        while self._posts:
            name, value = self._posts.popleft()
            box.state = with_requests(box.state, attrs.evolve(box.state.requests, **{name: value}))


def _wished(skip: object) -> bool:
    """Tell whether something is to be skipped: as a handler, a method is given the engine here."""
    return bool(skip) and not isinstance(skip, Handling)
