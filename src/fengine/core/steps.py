"""Steps: what makes an output of a batch, as frozen records.

A step is `State -> State`. `outputs` lifts a function of the batch; `stages` chains functions, each
fed with the value of the last, with events between them. Both compare, hash and pickle where their
functions do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Generic, TypeAlias, TypeVar, cast, final, overload

import attrs
from typing_extensions import override

from fengine.core.describe import describe, require_callable
from fengine.core.events import BUILT_IN, AnyEvent, Event, PayloadEvent
from fengine.core.registry import not_an_event
from fengine.core.state import Batch, Output, State, User
from fengine.core.transitions import with_output

Value = TypeVar("Value")
Next = TypeVar("Next")
Fed = TypeVar("Fed")
Made = TypeVar("Made")
Kept = TypeVar("Kept")


Phase: TypeAlias = Callable[[], AbstractContextManager[object]]


@final
@attrs.frozen(repr=False)
class Outputs(Generic[Batch, Output]):
    """Make the output of the batch alone; made by `outputs`.

    `phase` makes a context in which the function has less to do than without it, and does the same.
    A run that gives no moments is in one.
    """

    function: Callable[[Batch], Output]
    phase: Phase | None = None

    @override
    def __repr__(self) -> str:
        return f"outputs({describe(self.function)})"

    # First for who says nothing of a user's record: then there is none.
    @overload
    def __call__(self, state: State[Batch, Output, None]) -> State[Batch, Output, None]: ...

    @overload
    def __call__(self, state: State[Batch, Output, Kept]) -> State[Batch, Output, Kept]: ...

    def __call__(self, state: State[Batch, Output, Kept]) -> State[Batch, Output, Kept]:
        """Give the state with the output of its batch."""
        return with_output(state, self.function(state.batch))


def outputs(function: Callable[[Batch], Output]) -> Outputs[Batch, Output]:
    """Make a step of a function from the batch to the output.

    Args:
        function: called once an iteration; what it returns is `state.output`.

    Raises:
        TypeError: `function` cannot take one batch.

    >>> outputs(sum)(State(batch=[1, 2])).output
    3
    """
    require_callable(function, "the function of outputs", "batch", or_class=True)
    return Outputs(function)


@final
@attrs.frozen(repr=False)
class Stages(Generic[Batch, Output, Value, User]):
    """Chain functions with events between them into a step; made by `stages`.

    The first stage takes the state, each later one the value of the stage before it; the last value
    is the output. A handler of an event between stages may read and change the state; a payload
    event hands it the last value too. Called as a plain step, it fires nothing.

    `phases` make the contexts in which a run, or a plain call, is; see `within`. `fused` is the
    whole step as one function of the batch; see `fusing`.

    >>> halved = Event("halved")
    >>> list(stages(lambda state: state.batch / 2).emit(halved).then(round).events)
    [Event('halved')]
    """

    parts: tuple[Callable[..., object] | AnyEvent, ...]
    phases: tuple[Phase, ...] = ()
    fused: Callable[[Batch], Output] | None = None

    @override
    def __repr__(self) -> str:
        shown = [
            f"emit({part!r})"
            if isinstance(part, Event | PayloadEvent)
            else f"then({describe(part)})"
            for part in self.parts[1:]
        ]
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
        require_callable(stage, "a stage behind the first", "value", or_class=True)
        return Stages((*self.parts, stage), self.phases)

    def emit(self, event: Event | PayloadEvent[Value]) -> Stages[Batch, Output, Value, User]:
        """Fire an event here; a payload event carries the last value.

        Raises:
            TypeError: `event` is not an event.
            ValueError: the loop fires it already, or these stages do.
        """
        if not isinstance(event, Event | PayloadEvent):
            raise TypeError(not_an_event(event))
        if event.name in BUILT_IN:
            raise ValueError(f"{event!r} is fired by the loop; stages emit events of your own")
        if any(known.name == event.name for known in self.events):
            raise ValueError(f"{event!r} is emitted by these stages already; use another event")
        return Stages((*self.parts, event), self.phases)

    def within(self, phase: Phase) -> Stages[Batch, Output, Value, User]:
        """Have each run of these stages in a context: entered as it begins, left as it ends.

        It is left on whatever way the run ends, an error and a dropped run among them. A moment
        that is waited at does not leave it. A context that the stages are in already is inside.

        Args:
            phase: makes the context; called once for each run.

        Raises:
            TypeError: `phase` cannot be called without arguments.

        >>> from contextlib import nullcontext
        >>> stages(lambda state: state.batch).within(nullcontext)(State(batch=1)).output
        1
        """
        require_callable(phase, "phase", or_class=True)
        return attrs.evolve(self, phases=(phase, *self.phases))

    @contextmanager
    def phase(self) -> Iterator[None]:
        """Be in the contexts of a run, the one that was added last outside the others."""
        with ExitStack() as entered:
            for phase in self.phases:
                entered.enter_context(phase())
            yield

    def fusing(
        self: Stages[Batch, Output, Output, User], function: Callable[[Batch], Output]
    ) -> Stages[Batch, Output, Output, User]:
        """Name one function that does what all these stages do, for runs that hear nothing in them.

        A run calls it, at less cost, where nobody listens to an event between the stages, and each
        has a counter attribute, so that none is counted. It is for you to have both do the same. A
        stage or an event that is added drops it.

        Args:
            function: makes the output of the batch.

        Raises:
            TypeError: `function` cannot take one batch.

        >>> halved = Event("halved", attr="iteration")
        >>> step = stages(lambda state: state.batch / 2).emit(halved).then(round)
        >>> step.fusing(lambda batch: round(batch / 2))(State(batch=7.0)).output
        4
        """
        require_callable(function, "the function that is fused", "batch", or_class=True)
        return attrs.evolve(self, fused=function)

    def __call__(
        self: Stages[Fed, Made, Made, Kept], state: State[Fed, Made, Kept]
    ) -> State[Fed, Made, Kept]:
        """Give the state with the value of the last stage as its output."""
        value: object = state
        with self.phase():
            for part in self.parts:
                if not isinstance(part, Event | PayloadEvent):
                    value = part(value)
        return with_output(state, cast("Made", value))


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
