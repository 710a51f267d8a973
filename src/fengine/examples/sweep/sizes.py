"""The options of a sweep; here, because the command line shows them before torch is imported."""

from __future__ import annotations

import attrs


@attrs.frozen(kw_only=True)
class Sizes:
    """Hold what can be chosen about a sweep.

    Args:
        members: how many networks are trained at once.
        epochs: how many at most.
        patience: epochs without a better accuracy after which a network is no longer trained.
        population: how many networks the population has; 0 for none.
        batch_size: images in a batch; the last one of an epoch may have fewer.
        slowest: the smallest learning rate.
        fastest: the largest one.
        seed: decides all that is drawn at random.
    """

    members: int = 32
    epochs: int = 8
    patience: int = 3
    population: int = 12
    batch_size: int = 64
    slowest: float = 1e-4
    fastest: float = 0.1
    seed: int = 0

    def rates(self, number: int) -> list[float]:
        """Return so many learning rates, each a constant factor larger than the one before."""
        if number == 1:
            return [self.slowest]
        factor = (self.fastest / self.slowest) ** (1 / (number - 1))
        return [self.slowest * factor**one for one in range(number)]
