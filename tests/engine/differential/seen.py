"""What is seen of a program: everything that user code can observe, in order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import attrs
from typing_extensions import override

# More callbacks than any program makes that ends.
CAP: Final = 400


class Endless(BaseException):
    """Leave a run that does not end by itself."""


@attrs.frozen
class Seen:
    """Hold what user code can see at one place."""

    what: str
    epoch: int
    iteration: int
    batch: Any
    output: Any
    data: str | None
    limits: tuple[int | None, ...]
    flags: tuple[bool | str, ...]
    last_event: str | None
    user: tuple[Any, ...]
    extra: object = None

    @override
    def __str__(self) -> str:
        return " ".join(map(str, attrs.astuple(self, recurse=False)))


@attrs.define
class Result:
    """Hold everything that was seen of a program, and what the program did.

    Attributes:
        seen: in order.
        saved: what `state_dict` gave, in order.
        rows: the rows of the list of differences that were met, and at which place of `seen` the
            sides may part for them.
        endless: whether the program was left because it did not end.
        done: how often what was done.
        firings: how often each event was recorded, and the process function ran.
    """

    seen: list[Seen] = attrs.field(factory=list)
    saved: list[Mapping[str, Any]] = attrs.field(factory=list)
    rows: dict[str, int] = attrs.field(factory=dict)
    endless: bool = False
    done: Counter[object] = attrs.field(factory=Counter)
    firings: Counter[str] = attrs.field(factory=Counter)
    _watched: int = 0

    def met(self, row: str) -> None:
        """Note that the sides may part here, for a row of the list."""
        self.rows.setdefault(row, len(self.seen))

    def watch(self) -> None:
        """Leave a program that does not end."""
        self._watched += 1
        if self.endless or self._watched > 8 * CAP or len(self.seen) > CAP:
            self.endless = True
            raise Endless
