"""Optimizers: what goes with one. The schedule of its learning rate, and the rate as a metric."""

from __future__ import annotations

import inspect
from typing import Any, Final, TypeVar, final

import attrs
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from typing_extensions import override

from fengine import Events, Loop, State, Stateful, When
from fengine.core.describe import made_by, typed
from fengine.core.steps import require_not_lent
from fengine.features.early_stopping import require_metric
from fengine.features.reading import value_of, where_set
from fengine.training import Update, Updated

B = TypeVar("B")
O = TypeVar("O")  # noqa: E741  # the output, beside the batch and the user
U = TypeVar("U")

_AS_A_FUNCTION: Final = (
    "give the learning rate as a function of the state: functional_step(..., "
    "learning_rate=lambda state: 0.1 * 0.5**state.epoch)"
)
_AS_A_METRIC: Final = (
    "have a handler set the metric: return state.with_metric('lr', state.user.learning_rates[0])"
)


@final
@attrs.frozen(repr=False)
class LRSchedule:
    """Step a scheduler; made by `lr_schedule`.

    >>> from torch import nn, optim
    >>> sgd = optim.SGD(nn.Linear(1, 1).parameters(), 0.5)
    >>> lr_schedule(optim.lr_scheduler.ExponentialLR(sgd, 0.5))
    lr_schedule(ExponentialLR)
    """

    scheduler: LRScheduler
    at: When | None
    metric: str | None
    name: str

    @override
    def __repr__(self) -> str:
        return made_by(lr_schedule, self, scheduler=type(self.scheduler))

    def __call__(self, loop: Loop[B, O, U], /) -> Loop[B, O, U]:
        """Return the loop with what steps the scheduler.

        Raises:
            ValueError: the step keeps the learning rate in the state; the scheduler is in the loop
                already, or is that of another optimizer; the event is not one of the loop; or no
                feature before sets the metric.
        """
        require_not_lent(loop.step, self.scheduler, _AS_A_FUNCTION, repr(self))
        self._require_place(loop)
        if self.metric is not None:
            at = where_set(loop, self.metric, self.at, self)
        else:
            at = Update.COMPLETED if self.at is None else self.at
        return loop.with_external(**{self.name: self.scheduler}).on(at, _Scheduling(self))

    def _require_place(self, loop: Loop[B, O, U]) -> None:
        external = loop.external
        if any(thing is self.scheduler for thing in external.values()):
            raise ValueError(
                f"{self!r}: the scheduler is in the loop already, and would step twice; leave it "
                "out once"
            )
        optimizers = [thing for thing in external.values() if isinstance(thing, Optimizer)]
        own = getattr(self.scheduler, "optimizer", None)
        if optimizers and own is not None and not any(own is one for one in optimizers):
            raise ValueError(
                f"{self!r} schedules a {type(own).__name__} that this loop does not step, so it "
                "would change nothing; make the scheduler of the optimizer that the step has"
            )
        if self.at is None and self.metric is None and Update.COMPLETED not in loop.registry:
            raise ValueError(
                f"{self!r} steps at Update.COMPLETED, which the step of this loop does not fire; "
                "say when to step, such as at=Events.ITERATION_COMPLETED"
            )


@final
@attrs.frozen(repr=False)
class _Scheduling:
    feature: LRSchedule

    @override
    def __repr__(self) -> str:
        return repr(self.feature)

    def __call__(self, state: State[B, O, U], payload: object = None) -> State[B, O, U]:
        if isinstance(payload, Updated) and not payload.stepped:
            return state  # a scaler has left the update out
        feature = self.feature
        if feature.metric is None:
            feature.scheduler.step()
        else:
            scheduler: Any = feature.scheduler
            scheduler.step(value_of(state, feature.metric, feature))
        return state


def is_scheduling(handler: object) -> bool:
    """Tell whether a handler steps a scheduler."""
    return isinstance(handler, _Scheduling)


