"""Drawing: random numbers for all members together, from a state that the ensemble keeps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from fengine.training.ensembles.ensemble_state import EnsembleState
from fengine.training.functional.generators import states_of
from fengine.training.functional.in_use import Use
from fengine.training.functional.values import Names, Values


@contextmanager
def drawing(
    use: Use, generators: Mapping[str, torch.Generator], ensemble: EnsembleState
) -> Iterator[list[Values[Tensor]]]:
    """Have a model alone, and draws go on from the random state of an ensemble.

    It is that of the first member that is trained, or of the first one where none is. The program
    draws on after as if nothing had been.

    Args:
        use: has the model to oneself.
        generators: the generators that a model may draw from, by device.
        ensemble: the ensemble.

    Yields:
        A list that has the random state in the end, if something was drawn.

    Raises:
        RuntimeError: the model is in use.
    """
    known, own = Names(tuple(generators)), tuple(generators.values())
    first = _first_of(ensemble)
    drawn, kept = list[Values[Tensor]](), tuple[Tensor, ...]()
    try:
        use.begin()
        kept = states_of(known, own).whole()
        for device, generator in generators.items():
            if device in first:
                generator.set_state(first[device])
        begun = states_of(known, own).whole()
        yield drawn
        ended = states_of(known, own)
        if not all(map(torch.equal, begun, ended.whole())):
            drawn.append(ended)
    finally:
        try:
            for generator, state in zip(own, kept, strict=bool(kept)):
                generator.set_state(state)
        finally:
            use.end()


def _first_of(ensemble: EnsembleState) -> Values[Tensor]:
    for random, is_training in zip(ensemble.random, ensemble.is_training, strict=True):
        if is_training:
            return random
    return ensemble.random[0] if ensemble.random else ensemble.taken_out[0][1].random
