"""Loop: a step, the handlers around it, and the ways to run them, as a frozen value.

A loop holds nothing of a run, so one loop can run twice at once, or inside its own handler. What a
run needs is made when it begins: here what the arguments mean is checked, before anything runs or
is restored.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, suppress
from functools import partial
from typing import Any, Final, Generic, TypeAlias, TypeVar, cast, final, overload

import attrs
from immutables import Map
from typing_extensions import Unpack, override

from fengine.core.describe import (
    describe,
    is_generator_function,
    name_of,
    require_callable,
    typed,
)
from fengine.core.events import (
    AnyEvent,
    Event,
    Events,
    EventSet,
    FilteredPayloadEvent,
    PayloadEvent,
    take_up,
)
from fengine.core.handlers import EitherHandler, Handler, PayloadHandler
from fengine.core.limits import (
    EndArguments,
    LimitArguments,
    Limits,
    require_limits,
)
from fengine.core.limits import require_names as require_names_of_limits
from fengine.core.named import Named, NameTaken, Parts, When
from fengine.core.notes import Notes
from fengine.core.outcome import Status
from fengine.core.parts import Part
from fengine.core.registration import Others, registrations, require_known
from fengine.core.registry import BUILT_IN_EVENTS, EventRegistry
from fengine.core.semantics import DOCUMENTED, Semantics
from fengine.core.state import Batch, Output, State, User, after_handlers
from fengine.core.stateful import Stateful
from fengine.core.stateful import named as stateful
from fengine.core.steps import (
    Outputs,
    Stages,
    contexts_of,
    external_of,
    facts_of,
    lends_of,
    parts_of,
    require_not_lent,
    stages_of,
)
from fengine.core.table import Compiled, Table, where_in_run
from fengine.core.taking import RunsLoop, name_of_handler
from fengine.keep.external import require_names, restoring
from fengine.keep.external import saved as states_of
from fengine.keep.fitting import is_trained, require_fitting
from fengine.keep.putting_back import putting_back
from fengine.keep.snapshot import Snapshot, is_within_step, require_whole, taken
from fengine.look.loop_in_words import loop_in_words
from fengine.look.plan import Plan
from fengine.run.box import Box
from fengine.run.driver import drive
from fengine.run.failures import keep_state, leave_out_ours
from fengine.run.firing import caught_up
from fengine.run.first_batches import FirstBatches
from fengine.run.place import require_place, resumable
from fengine.run.ports import Preempting, require_preempting
from fengine.run.preemption import PAUSES
from fengine.run.ranks import EVERY_ITERATION, Agreeing, Alone, Ranks, require_ranks
from fengine.run.script import script
from fengine.run.source import DataSource, NoData, OnExhausted, require_word, source_of
from fengine.run.stepping import Step
from fengine.run.together import Together

P = TypeVar("P")
AnySource: TypeAlias = DataSource[Batch] | NoData
Start: TypeAlias = State[Batch, Output, User] | Snapshot[Batch, Output, User]


@final
@attrs.frozen
class Moment(Generic[Batch, Output, User]):
    """Hold an event of a run with the state that its handlers left.

    >>> from fengine import Loop, outputs
    >>> [moment.event for moment in Loop(outputs(abs)).iterate([-1])][:2]
    [Events.STARTED, Events.EPOCH_STARTED]
    """

    event: AnyEvent
    state: State[Batch, Output, User]

    def __setstate__(self, kept: Any) -> None:
        """Take up what `copy` and `pickle` kept, of version 0.1 too."""
        take_up(self, kept)


Moments: TypeAlias = Generator[Moment[Batch, Output, User], None, None]


def _known_events(loop: Loop[Batch, Output, User]) -> EventRegistry:
    step = stages_of(loop.step)
    return EventRegistry(tuple(step.events) if isinstance(step, Stages) else ())


def _with_built_in_events(registry: EventRegistry) -> EventRegistry:
    if not isinstance(registry, EventRegistry):
        raise TypeError(f"registry={registry!r} is not an EventRegistry; see Loop.register")
    return BUILT_IN_EVENTS.register(*registry.events)


@final
@attrs.frozen(repr=False)
class Loop(Generic[Batch, Output, User]):
    """Run a step over data, and handlers at the events of the run.

    A loop is a value: `on`, `register`, `without` and `|` give a new one. Loops compare, hash and
    pickle where their steps and handlers do; `print(loop)` shows who runs when.

    Args:
        step: makes an output of a batch, `State -> State`; see `outputs` and `stages`. A loop
            without one holds handlers, to be joined with others by `|`.
        semantics: when a requested stop acts; it goes with a step.
        registry: the events that handlers may be registered for; see `register`.
        table: the handlers; see `on`.
        named: what features have named; see `with_part`, `with_metrics` and `with_external`.
        ranks: the processes that run this loop together; see `fengine.distributed`. They go with a
            step.
        agree: when they agree on what has been asked for.

    Raises:
        TypeError: `step` cannot take one state, or `ranks` are none.
        ValueError: `semantics` or `ranks` are given without a step; or there are several ranks, and
            the step keeps a training in the state.

    >>> from fengine import Events, State, outputs
    >>> def stop_at_large(state: State[int, int]) -> State[int, int]:
    ...     return state.terminate() if state.output > 5 else state
    >>> loop = Loop(outputs(lambda batch: 2 * batch))
    >>> loop = loop.on(Events.ITERATION_COMPLETED, stop_at_large)
    >>> loop.run([1, 2, 3, 4], max_epochs=3).iteration
    3
    """

    step: Step[Batch, Output, User] | None = attrs.field(default=None)
    semantics: Semantics = attrs.field(default=DOCUMENTED, kw_only=True)
    registry: EventRegistry = attrs.field(
        default=attrs.Factory(_known_events, takes_self=True),
        kw_only=True,
        converter=_with_built_in_events,
    )
    table: Table[Batch, Output, User] = attrs.field(kw_only=True, factory=Table)
    named: Named = attrs.field(kw_only=True, default=Named())
    ranks: Ranks = attrs.field(kw_only=True, default=Alone())
    agree: Agreeing = attrs.field(kw_only=True, default=EVERY_ITERATION)

    def __attrs_post_init__(self) -> None:
        """Refuse a name that stands for one thing in the step, and for another in a feature."""
        object.__setattr__(self, "step", stages_of(self.step))
        external = self.named.external
        for name, thing in external_of(self.step).items():
            if external.get(name, thing) is not thing:
                raise NameTaken("external", name, describe(self.step))
        for name, thing in external.items():
            require_not_lent(self.step, thing, _KEPT_BY_THE_STEP, f"external {name!r}")
        for name in parts_of(self.step):
            if name in self.named.parts:
                raise NameTaken("part", name, describe(self.step))
        if self.ranks.size > 1 and lends_of(self.step) is not None:
            raise ValueError(
                f"{describe(self.step)} keeps the training in the state of one process, and each "
                f"of {self.ranks.size} ranks would train one of its own, since nothing averages "
                "their gradients. Train in place: training_step(model, ...); or run a loop without "
                "ranks= in each process, for trainings that have nothing to do with each other"
            )

    def __setstate__(self, kept: Any) -> None:
        """Take up what `copy` and `pickle` kept, of version 0.1 too."""
        fields: dict[str, Any] = kept[1] if isinstance(kept, tuple) else kept
        if "external" in fields:
            fields = {**fields, "named": Named(external=fields["external"])}
            del fields["external"]
        fields = {"ranks": Alone(), "agree": EVERY_ITERATION, **fields}
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    @property
    def parts(self) -> Parts:
        """The parts of the state that the step and the handlers use, by name."""
        return parts_of(self.step).update(self.named.parts)

    @property
    def metrics(self) -> Map[str, When]:
        """At which event each metric is set, by its name, as far as features have said so."""
        return self.named.metrics

    @property
    def external(self) -> Map[str, Stateful]:
        """What the step and the features say that they change outside the state, by name."""
        return Map({**external_of(self.step), **self.named.external})

    @step.validator
    def _check_step(self, field: object, step: object) -> None:
        if step is not None:
            require_callable(step, "a step", "state", or_generator=True)

    @semantics.validator
    def _check_semantics(self, field: object, semantics: Semantics) -> None:
        if self.step is None and semantics != DOCUMENTED:
            raise ValueError(
                f"semantics={semantics!r} is given for a loop without a step; give it to the loop "
                "that has the step"
            )

    @ranks.validator
    def _check_ranks(self, field: object, ranks: Ranks) -> None:
        require_ranks(ranks, self.agree)
        if self.step is None and ranks != Alone():
            raise ValueError(
                f"ranks={ranks!r} are given for a loop without a step; give them to the loop that "
                "has the step"
            )
        alone = facts_of(stages_of(self.step)).alone
        if alone is not None and ranks.size > 1:
            raise ValueError(f"{describe(self.step)} is given {ranks.size} ranks, but {alone}")

    @overload
    def on(
        self,
        event: Event | EventSet,
        handler: Handler[Batch, Output, User],
        *,
        runs_before: Others[Batch, Output, User] = (),
        runs_after: Others[Batch, Output, User] = (),
    ) -> Loop[Batch, Output, User]: ...

    @overload
    def on(
        self,
        event: PayloadEvent[P] | FilteredPayloadEvent[P],
        handler: PayloadHandler[Batch, Output, User, P],
        *,
        runs_before: Others[Batch, Output, User] = (),
        runs_after: Others[Batch, Output, User] = (),
    ) -> Loop[Batch, Output, User]: ...

    @overload
    def on(
        self,
        event: When,
        handler: EitherHandler[Batch, Output, User],
        *,
        runs_before: Others[Batch, Output, User] = (),
        runs_after: Others[Batch, Output, User] = (),
    ) -> Loop[Batch, Output, User]: ...

    def on(
        self,
        event: When,
        handler: Callable[..., State[Batch, Output, User]],
        *more: object,
        runs_before: Others[Batch, Output, User] = (),
        runs_after: Others[Batch, Output, User] = (),
    ) -> Loop[Batch, Output, User]:
        """Return this loop with one more handler, after those that it has.

        Args:
            event: an event, filtered or not, or several joined by `|`.
            handler: takes the state, at a payload event the payload too, and returns the state.
            *more: nothing; several handlers are registered one after the other.
            runs_before: a handler, or several in a tuple, that is to run after this one at the
                events that both listen to, whichever is registered first.
            runs_after: likewise, a handler that is to run before this one.

        Raises:
            TypeError: `event` is not an event, or a handler does not take those arguments.
            ValueError: the event is not registered with this loop, or the handlers cannot be put
                in order.

        >>> from fengine import Events, outputs, tap
        >>> loop = Loop(outputs(abs)).on(
        ...     Events.EPOCH_COMPLETED, tap(lambda state: print("epoch", state.epoch))
        ... )
        >>> done = loop.run([-1, -2], max_epochs=2)
        epoch 1
        epoch 2
        """
        if more:
            raise TypeError(
                f"on() takes one event and one handler, and got {len(more)} more; register one "
                "after the other: .on(event, f).on(event, g)"
            )
        made = registrations(self.registry, event, handler, runs_before, runs_after)
        return attrs.evolve(self, table=self.table.adding(*made))

    def register(self, *events: AnyEvent) -> Loop[Batch, Output, User]:
        """Return this loop with events of your own known to it.

        The events that the stages of the step emit are known already.

        Raises:
            TypeError: something is not an event.
            ValueError: a name already stands for a different event.

        >>> from fengine import Event, outputs
        >>> chunk = Event("chunk_started")
        >>> chunk in Loop(outputs(abs)).register(chunk).registry
        True
        """
        return attrs.evolve(self, registry=self.registry.register(*events))

    def without(
        self,
        event: Event | EventSet | PayloadEvent[P] | FilteredPayloadEvent[P],
        handler: Callable[..., State[Batch, Output, User]],
    ) -> Loop[Batch, Output, User]:
        """Return this loop without the latest such registration.

        Law: `loop.on(event, handler).without(event, handler) == loop`.

        Raises:
            TypeError: `event` is not an event.
            ValueError: there is no such registration.

        >>> from fengine import Events, outputs
        >>> loop = Loop(outputs(abs))
        >>> more = loop.on(Events.STARTED, State.terminate)
        >>> more.without(Events.STARTED, State.terminate) == loop
        True
        """
        table = self.table
        for registration in registrations(self.registry, event, handler):
            table = table.without(registration)
        return attrs.evolve(self, table=table)

    def with_part(self, *keys: Part[Any]) -> Loop[Batch, Output, User]:
        """Return this loop with parts of the state that its handlers use.

        What is read from plain data is read by their types, and no two have one name.

        Raises:
            TypeError: something is not a Part.
            ValueError: there is a part of that name.

        >>> seen = Part("seen", 0)
        >>> list(Loop().with_part(seen).parts)
        ['seen']
        """
        for key in keys:
            if not isinstance(key, Part):
                raise TypeError(f"{key!r} is not a Part; give Part(name, initial)")
        return attrs.evolve(self, named=self.named.with_parts(*keys))

    def with_metrics(self, *names: str, at: When) -> Loop[Batch, Output, User]:
        """Return this loop with the names of metrics that its handlers set at an event.

        A feature that reads one of them acts at that event.

        Args:
            *names: the metrics.
            at: where they are set: an event, filtered or not, or several joined by `|`.

        Raises:
            TypeError: a name is not a string, or `at` is not an event.
            ValueError: there is a metric of that name, or the event is not registered.

        >>> from fengine import Events
        >>> list(Loop().with_metrics("loss", at=Events.EPOCH_COMPLETED).metrics)
        ['loss']
        """
        for name in names:
            if not isinstance(name, str):
                raise TypeError(f"the metric {name!r} of type {type(name).__name__} is not a str")
        require_known(self.registry, at)
        return attrs.evolve(self, named=self.named.with_metrics(dict.fromkeys(names, at)))

    def with_external(self, **external: Stateful) -> Loop[Batch, Output, User]:
        """Return this loop with things outside the state that its handlers change.

        Snapshots hold copies of them, and a run that goes on from one restores them. What the step
        changes it names itself: see `Stages.changing`. A module that `torch.compile` or
        DistributedDataParallel has wrapped is named as the module within, whose state has the names
        of that one.

        Raises:
            TypeError: something has no `state_dict` and `load_state_dict`.
            ValueError: a name stands for something else already.

        >>> from fengine.training import RandomState
        >>> list(Loop().with_external(random=RandomState()).external)
        ['random']
        """
        return attrs.evolve(self, named=self.named.with_external(stateful(external)))

    @overload
    def __or__(self, other: Loop[Batch, Output, User]) -> Loop[Batch, Output, User]: ...

    @overload
    def __or__(self, other: Feature[Batch, Output, User]) -> Loop[Batch, Output, User]: ...

    def __or__(
        self, other: Loop[Batch, Output, User] | Feature[Batch, Output, User]
    ) -> Loop[Batch, Output, User]:
        """Apply a feature, which is a function from a loop to a loop; or join with another loop.

        Joined loops have the step of the one that has one, and the handlers of both.

        Laws: `loop | f == f(loop)`; joining is associative; `Loop()` changes nothing; handlers keep
        their order, those of the left loop first.

        Raises:
            TypeError: what is applied is no feature.
            ValueError: a name of a part, a metric or a thing outside the state is taken already; or
                the loops have different steps or semantics, or different events of one name.
            BaseException: whatever the feature raises, with a note that names it.

        >>> from fengine import Events, outputs
        >>> def briefly(loop):
        ...     return loop.on(Events.EPOCH_COMPLETED, State.terminate)
        >>> (Loop(outputs(abs)) | briefly).run([-1, -2], max_epochs=5).epoch
        1
        """
        if not isinstance(other, Loop):
            known: object = other
            return self._featured(other) if callable(known) else NotImplemented
        if self.step is not None and other.step is not None:
            for name in ("step", "semantics"):
                ours, theirs = getattr(self, name), getattr(other, name)
                if ours != theirs:
                    raise ValueError(
                        f"the loops cannot be joined: one has {name}={describe(ours)}, the other "
                        f"{describe(theirs)}; leave the step out of one: Loop().on(...)"
                    )
        with_step = other if self.step is None else self
        return attrs.evolve(
            with_step,
            registry=self.registry.register(*other.registry.events),
            table=self.table.adding(*other.table.registrations),
            named=self.named.joined(other.named),
        )

    def _featured(self, feature: Feature[Batch, Output, User]) -> Loop[Batch, Output, User]:
        known: object = feature
        if isinstance(stages_of(known), Stages | Outputs):
            raise TypeError(
                f"{known!r} is a step, with which a loop begins: Loop({known!r}) | feature"
            )
        try:
            made: object = feature(self)
        except NameTaken as taken:
            raise taken.of(describe(feature)) from None
        except Exception as error:
            error.add_note(
                f"in feature {describe(feature)}, a function from a loop to a loop. "
                f"{_as_meant(feature)}"
            )
            raise
        if not isinstance(made, Loop):
            raise TypeError(
                f"feature {describe(feature)} returned {typed(made)}; a feature takes a loop and "
                f"returns a loop. {_as_meant(feature)}"
            )
        found: Loop[Batch, Output, User] = made
        if found.named is self.named:
            return found
        return attrs.evolve(found, named=found.named.by(describe(feature), self.named))

    @override
    def __repr__(self) -> str:
        step = "no step" if self.step is None else describe(self.step)
        return f"<Loop of {step} with {self.table.in_words()}>"

    @override
    def __str__(self) -> str:
        return loop_in_words(self.step, self.registry, self.table)

    def plan(
        self,
        *,
        epoch_length: int | None,
        batches: int | None = None,
        **ends: Unpack[EndArguments],
    ) -> Plan[Batch, Output, User]:
        """Say which events a run fires and which handlers it calls, without running anything.

        The run is one over data of `epoch_length` batches, of which no handler asks anything.

        Args:
            epoch_length: number of batches in an epoch; None if nobody knows, as for data without a
                length. Without `batches` and `max_iters`, such a plan has no end, and says so.
            batches: how many batches the data gives in all, if it gives each once.
            **ends: `max_epochs` or `max_iters`, as for `run`.

        Raises:
            TypeError: a limit or `batches` is not an int.
            ValueError: a limit is below 1, or both limits are given, or `batches` is below 0.

        >>> from fengine import Events, outputs
        >>> loop = Loop(outputs(abs)).on(Events.ITERATION_COMPLETED(every=3), State.interrupt)
        >>> plan = loop.plan(epoch_length=4, max_epochs=2)
        >>> [(firing.epoch, firing.iteration) for firing in plan if firing.handlers]
        [(1, 3), (2, 6)]
        """
        checked = require_limits({**ends, "epoch_length": epoch_length})
        if batches is not None and (type(batches) is not int or batches < 0):
            kind = ValueError if type(batches) is int else TypeError
            raise kind(f"batches={batches!r} is not the number of batches that data gives, from 0")
        return Plan(checked, batches, self.step, self.semantics, self.table)

    @overload
    def run(
        self: Loop[Batch, Output, None],
        data: Iterable[Batch] | None = None,
        *,
        preemption: Preempting | None = None,
        **limits: Unpack[LimitArguments],
    ) -> State[Batch, Output, None]: ...

    @overload
    def run(
        self: Loop[Batch, Output, None],
        data: Iterable[Batch] | None = None,
        *,
        on_exhausted: OnExhausted,
        preemption: Preempting | None = None,
        **limits: Unpack[LimitArguments],
    ) -> State[Batch, Output, None]: ...

    @overload
    def run(
        self,
        data: Iterable[Batch] | None = None,
        *,
        user: User,
        on_exhausted: OnExhausted = "raise",
        preemption: Preempting | None = None,
        **limits: Unpack[LimitArguments],
    ) -> State[Batch, Output, User]: ...

    def run(
        self,
        data: Iterable[Batch] | None = None,
        *,
        user: Any = None,
        on_exhausted: OnExhausted = "raise",
        preemption: Preempting | None = None,
        **limits: Unpack[LimitArguments],
    ) -> State[Batch, Output, User] | State[Batch, Output, None]:
        """Run from the start to the end, and return the final state.

        Args:
            data: the batches of an epoch: a list, a DataLoader, any iterable; an iterator gives
                each batch once. None: every batch is None, `epoch_length` says how many there are.
            user: the user's own record, to begin with.
            on_exhausted: what to do where the data ends for good before the limits are reached:
                "raise" DataExhausted, or "stop", which ends the epoch and completes the run there.
            preemption: tells whether the process is asked to end. Once it is, the run pauses at the
                next event where no batch is due, and so do the evaluations of its features.
            **limits: `max_epochs`, the number of epochs, 1 if nothing else is given; or
                `max_iters`, the number of iterations; and `epoch_length`, the number of batches in
                an epoch, if that is not the length of the data.

        Raises:
            TypeError: `data` is no iterable of batches, or a limit is not an int.
            ValueError: `data` is empty, a limit is below 1, or both limits are given.
            DataExhausted: the data ends for good before the limits are reached, if that is an
                error.
            BaseException: whatever the step, the data or a handler raised and nobody recovered,
                with a note that says where; `last_state` gives the state in which it happened.

        >>> from fengine import outputs
        >>> final = Loop(outputs(lambda batch: 2 * batch)).run([1, 2, 3], max_epochs=2)
        >>> final.iteration, final.epoch, final.output, final.status.value
        (6, 2, 6, 'completed')
        """
        box, source = _begun(data, user, require_limits(limits), on_exhausted, preemption)
        del user  # the caller alone decides how long it lives
        return self._finish(box, source, Map())

    @overload
    def iterate(
        self: Loop[Batch, Output, None],
        data: Iterable[Batch] | None = None,
        *,
        preemption: Preempting | None = None,
        **limits: Unpack[LimitArguments],
    ) -> Moments[Batch, Output, None]: ...

    @overload
    def iterate(
        self: Loop[Batch, Output, None],
        data: Iterable[Batch] | None = None,
        *,
        on_exhausted: OnExhausted,
        preemption: Preempting | None = None,
        **limits: Unpack[LimitArguments],
    ) -> Moments[Batch, Output, None]: ...

    @overload
    def iterate(
        self,
        data: Iterable[Batch] | None = None,
        *,
        user: User,
        on_exhausted: OnExhausted = "raise",
        preemption: Preempting | None = None,
        **limits: Unpack[LimitArguments],
    ) -> Moments[Batch, Output, User]: ...

    @overload
    def iterate(
        self,
        data: Iterable[Batch] | None = None,
        *,
        after: Start[Batch, Output, User],
        replay: bool = False,
        restored: bool = False,
        on_exhausted: OnExhausted = "raise",
        preemption: Preempting | None = None,
    ) -> Moments[Batch, Output, User]: ...

    def iterate(
        self,
        data: Iterable[Batch] | None = None,
        *,
        user: Any = None,
        after: Start[Batch, Output, User] | None = None,
        replay: bool = False,
        restored: bool = False,
        on_exhausted: OnExhausted = "raise",
        preemption: Preempting | None = None,
        **limits: Unpack[LimitArguments],
    ) -> Moments[Batch, Output, User] | Moments[Batch, Output, None]:
        """Run step by step: yield one `Moment` for each event, after its handlers have run.

        Nothing runs before the next moment is asked for, and to stop is not to ask; dropping the
        iterator closes the data.

        Law: the last moment's state is what `run` gives.

        Args:
            data: as for `run`.
            user: as for `run`.
            after: what to go on from, as for `resume`, instead of all the others but `data`.
            replay: as for `resume`, beside `after` only.
            restored: as for `resume`, beside `after` only.
            on_exhausted: as for `run`.
            preemption: as for `run`.
            **limits: as for `run`.

        Raises:
            TypeError: `after` is given beside the others, or `replay` or `restored` without it.
            BaseException: as `run` and `resume` do.

        >>> from fengine import Events, outputs
        >>> for moment in Loop(outputs(lambda batch: 2 * batch)).iterate([1, 2]):
        ...     if moment.event is Events.ITERATION_COMPLETED:
        ...         print(moment.state.iteration, moment.state.output)
        1 2
        2 4
        """
        if after is None:
            if replay or restored:
                given = "replay" if replay else "restored"
                raise TypeError(
                    f"{given}=True says how to go on from after=; without that, leave it out"
                )
            box, source = _begun(data, user, require_limits(limits), on_exhausted, preemption)
            return self._moments(box, source, Map())
        require_names_of_limits(limits)
        if user is not None or any(limit is not None for limit in limits.values()):
            raise TypeError(
                "after= holds the user's record and the limits already, so user=, max_epochs=, "
                "max_iters= and epoch_length= cannot be given beside it; leave them out"
            )
        return self._moments(
            *self._going_on(after, data, replay, restored, on_exhausted, preemption)
        )

    def resume(
        self,
        after: Start[Batch, Output, User],
        data: Iterable[Batch] | None = None,
        *,
        replay: bool = False,
        restored: bool = False,
        on_exhausted: OnExhausted = "raise",
        preemption: Preempting | None = None,
    ) -> State[Batch, Output, User]:
        """Go on right after the event that a state stands at, and return the final state.

        Law: for the state of every moment of a run, the events that follow and the final state are
        those of that run, as long as `data` gives the same batches again. It enters a list, and a
        DataLoader in a known order, where the state stands, without reading the batches before; an
        iterator goes on where it stands; other data is refused unless `replay` is given.

        The state of a run that has ended comes back as it is; see `State.with_limits`. Where it was
        asked to end before its limits did, a warning says so.

        Args:
            after: the state of a moment, of an interrupted run, or `last_state` of an exception; or
                a snapshot, whose `external` is restored, and whose data is told its place.
            data: as for `run`.
            replay: read the batches that the run has had again, and drop them, where the data can
                only be read from its start.
            restored: what the loop changes outside the state has been put back by you, as by
                `restore`, and is taken as it is.
            on_exhausted: as for `run`; the call says it, and not the state.
            preemption: as for `run`.

        Raises:
            TypeError: there is nothing to go on from.
            ValueError: the state has no limit, so the run would never end; the place where it
                stands cannot be found in the data; or the snapshot has other names in `external`,
                or states that do not fit: nothing is restored then. Or the state was read from
                plain data, where the loop changes things outside the state.
            BaseException: as `run` does.

        >>> from fengine import Loop, outputs
        >>> loop = Loop(outputs(lambda batch: 2 * batch))
        >>> moments = list(loop.iterate([1, 2, 3], max_epochs=2))
        >>> all(loop.resume(moment.state, [1, 2, 3]) == moments[-1].state for moment in moments)
        True
        """
        box, source, saved = self._going_on(after, data, replay, restored, on_exhausted, preemption)
        state = after.state if isinstance(after, Snapshot) else after
        if not state.status.has_ended:
            del after, state  # the caller alone decides how long they live
            return self._finish(box, source, saved)
        reached = state.limits.are_reached(state.epoch, state.iteration)
        if state.status is Status.TERMINATED and not reached:
            warnings.warn(
                f"the run was asked to end {where_in_run(state)}, so its state comes back as it "
                "is, also with other limits. To go on after all, leave out what asks for the "
                "end, and go on from a state before that, which a Recorder keeps",
                stacklevel=2,
            )
        self._finish(box, source, saved)
        return state

    @overload
    def try_out(
        self: Loop[Batch, Output, None], data: Iterable[Batch] | None = None, batches: int = 2
    ) -> State[Batch, Output, None]: ...

    @overload
    def try_out(
        self, data: Iterable[Batch] | None = None, batches: int = 2, *, user: User
    ) -> State[Batch, Output, User]: ...

    def try_out(
        self, data: Iterable[Batch] | None = None, batches: int = 2, *, user: Any = None
    ) -> State[Batch, Output, User] | State[Batch, Output, None]:
        """Run one epoch of the first batches, with all evaluations, and put everything back.

        So a mistake at the end of an epoch is found at once, and not after hours. All handlers
        run, those of the end of the epoch and of the run too. What only looks on is left out: bars,
        logs, checkpoints. An evaluation under a filter, such as every 1000 iterations, is made at
        each firing of its event.

        What the loop names outside the state is put back afterwards, also where something raises:
        models with their modes, gradients and flags, optimizers, schedulers. So are random states,
        and the place of data that knows it. What handlers of yours change beyond that stays.

        Law: the final state is that of a run over the first batches.

        Args:
            data: as for `run`, but no iterator, whose batches could not be given back.
            batches: how many, in the epoch and in each evaluation.
            user: as for `run`.

        Returns:
            The final state, with the metrics of these batches.

        Raises:
            TypeError: `data` is an iterator, or `batches` is not an int.
            ValueError: `batches` is below 1, or `data` is empty.
            BaseException: as `run` does.

        >>> from fengine import outputs
        >>> Loop(outputs(lambda batch: 2 * batch)).try_out(range(1, 1000)).output
        4
        """
        if type(batches) is not int or batches < 1:
            kind = ValueError if type(batches) is int else TypeError
            raise kind(f"batches={batches!r} is not how many batches to try out, an int from 1")
        if isinstance(data, Iterator):
            raise TypeError(
                f"data is an iterator ({type(data).__name__}), whose batches could not be given "
                "back; give what it is made from, such as a list or DataLoader"
            )
        if data is not None:
            source_of(data)  # which refuses what is no data
        loop = self.limited(batches)
        with putting_back(self.external, data, *self.read_within()):
            if data is None:
                return loop.run(user=user, epoch_length=batches)
            return loop.run(FirstBatches(data, batches), user=user)

    def read_within(self) -> tuple[object, ...]:
        """Return the data that evaluations of this loop read.

        >>> from fengine import outputs
        >>> Loop(outputs(abs)).read_within()
        ()
        """
        found: list[object] = []
        for one in self.table.acting().registrations:
            if isinstance(one.handler, RunsLoop):
                found += one.handler.read()
        return tuple(found)

    def limited(self, batches: int) -> Loop[Batch, Output, User]:
        """Return this loop without what only looks on, whose evaluations have a few batches each.

        What acts with an evaluation, under the same filter, does so at each firing of its event, so
        that a run of a few batches gets there too.

        >>> from fengine import outputs
        >>> Loop(outputs(abs)).limited(2) == Loop(outputs(abs))
        True
        """
        acting = self.table.acting().registrations
        handlers: list[Any] = [one.handler for one in acting]
        often = [
            (one.event, one.filter)
            for one, handler in zip(acting, handlers, strict=True)
            if isinstance(handler, RunsLoop)
        ]
        made = []
        for one, handler in zip(acting, handlers, strict=True):
            limited: Any = handler.limited(batches) if isinstance(handler, RunsLoop) else handler
            wanted = None if (one.event, one.filter) in often else one.filter
            made.append(attrs.evolve(one, handler=limited, filter=wanted))
        return attrs.evolve(self, table=Table(tuple(made)))

    def snapshot(
        self, state: State[Batch, Output, User], data: Iterable[Batch] | None = None
    ) -> Snapshot[Batch, Output, User]:
        """Take a snapshot of a run that stands at a state, to go on from later.

        It holds the state, copies of what the step and the features name outside the state, and
        the place of data that knows it: see `Resumable`; torchdata's StatefulDataLoader does too.
        What nobody names is not in it.

        Args:
            state: where the run stands now.
            data: the data of the run, if it knows its own place.

        Raises:
            TypeError: `state` is not a State.
            ValueError: the state stands within the step, and the loop names something outside; or
                the state has a part that the loop does not know, so that it could not be read.

        >>> from fengine import Events, outputs
        >>> loop = Loop(outputs(lambda batch: 2 * batch))
        >>> moments = loop.iterate([1, 2, 3], max_epochs=2)
        >>> first = next(moment for moment in moments if moment.event is Events.EPOCH_COMPLETED)
        >>> snapshot = loop.snapshot(first.state)
        >>> loop.resume(snapshot, [1, 2, 3]).iteration
        6
        """
        if not isinstance(state, State):
            raise TypeError(
                f"{state!r} of type {type(state).__name__} is not a State to take a snapshot of"
            )
        require_whole(self.external, self.parts, state)
        return taken(self.external, caught_up(state), data)

    def restore(self, snapshot: Snapshot[Batch, Output, User]) -> None:
        """Put what the loop changes outside the state back to where it was at a snapshot.

        All is put back, or nothing. To go on from there with a change, such as another learning
        rate, change it now and call `resume` with `restored=True`.

        Raises:
            TypeError: `snapshot` is not a Snapshot.
            ValueError: the names differ, or a state does not fit.

        >>> from torch import nn
        >>> from fengine import outputs
        >>> model = nn.Linear(1, 1, bias=False)
        >>> loop = Loop(outputs(abs)).with_external(model=model)
        >>> kept = loop.snapshot(loop.run([1]))
        >>> _ = nn.init.constant_(model.weight, 7.0)
        >>> loop.restore(kept)
        >>> model.weight.item() == 7.0
        False
        """
        if not isinstance(snapshot, Snapshot):
            raise TypeError(
                f"{snapshot!r} of type {type(snapshot).__name__} is not a Snapshot to restore from"
            )
        _require_things_of(snapshot, self.external, None)
        with restoring(self.external, snapshot.external):
            pass

    def read(
        self,
        plain: object,
        *,
        user: type[User] | Callable[[Any], User] | None = None,
        output: Callable[[Any], Output] | None = None,
        batch: Callable[[Any], Batch] | None = None,
    ) -> Snapshot[Batch, Output, User]:
        """Read a snapshot of a run of this loop, whose events and parts it knows.

        Args:
            plain: what `Snapshot.to_dict` returned.
            user: as for `State.from_dict`.
            output: as for `State.from_dict`.
            batch: as for `State.from_dict`.

        Raises:
            SnapshotError: the data is not what `to_dict` returns; the error names the place.

        >>> from fengine import outputs
        >>> loop = Loop(outputs(abs))
        >>> snapshot = loop.snapshot(loop.run([-1, -2]))
        >>> loop.read(snapshot.to_dict()).state.iteration
        2
        """
        return Snapshot.from_dict(
            plain, events=self.registry, parts=self.parts, user=user, output=output, batch=batch
        )

    def _going_on(
        self,
        after: Start[Batch, Output, User],
        data: Iterable[Batch] | None,
        replay: bool,
        restored: bool,
        on_exhausted: OnExhausted,
        preemption: Preempting | None,
    ) -> tuple[Box[Batch, Output, User], AnySource[Batch], Map[str, object]]:
        """Return the run to go on with, its source, and what is to be restored."""
        require_preempting(preemption)
        if isinstance(after, Snapshot):
            _require_things_of(after, self.external, data)
            state, position, saved = after.state, after.position, after.external
        elif isinstance(after, State):
            state, position, saved = after, None, Map[str, object]()
            self._require_restored(after, restored)
        else:
            raise TypeError(
                f"{after!r} of type {type(after).__name__} is not a State or Snapshot to go on from"
            )
        if restored:  # to begin to read data may draw random numbers, but it trains nothing
            untrained = {n: one for n, one in self.external.items() if not is_trained(one)}
            saved = states_of(untrained)
        if state.limits.max_epochs is None and state.limits.max_iters is None:
            raise ValueError(
                "the state to go on from has neither max_epochs nor max_iters, so the run would "
                "never end; take it from a run, or give it limits: State(..., "
                "limits=Limits(max_epochs=1))"
            )
        state = self._among_own_handlers(state)
        if self.external and is_generator_function(self.step) and is_within_step(state):
            raise ValueError(
                f"the state stands at {state.event!r}, within the step, which has changed external "
                f"{sorted(self.external)} and would do so again; go on from an event before the "
                "step or after it"
            )
        if data is None and state._notes.has_data:
            raise TypeError(
                "data is None, but the state to go on from is that of a run over data; give the "
                "data"
            )
        source = _source_for(data, state.limits.epoch_length, on_exhausted)
        if isinstance(source, DataSource):
            if resumable(data) is not None:
                source.position = position
            require_place(data, state, source.position, length=source.length, replay=replay)
        return Box(state, preemption), source, saved

    def _among_own_handlers(self, state: State[Batch, Output, User]) -> State[Batch, Output, User]:
        """Return a state with the names of the handlers of this loop that are not to run again.

        Raises:
            ValueError: those that have run are not the first ones here.
        """
        event, paused_after = state.event, state._notes.paused_after
        if event is not None and paused_after:
            begun = self.table.begun(event, paused_after)
            notes = attrs.evolve(state._notes, paused_after=begun)
            state = attrs.evolve(state, notes=notes)
        if event is not None and state._handled:
            fired = Events.INTERRUPT if state.status is Status.INTERRUPTED else event
            state = after_handlers(state, self.table.begun(fired, state._handled))
        return state

    def _require_restored(self, state: State[Batch, Output, User], restored: bool) -> None:
        external = self.external
        if external and state._notes.is_read and not (restored or state.status.has_ended):
            raise ValueError(
                f"the state was read from plain data, which does not hold {sorted(external)}, so "
                "the run would go on with what they are now; write down loop.snapshot(state), and "
                "go on from loop.read(plain). If you have put them back yourself, say restored=True"
            )

    def _finish(
        self, box: Box[Batch, Output, User], source: AnySource[Batch], saved: Map[str, object]
    ) -> State[Batch, Output, User]:
        fired = self._fired(box, source, saved, self.table.compiled(), None)
        entered = ExitStack()
        try:
            with entered:
                self._enter_contexts(entered, box, of_moments=False)
                for _ in fired:
                    pass
            return box.state
        except BaseException as error:
            entered.close()  # whatever a signal has kept from being left
            keep_state(error, box)
            leave_out_ours(error)
            raise

    def _moments(
        self, box: Box[Batch, Output, User], source: AnySource[Batch], saved: Map[str, object]
    ) -> Moments[Batch, Output, User]:
        look = box.look

        def show(event: AnyEvent) -> Moment[Batch, Output, User]:
            return Moment(event, look())

        return self._pulled(self._fired(box, source, saved, self.table.compiled(), show), box)

    def _pulled(
        self, fired: Moments[Batch, Output, User], box: Box[Batch, Output, User]
    ) -> Moments[Batch, Output, User]:
        entered = ExitStack()
        try:
            with entered:
                self._enter_contexts(entered, box, of_moments=True)
                entered.enter_context(closing(fired))
                yield from fired
        except BaseException as error:
            entered.close()  # whatever a signal has kept from being left
            keep_state(error, box)
            leave_out_ours(error)
            raise

    def _enter_contexts(
        self, entered: ExitStack, box: Box[Batch, Output, User], *, of_moments: bool
    ) -> None:
        if not box.status.has_ended:
            for context in contexts_of(self.step, of_moments=of_moments):
                entered.enter_context(context())

    def _fired(
        self,
        box: Box[Batch, Output, User],
        source: AnySource[Batch],
        saved: Map[str, object],
        table: Compiled[Batch, Output, User],
        show: Callable[[AnyEvent], Moment[Batch, Output, User]] | None,
    ) -> Moments[Batch, Output, User]:
        """Return what is shown of events as they fire; nothing runs before it is asked for."""
        if self.step is None:
            raise ValueError(
                "this loop has handlers only, and no step to run; join it with a loop that has "
                "one: Loop(outputs(function)) | loop"
            )
        heard = {event.name for event in self.registry.events} if show else {*table, _FAILURE}
        together = self._together(box, source)
        if together is not None:
            heard |= together.events.keys()
        if box.preemption is not None:
            heard |= PAUSES
        course = script(
            box,
            self.step,
            cast("DataSource[Batch]", source),  # without data, Batch is None; no type can say so
            heard,
            finish_iteration=self.semantics.finish_iteration,
            own=self.registry,
        )
        begin = partial(self._enter, box, source, saved, together)
        return drive(course, box, table, source, begin, show, together)

    def _together(self, box: Box[Batch, Output, User], source: AnySource[Batch]) -> Together | None:
        """Return what has a run be one on all ranks; None where there is one rank."""
        if self.ranks.size == 1:
            return None
        length = source.length if isinstance(source, DataSource) else None
        return Together(box, self.ranks, self.agree, length, source.announced)

    def _enter(
        self,
        box: Box[Batch, Output, User],
        source: AnySource[Batch],
        saved: Map[str, object],
        together: Together | None,
    ) -> None:
        if together is not None and not box.status.has_ended:
            together.begin(self._said_to_others())
        # Restored once more afterwards, since beginning to read data may draw random numbers.
        with restoring(self.external, saved):
            source.enter(box)

    def _said_to_others(self) -> dict[str, object]:
        """Return what this loop is made of, as far as it has to be the same on all ranks.

        Handlers that only look on may be on some ranks alone.
        """
        said: dict[str, object] = {"semantics": self.semantics, "agree": self.agree}
        for name, listening in self.table.in_order().items():
            said[f"handlers of {name}"] = [
                (word, str(one.filter))
                for one in listening
                if (word := name_of_handler(one.handler))
            ]
        for name, thing in self.external.items():
            parameters: Any = getattr(thing, "named_parameters", None)
            if parameters is not None:
                for path, one in parameters():
                    with suppress(RuntimeError):  # a lazy one has no shape yet
                        said[f"{name}.{path}"] = tuple(one.shape), str(one.dtype)
        return {name: one for name, one in said.items() if one != []}


_KEPT_BY_THE_STEP: Final = "so leave it out, snapshots hold it as it is"

Feature: TypeAlias = Callable[[Loop[Batch, Output, User]], Loop[Batch, Output, User]]
"""What `loop | feature` applies: any function from a loop to a loop."""

# The driver writes notes on a failure, whether somebody listens or not.
_FAILURE = Events.EXCEPTION_RAISED.name


def _as_meant(feature: object) -> str:
    """Say how what was taken for a feature is to be used."""
    if hasattr(feature, "__qualname__") and feature.__module__.startswith(
        ("fengine.features.", "fengine.metrics.")
    ):
        name = name_of(feature)
        return f"{name} makes a feature, so call it first: loop | {name}(...)"
    return "A handler is added by loop.on(event, handler)"


def _begun(
    data: Iterable[Batch] | None,
    user: User,
    limits: Limits,
    on_exhausted: OnExhausted,
    preemption: Preempting | None,
) -> tuple[Box[Batch, Any, User], AnySource[Batch]]:
    """Return a new run, and the source of its data.

    Raises:
        TypeError: there is neither data nor an epoch length, or the data is none.
        ValueError: the data is empty.
    """
    require_preempting(preemption)
    source = _source_for(data, limits.epoch_length, on_exhausted)
    has_data = isinstance(source, DataSource)
    of_data = limits.epoch_length is None
    if of_data and isinstance(source, DataSource):
        limits = attrs.evolve(limits, epoch_length=source.length)
    notes = Notes(has_data=has_data, length_of_data=of_data)
    return Box(State(user=user, limits=limits, notes=notes), preemption), source


def _source_for(
    data: Iterable[Batch] | None, epoch_length: int | None, on_exhausted: OnExhausted
) -> AnySource[Batch]:
    if data is not None:
        return source_of(data, on_exhausted)
    require_word(on_exhausted)
    if epoch_length is None:
        raise TypeError(
            "data is None and there is no epoch_length, so the length of an epoch is unknown; "
            "give data, or epoch_length for a run without data"
        )
    return NoData()


def _require_things_of(
    snapshot: Snapshot[Any, Any, Any], external: Mapping[str, Stateful], data: object
) -> None:
    """Refuse a snapshot that does not hold what a loop names outside the state.

    Raises:
        ValueError: the names differ, a state does not fit, or the data is among them.
    """
    if external and not snapshot.external and is_within_step(snapshot.state):
        raise ValueError(
            f"the snapshot stands at {snapshot.state.event!r}, within the step, which had changed "
            f"external {sorted(external)} already; go on from ITERATION_STARTED, before it"
        )
    require_names(external, snapshot.external)
    require_fitting(external, snapshot.external, snapshot.classes)
    for name, thing in external.items():
        if id(thing) == id(data):
            raise ValueError(
                f"the data is external[{name!r}] too, and would be told its place twice; "
                "leave it out there, since data that knows its place is asked anyway"
            )
