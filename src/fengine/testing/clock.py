"""The fake clock: time that passes only where a test says so."""

from __future__ import annotations

from typing import final

import attrs


@final
@attrs.define
class FakeClock:
    """Stand in for `time.monotonic`, in whatever takes a clock as a function.

    Args:
        now: the time in seconds that it shows.

    >>> clock = FakeClock()
    >>> clock.advance(1.5)
    >>> clock()
    1.5
    """

    now: float = 0.0

    def __call__(self) -> float:
        """Give the time in seconds."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass.

        Raises:
            ValueError: `seconds` is negative; a monotonic clock never goes back.
        """
        if seconds < 0:
            raise ValueError(f"advance({seconds}): a monotonic clock never goes back")
        self.now += seconds
