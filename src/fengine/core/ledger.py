"""The ledger: what the script writes down of a run beside its counters."""

from __future__ import annotations

from enum import Enum
from typing import final

import attrs
from immutables import Map

from fengine.core.outcome import Status


@final
class Failure(Enum):
    """Say what failed in the state that an exception left."""

    AT_EVENT = "a handler of the event that the state stands at, which is still to be completed"
    REFUSED = "a request that made no sense"
    ELSEWHERE = "the step, the data, or a handler of another event"


@final
@attrs.frozen(weakref_slot=False)
class Ledger:
    """Keep what the script writes down beside the counters, and users rarely read."""

    status: Status = Status.READY
    attributes: Map[str, int] = Map()
    counts_before: Map[str, int] = Map()
    """The counts of events at the start of the epoch."""
    offset: int = 0
    """What to add to `State.batches` for the number of batches drawn from the data's iterator."""
    passes: int = 0
    """How often iteration over the data was started again: the number of the pass under way."""
    drawn_before: int = 0
    """How many batches were drawn in the pass before."""
    exhausted: bool = False
    """Whether the pass under way has come to its end, and the next one has not begun."""
    batch_due: bool = False
    """Whether the state had a batch that is not kept in it, and is to be fetched again."""
    failure: Failure | None = None
    """What failed, as long as nothing has answered it."""
    has_data: bool = True
    """Whether the batches come from data, and not from `epoch_length` alone."""
