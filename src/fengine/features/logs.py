"""Logs: the numbers of a run are written as it goes, by writers side by side.

Writing is an effect at the edge: it changes no state, and what a run has open is no part of it. A
writer opens where a run writes first: as it begins, or at the first event after the place where it
goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, final, get_args

import attrs
from immutables import Map
from typing_extensions import override

from fengine import Event, Events, EventSet, Loop, Outcome, State, When
from fengine.core.describe import call_in_words, require_callable, typed
from fengine.core.taking import Looking
from fengine.features.attached_logs import Attached
from fengine.features.by_run import ByRun
from fengine.features.given_logs import require_apart, require_log
from fengine.features.open_logs import MakesFigure, OnError, OpenLogs, Told, require_names
from fengine.training.attaching import AnyEngine, ranks_of, require_engine
from fengine.writers import OpensWriter, Place, Scalar
from fengine.writers.writing import flattened

B = TypeVar("B")
O = TypeVar("O")  # noqa: E741  # the output, beside the batch and the user
U = TypeVar("U")


@final
@attrs.frozen(repr=False)
class LogTo:
    """Write a log; made by `log_to`.

    >>> from fengine.writers import console
    >>> log_to(console()).on_error
    'warn'
    """

    logs: tuple[OpensWriter, ...]
    at: When
    parameters: Map[str, Scalar]
    figures: Map[str, MakesFigure]
    on_error: OnError
    _open: ByRun[OpenLogs] = attrs.field(factory=ByRun, init=False, eq=False)

    @override
    def __repr__(self) -> str:
        shown: dict[str, object] = {}
        if self.at is not Events.EPOCH_COMPLETED:
            shown["at"] = self.at
        if self.parameters:
            shown["parameters"] = dict(sorted(self.parameters.items()))
        if self.figures:
            shown["figures"] = sorted(self.figures)
        if self.on_error != "warn":
            shown["on_error"] = self.on_error
        return call_in_words("log_to", *self.logs, **shown)

    def __call__(self, loop: Loop[B, O, U], /) -> Loop[B, O, U]:
        """Return the loop with what writes its log; of several ranks, the first one writes it.

        Raises:
            ValueError: another feature writes the same log, or a metric has the name of what says
                the place.
        """
        require_names(loop.metrics)
        for registration in loop.table.registrations:
            other: object = registration.handler
            if isinstance(other, _Beginning):
                require_apart((*other.feature.logs, *self.logs))
        if loop.ranks.rank:
            return loop
        return (
            loop.on(Events.STARTED, _Beginning(self))
            .on(self.at, _Writing(self))
            .on(Events.EXITED, _Ending(self))
        )

    def attach(self, engine: AnyEngine, at: object = None) -> None:
        """Write the log of the runs of an Engine: the numbers of its `state.metrics`.

        Attach it after what sets them. What is not one number is left out, and figures are made of
        `engine.state`. The log ends where a run is complete; after an exception, as the next run
        begins.

        Args:
            engine: a `fengine.engine.Engine`.
            at: the event of the engine to write at, filtered or not; None: as `log_to` was told.

        Raises:
            TypeError: `engine` is none.
            ValueError: `log_to` was told an event that only a Loop has, and `at` is missing; or the
                engine does not know the event.

        >>> from fengine.engine import Engine
        >>> from fengine.writers import console
        >>> def step(engine, batch):
        ...     engine.state.metrics["loss"] = batch
        >>> engine = Engine(step)
        >>> log_to(console()).attach(engine)
        >>> done = engine.run([1, 2], max_epochs=2)
        epoch 1  iteration 2  loss 2
        epoch 2  iteration 4  loss 2
        """
        require_engine(engine, self)
        if ranks_of(engine).rank:
            return
        attached = Attached(self.told)
        events = self._events_of_engines() if at is None else (at,)
        for event in events:
            engine.add_event_handler(event, attached.write)
        engine.add_event_handler("STARTED", attached.begin)
        engine.add_event_handler("COMPLETED", attached.end)

    @property
    def told(self) -> Told:
        """What to write, and where."""
        return Told(self.logs, self.parameters, self.figures, self.on_error)

    def opened(self, state: State[B, O, U]) -> OpenLogs:
        """Return what the run of a state has open."""
        return self._open.of(state, lambda: OpenLogs(self.told, place_of(state)))

    def close(self, state: State[B, O, U], outcome: Outcome) -> None:
        """Let go of what a run that is over has open."""
        found = self._open.pop(state._notes.run, None)
        if found is not None:
            found.end(outcome.status, place_of(state), outcome.error)

    def _events_of_engines(self) -> tuple[str, ...]:
        known = EventSet(()) | self.at if isinstance(self.at, Event | EventSet) else EventSet(())
        if not known or any(filter is not None for _, filter in known):
            raise ValueError(
                f"{self!r} has an event of a Loop, with a filter or a payload; name one of the "
                "engine: attach(engine, at=...)"
            )
        return tuple(event.name.upper() for event, _ in known)


def place_of(state: State[Any, Any, Any]) -> Place:
    """Return where a state stands.

    >>> place_of(State(epoch=1, iteration=2, event=Events.EPOCH_COMPLETED))
    Place(epoch=1, iteration=2, event='epoch_completed')
    """
    return Place(state.epoch, state.iteration, "" if state.event is None else state.event.name)


@final
@attrs.frozen(repr=False)
class _Beginning(Looking):
    feature: LogTo

    @override
    def __repr__(self) -> str:
        return f"{self.feature!r}, beginning"

    def __call__(self, state: State[B, O, U]) -> State[B, O, U]:
        self.feature.opened(state).begin()
        return state


@final
@attrs.frozen(repr=False)
class _Writing(Looking):
    feature: LogTo

    @override
    def __repr__(self) -> str:
        return repr(self.feature)

    def __call__(self, state: State[B, O, U], payload: object = None) -> State[B, O, U]:
        error = payload.error if isinstance(payload, Outcome) else payload
        self.feature.opened(state).write(
            place_of(state),
            state.metrics,
            state,
            error if isinstance(error, BaseException) else None,
        )
        return state


@final
@attrs.frozen(repr=False)
class _Ending(Looking):
    feature: LogTo

    @override
    def __repr__(self) -> str:
        return f"{self.feature!r}, ending"

    def __call__(self, state: State[B, O, U], outcome: Outcome) -> State[B, O, U]:
        self.feature.close(state, outcome)
        return state


def log_to(
    *logs: OpensWriter,
    at: When = Events.EPOCH_COMPLETED,
    parameters: Mapping[str, Any] | None = None,
    figures: Mapping[str, MakesFigure] | None = None,
    on_error: OnError = "warn",
) -> LogTo:
    """Make a feature that writes the metrics of the state, with the place where they stand.

    Put it after the features that set the metrics. Each run has a log: one that begins takes the
    place of what is there, and one that goes on drops what comes after the place where it goes on.

    Law: the log of a run that is stopped, by whatever, and goes on, is that of the whole run. For
    what holds of TensorBoard, MLflow and Weights & Biases see their writers.

    Args:
        *logs: where to write; see `fengine.writers`.
        at: when to write: an event, filtered or not, or several joined by `|`.
        parameters: hyperparameters, which are written once, as the log begins: by their names
            strings, numbers, None, and mappings or sequences of these.
        figures: functions that make a matplotlib figure of the state, by the name of the figure.
        on_error: what becomes of an exception of a writer or of a function of `figures`: "warn"
            says it once in a run, and the run goes on; "raise" raises it.

    Raises:
        TypeError: a log is not callable, or one of the functions that make logs; parameters or
            figures are no mapping; or a parameter is none of those.
        ValueError: there is no log, or the same one twice, or `on_error` is not known.

    >>> from fengine import outputs
    >>> from fengine.metrics import mean
    >>> from fengine.writers import console
    >>> loop = Loop(outputs(float)) | mean("loss") | log_to(console(), parameters={"lr": 0.1})
    >>> done = loop.run([1, 2], max_epochs=2)
    parameters  lr 0.1
    epoch 1  iteration 2  loss 1.5
    epoch 2  iteration 4  loss 1.5
    """
    if not logs:
        raise ValueError("log_to needs something to write to, such as log_to(jsonl('log.jsonl'))")
    for log in logs:
        require_log(log)
    require_apart(logs)
    if on_error not in get_args(OnError):
        raise ValueError(f'on_error={on_error!r} is neither "warn" nor "raise"')
    if not isinstance(figures, Mapping | None):
        raise TypeError(f"figures={typed(figures)} is not a mapping: give {{'name': function}}")
    drawing = Map(figures or {})
    for name, make in drawing.items():
        require_callable(make, f"what makes the figure {name!r}", "state")
    return LogTo(logs, at, flattened({} if parameters is None else parameters), drawing, on_error)
