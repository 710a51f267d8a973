"""Requests: what a handler may ask of the loop, as values in the state.

Terminate, terminate_epoch and interrupt are independent; each says how its ending is announced.
A recovery answers an exception. Which of several is obeyed first is decided where a run is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, final

import attrs
from typing_extensions import override

from fengine.core.showing import Constant, shown


@final
class Terminate(Constant):
    """Ask for the end of the run; SILENT leaves COMPLETED out.

    LIMIT is what the loop itself asks for where `max_iters` is reached.

    >>> from fengine import State
    >>> State().terminate(skip_completed=True).requests.terminate is Terminate.SILENT
    True
    """

    ANNOUNCED = "announced"
    SILENT = "silent"
    LIMIT = "limit"


@final
class TerminateEpoch(Constant):
    """Ask for the end of the epoch; SILENT leaves EPOCH_COMPLETED out.

    >>> from fengine import State
    >>> State().terminate_epoch().requests.terminate_epoch is TerminateEpoch.ANNOUNCED
    True
    """

    ANNOUNCED = "announced"
    SILENT = "silent"


@final
class Interrupt(Constant):
    """Ask for a pause, from which the run can go on.

    >>> from fengine import State
    >>> State().interrupt().requests.interrupt is Interrupt.ANNOUNCED
    True
    """

    ANNOUNCED = "announced"


@final
class Recovery(Constant):
    """Answer an exception: how the run goes on after it.

    SKIP_BATCH leaves the rest of the iteration and goes on with the next batch. END_EPOCH ends the
    epoch here: EPOCH_COMPLETED is next. Where there is no iteration or no epoch to leave, both go
    on right after the event that failed. END_RUN ends the run without further events but EXITED.

    >>> from fengine import State
    >>> State().recover(Recovery.END_EPOCH).requests.recovery is END_EPOCH
    True
    """

    SKIP_BATCH = "skip_batch"
    END_EPOCH = "end_epoch"
    END_RUN = "end_run"


class RequestError(RuntimeError):
    """Tell that something was asked for where it makes no sense.

    >>> from fengine import SKIP_BATCH, Events, Loop, outputs
    >>> loop = Loop(outputs(abs)).on(Events.STARTED, lambda state: state.recover(SKIP_BATCH))
    >>> loop.run([1])
    Traceback (most recent call last):
    fengine.core.requests.RequestError: recover(SKIP_BATCH) was asked for at Events.STARTED, ...
    """


SKIP_BATCH: Final = Recovery.SKIP_BATCH
"""The rest of the iteration is left, and the run goes on with the next batch."""
END_EPOCH: Final = Recovery.END_EPOCH
"""The rest of the epoch is left, and the run goes on with EPOCH_COMPLETED."""
END_RUN: Final = Recovery.END_RUN
"""The rest of the run is left: it goes on with EXITED."""


@final
@attrs.frozen(repr=False)
class Requests:
    """Hold what has been asked for and not been obeyed yet.

    >>> Requests(terminate=Terminate.SILENT).interrupt is None
    True
    """

    terminate: Terminate | None = None
    terminate_epoch: TerminateEpoch | None = None
    interrupt: Interrupt | None = None
    recovery: Recovery | None = None

    @override
    def __repr__(self) -> str:
        return shown(self)

    @override
    def __reduce__(self) -> tuple[Callable[..., Requests], tuple[object, ...]]:
        """Have copies share `NO_REQUESTS`, which the script asks for by `is`."""
        return _restored, (self.terminate, self.terminate_epoch, self.interrupt, self.recovery)


NO_REQUESTS: Final = Requests()


def shared(requests: Requests) -> Requests:
    """Give NO_REQUESTS itself where nothing is asked for."""
    return NO_REQUESTS if requests == NO_REQUESTS else requests


def _restored(
    terminate: Terminate | None,
    terminate_epoch: TerminateEpoch | None,
    interrupt: Interrupt | None,
    recovery: Recovery | None,
) -> Requests:
    return shared(Requests(terminate, terminate_epoch, interrupt, recovery))
