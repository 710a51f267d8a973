"""What states that version 0.1 pickled name; nothing else uses it.

There a state kept the loop's own notes in a record of their own.
"""

from __future__ import annotations

from typing import Any, final

import attrs
from immutables import Map

from fengine.core.notes import Notes
from fengine.core.outcome import Failure as Failure
from fengine.core.outcome import Status


@final
@attrs.frozen
class Ledger:
    """Hold the notes of the loop as version 0.1 did."""

    status: Status = Status.READY
    attributes: Map[str, int] = Map()
    counts_before: Map[str, int] = Map()
    offset: int = 0
    passes: int = 0
    drawn_before: int = 0
    exhausted: bool = False
    batch_due: bool = False
    failure: Failure | None = None
    has_data: bool = True

    def fields(self) -> dict[str, Any]:
        """Return the notes by the names of the fields of a State."""
        public = ("status", "attributes", "passes")
        kept = attrs.asdict(self, recurse=False)
        noted = {name: kept.pop(name) for name in ("has_data", "batch_due", "failure")}
        notes = Notes(**noted)
        fields = {name if name in public else f"_{name}": note for name, note in kept.items()}
        return {**fields, "_notes": notes}
