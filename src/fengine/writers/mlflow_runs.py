"""MLflow runs: a log that is a run of an MLflow store.

A run that goes on is found by its name. What MLflow has once it never drops, so a number that is
there already is not written a second time.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final, final

import attrs
from typing_extensions import override

from fengine import Status
from fengine.core.describe import call_in_words
from fengine.writers.places import Place
from fengine.writers.writing import Scalar, closing, require_package, require_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient

_NAME: Final = re.compile(r"[\w\-. :/]+")
_MOST_AT_ONCE: Final = 100  # parameters, as a server of MLflow takes them
_ENDS: Final = {
    Status.COMPLETED: "FINISHED",
    Status.TERMINATED: "FINISHED",
    Status.INTERRUPTED: "SCHEDULED",
}


@final
@attrs.frozen(repr=False)
class MLflow:
    """Write to a run of MLflow; made by `mlflow`.

    >>> mlflow("first").experiment
    'Default'
    """

    run: str
    experiment: str
    store: str | None

    @override
    def __repr__(self) -> str:
        shown = {} if self.experiment == "Default" else {"experiment": self.experiment}
        shown |= {} if self.store is None else {"store": self.store}
        return call_in_words("mlflow", self.run, **shown)

    def __call__(self, place: Place, /) -> _Run:
        """Begin a run, or go on with the last one of that name.

        Raises:
            Exception: MLflow cannot do so.
        """
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=self.store)
        experiment = client.get_experiment_by_name(self.experiment)
        number = (
            client.create_experiment(self.experiment)
            if experiment is None
            else experiment.experiment_id
        )
        if not place.is_start:
            quote = '"' if "'" in self.run else "'"
            found = client.search_runs(
                [number],
                filter_string=f"attributes.run_name = {quote}{self.run}{quote}",
                max_results=1,
                order_by=["attributes.start_time DESC"],
            )
            if found:
                client.update_run(found[0].info.run_id, status="RUNNING")
                return _Run(client, found[0].info.run_id, goes_on=True)
        made = client.create_run(number, run_name=self.run)
        return _Run(client, made.info.run_id, goes_on=False)


@final
class _Run:
    def __init__(self, client: MlflowClient, run: str, *, goes_on: bool) -> None:
        self._client, self._run, self._goes_on = client, run, goes_on
        self._there: dict[str, set[tuple[int, str]]] = {}
        self._drop = closing(self, client.set_terminated, run, "KILLED")

    def parameters(self, parameters: Mapping[str, Scalar], /) -> None:
        """Write those that are not there.

        Raises:
            ValueError: MLflow takes no parameter of one of the names; the others are written.
        """
        from mlflow.entities import Param

        there = self._client.get_run(self._run).data.params if self._goes_on else {}
        added = [
            Param(name, str(one))
            for name, one in sorted(parameters.items())
            if name not in there and _NAME.fullmatch(name)
        ]
        for first in range(0, len(added), _MOST_AT_ONCE):
            self._client.log_batch(self._run, params=added[first : first + _MOST_AT_ONCE])
        _require_names("parameter", parameters)

    def numbers(self, place: Place, numbers: Mapping[str, float], /) -> None:
        """Write metrics, and the epoch as one.

        Raises:
            ValueError: MLflow takes no metric of one of the names; the others are written.
        """
        from mlflow.entities import Metric

        now, step = int(1000 * time.time()), place.iteration
        metrics = [
            Metric(name, number, now, step)
            for name, number in {"epoch": float(place.epoch), **numbers}.items()
            if _NAME.fullmatch(name) and (step, repr(number)) not in self._known(name)
        ]
        self._client.log_batch(self._run, metrics=metrics)
        _require_names("metric", numbers)

    def _known(self, name: str) -> set[tuple[int, str]]:
        """Return what a run that goes on has of a metric since before."""
        if not self._goes_on:
            return set()
        if name not in self._there:
            history = self._client.get_metric_history(self._run, name)
            self._there[name] = {(one.step, repr(one.value)) for one in history}
        return self._there[name]

    def figure(self, place: Place, name: str, figure: Figure, /) -> None:
        """Write an artifact."""
        self._client.log_figure(self._run, figure, f"{name}/{place.iteration:08d}.png")

    def end(self, status: Status, /) -> None:
        """Say how the run has ended."""
        self._client.set_terminated(self._run, _ENDS.get(status, "FAILED"))
        self._drop.detach()


def _require_names(kind: str, names: Iterable[str]) -> None:
    for name in names:
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"MLflow takes no {kind} named {name!r}; a name is of letters, digits, spaces and "
                "_ - . : /"
            )


def mlflow(run: str, *, experiment: str = "Default", store: str | None = None) -> MLflow:
    """Make a log that is a run of MLflow.

    The step is the iteration, and the epoch is a metric too. A figure is an artifact, which is kept
    where MLflow is set up to keep it. A run that
    begins makes a new run in MLflow. One that goes on adds to the last one of that name, but
    nothing that is there already; so the log is that of the whole run where going on is exact and
    the numbers are finite.

    Args:
        run: the name of the run.
        experiment: the name of the experiment, which is made where there is none.
        store: where the store is, such as "sqlite:///mlflow.db"; None: as MLflow is set up.

    Raises:
        ModuleNotFoundError: mlflow is not installed.
        TypeError: a name is not a string.
        ValueError: it is empty.

    >>> mlflow("first", experiment="digits", store="sqlite:///mlflow.db")
    mlflow('first', experiment='digits', store='sqlite:///mlflow.db')
    """
    require_text("mlflow", "run", run)
    require_text("mlflow", "experiment", experiment)
    if store is not None:
        require_text("mlflow", "store", store)
    require_package("mlflow", "mlflow", "mlflow")
    return MLflow(run, experiment, store)
