"""Blame: who wrote a part of the state last, as a recorder saw it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, final

import attrs
from typing_extensions import override

from fengine.core.describe import describe
from fengine.core.equality import same
from fengine.core.events import AnyEvent, Events
from fengine.core.state import State
from fengine.look.differences import ABSENT, Difference, part_at
from fengine.look.entry import Entry

THE_LOOP: Final = "the loop"
THE_STEP: Final = "the step"

# What a step may write; the loop writes all else that changes between the handlers.
_OF_THE_STEP: Final = ("batch", "output", "user", "metrics", "requests", "attributes")


@final
@attrs.frozen
class Write:
    """Say who wrote a part of the state, and where in the run; made by `blame`.

    Args:
        by: the handler, or "the step" or "the loop".
        event: the event at which the handler was called, or the one after the step or the loop.
        epoch: the epoch.
        iteration: the iteration.
        difference: the part, before and after.

    >>> print(Write("the step", Events.ITERATION_COMPLETED, 1, 2, Difference("output", 0.5, 0.25)))
    output: 0.5 -> 0.25, written by the step at Events.ITERATION_COMPLETED, epoch 1, iteration 2
    """

    by: object
    event: AnyEvent
    epoch: int
    iteration: int
    difference: Difference

    @override
    def __str__(self) -> str:
        """Say it in a line."""
        who = self.by if isinstance(self.by, str) else describe(self.by)
        place = f"{self.event!r}, epoch {self.epoch}, iteration {self.iteration}"
        return f"{self.difference}, written by {who} at {place}"


def blame(entries: Sequence[Entry[Any, Any, Any]], path: str) -> Write:
    """Find who wrote a part of the state last.

    Args:
        entries: those of a recorder that keeps handlers: `Recorder(loop, handlers=True)`.
        path: the part, such as "user.best", "metrics.loss" or "output".

    Raises:
        ValueError: the entries hold no single handlers.
        LookupError: there is no such part, or nobody wrote it in these entries.

    >>> from fengine import Events, Loop, Recorder, outputs
    >>> def keep_best(state: State[int, int, int]) -> State[int, int, int]:
    ...     return state.evolve(user=min(state.user, state.output))
    >>> loop = Loop(outputs(abs)).on(Events.ITERATION_COMPLETED, keep_best)
    >>> recorder = Recorder(loop, handlers=True)
    >>> final = recorder.loop.run([-7, -3, -5], user=9)
    >>> write = blame(recorder.entries, "user")
    >>> write.by is keep_best, write.iteration, write.difference
    (True, 2, Difference(path='user', before=7, after=3))
    """
    if not any(entry.calls for entry in entries):
        raise ValueError(
            "these entries hold no single handlers to blame; record with "
            "Recorder(loop, handlers=True)"
        )
    states = list(_states(entries))
    parts = [part_at(state, f".{path}") for _, _, state in states]
    for place in reversed(range(1, len(states))):
        before, after = parts[place - 1], parts[place]
        if not same(before, after):
            handler, event, state = states[place]
            by = _between(event, path) if handler is None else handler
            return Write(by, event, state.epoch, state.iteration, Difference(path, before, after))
    if parts[-1] is ABSENT:
        known = ", ".join(str(field.alias) for field in attrs.fields(State))
        raise LookupError(f"no recorded state has a part {path!r}; a state has {known}")
    raise LookupError(f"nobody wrote {path!r} in {len(entries)} recorded events")


def _states(
    entries: Sequence[Entry[Any, Any, Any]],
) -> Iterator[tuple[object, AnyEvent, State[Any, Any, Any]]]:
    """Give every state with who left it: a handler, or None for what is between the events."""
    for entry in entries:
        for handler, state in entry.calls:
            yield handler, entry.event, state


def _between(event: AnyEvent, path: str) -> str:
    own = any(path == part or path.startswith((f"{part}.", f"{part}[")) for part in _OF_THE_STEP)
    return THE_STEP if event == Events.ITERATION_COMPLETED and own else THE_LOOP
