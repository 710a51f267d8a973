"""Notes: what of a run seldom changes, in one record, so that a picture of the run stays small.

A picture is a copy of the dict of all registers, and a dict of more than 21 entries takes twice as
much. So what changes at each iteration is a register, and what does not is here.
"""

from __future__ import annotations

from typing import Final, final

import attrs
from typing_extensions import override

from fengine.core.outcome import Failure


@final
@attrs.frozen
class Notes:
    """Hold the notes of a loop that seldom change.

    Args:
        has_data: whether the batches come from data, and not from `epoch_length` alone.
        length_of_data: whether the data said `epoch_length`, or has shown it, and no user asked for
            it. This is no part of `==`.
        batch_due: whether there was a batch that is not kept here, and is to be fetched again.
        failure: what failed, as long as nothing has answered it.
        is_read: whether the state was read from plain data. This is no part of `==`.
        fired: how many events the step has fired so far, in the iteration of the state.
        run: which run of this process the state was made in; None for a state that was made by
            hand, copied or read. This is no part of `==`.
        paused_after: where the run was paused among the handlers of its event, the names of those
            that have run; the others run where it goes on.

    >>> Notes(run=3) == Notes(), Notes(fired=1) == Notes()
    (True, False)
    """

    has_data: bool = True
    length_of_data: bool = attrs.field(default=False, eq=False)
    batch_due: bool = False
    fired: int = 0
    failure: Failure | None = None
    is_read: bool = attrs.field(default=False, eq=False, repr=False)
    run: int | None = attrs.field(default=None, eq=False, repr=False)
    paused_after: tuple[str, ...] | None = None

    @override
    def __reduce__(self) -> tuple[type[Notes], tuple[object, ...]]:
        """Return what `copy` and `pickle` make it of: all but the run."""
        return Notes, (*(getattr(self, name) for name in _KEPT), None, self.paused_after)


_KEPT: Final = ("has_data", "length_of_data", "batch_due", "fired", "failure", "is_read")


def unmarked(notes: Notes) -> Notes:
    """Return notes that say of no run."""
    return notes if notes.run is None else attrs.evolve(notes, run=None)
