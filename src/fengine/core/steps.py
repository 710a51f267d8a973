"""Steps: what makes an output of a batch, as frozen records.

A step is `State -> State`. `outputs` lifts a function of the batch. `stages` chains functions, each
of which takes the value of the one before, with events between them. Both compare, hash and pickle
where their functions do.

The functions at the end are for who makes steps that trainings use, and no part of the public API:
contexts of a run and of each iteration, and a function that does in one call what stages do.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from typing import Any, Final, Generic, Protocol, TypeAlias, TypeVar, cast, final, overload

import attrs
from immutables import Map
from typing_extensions import override

from fengine.core.describe import describe, require_callable
from fengine.core.events import AnyEvent, Event, PayloadEvent
from fengine.core.parts import Part
from fengine.core.phases import PHASES
from fengine.core.registry import not_an_event
from fengine.core.state import Batch, Output, State, User, with_output
from fengine.core.stateful import Stateful, identities, named

Value = TypeVar("Value")
Next = TypeVar("Next")
Fed = TypeVar("Fed")
Made = TypeVar("Made")
Kept = TypeVar("Kept")


Context: TypeAlias = Callable[[], AbstractContextManager[object]]


class Lends(Protocol):
    """Say what a step lends to each iteration and takes back, and where a state keeps it."""

    @property
    def things(self) -> Mapping[str, Any]:
        """What is lent, by name."""

    def context(self) -> AbstractContextManager[object]:
        """Make the context of an iteration, after which all that is lent is as it was before."""

    def read(self, state: State[Any, Any, Any]) -> Any:
        """Return what a state keeps of the things."""

    def write(self, state: State[Any, Any, Any], kept: Any) -> State[Any, Any, Any]:
        """Return a state that keeps something else of them."""

    def lent_with(self, thing: object) -> str | None:
        """Return the name of what is lent that a thing is, or shares something with; None: none."""


@final
@attrs.frozen
class Facts:
    """Hold what a step says of itself to the features of its loop.

    Args:
        weight: how much a batch counts, such as its number of samples; None where nobody knows.
        makes: of which type the outputs are; None where nobody knows.
        words: the call that made the step; None for one that is shown stage by stage.
        lends: what it lends to each iteration; None where it lends nothing.
        parts: the parts of the state that it keeps something in.
        reads: what it reads outside the state, such as a model that predicts.
        members: whether each output is one of several trainings, the members of an ensemble.
        is_fixed: whether members that are no longer trained are to stay where they are.
        alone: why a loop with the step has one rank; None: it may have several.
    """

    weight: Callable[[Any], float] | None = None
    makes: type | None = None
    words: str | None = None
    lends: Lends | None = None
    parts: tuple[Part[Any], ...] = ()
    reads: tuple[object, ...] = ()
    members: bool = False
    is_fixed: bool = False
    alone: str | None = None


@final
@attrs.frozen
class Into:
    """Write a value into the state, and read what goes on from there; made by `Stages.into`."""

    write: Callable[[State[Any, Any, Any], Any], State[Any, Any, Any]]
    read: Callable[[State[Any, Any, Any]], Any]


@final
class AnyUser:
    """Stand for the type of the user's record, of stages that take any."""


@final
@attrs.frozen(repr=False)
class Outputs(Generic[Batch, Output]):
    """Make the output of the batch alone; made by `outputs`."""

    function: Callable[[Batch], Output]
    _context: Context | None = None
    _facts: Facts = Facts()

    def __setstate__(self, kept: Any) -> None:
        """Take up what `copy` and `pickle` kept, of version 0.1 too."""
        _set_fields(self, kept)

    @override
    def __repr__(self) -> str:
        return self._facts.words or f"outputs({describe(self.function)})"

    # The first overload is for callers that say nothing about the user's record: there is none.
    @overload
    def __call__(self, state: State[Batch, Output, None]) -> State[Batch, Output, None]: ...

    @overload
    def __call__(self, state: State[Batch, Output, Kept]) -> State[Batch, Output, Kept]: ...

    def __call__(self, state: State[Batch, Output, Kept]) -> State[Batch, Output, Kept]:
        """Give the state with the output of its batch."""
        return with_output(state, self.function(state.batch))


# What version 0.1 called the fields.
_FIELDS_OF_0_1: Final = {"phase": "_context", "phases": "_contexts", "fused": "_fused"}


def _set_fields(step: object, kept: Any) -> None:
    fields: dict[str, object] = kept[1] if isinstance(kept, tuple) else kept
    fields = {"_facts": Facts(), **fields}
    if isinstance(step, Stages):
        fields = {"external": Map(), "_whole": None, **fields}
    for name, value in fields.items():
        object.__setattr__(step, _FIELDS_OF_0_1.get(name, name), value)


