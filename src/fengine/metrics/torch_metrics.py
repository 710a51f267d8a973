"""Metrics of torchmetrics as values: what one has counted is in the state, and it only computes.

The object is lent its count, updates it or computes of it, and gives it back. So one object serves
several runs, and what was counted is never changed by what comes later.

torchmetrics is imported when a metric of it is given.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias, TypeVar, final, overload

import attrs
import torch
from immutables import Map
from torch import Tensor
from typing_extensions import override

from fengine import Events, When
from fengine.core.describe import call_in_words
from fengine.metrics.means import prediction_of
from fengine.metrics.measuring import Measure, MeasuresOutput, given_over, require_functions
from fengine.training import Prediction

# Bound by Any, so that pyright takes Any for the argument of a lambda, and not object.
O = TypeVar("O", bound=Any)  # noqa: E741  # the output, as elsewhere

# The states of a metric, and how often it counted.
Held: TypeAlias = Map[str, Tensor | tuple[Tensor, ...] | float]
_COUNT = "update_count"
_NOTHING: Held = Map()
# One object serves all runs of a loop, so that those in several threads wait for each other.
_LENT = threading.RLock()


@final
@attrs.frozen
class States:
    """Hold what metrics have counted, by their names in a collection; "" is one alone.

    >>> States()
    States(held=immutables.Map({}))
    """

    held: Map[str, Held] = Map()


@final
@attrs.frozen(repr=False)
class TorchMetric:
    """The metric that counts as a metric of torchmetrics does, or as each of a collection does.

    Args:
        metric: a `torchmetrics.Metric` or `torchmetrics.MetricCollection`.
        value: makes what it is updated with of an output; None: the output is a prediction.
        empty: the count of nothing.

    >>> from torchmetrics.classification import BinaryAccuracy
    >>> metric = TorchMetric(BinaryAccuracy())
    >>> right, wrong = (Prediction(torch.tensor([p]), torch.tensor([1])) for p in (0.9, 0.1))
    >>> float(metric.compute(metric.merge(metric.of(right), metric.of(wrong))))
    0.5
    """

    metric: Any = attrs.field(eq=id)  # its own == makes another metric
    value: Callable[[Any], object] | None = None
    empty: States = States()

    @override
    def __repr__(self) -> str:
        return type(self.metric).__name__

    def of(self, output: object, /) -> States:
        """Count one output."""
        return self.add(self.empty, output)

    def add(self, total: States, output: object, /) -> States:
        """Count one more output."""
        given = self._arguments(output)
        made = {}
        for name, metric in self._metrics():
            device = getattr(given[0], "device", metric.device) if given else metric.device
            if metric.device != device:
                metric.to(device)
            with _LENT:
                _lend(metric, total.held.get(name, _NOTHING))
                metric.update(*given)
                made[name] = _taken_back(metric)
        return States(Map(made))

    def merge(self, total: States, other: States, /) -> States:
        """Make one count of two, as torchmetrics does for two processes.

        Raises:
            TypeError: the metric does not say how.
        """
        if not total.held or not other.held:
            return total if total.held else other
        ours, theirs = total.held, other.held
        return States(
            Map(
                {
                    name: _merged(metric, ours[name], theirs[name])
                    for name, metric in self._metrics()
                }
            )
        )

    def compute(self, total: States, /) -> object:
        """Compute the result: that of one metric, or those of a collection by their names."""
        results = {}
        for name, metric in self._metrics():
            held = total.held.get(name, _NOTHING)
            device = next((one.device for one in held.values() if isinstance(one, Tensor)), None)
            if device is not None and device != metric.device:
                metric.to(device)  # what all ranks have counted is on the CPU
            with _LENT:
                _lend(metric, held)
                syncs, metric._to_sync = metric._to_sync, False  # ranks are merged already
                try:
                    results[name] = metric.compute()
                finally:
                    metric._to_sync = syncs
                metric.reset()
        if set(results) == {""}:
            return results[""]
        return {
            key: value for name, result in results.items() for key, value in _named(name, result)
        }

    def _arguments(self, output: object) -> tuple[Any, ...]:
        if self.value is None:
            return prediction_of(output, "torch_metric")
        made = self.value(output)
        return made if isinstance(made, tuple) else (made,)

    def _metrics(self) -> Iterator[tuple[str, Any]]:
        if isinstance(self.metric, Mapping) or hasattr(self.metric, "_to_renamed_dict"):
            yield from self.metric.items(copy_state=False)
        else:
            yield "", self.metric


def _named(name: str, result: object) -> Iterator[tuple[str, object]]:
    if isinstance(result, Mapping):
        yield from ((str(key), value) for key, value in result.items())
    else:
        yield name, result


def _lend(metric: Any, states: Held) -> None:
    """Have a metric hold copies of states, which it may change in place."""
    if metric.update_count:
        metric.reset()  # somebody else has used it
    # As attributes are set: nn.Module asks much of each that no state needs.
    held = vars(metric)
    for name, value in states.items():
        if name == _COUNT:
            held["_update_count"] = value
        elif isinstance(value, tuple):
            held[name] = list(value)
        else:
            held[name] = value.clone() if isinstance(value, Tensor) else value


def _taken_back(metric: Any) -> Held:
    """Return the states of a metric, which holds those of no output afterwards."""
    states: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else _without_graph(value)
        for name, value in metric.metric_state.items()
    }
    states[_COUNT] = metric.update_count
    metric.reset()
    return Map(states)


def _without_graph(value: Any) -> Any:
    return value.detach() if isinstance(value, Tensor) and value.requires_grad else value


def _merged(metric: Any, ours: Map[str, Any], theirs: Map[str, Any]) -> Held:
    from torchmetrics.utilities import data

    counts = ours[_COUNT], theirs[_COUNT]
    made: dict[str, Any] = {_COUNT: sum(counts)}
    for name, reduction in metric._reductions.items():
        one, other = ours[name], theirs[name]
        if isinstance(one, tuple) or reduction is data.dim_zero_sum:
            made[name] = one + other
        elif reduction is data.dim_zero_max:
            made[name] = torch.maximum(one, other)
        elif reduction is data.dim_zero_min:
            made[name] = torch.minimum(one, other)
        elif reduction is data.dim_zero_cat:
            made[name] = torch.cat([one, other])
        elif reduction is data.dim_zero_mean:
            made[name] = (counts[0] * one + counts[1] * other) / sum(counts)
        else:
            raise TypeError(
                f"{type(metric).__name__} does not say how two processes merge its state {name!r}"
            )
    return Map(made)


@overload
def torch_metric(
    metric: Any, name: str = "", *, value: None = None, over: When = ...
) -> MeasuresOutput[Prediction[Tensor, Tensor], States]: ...


@overload
def torch_metric(
    metric: Any, name: str = "", *, value: Callable[[O], object], over: When = ...
) -> MeasuresOutput[O, States]: ...


def torch_metric(
    metric: Any,
    name: str = "",
    *,
    value: Callable[[Any], object] | None = None,
    over: When = Events.EPOCH_COMPLETED,
) -> Any:
    """Make a feature that measures the outputs of each span with torchmetrics.

    A result that is one number is a metric. What is not, such as a confusion matrix, stays in the
    part: `final.part(feature.part).value`. Of a result that is a mapping, as a collection has or a
    metric that measures several things, each number is the metric `name_key`.

    Args:
        metric: a `torchmetrics.Metric`, or a `MetricCollection`; it is lent to the run, and holds
            nothing of it afterwards.
        name: what the metric and the part are called; "": the class of the metric, and for a
            collection the names in it alone.
        value: makes of the output what the metric is updated with: a tuple of several arguments,
            or one; None: the output is a prediction, and they are `y_pred` and `y`.
        over: the event at which a span ends, and the next one begins.

    Raises:
        ModuleNotFoundError: torchmetrics is not installed.
        TypeError: `metric` is none of torchmetrics, or holds other metrics; or `value` is not a
            function of an output.

    >>> from torch import nn
    >>> from torchmetrics.classification import BinaryAccuracy
    >>> from fengine import Loop
    >>> from fengine.training import evaluation_step
    >>> loop = Loop(evaluation_step(nn.Identity())) | torch_metric(BinaryAccuracy(), "right")
    >>> loop.run([(torch.tensor([0.9, 0.2]), torch.tensor([1, 1]))]).metrics["right"]
    0.5
    >>> from torchmetrics import MaxMetric
    >>> from fengine import outputs
    >>> loop = Loop(outputs(float)) | torch_metric(MaxMetric(), "most", value=abs)
    >>> loop.run([1, -3, 2]).metrics["most"]
    3.0
    """
    try:
        import torchmetrics
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError(
            "torch_metric needs torchmetrics; install it with: pip install 'fengine[metrics]'"
        ) from missing
    if not isinstance(name, str):
        raise TypeError(f"name={name!r} of type {type(name).__name__} is not a str")
    several = isinstance(metric, torchmetrics.MetricCollection)
    if not several and not isinstance(metric, torchmetrics.Metric):
        what = f"the class {metric.__name__}" if isinstance(metric, type) else repr(metric)
        raise TypeError(f"torch_metric takes a metric or a collection of torchmetrics, not {what}")
    require_functions("torch_metric", {"value": (value, "output")})
    counting = TorchMetric(metric, value)
    for key, one in counting._metrics():
        if sum(isinstance(inner, torchmetrics.Metric) for inner in one.modules()) > 1:
            raise TypeError(
                f"{type(one).__name__}{f' {key!r}' if key else ''} holds metrics of its own, whose "
                "counts are not its states; measure with each of them instead"
            )
    label = name or ("" if several else type(metric).__name__)
    prefix = f"{label}_" if label else ""
    names = tuple(prefix + key for key, _ in counting._metrics()) if several else (label,)
    given = {"name": name or None, "value": value}
    shown = {key: one for key, one in given.items() if one is not None}
    words = call_in_words("torch_metric", counting, **shown, **given_over(over))
    takes = Prediction if value is None else None
    return Measure(label, counting, over, None, takes, words, names)
