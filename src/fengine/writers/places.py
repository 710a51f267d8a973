"""Places: where in a run something is written, and what comes before what."""

from __future__ import annotations

from typing import Final, final

import attrs

from fengine.core.phases import EPOCH_STARTED, GET_BATCH_COMPLETED, ITERATION_STARTED, PHASES

# The names under which a place is written, beside those of the numbers.
NAMES: Final = ("epoch", "iteration", "event")
_AFTER_ALL_OTHERS: Final = len(PHASES) + ITERATION_STARTED + 100


@final
@attrs.frozen
class Place:
    """Hold where in a run something is written.

    Args:
        epoch: number of epochs begun.
        iteration: number of iterations begun.
        event: the name of the event.

    >>> iteration, epoch = Place(1, 3, "iteration_completed"), Place(1, 3, "epoch_completed")
    >>> iteration.order < epoch.order < Place(2, 3, "epoch_started").order
    True
    """

    epoch: int
    iteration: int
    event: str

    @property
    def order(self) -> tuple[int, int, int]:
        """What sorts places as a run reaches them.

        An event of the user's fires within the step. Several firings of it there are one place,
        since a run that goes on does the whole step again.
        """
        phase = PHASES.get(self.event)
        rank = ITERATION_STARTED if phase is None else phase.rank
        if rank is None:
            rank = _AFTER_ALL_OTHERS
        before_iteration = EPOCH_STARTED <= rank <= GET_BATCH_COMPLETED
        return self.epoch, self.iteration + before_iteration, rank

    @property
    def is_start(self) -> bool:
        """Whether a run begins here, and does not go on."""
        return self.epoch == 0