def outputs(function: Callable[[Batch], Output]) -> Outputs[Batch, Output]:
    """Make a step of a function from the batch to the output.

    Args:
        function: called once an iteration; what it returns is `state.output`. A tensor that has a
            graph keeps it alive there; return one that is detached.

    Raises:
        TypeError: `function` cannot take one batch.

    >>> outputs(sum)(State(batch=[1, 2])).output
    3
    """
    require_callable(function, "the function of outputs", "batch", or_class=True)
    return Outputs(function)


def require_value(stage: object, value: object, given: object) -> None:
    """Refuse another state as the value of a stage: what was changed in it would be lost.

    Args:
        stage: the stage.
        value: what it has returned.
        given: what it was called with.

    Raises:
        TypeError: it is refused.
    """
    if isinstance(value, State) and value is not given:
        raise TypeError(
            f"stage {describe(stage)} returned a State; a stage returns a value for the next "
            "stage, and the last value is the output, so what it changed would be lost. "
            "Change the state in a handler of an event between the stages, or write the whole step "
            "as one function from State to State: Loop(step)"
        )


@final
@attrs.frozen(repr=False)
class Stages(Generic[Batch, Output, Value, User]):
    """Chain functions with events between them into a step; made by `stages`.

    The first stage takes the state, each later one the value of the stage before it; the last value
    is the output. A handler of an event between stages may read and change the state; a payload
    event hands it the last value too. `into` writes a value into the state. Called as a plain step,
    it fires nothing.

    >>> halved = Event("halved")
    >>> list(stages(lambda state: state.batch / 2).emit(halved).then(round).events)
    [Event('halved')]
    """

    parts: tuple[Callable[..., object] | AnyEvent | Into, ...]
    external: Map[str, Stateful] = attrs.field(default=Map(), eq=identities)
    _contexts: tuple[Context, ...] = ()
    _fused: Callable[[Batch], Output] | None = None
    _facts: Facts = Facts()
    _whole: Callable[[State[Batch, Output, User]], State[Batch, Output, User]] | None = None

    def __setstate__(self, kept: Any) -> None:
        """Take up what `copy` and `pickle` kept, of version 0.1 too."""
        _set_fields(self, kept)

    @override
    def __repr__(self) -> str:
        if self._facts.words is not None:
            return self._facts.words
        shown = map(_in_words, self.parts[1:])
        return ".".join([f"stages({describe(self.parts[0])})", *shown])

    @property
    def events(self) -> Iterator[AnyEvent]:
        """The events between the stages, in their order."""
        return (part for part in self.parts if isinstance(part, Event | PayloadEvent))

    def then(self, stage: Callable[[Value], Next]) -> Stages[Batch, Output, Next, User]:
        """Add a stage that takes the last value.

        Raises:
            TypeError: `stage` cannot take one value.
        """
        require_callable(stage, "a stage after the first", "value", or_class=True)
        return cast("Stages[Batch, Output, Next, User]", self._followed_by(stage))

    def emit(self, event: Event | PayloadEvent[Value]) -> Stages[Batch, Output, Value, User]:
        """Fire an event here; a payload event carries the last value.

        Raises:
            TypeError: `event` is not an event.
            ValueError: the loop fires it already, or these stages do.
        """
        if not isinstance(event, Event | PayloadEvent):
            raise TypeError(not_an_event(event))
        if event.name in PHASES:
            raise ValueError(f"{event!r} is fired by the loop; stages emit events of your own")
        if any(known.name == event.name for known in self.events):
            raise ValueError(f"{event!r} is emitted by these stages already; use another event")
        return self._followed_by(event)

    def into(
        self,
        write: Callable[[State[Batch, Output, User], Value], State[Batch, Output, User]],
        read: Callable[[State[Batch, Output, User]], Next],
    ) -> Stages[Batch, Output, Next, User]:
        """Write the last value into the state, as the handlers of the events before have left it.

        What goes on is read from the state: after the writing, and after each event that follows,
        since its handlers may change it. What is before is done then: a run that goes on at such
        an event does none of it again.

        Args:
            write: returns the state with the value.
            read: returns the next value from the state.

        Raises:
            TypeError: `write` cannot take a state and a value, or `read` no state.

        >>> def write(state, value):
        ...     return state.evolve(user=state.user + value)
        >>> step = stages(lambda state: state.batch).into(write, lambda state: state.user)
        >>> step(State(batch=3, user=4)).user, step(State(batch=3, user=4)).output
        (7, 7)
        """
        require_callable(write, "write of into", "state", "value")
        require_callable(read, "read of into", "state")
        return cast("Stages[Batch, Output, Next, User]", self._followed_by(Into(write, read)))

    def _followed_by(
        self, part: Callable[..., object] | AnyEvent | Into
    ) -> Stages[Batch, Output, Value, User]:
        facts = attrs.evolve(self._facts, words=None)
        return attrs.evolve(self, parts=(*self.parts, part), fused=None, whole=None, facts=facts)

    def changing(self, **external: Stateful) -> Stages[Batch, Output, Value, User]:
        """Name what these stages change outside the state, such as a model and its optimizer.

        A snapshot of a loop with these stages holds copies of it, and a run that goes on from the
        snapshot restores it.

        Raises:
            TypeError: something has no `state_dict` and `load_state_dict`.
            ValueError: a name is taken already.

        >>> from fengine.training import RandomState
        >>> list(stages(lambda state: state.batch).changing(random=RandomState()).external)
        ['random']
        """
        things = named(external)
        for name, thing in things.items():
            if self.external.get(name, thing) is not thing:
                raise ValueError(f"the stages change {name}={self.external[name]!r} already")
        return attrs.evolve(self, external=self.external.update(things))

    def weighing(self, weight: Callable[[Batch], float]) -> Stages[Batch, Output, Value, User]:
        """Say how much a batch counts, such as its number of samples; `mean` weighs with it.

        Raises:
            TypeError: `weight` cannot take one batch.

        >>> from fengine import Loop
        >>> from fengine.metrics import mean
        >>> step = stages(lambda state: float(sum(state.batch)) / len(state.batch)).weighing(len)
        >>> (Loop(step) | mean("mean")).run([[1, 2, 3], [6]]).metrics["mean"]
        3.0
        """
        require_callable(weight, "weight", "batch")
        return attrs.evolve(self, facts=attrs.evolve(self._facts, weight=weight))

    def within(self, context: Context) -> Stages[Batch, Output, Value, User]:
        """Have each run of these stages in a context: entered as it begins, left as it ends.

        The context is left in whatever way the run ends, an error and a dropped run among them. To
        wait at a moment does not leave it. Contexts that these stages have already are inside.

        Args:
            context: makes the context; called once for each run.

        Raises:
            TypeError: `context` cannot be called without arguments.

        >>> from contextlib import nullcontext
        >>> stages(lambda state: state.batch).within(nullcontext)(State(batch=1)).output
        1
        """
        require_callable(context, "context", or_class=True)
        return attrs.evolve(self, contexts=(context, *self._contexts))

    @overload
    def __call__(
        self: Stages[Fed, Made, Made, AnyUser], state: State[Fed, Made, None]
    ) -> State[Fed, Made, None]: ...

    @overload
    def __call__(
        self: Stages[Fed, Made, Made, AnyUser], state: State[Fed, Made, Kept]
    ) -> State[Fed, Made, Kept]: ...

    @overload
    def __call__(
        self: Stages[Fed, Made, Made, Kept], state: State[Fed, Made, Kept]
    ) -> State[Fed, Made, Kept]: ...

    def __call__(self, state: State[Any, Any, Any]) -> State[Any, Any, Any]:
        """Give the state with the value of the last stage as its output."""
        value: object = state
        with ExitStack() as entered:
            for context in self._contexts:
                entered.enter_context(context())
            if self._facts.lends is not None:
                entered.enter_context(self._facts.lends.context())
            for part in self.parts:
                if isinstance(part, Into):
                    state = part.write(state, value)
                    value = part.read(state)
                elif not isinstance(part, Event | PayloadEvent):
                    given, value = value, part(value)
                    require_value(part, value, given)
        return with_output(state, value)


