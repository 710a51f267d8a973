"""By run: what a feature notes of each run that is under way, beside its state.

It means nothing to a run that goes on later, or in another process. So it is neither in snapshots
nor in copies, and of runs that are over it is forgotten.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, final

from typing_extensions import override

from fengine import State
from fengine.run.box import RUNNING

Note = TypeVar("Note")


@final
class ByRun(dict[int | None, Note]):
    """Hold a note on each run that is under way; a copy of it holds none.

    >>> ByRun().of(State(), list)
    []
    """

    @override
    def __reduce__(self) -> tuple[type[ByRun[Note]], tuple[()]]:
        """Return what `copy` and `pickle` make it of."""
        return ByRun, ()

    def of(self, state: State[Any, Any, Any], make: Callable[[], Note]) -> Note:
        """Return the note on the run of a state, made where it is asked for first."""
        run = state._notes.run
        if run not in self:
            for over in self.keys() - RUNNING.keys():
                self.pop(over, None)
            self[run] = make()
        return self[run]