def lr_schedule(
    scheduler: LRScheduler,
    *,
    at: When | None = None,
    metric: str | None = None,
    name: str = "scheduler",
) -> LRSchedule:
    """Make a feature that steps a scheduler of torch.

    Snapshots hold the scheduler.

    Args:
        scheduler: any scheduler of the optimizer that is trained with.
        at: when to step; None: at each update that happened, `Update.COMPLETED`, or where the
            metric is set. For one step an epoch: `at=Events.EPOCH_COMPLETED`.
        metric: the name of the metric that the scheduler steps by, for ReduceLROnPlateau; None for
            the others.
        name: what it is called in snapshots; a second scheduler needs another name.

    Raises:
        TypeError: `scheduler` is no scheduler.
        ValueError: it needs a metric and there is none, or the other way round.

    >>> import torch
    >>> from torch import nn, optim
    >>> from fengine.training import training_step
    >>> model = nn.Linear(1, 1)
    >>> sgd = optim.SGD(model.parameters(), 0.5)
    >>> halving = optim.lr_scheduler.ExponentialLR(sgd, 0.5)
    >>> loop = Loop(training_step(model, sgd, nn.MSELoss())) | lr_schedule(halving)
    >>> final = loop.run([(torch.ones(1, 1), torch.ones(1, 1))] * 2)
    >>> sgd.param_groups[0]["lr"]
    0.125
    """
    known: object = scheduler
    if isinstance(known, type) or not callable(getattr(known, "step", None)):
        raise TypeError(f"lr_schedule takes a scheduler of torch, not {typed(known)}")
    if isinstance(known, Optimizer) or not isinstance(known, Stateful):
        raise TypeError(f"lr_schedule takes a scheduler, not a {type(known).__name__}")
    needs = _needs_metric(scheduler)
    kind = type(scheduler).__name__
    if needs and metric is None:
        raise ValueError(
            f"a {kind} steps by a metric; say which: lr_schedule(scheduler, metric='val_loss')"
        )
    if metric is not None:
        require_metric("lr_schedule", metric)
        if not needs:
            raise ValueError(f"a {kind} steps by no metric; leave out metric={metric!r}")
    return LRSchedule(scheduler, at, metric, name)


def _needs_metric(scheduler: LRScheduler) -> bool:
    # It may be wrapped, to count its calls.
    parameters = inspect.signature(type(scheduler).step).parameters
    return any(name in parameters for name in ("metrics", "metric"))


@final
@attrs.frozen(repr=False)
class LearningRate:
    """Set the learning rate as a metric; made by `learning_rate`.

    >>> from torch import nn, optim
    >>> learning_rate(optim.SGD(nn.Linear(1, 1).parameters(), 0.5)).names
    ('lr',)
    """

    optimizer: Optimizer
    name: str
    at: When
    names: tuple[str, ...]

    @override
    def __repr__(self) -> str:
        return made_by(learning_rate, self)

    def __call__(self, loop: Loop[B, O, U], /) -> Loop[B, O, U]:
        """Return the loop with what sets the metric.

        Raises:
            ValueError: the name is taken, or the step keeps the learning rate in the state.
        """
        require_not_lent(loop.step, self.optimizer, _AS_A_METRIC, repr(self))
        return loop.with_metrics(*self.names, at=self.at).on(self.at, _TellingRate(self))


@final
@attrs.frozen(repr=False)
class _TellingRate:
    feature: LearningRate

    @override
    def __repr__(self) -> str:
        return repr(self.feature)

    def __call__(self, state: State[B, O, U], payload: object = None) -> State[B, O, U]:
        for name, group in zip(
            self.feature.names, self.feature.optimizer.param_groups, strict=False
        ):
            state = state.with_metric(name, group["lr"])
        return state


def learning_rate(
    optimizer: Optimizer, *, name: str = "lr", at: When = Events.EPOCH_COMPLETED
) -> LearningRate:
    """Make a feature that sets the learning rate of an optimizer as a metric.

    Of an optimizer with several groups of parameters, each has its own: `lr_0`, `lr_1`.

    Args:
        optimizer: the optimizer.
        name: what the metric is called.
        at: when to set it.

    Raises:
        TypeError: `optimizer` is no optimizer of torch.

    >>> from torch import nn, optim
    >>> from fengine import outputs
    >>> sgd = optim.SGD(nn.Linear(1, 1).parameters(), 0.5)
    >>> (Loop(outputs(abs)) | learning_rate(sgd)).run([1]).metrics["lr"]
    0.5
    """
    groups: object = getattr(optimizer, "param_groups", None)
    if not isinstance(groups, list):
        raise TypeError(f"learning_rate takes an optimizer of torch, not {typed(optimizer)}")
    require_metric("learning_rate", name)
    names = [name] if len(groups) == 1 else [f"{name}_{place}" for place in range(len(groups))]
    return LearningRate(optimizer, name, at, tuple(names))
