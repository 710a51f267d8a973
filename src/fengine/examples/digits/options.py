"""The options of a training; here, because the command line shows them before torch is imported."""

from __future__ import annotations

import attrs


@attrs.frozen(kw_only=True)
class Options:
    """Hold what can be chosen about a training.

    Args:
        epochs: how many at most.
        batch_size: images in a batch; the last one of an epoch may have fewer.
        learning_rate: of the optimizer.
        patience: epochs without a better accuracy after which the training ends.
        seed: decides all that is drawn at random.
    """

    epochs: int = 60
    batch_size: int = 64
    learning_rate: float = 2e-3
    patience: int = 8
    seed: int = 0
