"""Stepping: how a step runs within an iteration, and what it fires on its way.

A step of the batch alone is called by the script. Others are run here: stages, with events between
them; a function of the state; and a generator, which fires events of the user's as often as it
wants. Each leaves the run at ITERATION_COMPLETED, with the output in the box.

A run that goes on within a step runs it again from its start, in silence up to the event that the
run stands at. What a stage has written into the state is done, so it begins there. Requests of the
handlers wait until the step is done.

What a step lends, handlers of the events between may change, as one that clips gradients does. So
where such a step is run again, those that had run are called again, for that alone: the states
that they return are dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Generator
from typing import Final, Generic, TypeAlias, cast, final

import attrs

from fengine.core.describe import describe
from fengine.core.events import AnyEvent, Event, Events, PayloadEvent
from fengine.core.phases import PHASES
from fengine.core.returned import accepted
from fengine.core.state import Batch, Output, State, User, new_object, set_fields
from fengine.core.steps import Into, Lends, Stages, lends_of, require_value
from fengine.run.box import Box, Leaked
from fengine.run.failures import note

FiringStep: TypeAlias = Generator[
    tuple[Event, State[Batch, Output, User]],
    State[Batch, Output, User],
    State[Batch, Output, User],
]
Step: TypeAlias = Callable[
    [State[Batch, Output, User]],
    State[Batch, Output, User] | FiringStep[Batch, Output, User],
]
Firings: TypeAlias = Generator[AnyEvent, None, None]

_BEGUN: Final = Events.ITERATION_STARTED
_DONE: Final = Events.ITERATION_COMPLETED
_EVENTS: Final = (Event, PayloadEvent)
_OF_A_BATCH: Final = "For a function of the batch write Loop(outputs(function))"


@final
@attrs.frozen(eq=False)
class Stepping(Generic[Batch, Output, User]):
    """Run a step within an iteration.

    Args:
        box: the run.
        step: the step.
        heard: the names of the events that somebody listens to.
        own: the events that a generator may fire.
    """

    box: Box[Batch, Output, User]
    step: Step[Batch, Output, User]
    heard: Container[str]
    own: Container[object]

    def stages(self, step: Stages[Batch, Output, Output, User]) -> Firings:
        """Run the stages of a step; a run that resumes between them is silent up to there."""
        lends = lends_of(step)
        return self._stages(step, lends=False) if lends is None else self._lending(step, lends)

    def _lending(self, step: Stages[Batch, Output, Output, User], lends: Lends) -> Firings:
        with lends.context():
            yield from self._stages(step, lends=True)

    def _stages(self, step: Stages[Batch, Output, Output, User], *, lends: bool) -> Firings:
        box, heard, parts = self.box, self.heard, step.parts
        stands_at = box.event
        silent = stands_at is not Events.ITERATION_STARTED and stands_at in tuple(step.events)
        value: object = box.state
        read: Callable[[State[Batch, Output, User]], object] | None = None
        if silent and (written := _last_written(parts, stands_at)) is not None:
            parts, read = parts[written[0] :], written[1]
            value = _called(read, value)
        for part in parts:
            if not isinstance(part, _EVENTS):
                if isinstance(part, Into):
                    self._write(part, value)
                    read = part.read
                    value = _called(read, box.state)
                    continue
                given, value = value, _called(part, value)
                if type(value) is State:
                    require_value(part, value, given)
                read = None
                del given
                continue
            is_heard = part.name in heard
            handled = () if is_heard else None
            if silent:
                silent = part != stands_at
                if lends and read is None:  # what was lent is given back as the state is written
                    self._call_again(part, value, None if silent else box._handled)
                if silent or box._handled is None:
                    continue
                is_heard = True
            elif part.attr is None:
                box.counts, box.event, box._handled = box.counted(part), part, handled
            elif is_heard:
                box.event, box._handled = part, handled
            if is_heard:
                box.payload = value
                yield part
                if read is not None:
                    value = _called(read, box.state)
        box.payload = None
        output = cast("Output", value)
        box.event, box._handled, box._output = (
            _DONE,
            () if _DONE.name in heard else None,
            output,
        )

    def _write(self, part: Into, value: object) -> None:
        """Have a stage write a value into the state, which stands where it did."""
        box, before = self.box, self.box.state
        try:
            made = part.write(before, value)
        except (StopIteration, GeneratorExit) as error:
            raise Leaked(error) from None
        if type(made) is not State:
            raise TypeError(
                f"stage {describe(part.write)} returned {type(made).__name__}; what writes a value "
                "into the state returns a State"
            )
        made = accepted(before, made, f"stage {describe(part.write)}")
        box.__dict__ = made.__dict__ | {"_handled": box._handled}

    def _call_again(self, event: AnyEvent, value: object, handled: tuple[str, ...] | None) -> None:
        """Call the handlers of an event that had run again; None: all of them."""
        self.box.payload = value
        self.box.again(event, None if handled is None else len(handled))

    def plain_step(self) -> FiringStep[Batch, Output, User] | None:
        """Call a step that takes the state; stand at ITERATION_COMPLETED with what it returns.

        Returns:
            The generator that the step is, of which nothing has run yet, or None.
        """
        box = self.box
        # A picture that has the registers themselves, until the step has made another state.
        picture: State[Batch, Output, User] = new_object(State)
        set_fields(picture, box.__dict__)
        try:
            result = self.step(picture)
        except BaseException as error:
            box.own()
            if isinstance(error, StopIteration | GeneratorExit):
                raise Leaked(error) from None
            if isinstance(error, TypeError | AttributeError) and "'State'" in str(error):
                note(error, f"step {describe(self.step)} gets a State. {_OF_A_BATCH}")
            raise
        if (
            type(result) is State
            and result._notes is box._notes
            and result.batches == box.batches
            and result.iteration == box.iteration
            and result.epoch == box.epoch
        ):
            # What `_take` does, a call less.
            registers = result.__dict__.copy()
            registers["event"] = _DONE
            registers["_handled"] = () if _DONE.name in self.heard else None
            box.__dict__ = registers
            return None
        box.own()
        if isinstance(result, Generator):
            return result
        self._take(result, _DONE)
        return None

    def _take(self, made: object, event: AnyEvent, number: int = 0) -> None:
        """Stand at an event with the state that a step has made.

        Args:
            made: the state.
            event: ITERATION_COMPLETED, or an event that the step fires.
            number: of those that the step fires in this iteration, which one that is.
        """
        box = self.box
        if type(made) is not State:
            raise TypeError(
                f"step {describe(self.step)} returned {type(made).__name__}; a step returns a "
                f"State. {_OF_A_BATCH}"
            )
        if (
            made.iteration != box.iteration
            or made.epoch != box.epoch
            or made.batches != box.batches
            or made._notes is not box._notes
        ):
            owner = f"step {describe(self.step)}"
            made = accepted(box.state, made, owner, ("iteration", "epoch", "batches"))
        registers = made.__dict__.copy()
        registers["event"] = event
        registers["_handled"] = () if event.name in self.heard else None
        if number != box._notes.fired:
            registers["_notes"] = box.noting(fired=number)
        if number and event.attr is None:
            registers["counts"] = box.counted(event)
        box.__dict__ = registers

    def generator(self, step: FiringStep[Batch, Output, User]) -> Firings:
        """Run a step that fires events; a run that resumes within it is silent up to there."""
        box = self.box
        stands_at = box.event
        silent = 0 if stands_at is _BEGUN else box._notes.fired
        number = 0
        answer: State[Batch, Output, User] | None = None
        made: object = None
        try:
            while True:
                try:
                    asked = next(step) if answer is None else step.send(answer)
                except StopIteration as end:
                    made = end.value
                    break
                except GeneratorExit as error:
                    raise Leaked(error) from None
                event, answer = self._asked(asked)
                number += 1
                if number > silent:
                    self._require_newest(answer, number)
                    self._take(answer, event, number)
                elif number == silent and event != stands_at:
                    raise ValueError(self._impure(number, event))
                if number >= silent and box._handled is not None:
                    yield event
                if number >= silent:
                    answer = box.state
        finally:
            step.close()
        if number < silent:
            raise ValueError(self._impure(number + 1, None))
        self._require_newest(made, number + 1)
        self._take(made, _DONE)

    def _asked(self, asked: object) -> tuple[Event, State[Batch, Output, User]]:
        """Take what a step yields apart, or refuse it."""
        match asked:
            case (Event() as event, State() as state) if event.name not in PHASES:
                if event in self.own:
                    return event, state
                raise ValueError(
                    f"step {describe(self.step)} fires {event!r}, which the loop does not know; "
                    "register it: loop.register(event)"
                )
        raise TypeError(
            f"step {describe(self.step)} yields {asked!r}; to fire an event of your own, write "
            "state = yield event, state"
        )

    def _require_newest(self, made: object, number: int) -> None:
        """Refuse a state from before the last firing, whose handlers would be forgotten."""
        if isinstance(made, State) and made._notes.fired != number - 1:
            raise ValueError(
                f"step {describe(self.step)} goes on with a state from before its last event, "
                "which forgets what the handlers did; write state = yield event, state"
            )

    def _impure(self, number: int, event: Event | None) -> str:
        """Say that a step does something else than before."""
        what = "ends before" if event is None else f"fires {event!r} as"
        return (
            f"step {describe(self.step)} {what} event {number} of the iteration, where it fired "
            f"{self.box.event!r} before. A run goes on within a step only if the step does the "
            "same again; go on from an event before the step or after it"
        )


def _last_written(
    parts: tuple[object, ...], event: AnyEvent | None
) -> tuple[int, Callable[[State[Batch, Output, User]], object]] | None:
    """Return where the stages go on that come after the last writing before an event, and how."""
    before = parts[: parts.index(event)]
    places = [place for place, part in enumerate(before) if isinstance(part, Into)]
    if not places:
        return None
    last = before[places[-1]]
    assert isinstance(last, Into)
    return places[-1] + 1, last.read


def _called(function: Callable[..., object], value: object) -> object:
    """Call a function of the user's within the script."""
    try:
        return function(value)
    except (StopIteration, GeneratorExit) as error:
        raise Leaked(error) from None
