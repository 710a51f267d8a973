"""The members one after the other, each trained as if it were alone.

It takes as long as so many trainings, and serves for models that `vmap` refuses. It is what all
members at once are compared with.
"""

from __future__ import annotations

from typing import Any, final

import attrs
import torch
from torch import Tensor, nn

from fengine.training.ensembles.ensemble_state import EnsembleState, restacked, row_of
from fengine.training.ensembles.settling import Settled
from fengine.training.ensembles.stacked_gradients import Randomness
from fengine.training.functional.lender import Lender
from fengine.training.functional.loan import Loan
from fengine.training.functional.train_state import TrainState
from fengine.training.training_step import Training


@final
@attrs.frozen(eq=False)
class OneByOne:
    """Train the members of an ensemble one after the other.

    Args:
        lender: has the model and the optimizer that each member is lent to.
        training: the parts of an iteration.
        randomness: how members draw.
        clip: the largest norm of the gradients of a member; None: any.
    """

    lender: Lender
    training: Training
    randomness: Randomness
    clip: float | None

    def __call__(self, settled: Settled, x: object, y: object) -> tuple[EnsembleState, Tensor]:
        """Return the ensemble after an update, and the loss of each row; all rows are trained.

        Raises:
            RuntimeError: the model is in use, or draws where it is not to.
        """
        ensemble = settled.ensemble
        first, trainings, losses = ensemble.random[0], list[TrainState](), list[Tensor]()
        for row in range(len(ensemble.numbers)):
            before = row_of(ensemble, row)
            if self.randomness == "same":
                before = attrs.evolve(before, random=first)
            with Loan(self.lender) as loan:
                loan.lend(before)
                losses.append(self._update((x, y)))
                after = loan.take(stepped=True)
            if self.randomness == "error" and after.random != before.random:
                raise RuntimeError(
                    f"the {type(self.training.model).__name__} has drawn random numbers, and the "
                    "step has randomness='error'; give it randomness='different', or 'same'"
                )
            trainings.append(after)
        return restacked(ensemble, trainings), torch.stack(losses)

    def _update(self, batch: Any) -> Tensor:
        training = self.training
        loss = training.forward(batch)[3]
        training.backward(loss)
        if self.clip is not None:
            nn.utils.clip_grad_norm_(training.model.parameters(), self.clip)
        return training.update(loss).loss
