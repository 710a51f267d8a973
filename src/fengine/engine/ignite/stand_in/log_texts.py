"""The texts of log records that programs for pytorch-ignite 0.5.5 filter on."""

from __future__ import annotations

from typing import Final, final

import attrs

from fengine.core.events import Events
from fengine.core.outcome import Status
from fengine.core.requests import TerminateEpoch
from fengine.engine.telling import AnyBox, fails_in_iteration
from fengine.engine.utils import _to_hours_mins_secs

_ASKED: Final = {
    "terminate": "Terminate signaled. Engine will stop after current iteration is finished.",
    "terminate_epoch": (
        "Terminate current epoch is signaled. "
        "Current epoch iteration will stop after current iteration is finished."
    ),
    "interrupt": (
        "interrupt signaled. Engine will interrupt the run after current iteration is finished."
    ),
}


@final
@attrs.frozen
class IgniteWords:
    """Say what an engine does as pytorch-ignite 0.5.5 says it."""

    def begins(self, name: str, box: AnyBox) -> str:
        """Say that a run begins or goes on."""
        epochs, iterations = box.limits.max_epochs, box.limits.max_iters
        if box.event is None and box.iteration == 0 and box.epoch == 0:
            limit = f"max_epochs={epochs}" if iterations is None else f"max_iters={iterations}"
            return f"Engine run starting with {limit}."
        limit = f"{epochs} epochs" if iterations is None else f"{iterations} iterations"
        place = f"iteration {box.iteration}, epoch {box.epoch}"
        return f"Engine run resuming from {place} until {limit}"

    def ends(self, name: str, box: AnyBox, took: float) -> str:
        """Say that a run has ended, unless a handler has taken the exception that ended it."""
        failed = box.status is Status.TERMINATED and Events.TERMINATE.name not in box.counts
        if failed or box.status is Status.INTERRUPTED:
            return ""
        return f"Engine run finished. {_time_taken(took)}"

    def epoch_ends(self, name: str, box: AnyBox, took: float) -> str:
        """Say that an epoch has ended, unless the run ends with it."""
        requests = box.requests
        completes = box.event is Events.EPOCH_COMPLETED
        if requests.terminate is not None:
            return ""
        if not completes and requests.terminate_epoch is not TerminateEpoch.SILENT:
            return ""  # EPOCH_COMPLETED follows
        return f"Epoch[{box.epoch}] Complete. {_time_taken(took)}"

    def fails(self, name: str, box: AnyBox, error: BaseException) -> str:
        """Say that something has failed."""
        if fails_in_iteration(box, error):
            return f"Current run is terminating due to exception: {error}"
        return f"Engine run is terminating due to exception: {error}"

    def leaves(self, name: str, box: AnyBox, error: BaseException) -> str:
        """Say that an exception of an iteration leaves the run."""
        if not fails_in_iteration(box, error):
            return ""
        return f"Engine run is terminating due to exception: {error}"

    def fires(self, name: str, box: AnyBox, event: object) -> str:
        """Say that an event is fired."""
        return f"{box.epoch} | {box.iteration}, Firing handlers for event {event}"

    def is_asked(self, name: str, box: AnyBox, wish: str) -> str:
        """Say that something is asked for."""
        return _ASKED[wish]

    def adds(self, name: str, box: AnyBox, event: object) -> str:
        """Say that a handler was added."""
        return f"Added handler for event {event}"


def _time_taken(seconds: float) -> str:
    return "Time taken: {:02d}:{:02d}:{:06.3f}".format(*_to_hours_mins_secs(seconds))
