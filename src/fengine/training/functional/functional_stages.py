"""The stages of a functional step: lend and go forward, go backward, update and take back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeAlias, final

import attrs
import torch
from torch import Tensor
from typing_extensions import override

from fengine import Stages, State, stages
from fengine.core.steps import Facts, telling, with_whole
from fengine.training.events import Backprop, ForwardPass, Update, Updated
from fengine.training.functional.keeping_in_state import InPart, Place
from fengine.training.functional.lender import Lender
from fengine.training.functional.lending import Lending
from fengine.training.functional.loan import Loan, loan_of
from fengine.training.going_backward import go_backward
from fengine.training.holding import Holding
from fengine.training.modes import TrainingMode
from fengine.training.training_step import Training, Weighing, loss_of

Rate: TypeAlias = Callable[[State[Any, Any, Any]], float | Sequence[float]]


@final
@attrs.frozen(repr=False)
class _Forward:
    """Lend the training to the model, and go forward with the batch: the first stage."""

    training: Training
    lending: Lending

    @override
    def __repr__(self) -> str:
        return "forward"

    def __call__(self, state: State[Any, Tensor, Any]) -> ForwardPass:
        loan_of(self.lending.lender).lend(self.lending.read(state))
        return ForwardPass(*self.training.forward(state.batch))


@final
@attrs.frozen(repr=False)
class _Backward:
    """Go backward from the loss: the second stage."""

    training: Training

    @override
    def __repr__(self) -> str:
        return "backward"

    def __call__(self, forward: ForwardPass) -> ForwardPass:
        self.training.backward(forward.loss)
        return forward


@final
@attrs.frozen(repr=False)
class _Lend:
    """Lend the training to the model: the first stage where the optimizer calls the others."""

    lending: Lending

    @override
    def __repr__(self) -> str:
        return "lend"

    def __call__(self, state: State[Any, Tensor, Any]) -> object:
        loan_of(self.lending.lender).lend(self.lending.read(state))
        return state.batch


@final
@attrs.frozen(repr=False)
class _Update:
    """Update the weights, and write what the model and the optimizer have then into the state."""

    training: Training
    lending: Lending
    rate: Rate | None
    in_closure: bool

    @override
    def __repr__(self) -> str:
        return "update"

    def __call__(self, state: State[Any, Tensor, Any], made: Any) -> State[Any, Tensor, Any]:
        lending = self.lending
        loan = loan_of(lending.lender)
        rate = None if self.rate is None else self.rate(state)
        loan.begin_update(lending.read(state), rate)
        updated = self._closed(made) if self.in_closure else self.training.update(made.loss)
        taken = loan.take(stepped=updated.stepped)
        loan.end()
        return lending.write(state.evolve(output=updated.loss), taken)

    @property
    def is_plain(self) -> bool:
        """Whether nothing is to be done between backward and the update."""
        plain = self.rate is None and not self.in_closure and self.training.scaler is None
        return plain and not self.lending.lender.donate

    def _closed(self, batch: object) -> Updated:
        """Have the optimizer call forward and backward as often as it wants."""

        def closure() -> Tensor:
            loss = self.training.forward(batch)[3]
            go_backward(loss)
            return loss

        with torch.enable_grad():
            loss: object = self.training.optimizer.step(closure)  # type: ignore[arg-type]
        if not isinstance(loss, Tensor):
            loss = torch.tensor(loss)
        return Updated(loss.detach(), True)


@final
@attrs.frozen(repr=False)
class _Whole:
    """Do all that the stages do in one call, which costs least."""

    update: _Update
    words: str

    @override
    def __repr__(self) -> str:
        return self.words

    def __call__(self, state: State[Any, Tensor, Any]) -> State[Any, Tensor, Any]:
        update, batch = self.update, state.batch
        training, lending = update.training, update.lending
        with Loan(lending.lender) as loan:
            value = lending.read(state)
            loan.lend(value)
            if update.is_plain:
                loss = training(batch)
                return lending.write(state, loan.take(stepped=True)).evolve(output=loss)
            if update.in_closure:
                return update(state, batch)
            forward = ForwardPass(*training.forward(batch))
            training.backward(forward.loss)
            return update(state, forward)


@final
@attrs.frozen(repr=False)
class _ReadUpdate:
    """Read from the state what the update was made of."""

    place: Place

    @override
    def __repr__(self) -> str:
        return "read"

    def __call__(self, state: State[Any, Tensor, Any]) -> Updated:
        return Updated(state.output, self.place.read(state).stepped)


@final
@attrs.frozen
class _Unchanged:
    """Make contexts that are refused where a model has other parameters than it had."""

    lender: Lender = attrs.field(repr=False)

    def __call__(self) -> AbstractContextManager[None]:
        lender = self.lender
        lender.layout.require_unchanged(lender.model, lender.optimizer)
        return nullcontext()


@final
@attrs.frozen
class Recipe:
    """Hold what the stages of a functional step are made of.

    Args:
        training: the parts of an iteration.
        lender: has the model and the optimizer.
        rate: the learning rate as a function of the state; None: that of the settings.
        weight: how much a batch counts.
        in_closure: whether the optimizer itself calls forward and backward.
        words: the call that made the step.
    """

    training: Training
    lender: Lender
    rate: Rate | None
    weight: Callable[[Any], float]
    in_closure: bool
    words: str

    def stages(self, place: Place) -> Stages[Any, Tensor, Tensor, Any]:
        """Return the stages of the step, which keep the training at a place of the state."""
        training, lending = self.training, Lending(self.lender, place)
        update = _Update(training, lending, self.rate, self.in_closure)
        read = _ReadUpdate(place)
        lent: Stages[Any, Tensor, Updated, Any]
        if self.in_closure:
            begun: Stages[Any, Tensor, object, Any] = stages(_Lend(lending))
            lent = begun.into(update, read)
        else:
            forward: Stages[Any, Tensor, ForwardPass, Any] = stages(_Forward(training, lending))
            backward = forward.emit(Backprop.STARTED).then(_Backward(training))
            lent = backward.emit(Backprop.COMPLETED).into(update, read)
        step = (
            lent.emit(Update.COMPLETED)
            .then(loss_of)
            .within(TrainingMode(training.model))
            .within(Holding(training.model, training.optimizer))
            .within(_Unchanged(self.lender))
        )
        parts = (place.key,) if isinstance(place, InPart) else ()
        facts = Facts(Weighing(self.weight), Tensor, self.words, lending, parts)
        return with_whole(telling(step, facts), _Whole(update, self.words))