def _in_words(part: object) -> str:
    if isinstance(part, Into):
        return f"into({describe(part.write)}, {describe(part.read)})"
    if isinstance(part, Event | PayloadEvent):
        return f"emit({part!r})"
    return f"then({describe(part)})"


def stages(
    first: Callable[[State[Batch, Output, User]], Value],
) -> Stages[Batch, Output, Value, User]:
    """Begin a step of several stages.

    Args:
        first: a function of the state, whose value goes to the next stage.

    Raises:
        TypeError: `first` cannot take one state.

    >>> step = stages(lambda state: state.batch / 2).emit(Event("halved")).then(round)
    >>> step(State(batch=7.0)).output
    4
    """
    require_callable(first, "the first stage", "state", or_class=True)
    return Stages((first,))


def with_context(step: Outputs[Batch, Output], context: Context) -> Outputs[Batch, Output]:
    """Have a run that returns no moments in a context.

    The function does the same without the context, only at more cost.
    """
    return attrs.evolve(step, context=context)


def contexts_of(step: object, *, of_moments: bool) -> tuple[Context, ...]:
    """Return what makes the contexts that a run of a step is in, the outermost first.

    Args:
        step: the step.
        of_moments: whether the run returns moments, between which others may run.
    """
    if isinstance(step, Stages):
        return step._contexts
    if isinstance(step, Outputs) and step._context is not None and not of_moments:
        return (step._context,)
    return ()


