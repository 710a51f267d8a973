"""Loop: a step, the handlers around it, and the ways to run them, as a frozen value.

A loop holds nothing of a run, so one loop can run twice at once, or inside its own handler.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Generator, Iterable, Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar, cast, final, overload

import attrs
from immutables import Map
from typing_extensions import override

from fengine.core.describe import describe, require_callable
from fengine.core.events import (
    AnyEvent,
    Event,
    Events,
    EventSet,
    FilteredPayloadEvent,
    PayloadEvent,
)
from fengine.core.handlers import Handler, PayloadHandler
from fengine.core.ports import Box
from fengine.core.registration import Others, registrations
from fengine.core.registry import BUILT_IN_EVENTS, EventRegistry
from fengine.core.script import Step, script
from fengine.core.semantics import DOCUMENTED, Semantics
from fengine.core.state import Batch, Output, State, User
from fengine.core.steps import Outputs, Stages
from fengine.core.table import Table
from fengine.core.transitions import shown
from fengine.runtime.begin import AnySource, go_on, source_for, start
from fengine.runtime.driver import drive
from fengine.runtime.external import Stateful, identities, joined, named, restoring
from fengine.runtime.later import module_later
from fengine.runtime.show import described_loop
from fengine.runtime.source import DataSource, NoData

if TYPE_CHECKING:
    from fengine.runtime import plan as plans
    from fengine.runtime import snapshots
else:
    plans = module_later("fengine.runtime.plan")
    snapshots = module_later("fengine.runtime.snapshots")

P = TypeVar("P")


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


Moments: TypeAlias = Generator[Moment[Batch, Output, User], None, None]


def _known_events(loop: Loop[Batch, Output, User]) -> EventRegistry:
    return EventRegistry(tuple(loop.step.events) if isinstance(loop.step, Stages) else ())


def _with_built_in_events(registry: EventRegistry) -> EventRegistry:
    if not isinstance(registry, EventRegistry):
        raise TypeError(f"registry={registry!r} is not an EventRegistry; see Loop.register")
    return BUILT_IN_EVENTS.register(*registry.events)


@final
@attrs.frozen
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
        external: what the run changes outside the state, by name, such as a model and an optimizer;
            snapshots hold copies of it. It is compared by identity.

    Raises:
        TypeError: `step` cannot take one state, or something in `external` has no state_dict.
        ValueError: `semantics` is given without a step.

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
    external: Mapping[str, Stateful] = attrs.field(
        kw_only=True, factory=Map, converter=named, eq=identities
    )

    @step.validator
    def _check_step(self, field: object, step: object) -> None:
        if step is not None:
            require_callable(step, "a step", "state")

    @semantics.validator
    def _check_semantics(self, field: object, semantics: Semantics) -> None:
        if self.step is None and semantics != DOCUMENTED:
            raise ValueError(
                f"semantics={semantics!r} is given for a loop without a step; give it to the loop "
                "that has the step"
            )

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

    def on(
        self,
        event: Event | EventSet | PayloadEvent[P] | FilteredPayloadEvent[P],
        handler: Callable[..., State[Batch, Output, User]],
        *,
        runs_before: Others[Batch, Output, User] = (),
        runs_after: Others[Batch, Output, User] = (),
    ) -> Loop[Batch, Output, User]:
        """Give this loop with a handler more, behind those that it has.

        Args:
            event: an event, filtered or not, or several joined by `|`.
            handler: takes the state, at a payload event the payload too, and returns the state.
            runs_before: a handler, or several in a tuple, that is to run behind this one at the
                events that both listen to, whichever is registered first.
            runs_after: likewise, that is to run ahead of this one.

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
        made = registrations(self.registry, event, handler, runs_before, runs_after)
        return attrs.evolve(self, table=self.table.adding(*made))

    def register(self, *events: AnyEvent) -> Loop[Batch, Output, User]:
        """Give this loop with events of your own known to it.

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
        """Give this loop without the latest such registration.

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

    def __or__(self, other: Loop[Batch, Output, User]) -> Loop[Batch, Output, User]:
        """Join with another loop: the step of the one that has one, and the handlers of both.

        Laws: it is associative; `Loop()` changes nothing; handlers keep their order, those of the
        left loop first.

        Raises:
            ValueError: the loops have different steps or semantics, or different events or
                external things of one name.

        >>> from fengine import Events, outputs
        >>> stopping = Loop().on(Events.EPOCH_COMPLETED, State.terminate)
        >>> (Loop(outputs(abs)) | stopping).run([-1, -2], max_epochs=5).epoch
        1
        """
        if not isinstance(other, Loop):
            return NotImplemented
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
            external=joined(self.external, other.external),
        )

    @override
    def __str__(self) -> str:
        return described_loop(self.step, self.registry, self.table)

    def plan(
        self,
        *,
        epoch_length: int,
        max_epochs: int | None = None,
        max_iters: int | None = None,
        batches: int | None = None,
    ) -> plans.Plan[Batch, Output, User]:
        """Say which events a run fires and which handlers it calls, without running anything.

        The run is one over data of `epoch_length` batches, of which no handler asks anything.

        Args:
            epoch_length: number of batches in an epoch.
            max_epochs: as for `run`.
            max_iters: as for `run`.
            batches: how many batches the data gives in all, if it gives each once.

        Raises:
            TypeError: a limit or `batches` is not an int.
            ValueError: a limit is below 1, or both limits are given, or `batches` is below 0.

        >>> from fengine import Events, outputs
        >>> loop = Loop(outputs(abs)).on(Events.ITERATION_COMPLETED(every=3), State.interrupt)
        >>> plan = loop.plan(epoch_length=4, max_epochs=2)
        >>> [(firing.epoch, firing.iteration) for firing in plan if firing.handlers]
        [(1, 3), (2, 6)]
        """
        state: State[Batch, Output, User] = start(
            NoData(), cast("User", None), max_epochs, max_iters, epoch_length
        )
        if batches is not None and (type(batches) is not int or batches < 0):
            kind = ValueError if type(batches) is int else TypeError
            raise kind(f"batches={batches!r} is not the number of batches that data gives, from 0")
        return plans.Plan(state.limits, batches, self.step, self.semantics, self.table)

    @overload
    def run(
        self: Loop[Batch, Output, None],
        data: Iterable[Batch] | None = None,
        *,
        max_epochs: int | None = None,
        max_iters: int | None = None,
        epoch_length: int | None = None,
    ) -> State[Batch, Output, None]: ...

    @overload
    def run(
        self,
        data: Iterable[Batch] | None = None,
        *,
        user: User,
        max_epochs: int | None = None,
        max_iters: int | None = None,
        epoch_length: int | None = None,
    ) -> State[Batch, Output, User]: ...

    def run(
        self,
        data: Iterable[Batch] | None = None,
        *,
        user: object = None,
        max_epochs: int | None = None,
        max_iters: int | None = None,
        epoch_length: int | None = None,
    ) -> State[Batch, Output, User] | State[Batch, Output, None]:
        """Run from the start to the end, and give the final state.

        Args:
            data: the batches of an epoch: a list, a DataLoader, any iterable; an iterator gives
                each batch once. None: every batch is None, `epoch_length` says how many there are.
            user: the user's own record, to begin with.
            max_epochs: number of epochs; 1 if `max_iters` is not given either.
            max_iters: number of iterations, instead of `max_epochs`.
            epoch_length: number of batches in an epoch, if not the length of the data.

        Raises:
            TypeError: `data` is no iterable of batches, or a limit is not an int.
            ValueError: `data` is empty, a limit is below 1, or both limits are given.
            DataExhausted: the data ends for good before the limits are reached.
            BaseException: whatever the step, the data or a handler raised and nobody recovered,
                with a note that says where; `last_state` gives the state in which it happened.

        >>> from fengine import outputs
        >>> final = Loop(outputs(lambda batch: 2 * batch)).run([1, 2, 3], max_epochs=2)
        >>> final.iteration, final.epoch, final.output, final.status.value
        (6, 2, 6, 'completed')
        """
        source = source_for(data, epoch_length)
        state: State[Batch, Output, User] = start(
            source, cast("User", user), max_epochs, max_iters, epoch_length
        )
        return self._finish(Box(state), source, Map())

    @overload
    def iterate(
        self: Loop[Batch, Output, None],
        data: Iterable[Batch] | None = None,
        *,
        max_epochs: int | None = None,
        max_iters: int | None = None,
        epoch_length: int | None = None,
    ) -> Moments[Batch, Output, None]: ...

    @overload
    def iterate(
        self,
        data: Iterable[Batch] | None = None,
        *,
        user: User,
        max_epochs: int | None = None,
        max_iters: int | None = None,
        epoch_length: int | None = None,
    ) -> Moments[Batch, Output, User]: ...

    @overload
    def iterate(
        self,
        data: Iterable[Batch] | None = None,
        *,
        after: State[Batch, Output, User] | snapshots.Snapshot[Batch, Output, User],
        replay: bool = False,
    ) -> Moments[Batch, Output, User]: ...

    def iterate(
        self,
        data: Iterable[Batch] | None = None,
        *,
        user: object = None,
        max_epochs: int | None = None,
        max_iters: int | None = None,
        epoch_length: int | None = None,
        after: State[Batch, Output, User] | snapshots.Snapshot[Batch, Output, User] | None = None,
        replay: bool = False,
    ) -> Moments[Batch, Output, User] | Moments[Batch, Output, None]:
        """Run step by step: give one `Moment` for each event, after its handlers have run.

        Nothing runs before the next moment is asked for, and to stop is not to ask; dropping the
        iterator closes the data.

        Law: the last moment's state is what `run` gives.

        Args:
            data: as for `run`.
            user: as for `run`.
            max_epochs: as for `run`.
            max_iters: as for `run`.
            epoch_length: as for `run`.
            after: what to go on from, as for `resume`, instead of all the others but `data`.
            replay: as for `resume`, beside `after` only.

        Raises:
            TypeError: `after` is given beside the others, or `replay` without it.
            BaseException: as `run` and `resume` do.

        >>> from fengine import Events, outputs
        >>> for moment in Loop(outputs(lambda batch: 2 * batch)).iterate([1, 2]):
        ...     if moment.event is Events.ITERATION_COMPLETED:
        ...         print(moment.state.iteration, moment.state.output)
        1 2
        2 4
        """
        saved: Map[str, object] = Map()
        if after is None and not replay:
            source = source_for(data, epoch_length)
            after = start(source, cast("User", user), max_epochs, max_iters, epoch_length)
        elif after is None:
            raise TypeError(
                "replay=True says how the data gets behind the batches of after=; without that, "
                "leave it out"
            )
        elif user is None and max_epochs is None and max_iters is None and epoch_length is None:
            after, source, saved = go_on(after, data, self.external, replay=replay)
        else:
            raise TypeError(
                "after= holds the user's record and the limits already, so user=, max_epochs=, "
                "max_iters= and epoch_length= cannot be given beside it; leave them out"
            )
        return self._moments(Box(after), source, saved)

    def resume(
        self,
        after: State[Batch, Output, User] | snapshots.Snapshot[Batch, Output, User],
        data: Iterable[Batch] | None = None,
        *,
        replay: bool = False,
    ) -> State[Batch, Output, User]:
        """Go on right after the event that a state stands at, and give the final state.

        Law: for the state of every moment of a run, the events that follow and the final state are
        those of that run, as long as `data` gives the same batches again. It enters a list, and a
        DataLoader in a known order, where the state stands, without reading what is behind; an
        iterator goes on where it stands; other data is refused unless `replay` is given.

        The state of a run that has ended comes back as it is; see `State.with_limits`.

        Args:
            after: the state of a moment, of an interrupted run, or `last_state` of an exception; or
                a snapshot, whose `external` is restored, and whose data is told its place.
            data: as for `run`.
            replay: read the batches that are behind again, and drop them, where the data can only
                be read from its start.

        Raises:
            TypeError: there is nothing to go on from.
            ValueError: the state has no limit, so the run would never end; the place where it
                stands cannot be found in the data; or the snapshot has other names in `external`.
            BaseException: as `run` does.

        >>> from fengine import Loop, outputs
        >>> loop = Loop(outputs(lambda batch: 2 * batch))
        >>> moments = list(loop.iterate([1, 2, 3], max_epochs=2))
        >>> all(loop.resume(moment.state, [1, 2, 3]) == moments[-1].state for moment in moments)
        True
        """
        state, source, saved = go_on(after, data, self.external, replay=replay)
        box = Box(state)
        del state, after  # the caller alone decides how long it lives
        return self._finish(box, source, saved)

    def snapshot(
        self, state: State[Batch, Output, User], data: Iterable[Batch] | None = None
    ) -> snapshots.Snapshot[Batch, Output, User]:
        """Take a snapshot of a run that stands at a state, to go on from later.

        It holds the state, copies of what `external` names, and the place of data that has
        `state_dict` and `load_state_dict`, such as torchdata's StatefulDataLoader. What is not
        named, such as a random generator, is not in it.

        Args:
            state: where the run stands now.
            data: the data of the run, if it knows its own place.

        Raises:
            TypeError: `state` is not a State.
            ValueError: the state stands within the step, and the loop names something outside.

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
        if self.external and snapshots.is_within_step(state):
            raise ValueError(
                f"the state stands at {state.event!r}, within the step, which has changed external "
                f"{sorted(self.external)} and is done again where a run goes on; take the snapshot "
                "at an event ahead of the step or behind it"
            )
        return snapshots.taken(self.external, state, data)

    def _finish(
        self,
        box: Box[Batch, Output, User],
        source: AnySource[Batch],
        saved: Map[str, object],
    ) -> State[Batch, Output, User]:
        table = self.table.compiled()
        course = self._script(box, source, {*table, Events.EXCEPTION_RAISED.name})
        begin = partial(self._begin, box, source, saved)
        with self._phase(box.state, lazily=False):
            for _ in drive(course, box, table, source, begin, lazily=False):
                pass
        return box.state

    def _moments(
        self,
        box: Box[Batch, Output, User],
        source: AnySource[Batch],
        saved: Map[str, object],
    ) -> Moments[Batch, Output, User]:
        table = self.table.compiled()
        course = self._script(box, source, {event.name for event in self.registry.events})
        begin = partial(self._begin, box, source, saved)
        return self._pulled(drive(course, box, table, source, begin, lazily=True), box)

    def _pulled(
        self, fired: Generator[AnyEvent, None, None], box: Box[Batch, Output, User]
    ) -> Moments[Batch, Output, User]:
        with self._phase(box.state, lazily=True), closing(fired):
            for event in fired:
                yield Moment(event, shown(box.state))

    def _phase(
        self, state: State[Batch, Output, User], *, lazily: bool
    ) -> AbstractContextManager[object]:
        if state.status.has_ended:
            return nullcontext()
        if isinstance(self.step, Stages):
            return self.step.phase()
        if isinstance(self.step, Outputs) and self.step.phase is not None and not lazily:
            return self.step.phase()
        return nullcontext()

    def _begin(
        self,
        box: Box[Batch, Output, User],
        source: AnySource[Batch],
        saved: Map[str, object],
    ) -> None:
        # Once more behind it, since beginning to read data may draw from a random generator there.
        with restoring(self.external, saved):
            box.state = source.enter(box.state)

    def _script(
        self,
        box: Box[Batch, Output, User],
        source: AnySource[Batch],
        heard: Container[str],
    ) -> Generator[AnyEvent, None, BaseException | None]:
        if self.step is None:
            raise ValueError(
                "this loop has handlers only, and no step to run; join it with a loop that has "
                "one: Loop(outputs(function)) | loop"
            )
        # Without data, Batch is None, which no type can say.
        return script(box, self.step, cast("DataSource[Batch]", source), heard, self.semantics)
