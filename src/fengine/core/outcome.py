"""How a run stands, what failed in it, and how it ended, as values.

Does not live here: deciding any of them; only the script does that.
"""

from __future__ import annotations

from typing import final

import attrs
from typing_extensions import override

from fengine.core.showing import Constant


@final
class Status(Constant):
    """Say where a run stands in its life.

    A state that no run has touched is READY. It is RUNNING between STARTED and the end, and then
    one of the four ways to end.

    >>> Status.COMPLETED.has_ended
    True
    >>> Status.RUNNING.has_ended
    False
    """

    READY = "ready"
    RUNNING = "running"
    COMPLETED = "completed"
    TERMINATED = "terminated"
    INTERRUPTED = "interrupted"
    FAILED = "failed"

    @property
    def has_ended(self) -> bool:
        """Tell whether nothing is left to run; an interrupted run can still go on."""
        return self in (Status.COMPLETED, Status.TERMINATED)


@final
class Failure(Constant):
    """Say what failed in the state that an exception left.

    >>> from fengine import State
    >>> State().failure is None
    True
    """

    AT_EVENT = "a handler of the event that the state stands at, which is still to be completed"
    REFUSED = "a request that made no sense"
    ELSEWHERE = "the step, the data, or a handler of another event"


@final
@attrs.frozen
class Outcome:
    """Carry how a run ended to the handlers of `Events.EXITED`.

    Args:
        status: one of COMPLETED, TERMINATED, INTERRUPTED and FAILED.
        error: the exception that leaves the run, or None. A recovered exception is not one.
        reason: why it ended, in a sentence for people. This is no part of `==`.

    >>> from fengine import Events, Loop, outputs, tap
    >>> loop = Loop(outputs(abs)).on(Events.EXITED, tap(lambda state, outcome: print(outcome)))
    >>> final = loop.run([-1, -2], max_epochs=3)
    completed: max_epochs=3 was reached at epoch 3, iteration 6
    """

    status: Status
    error: BaseException | None = None
    reason: str = attrs.field(default="", eq=False)

    @override
    def __str__(self) -> str:
        return f"{self.status.value}: {self.reason}" if self.reason else self.status.value
