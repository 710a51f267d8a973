"""Effort: how much is measured."""

from __future__ import annotations

from typing import Final, final

import attrs


@final
@attrs.frozen
class Effort:
    """Say how long and how often everything runs.

    Args:
        iterations: of one run with the identity step.
        rounds: in each of which every system runs once.
        imports: how often each import is timed.
        longest: iterations of the longest run; a power of ten, from 1000.
        epochs: of the run with the most; likewise.
        traced: iterations over which memory is followed.
    """

    iterations: int
    rounds: int
    imports: int
    longest: int
    epochs: int
    traced: int

    # What a framework adds to training is small beside the noise of torch: many rounds, each short.

    @property
    def batches(self) -> int:
        """Number of batches of a supervised run."""
        return self.iterations // 5

    @property
    def short_epochs(self) -> int:
        """Number of epochs of a run whose epochs have one iteration."""
        return self.iterations // 5

    @property
    def supervised_rounds(self) -> int:
        """Number of rounds of supervised runs."""
        return 2 * self.rounds

    @property
    def scaling_rounds(self) -> int:
        """Number of rounds of the runs that show how costs grow."""
        return 2 + self.rounds // 6


FULL: Final = Effort(2000, 51, imports=5, longest=10**7, epochs=10**6, traced=100_000)
QUICK: Final = Effort(500, 11, imports=2, longest=10**5, epochs=10**4, traced=10_000)
TINY: Final = Effort(20, 2, imports=2, longest=10**3, epochs=10**3, traced=100)
