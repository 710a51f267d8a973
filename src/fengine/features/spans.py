"""Spans: what is counted of a run from one reading of its throughput to the next."""

from __future__ import annotations

from typing import Final, final

import attrs

SAMPLES: Final = "samples_per_second"
BATCHES: Final = "batches_per_second"
WAITING: Final = "waiting_for_data"
MEMORY: Final = "peak_memory"


@final
@attrs.define(eq=False)
class Span:
    """Count from one reading to the next.

    Args:
        warmup: how many batches are still left out.
        begun: when the first batch was asked for, or its step began; None before.
        asked: since when a batch is waited for; None while nobody waits.
        waited: how long the batch of this iteration was waited for.
        done: when the last step was done.
        waiting: how long the batches that are done were waited for.
        batches: how many they are.
        samples: how many samples they have.
    """

    warmup: int
    begun: float | None = None
    asked: float | None = None
    waited: float = 0.0
    done: float = 0.0
    waiting: float = 0.0
    batches: int = 0
    samples: int = 0

    def ask(self, now: float) -> None:
        """Wait for a batch."""
        if self.asked is None:
            self.asked = now
        self._begin(now)

    def step(self, now: float) -> None:
        """Have the batch."""
        self.waited = 0.0 if self.asked is None else now - self.asked
        self.asked = None
        self._begin(now)

    def count(self, now: float, samples: int) -> None:
        """Be done with a batch that counts."""
        self.done, self.waiting = now, self.waiting + self.waited
        self.batches, self.samples = self.batches + 1, self.samples + samples

    def read(self, late: float) -> dict[str, float]:
        """Return what was counted, where the devices were done so many seconds late; count anew."""
        seconds = 0.0 if self.begun is None else self.done - self.begun + late
        counted = {SAMPLES: self.samples, BATCHES: self.batches, WAITING: self.waiting}
        none_yet = not self.batches or not seconds > 0  # nor is not-a-number
        self.begun, self.asked = None, None
        self.waiting, self.batches, self.samples = 0.0, 0, 0
        return {} if none_yet else {name: one / seconds for name, one in counted.items()}

    def _begin(self, now: float) -> None:
        if self.begun is None and not self.warmup:
            self.begun = now
