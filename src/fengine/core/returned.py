"""What comes back: whether what a handler or a step returned is a state of its run.

Only the loop moves a run. So a state that comes back stands where the one stood that was given, is
of the same run, or of none, and has the same limits.
"""

from __future__ import annotations

from fengine.core.describe import describe
from fengine.core.state import Batch, Output, State, User, of_run


def accepted(
    before: State[Batch, Output, User],
    after: State[Batch, Output, User],
    owner: str,
    place: tuple[str, ...] = ("iteration", "epoch", "batches", "event"),
) -> State[Batch, Output, User]:
    """Return the state that somebody has made of another one, as a state of the same run.

    Args:
        before: the state that was given.
        after: the state that came back.
        owner: who returned it, in words.
        place: the fields in which both are to be at one place.

    Raises:
        ValueError: it stands elsewhere in the run, or in another run, or has other limits.
    """
    changes = [
        f"{name} from {getattr(before, name)} to {getattr(after, name)}"
        for name in place
        if getattr(before, name) != getattr(after, name)
    ]
    if changes:
        raise ValueError(
            f"{owner} returned a State of another place in the run: {', '.join(changes)}. Only the "
            "loop moves a run; return the state that was given, with evolve() for what changes in "
            "it"
        )
    run = before._notes.run
    if after._notes.run is not None and after._notes.run != run:
        raise ValueError(
            f"{owner} returned a State of another run, at the same place; return the state that "
            "was given, with evolve() for what changes in it"
        )
    if after.limits != before.limits:
        raise ValueError(
            f"{owner} returned a State with other limits: {after.limits} instead of "
            f"{before.limits}. A run keeps the limits that it began with; ask for its end with "
            "terminate(), or go on from where it ended: loop.resume(state.with_limits(...), data)"
        )
    return after if after._notes.run == run else of_run(after, run)


def stated(
    handler: object, result: State[Batch, Output, User], where: str = ""
) -> State[Batch, Output, User]:
    """Return what a handler returned, if that is a State.

    Args:
        handler: the handler.
        result: what it returned.
        where: where in a run that was, in words that begin with a space.

    Raises:
        TypeError: it is something else.
    """
    if type(result) is not State:
        hint = " Did you forget 'return state'?" if result is None else ""
        raise TypeError(
            f"handler {describe(handler)} returned {kind_of(result)}{where}; "
            f"a handler returns a State.{hint}"
        )
    return result


def kind_of(result: object) -> str:
    """Say what a handler returned instead of a state."""
    if result is None:
        return "None"
    if hasattr(result, "__await__"):
        return f"a {type(result).__name__} (was it declared 'async' by mistake?)"
    return f"a {type(result).__name__}"
