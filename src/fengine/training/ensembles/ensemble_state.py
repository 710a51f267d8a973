"""The value that several trainings are: their tensors stacked, in one record.

Each row of the stacked tensors is a member. A member keeps its number, the place that it had when
the ensemble was made, also where others have been taken out of the stack.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, final

import attrs
import torch
from torch import Tensor
from typing_extensions import override

from fengine.core.equality import same
from fengine.training.functional.train_state import OptimizerState, TrainState
from fengine.training.functional.values import Values, values_of


@final
@attrs.frozen(eq=False)
class EnsembleState:
    """Hold several trainings as one value; made by `stack`, and taken apart by `members`.

    It never changes: a step returns another one.

    Args:
        parameters: the parameters of the members by name, each of shape (rows, ...).
        buffers: their buffers, likewise.
        optimizer: what the optimizer remembers of each parameter, likewise; of what is one number
            for a whole parameter, such as the number of its updates, there is one for each row.
        param_groups: the settings of the optimizer, for each row.
        random: the random states of torch, for each row. Members that draw together have the same.
        updates: how many updates have been made, for each row.
        numbers: the number of the member in each row.
        is_training: whether the member is still trained, for each row.
        taken_out: members that are no longer trained and in no row, with their numbers.

    >>> from torch import nn, optim
    >>> from fengine.training import functional_step, members, stack
    >>> model = nn.Linear(1, 1)
    >>> step = functional_step(model, optim.SGD(model.parameters(), 0.5), nn.MSELoss())
    >>> ensemble = stack([step.init(), step.init(), step.init()])
    >>> ensemble, ensemble.parameters["weight"].shape
    (EnsembleState(<3 members of 2 parameters>, training=(0, 1, 2)), torch.Size([3, 1, 1]))
    >>> members(ensemble)[2] == step.init()
    True
    """

    parameters: Values[Tensor]
    buffers: Values[Tensor]
    optimizer: Values[Values[Tensor]]
    param_groups: tuple[tuple[Values[Any], ...], ...]
    random: tuple[Values[Tensor], ...]
    updates: tuple[int, ...]
    numbers: tuple[int, ...]
    is_training: tuple[bool, ...]
    taken_out: tuple[tuple[int, TrainState], ...] = ()

    @property
    def size(self) -> int:
        """The number of members, those that are no longer trained among them."""
        return len(self.numbers) + len(self.taken_out)

    @property
    def training(self) -> tuple[int, ...]:
        """The numbers of the members that are still trained."""
        pairs = zip(self.numbers, self.is_training, strict=True)
        return tuple(number for number, is_training in pairs if is_training)

    def stopping(self, numbers: Iterable[int]) -> EnsembleState:
        """Return this ensemble with some members no longer trained.

        They stay as they are, bit by bit. Those that are not trained already stay so.

        Args:
            numbers: which ones.

        Raises:
            ValueError: there is no member of that number.

        >>> from fengine.training import stack
        >>> stack([TrainState(), TrainState(), TrainState()]).stopping([0, 2]).training
        (1,)
        """
        stopped = frozenset(numbers)
        unknown = sorted(stopped.difference(range(self.size)))
        if unknown:
            raise ValueError(
                f"there is no member {unknown[0]!r}: they have the numbers 0 to {self.size - 1}"
            )
        pairs = zip(self.numbers, self.is_training, strict=True)
        is_training = tuple(one and number not in stopped for number, one in pairs)
        return attrs.evolve(self, is_training=is_training)

    @override
    def __eq__(self, other: object) -> bool:
        """Compare as states do: tensors by their content. Always a bool."""
        return isinstance(other, EnsembleState) and all(
            same(getattr(self, field.name), getattr(other, field.name))
            for field in attrs.fields(EnsembleState)
        )

    __hash__ = None  # type: ignore[assignment]  # tensors compare by content

    @override
    def __repr__(self) -> str:
        held = sum(one[0].numel() if len(one) else 0 for one in self.parameters.values())
        return (
            f"EnsembleState(<{self.size} members of {held} parameters>, training={self.training})"
        )


def stacked(values: Sequence[Values[Tensor]]) -> Values[Tensor]:
    """Return the tensors of several values stacked, by name.

    >>> stacked([Values({"weight": torch.ones(2)})] * 3)["weight"].shape
    torch.Size([3, 2])
    """
    known = values[0].known
    columns = zip(*[one.in_order(known) for one in values], strict=True)
    return values_of(known, tuple([torch.stack(column) for column in columns]))


def row_of(ensemble: EnsembleState, row: int) -> TrainState:
    """Return the training in a row, whose tensors are views of the stacked ones."""

    def of(values: Values[Tensor]) -> Values[Tensor]:
        return values_of(values.known, tuple([one[row] for one in values.whole()]))

    states = ensemble.optimizer
    optimizer = values_of(states.known, tuple([of(one) for one in states.whole()]))
    return TrainState(
        of(ensemble.parameters),
        of(ensemble.buffers),
        OptimizerState(ensemble.param_groups[row], optimizer),
        ensemble.random[row],
        updates=ensemble.updates[row],
    )


def whole_of(ensemble: EnsembleState) -> tuple[Values[Tensor], Values[Tensor]]:
    """Return the stacked parameters and buffers of all members, in their order."""
    if not ensemble.taken_out:
        return ensemble.parameters, ensemble.buffers
    numbers = [*ensemble.numbers, *(number for number, _ in ensemble.taken_out)]
    places = sorted(range(len(numbers)), key=numbers.__getitem__)
    out = [one for _, one in ensemble.taken_out]

    def joined(rows: Values[Tensor], others: Values[Tensor]) -> Values[Tensor]:
        pairs = zip(rows.whole(), others.in_order(rows.known), strict=True)
        return values_of(rows.known, tuple([torch.cat(pair)[places] for pair in pairs]))

    return (
        joined(ensemble.parameters, stacked([one.parameters for one in out])),
        joined(ensemble.buffers, stacked([one.buffers for one in out])),
    )


def restacked(ensemble: EnsembleState, trainings: Sequence[TrainState]) -> EnsembleState:
    """Return an ensemble with other trainings in its rows, which are of one form."""
    first = trainings[0].optimizer.state
    states = [[one.optimizer.state[name] for one in trainings] for name in first]
    return attrs.evolve(
        ensemble,
        parameters=stacked([one.parameters for one in trainings]),
        buffers=stacked([one.buffers for one in trainings]),
        optimizer=values_of(first.known, tuple(map(stacked, states))),
        param_groups=tuple(one.optimizer.param_groups for one in trainings),
        random=tuple(one.random for one in trainings),
        updates=tuple(one.updates for one in trainings),
    )
