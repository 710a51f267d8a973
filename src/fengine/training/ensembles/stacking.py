"""Stacking: an ensemble made of trainings, taken apart into them, and made smaller."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
from torch import Tensor

from fengine.core.describe import brief, typed
from fengine.training.ensembles.ensemble_state import EnsembleState, row_of, stacked
from fengine.training.functional.train_state import TrainState
from fengine.training.functional.values import Values, values_of


def stack(trainings: Sequence[TrainState]) -> EnsembleState:
    """Make one ensemble of several trainings, all of which are trained.

    Law: `members(stack(trainings)) == tuple(trainings)`.

    Args:
        trainings: trainings of models of one kind: equal in names, shapes and dtypes, but not in
            what is in them, nor in the learning rates.

    Raises:
        TypeError: something is no `TrainState`.
        ValueError: there is none; they differ in names or shapes; one has a scaler; or an optimizer
            remembers something that is no tensor.

    >>> from torch import nn, optim
    >>> from fengine.training import functional_step
    >>> model = nn.Linear(1, 1)
    >>> step = functional_step(model, optim.SGD(model.parameters(), 0.5), nn.MSELoss())
    >>> stack([step.init(), step.init().with_learning_rate(0.25)]).size
    2
    """
    given = tuple(trainings)
    if not given:
        raise ValueError("an ensemble has one member or more, and there are no trainings to stack")
    for number, one in enumerate(given):
        _require_plain(one, number)
    first = given[0]
    for number, one in enumerate(given):
        if _forms(one) != _forms(first):
            raise ValueError(_difference(first, one, number))
    states = [[one.optimizer.state[name] for one in given] for name in first.optimizer.state]
    optimizer = values_of(first.optimizer.state.known, tuple(map(stacked, states)))
    return EnsembleState(
        stacked([one.parameters for one in given]),
        stacked([one.buffers for one in given]),
        optimizer,
        tuple(one.optimizer.param_groups for one in given),
        tuple(one.random for one in given),
        tuple(one.updates for one in given),
        tuple(range(len(given))),
        (True,) * len(given),
    )


def members(ensemble: EnsembleState) -> tuple[TrainState, ...]:
    """Return the trainings of an ensemble in their order, those that are no longer trained too.

    Each is a value of its own, to go on with alone, to be restored, or to be stacked again.

    Raises:
        TypeError: `ensemble` is no `EnsembleState`.

    >>> trainings = TrainState(updates=3), TrainState(updates=4)
    >>> members(stack(trainings)) == trainings
    True
    """
    _require_ensemble(ensemble, "members")
    found = dict(ensemble.taken_out)
    for row, number in enumerate(ensemble.numbers):
        found[number] = _copied(row_of(ensemble, row))
    return tuple(found[number] for number in range(ensemble.size))


def compact(ensemble: EnsembleState) -> EnsembleState:
    """Return the ensemble with the members that are no longer trained taken out of the stack.

    A member that is not trained costs as much as one that is, as long as it is in the stack.

    Law: what steps, `members` and evaluations make of it is the same, only sooner.

    Raises:
        TypeError: `ensemble` is no `EnsembleState`.

    >>> ensemble = stack([TrainState(updates=3), TrainState(updates=4)]).stopping([0])
    >>> compact(ensemble).numbers, members(compact(ensemble)) == members(ensemble)
    ((1,), True)
    """
    _require_ensemble(ensemble, "compact")
    if all(ensemble.is_training):
        return ensemble
    rows = [row for row, is_training in enumerate(ensemble.is_training) if is_training]
    out = [
        (number, _copied(row_of(ensemble, row)))
        for row, number in enumerate(ensemble.numbers)
        if not ensemble.is_training[row]
    ]
    states = ensemble.optimizer
    return EnsembleState(
        _rows(ensemble.parameters, rows),
        _rows(ensemble.buffers, rows),
        values_of(states.known, tuple([_rows(one, rows) for one in states.whole()])),
        tuple(ensemble.param_groups[row] for row in rows),
        tuple(ensemble.random[row] for row in rows),
        tuple(ensemble.updates[row] for row in rows),
        tuple(ensemble.numbers[row] for row in rows),
        (True,) * len(rows),
        tuple(sorted((*ensemble.taken_out, *out), key=lambda pair: pair[0])),
    )


def _rows(values: Values[Tensor], rows: list[int]) -> Values[Tensor]:
    return values_of(values.known, tuple([one[rows] for one in values.whole()]))


def _copied(training: TrainState) -> TrainState:
    """Return a training whose tensors are no views, which would keep the whole stack alive."""

    def of(values: Values[Tensor]) -> Values[Tensor]:
        return values_of(values.known, tuple([one.clone() for one in values.whole()]))

    states = training.optimizer.state
    optimizer = values_of(states.known, tuple([of(one) for one in states.whole()]))
    return attrs.evolve(
        training,
        parameters=of(training.parameters),
        buffers=of(training.buffers),
        optimizer=attrs.evolve(training.optimizer, state=optimizer),
    )


def _require_ensemble(ensemble: object, function: str) -> None:
    if not isinstance(ensemble, EnsembleState):
        raise TypeError(
            f"{function} takes an EnsembleState, such as final.user, and not {typed(ensemble)}"
        )


def _require_plain(training: object, number: int) -> None:
    """Refuse what cannot be stacked."""
    if not isinstance(training, TrainState):
        raise TypeError(
            f"stack takes trainings, and number {number} is {typed(training)}; make each by "
            "functional_step(...).init()"
        )
    if training.scaler:
        raise ValueError(
            f"training {number} has a scaler, and an ensemble has none; make it by a "
            "functional_step without scaler="
        )
    for name, entries in training.optimizer.state.items():
        for key, one in entries.items():
            if not isinstance(one, Tensor):
                raise ValueError(
                    f"the optimizer of training {number} remembers {key} of {name}, which is "
                    f"{brief(one)} and no tensor, so that it cannot be stacked"
                )


def _forms(training: TrainState) -> dict[str, object]:
    """Return what all members have in common, by words that name it."""
    found: dict[str, object] = {}
    for what, values in (("parameter", training.parameters), ("buffer", training.buffers)):
        found |= {f"{what} {name}": _form(one) for name, one in values.items()}
    for name, entries in training.optimizer.state.items():
        found[f"names of what the optimizer remembers of {name}"] = sorted(entries)
        found |= {f"{key} of {name}": _form(one) for key, one in entries.items()}
    groups = training.optimizer.param_groups
    found["groups of parameters"] = [group.get("params") for group in groups]
    return found


def _form(one: Tensor) -> tuple[object, ...]:
    return tuple(one.shape), one.dtype, one.device


def _difference(first: TrainState, other: TrainState, number: int) -> str:
    one, two = _forms(first), _forms(other)
    what = next(name for name in {**one, **two} if one.get(name) != two.get(name))
    return (
        f"the trainings cannot be stacked: the {what} is {two.get(what, 'missing')} in training "
        f"{number}, and {one.get(what, 'missing')} in the first one; stack trainings of models of "
        "one kind, which have been trained alike"
    )
