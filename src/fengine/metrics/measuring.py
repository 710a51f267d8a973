"""Measuring: a feature that counts the outputs of a span of a run, and sets the result as a metric.

A span ends at an event, such as the end of the epoch. What has been counted is a part of the state,
so a run that goes on within a span goes on counting. The last count stays there until the next span
begins, for results that are not one number.

A metric takes what is read of the state: most take the output.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Generic, Protocol, TypeAlias, TypeVar, final

import attrs
from immutables import Map
from torch import Tensor
from typing_extensions import override

from fengine import Events, Loop, Part, State, When
from fengine.core.describe import call_in_words, describe, require_callable
from fengine.core.metrics import metric as number_of
from fengine.core.steps import facts_of
from fengine.metrics.monoid import Metric
from fengine.metrics.of_members import EachMember, OverMembers, names_of_members
from fengine.run.ranks import Ranks, of_all

B = TypeVar("B")
O = TypeVar("O")  # noqa: E741  # the output, beside the batch and the user
U = TypeVar("U")
N = TypeVar("N", bound="Tensor | float")
Total = TypeVar("Total")
OneTotal = TypeVar("OneTotal")


@final
@attrs.frozen
class Measured(Generic[Total]):
    """Hold what a metric has counted in a span.

    Args:
        total: the count.
        ended: whether no span is under way, so that the next output begins one.
        value: the result of a span that has ended, if it is not one number; those that a mapping
            holds besides numbers, by their names.

    >>> Measured(total=3)
    Measured(total=3, ended=True, value=None)
    """

    total: Total
    ended: bool = True
    value: Map[str, object] | object = None


class MeasuresNumber(Protocol[Total]):
    """Be a feature of loops whose output is a number.

    >>> from fengine.metrics import Ratio, mean
    >>> feature: MeasuresNumber[Ratio] = mean("loss")
    >>> feature.part.name
    'loss'
    """

    @property
    def part(self) -> Part[Measured[Total]]:
        """Where what is counted is kept."""

    def __call__(self, loop: Loop[B, N, U], /) -> Loop[B, N, U]:
        """Return the loop with the feature."""


class MeasuresBatch(Protocol[B, Total]):
    """Be a feature of loops over one type of batch, whose output is a number.

    >>> from fengine.metrics import Ratio, mean
    >>> feature: MeasuresBatch[list[int], Ratio] = mean("loss", weight=len)
    >>> feature.part.name
    'loss'
    """

    @property
    def part(self) -> Part[Measured[Total]]:
        """Where what is counted is kept."""

    def __call__(self, loop: Loop[B, N, U], /) -> Loop[B, N, U]:
        """Return the loop with the feature."""


class MeasuresOutput(Protocol[O, Total]):
    """Be a feature of loops with one type of output.

    >>> from fengine.metrics import Ratio, mean
    >>> feature: MeasuresOutput[str, Ratio] = mean("length", len)
    >>> feature.part.name
    'length'
    """

    @property
    def part(self) -> Part[Measured[Total]]:
        """Where what is counted is kept."""

    def __call__(self, loop: Loop[B, O, U], /) -> Loop[B, O, U]:
        """Return the loop with the feature."""


class MeasuresBoth(Protocol[B, O, Total]):
    """Be a feature of loops over one type of batch with one type of output.

    >>> from fengine.metrics import Ratio, mean
    >>> feature: MeasuresBoth[list[int], str, Ratio] = mean("length", len, weight=len)
    >>> feature.part.name
    'length'
    """

    @property
    def part(self) -> Part[Measured[Total]]:
        """Where what is counted is kept."""

    def __call__(self, loop: Loop[B, O, U], /) -> Loop[B, O, U]:
        """Return the loop with the feature."""


class Reading(Protocol):
    """Read of a state what a metric takes. It is made for the step of a loop."""

    def __call__(self, state: State[Any, Any, Any], /) -> Any:
        """Read it."""


Reads: TypeAlias = Callable[[Callable[[Any], float] | None], Reading]


@final
@attrs.frozen(repr=False)
class Measure(Generic[Total]):
    """Measure a loop; made by `measure` and by those that are named in `words`.

    Args:
        name: what the result is called.
        metric: what counts.
        over: where a span ends.
        reads: makes what reads the state, of the step's weight of a batch, if it has one; None:
            the metric takes the output.
        takes: of which type the output is; None: any.
        words: the call that made this.
        names: the metrics that are set.
        over_members: the same for an ensemble: what counts for each member, and what reads the
            state for it; None: predictions are those of one model.
        part: where what is counted is kept.
    """

    name: str
    metric: Metric[Any, Total]
    over: When
    reads: Reads | None
    takes: type | None
    words: str = attrs.field(eq=False)
    names: tuple[str, ...]
    over_members: tuple[OverMembers, Reads | None] | None = None
    part: Part[Measured[Total]] = attrs.field(init=False)

    @part.default
    def _part(self) -> Part[Measured[Total]]:
        name = self.name or "_".join(self.names)
        return Part(name, Measured(self.metric.empty), Merging(self.metric))

    @override
    def __repr__(self) -> str:
        return self.words

    def __call__(self, loop: Loop[B, O, U], /) -> Loop[B, O, U]:
        """Return the loop with what counts, and what sets the result.

        Raises:
            TypeError: the step of the loop makes other outputs.
            ValueError: the name is taken, the event is not registered, or there is no step.
        """
        if loop.step is None:
            raise ValueError(
                f"{self!r} measures what a step makes, and this loop has none; begin with the "
                f"step: Loop(step) | {self!r}"
            )
        facts = facts_of(loop.step)
        if None not in (facts.makes, self.takes) and facts.makes is not self.takes:
            raise TypeError(refusal(self, self.takes, facts.makes))
        of_members = facts.members and self.takes is not None
        measure = self._of_members() if of_members else self
        reading = None if measure.reads is None else measure.reads(facts.weight)
        return (
            loop.with_part(measure.part)
            .with_metrics(*measure.names, at=self.over)
            .on(Events.ITERATION_COMPLETED, Counting(measure, reading))
            .on(self.over, Reporting(measure, loop.ranks))
        )

    def _of_members(self) -> Measure[Total]:
        """Return what measures the members of an ensemble."""
        if self.over_members is None:
            raise TypeError(
                f"{self!r} takes the outputs of one model, and the step of this loop makes those "
                "of the members of an ensemble, stacked; accuracy(), mean_loss(loss_fn) and "
                "mean(name) measure each member, and measure(name, metric) takes the stack"
            )
        metric, reads = self.over_members
        names = names_of_members(self.name)
        return attrs.evolve(self, metric=metric, reads=reads, names=names)


def refusal(feature: object, takes: type | None, makes: type | None) -> str:
    """Say which outputs a feature takes, and which it gets."""
    wanted, given = (getattr(kind, "__name__", str(kind)) for kind in (takes, makes))
    way = {
        "Prediction": "a loop whose step predicts: Loop(evaluation_step(model))",
        "Tensor": "a loop whose output is a number: Loop(training_step(model, ...))",
    }.get(wanted, f"a loop whose output is a {wanted}")
    return (
        f"{feature!r} takes a {wanted}, and the step of this loop makes a {given}; it is for {way}"
    )


@final
@attrs.frozen
class Merging(Generic[Total]):
    """Merge what two processes have counted."""

    metric: Metric[Any, Total]

    def __call__(self, ours: Measured[Total], theirs: Measured[Total]) -> Measured[Total]:
        """Return the count of both."""
        return Measured(self.metric.merge(ours.total, theirs.total), ours.ended, ours.value)


@final
@attrs.frozen(repr=False)
class Counting(Generic[Total]):
    """Count the output of an iteration; a handler of ITERATION_COMPLETED."""

    measure: Measure[Total]
    reading: Reading | None
    _add: Callable[[Total, Any], Total] = attrs.field(init=False, eq=False)

    @_add.default
    def _adding(self) -> Callable[[Total, Any], Total]:
        metric: Any = self.measure.metric
        return getattr(metric, "add", None) or Adding(metric)

    @override
    def __repr__(self) -> str:
        return f"{self.measure!r}, counting"

    def __call__(self, state: State[B, O, U]) -> State[B, O, U]:
        """Return the state with the output counted."""
        part = self.measure.part
        known = state.part(part)
        reading = self.reading
        output = state.output if reading is None else reading(state)
        total = part.initial.total if known.ended else known.total
        return state.with_part(part, Measured(self._add(total, output), False))


@final
@attrs.frozen
class Adding(Generic[Total]):
    """Add an output to a count, as a metric without `add` does."""

    metric: Metric[Any, Total]

    def __call__(self, total: Total, output: Any) -> Total:
        """Return the count with the output."""
        return self.metric.merge(total, self.metric.of(output))


@final
@attrs.frozen(repr=False)
class Reporting(Generic[Total]):
    """Set the result at the end of a span; a span without an output leaves the last one.

    The result is that of what all ranks have counted, and the count that stays is this rank's.
    """

    measure: Measure[Total]
    ranks: Ranks = attrs.field(eq=False)

    @override
    def __repr__(self) -> str:
        return f"{self.measure!r}, reporting"

    def __call__(self, state: State[B, O, U], payload: object = None) -> State[B, O, U]:
        """Return the state with the result, at whatever event the span ends."""
        part, metric = self.measure.part, self.measure.metric
        known = state.part(part)
        counted = [one.total for one in of_all(self.ranks, known) if not one.ended]
        if not counted:
            return state
        total = functools.reduce(metric.merge, counted)
        metrics, rest = sorted_out(self.measure.name, metric.compute(total))
        if metrics:
            state = state.evolve(metrics=state.metrics.update(metrics))
        return state.with_part(part, Measured(known.total, True, rest))


def sorted_out(name: str, result: object) -> tuple[dict[str, float], Map[str, object] | object]:
    """Return the numbers of a result as metrics, and what is not one number.

    >>> sorted_out("error", {"mean": 0.5, "curve": (1, 2)})
    ({'error_mean': 0.5}, immutables.Map({'curve': (1, 2)}))
    """
    if isinstance(result, EachMember):
        return result.metrics(name), result.values.values
    if not isinstance(result, Mapping):
        value = _number(name, result)
        return ({}, _frozen(result)) if value is None else ({name: value}, None)
    metrics, rest = {}, {}
    for key, one in result.items():
        full = f"{name}_{key}" if name else str(key)
        value = _number(full, one)
        if value is None:
            rest[str(key)] = _frozen(one)
        else:
            metrics[full] = value
    return metrics, (Map(rest) if rest else None)


def _frozen(value: object) -> object:
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


def _number(name: str, value: object) -> float | None:
    try:
        return number_of(name, value)
    except TypeError:
        return None


def measure(
    name: str, metric: Metric[O, Total], *, over: When = Events.EPOCH_COMPLETED
) -> MeasuresOutput[O, Total]:
    """Make a feature that measures the outputs of each span with a metric of your own.

    A result that is one number is `state.metrics[name]`; of a mapping, each number is the metric
    `name_key`. What is not one number stays in the part: `final.part(feature.part).value`.

    Args:
        name: what the result and the part are called.
        metric: see `Metric`.
        over: the event at which a span ends, and the next one begins.

    Raises:
        TypeError: `metric` has no `empty`, `of`, `merge` and `compute`.

    >>> import attrs
    >>> from fengine import Loop, outputs
    >>> @attrs.frozen
    ... class Largest:
    ...     empty: float = float("-inf")
    ...     def of(self, output):
    ...         return float(output)
    ...     def merge(self, total, other):
    ...         return max(total, other)
    ...     def compute(self, total):
    ...         return total
    >>> (Loop(outputs(abs)) | measure("largest", Largest())).run([-1, -3, 2]).metrics["largest"]
    3.0
    """
    require_name("measure", name)
    lacking = [one for one in ("empty", "of", "merge", "compute") if not hasattr(metric, one)]
    if lacking:
        raise TypeError(
            f"measure({name!r}, {metric!r}): a metric has empty, of, merge and compute, and this "
            f"lacks {', '.join(lacking)}"
        )
    words = call_in_words("measure", name, metric, **given_over(over))
    return Measure(name, metric, over, None, None, words, (name,))


def given_over(over: When) -> Mapping[str, object]:
    """Return what is to be printed of a span: nothing of the usual one."""
    return {} if over is Events.EPOCH_COMPLETED else {"over": over}


def require_name(feature: str, name: object) -> None:
    """Refuse what cannot be the name of a metric and a part.

    Raises:
        TypeError: it is not a string.
        ValueError: it is empty.
    """
    if not isinstance(name, str):
        raise TypeError(
            f"{feature} takes the name of a metric first, not {describe(name)} of type "
            f"{type(name).__name__}"
        )
    if not name:
        raise ValueError(f"{feature} needs a name for its metric, and got an empty one")


def require_functions(feature: str, functions: Mapping[str, tuple[object, str]]) -> None:
    """Refuse what is neither None nor a function of one argument.

    Raises:
        TypeError: it is refused.
    """
    for role, (function, argument) in functions.items():
        if function is not None:
            require_callable(function, f"{role} of {feature}", argument)
