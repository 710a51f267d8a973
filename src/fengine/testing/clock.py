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
            ValueError: `seconds` is negative or not a number; a monotonic clock never goes back.
        """
        if not seconds >= 0:  # nor is not-a-number
            raise ValueError(
                f"advance({seconds}): a monotonic clock never goes back; give 0 or more"
            )
        self.now += seconds