Told = TypeVar("Told", Outputs[Any, Any], Stages[Any, Any, Any, Any])


def telling(step: Told, facts: Facts) -> Told:
    """Have a step say something of itself."""
    return attrs.evolve(step, facts=facts)


def facts_of(step: object) -> Facts:
    """Return what a step says of itself."""
    return step._facts if isinstance(step, Stages | Outputs) else Facts()


def stages_of(step: Any) -> Any:
    """Return the stages that a step is made of; the step itself where it is another one."""
    found = None if isinstance(step, type) else getattr(step, "stages", None)
    return found if isinstance(found, Stages) else step


def parts_of(step: object) -> Map[str, Part[Any]]:
    """Return the parts of the state that a step keeps something in, by name."""
    return Map({key.name: key for key in facts_of(step).parts})


def lends_of(step: object) -> Lends | None:
    """Return what a step lends to each iteration."""
    return facts_of(step).lends


def require_not_lent(step: object, thing: object, way: str, who: str) -> None:
    """Refuse what a step lends to each iteration, as something that others keep or change.

    Raises:
        ValueError: it is refused; the text says the way.
    """
    lends = lends_of(step)
    name = None if lends is None else lends.lent_with(thing)
    if name is not None:
        raise ValueError(
            f"{who}: the {name} is only lent by {describe(step)}, which keeps all of it in the "
            f"state, and has it back after each iteration; {way}"
        )


def external_of(step: object) -> Mapping[str, Stateful]:
    """Return what a step says that it changes outside the state."""
    return step.external if isinstance(step, Stages) else Map()


def remarks_on(step: object) -> Iterator[str]:
    """Return what the contexts of a step have to say of it, for who prints a loop."""
    for context in step._contexts if isinstance(step, Stages) else ():
        remarks: Callable[[], Iterator[str]] | None = getattr(context, "remarks", None)
        if remarks is not None:
            yield from remarks()


def fused(
    step: Stages[Batch, Output, Output, User], function: Callable[[Batch], Output]
) -> Stages[Batch, Output, Output, User]:
    """Name one function that does in one call what all these stages do.

    A run calls it where nobody listens to an event between the stages, and each of these events has
    a counter attribute, so that none is counted. A stage or an event that is added drops it.

    >>> halved = Event("halved", attr="iteration")
    >>> step = stages(lambda state: state.batch / 2).emit(halved).then(round)
    >>> fused(step, lambda batch: round(batch / 2))(State(batch=7.0)).output
    4
    """
    return attrs.evolve(step, fused=function)


def with_whole(
    step: Stages[Batch, Output, Output, User],
    function: Callable[[State[Batch, Output, User]], State[Batch, Output, User]],
) -> Stages[Batch, Output, Output, User]:
    """Name one function of the state that does in one call what all these stages do.

    It is called where `fused` says, and lends by itself what the step lends.
    """
    return attrs.evolve(step, whole=function)


def whole_of(
    step: object, heard: Container[str], event: AnyEvent | None
) -> Callable[[State[Any, Any, Any]], State[Any, Any, Any]] | None:
    """Return the function of the state that a step is, where it is made of stages.

    Args:
        step: the step.
        heard: the names of the events that somebody listens to.
        event: where the run stands: within the stages, it goes on there.
    """
    if not isinstance(step, Stages) or step._whole is None:
        return None
    return None if _has_due(step, heard, event) else step._whole


def function_of_batch(
    step: Callable[[State[Batch, Output, User]], object],
    heard: Container[str],
    event: AnyEvent | None,
) -> Callable[[Batch], Output] | None:
    """Return the function of the batch that a step is, if it is one.

    Args:
        step: the step.
        heard: the names of the events that somebody listens to.
        event: where the run stands: within the stages, it goes on there.
    """
    if isinstance(step, Outputs):
        return step.function
    if not isinstance(step, Stages):
        return None
    return None if _has_due(step, heard, event) else step._fused


def _has_due(
    step: Stages[Any, Any, Any, Any], heard: Container[str], event: AnyEvent | None
) -> bool:
    """Tell whether an event between the stages is to be fired, or the run stands at one."""
    emitted = tuple(step.events)
    return event in emitted or any(_is_due(one, heard) for one in emitted)


def _is_due(event: AnyEvent, heard: Container[str]) -> bool:
    """Tell whether an event between stages is heard, or is counted for who asks later."""
    return event.attr is None or event.name in heard
