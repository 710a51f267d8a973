"""The rules: what must hold of every run of every Engine, whatever its handlers do.

A rule looks at what was seen of one call of `run`, and says what is wrong with it, if anything is.
None of them knows another engine: what may fire, the reference automaton says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Set
from typing import Final, final

import attrs

from fengine.core.requests import NO_REQUESTS
from fengine.core.semantics import IGNITE_0_5_5, Semantics
from fengine.testing.automaton import AUTOMATON, Standing
from fengine.testing.conformance.player import MOST_EVENTS, Played, Progress, Ran
from fengine.testing.conformance.programs import Call
from fengine.testing.traces import Fired, follow


@final
@attrs.frozen
class Rule:
    """Hold a rule.

    Args:
        name: a short name.
        holds: what must hold, in words.
        wrong: says what is wrong with one call of a played program; nothing if it is right.

    >>> [rule.name for rule in RULES][:3]
    ['ends', 'starts', 'returns']
    """

    name: str
    holds: str
    wrong: Callable[[Ran, Played], str]


def _ends(ran: Ran, played: Played) -> str:
    if not ran.endless:
        return ""
    last = ran.progress[-1]
    return (
        f"after {MOST_EVENTS} events it is at epoch {last.epoch}, iteration {last.iteration}, "
        "and goes on"
    )


def _returns(ran: Ran, played: Played) -> str:
    if ran.endless or ran.error is not None:
        return ""
    if ran.returned is not played.state:
        return f"it returned {ran.returned!r}, and {len(ran.fired)} events had fired"
    return "" if ran.fired else "no event had fired when it returned"


def _starts(ran: Ran, played: Played) -> str:
    new = ran.before == Progress(0, 0, max_epochs=None, max_iters=None, epoch_length=None)
    if not ran.refused or not new or ran.call.data.size == 0:
        return ""
    return f"a new engine refused it: {ran.error!r}"


def _raises(ran: Ran, played: Played) -> str:
    takes = played.program.listener == "takes"
    for error in () if ran.endless else ran.raised:
        if takes and ran.error is error:
            return f"{error!r} left it, though a handler had taken it"
        if not takes and ran.error is not error:
            left = "nothing" if ran.error is None else repr(ran.error)
            return f"{error!r} was raised and not taken, but {left} left it"
    own = ran.error is not None and all(ran.error is not error for error in ran.raised)
    if own and ran.fired and not _may_refuse(ran, played):
        return f"{ran.error!r} left it, which nothing in it had raised"
    return ""


def _may_refuse(ran: Ran, played: Played) -> bool:
    """Whether the last thing asked for is a stop which is an error if it acts at once."""
    if played.semantics is not None and played.semantics.finish_iteration:
        return False
    fired = [one for one in ran.fired if one.event != "exception_raised"]
    if not fired or fired[-1].event not in ("started", "epoch_started"):
        return False
    asked = fired[-1].requests
    return asked is not None and asked.terminate_epoch is not None


def _handles_once(ran: Ran, played: Played) -> str:
    due = 1 if played.program.listener in ("takes", "raises") else 0
    for error in ran.raised:
        calls = sum(handled is error for handled in ran.handled)
        if calls != due:
            return f"the handler of EXCEPTION_RAISED was called {calls} times with {error!r}"
    return ""


def _fires(ran: Ran, played: Played) -> str:
    if ran.endless or not ran.fired or played.program.listener == "removed":
        return ""  # other rules speak of these
    trace = list(ran.fired)
    if ran.error is not None and trace[-1].event != "exception_raised":
        trace.append(Fired("exception_raised", requests=NO_REQUESTS))
    try:
        _followed(ran, played, [*trace, Fired("exited")])
    except AssertionError as refusal:
        return str(refusal)
    return ""


def _followed(ran: Ran, played: Played, trace: list[Fired]) -> Set[Standing]:
    """Follow a trace from where the run began or was paused."""
    known: dict[str, bool] = {}
    if played.semantics is not None:
        known["at once"] = not played.semantics.finish_iteration
    if ran.previous is None or not ran.previous.interrupted:
        known["data"] = ran.call.data.kind != "none"
        return follow(AUTOMATON, {Standing()}, trace, known)
    paused = _followed(ran.previous, played, ran.previous.fired)
    resumed = {attrs.evolve(standing, paused=False) for standing in paused}
    # An Engine may announce once more the fetch that was paused at the end of the data.
    again = {standing for standing in resumed if standing.at == "dataloader_stop_iteration"}
    resumed |= {attrs.evolve(standing, at="next batch") for standing in again}
    return follow(AUTOMATON, resumed, trace, known)


def _keeps_limits(ran: Ran, played: Played) -> str:
    given = ran.call.limits
    if ran.refused or given.max_epochs is given.max_iters:
        return ""
    for progress in ran.progress:
        epochs = None if _follows(progress, played.semantics) else progress.max_epochs
        if (epochs, progress.max_iters) != (given.max_epochs, given.max_iters):
            return (
                f"max_epochs is {progress.max_epochs} and max_iters is {progress.max_iters} at "
                f"epoch {progress.epoch}, iteration {progress.iteration}"
            )
        if given.epoch_length not in (None, progress.epoch_length):
            return f"epoch_length is {progress.epoch_length} at epoch {progress.epoch}"
    return ""


def _follows(progress: Progress, semantics: Semantics | None) -> bool:
    """Tell whether `max_epochs` is what `max_iters` makes, as pytorch-ignite 0.5.5 has it."""
    length, iters = progress.epoch_length, progress.max_iters
    if semantics != IGNITE_0_5_5 or length is None or iters is None:
        return False
    return progress.max_epochs == math.ceil(iters / length)


def _runs_again(ran: Ran, played: Played) -> str:
    before = ran.previous
    if before is None or before.call != ran.call or not ran.refused:
        return ""
    if before.raised or before.interrupted or before.returned is not played.state:
        return ""
    return f"the same call again is refused: {ran.error!r}"


def _refuses_whole(ran: Ran, played: Played) -> str:
    after = ran.progress[-1]
    if not ran.refused or after == ran.before:
        return ""
    changes = ", ".join(
        f"{field.name} from {getattr(ran.before, field.name)} to {getattr(after, field.name)}"
        for field in attrs.fields(Progress)
        if getattr(ran.before, field.name) != getattr(after, field.name)
    )
    return f"it was refused ({ran.error!r}), and changed {changes}"


def _begins(ran: Ran, played: Played) -> str:
    if not ran.fired:
        return ""
    first, before = ran.fired[0], ran.before
    begun = first.epoch, first.iteration
    if first.event != "started":  # what was paused goes on, whose last event counted already
        gone_on = (
            before.epoch + (first.event == "epoch_started"),
            before.iteration + (first.event == "iteration_started"),
        )
        allowed = [gone_on]
    elif _is_longer(ran):
        allowed = [(before.epoch, before.iteration)]
    else:
        allowed = [(0, 0), (before.epoch, before.iteration)]
    if begun in allowed:
        return ""
    places = " or ".join(f"epoch {epoch}, iteration {iteration}" for epoch, iteration in allowed)
    return f"it begins at epoch {begun[0]}, iteration {begun[1]}, not at {places}"


def _is_longer(ran: Ran) -> bool:
    """Whether the same run, which had reached its end, is given more epochs."""
    if ran.previous is None or not _is_undisturbed(ran.previous):
        return False
    call, last = ran.call, ran.previous.call
    epochs, before = call.limits.max_epochs, last.limits.max_epochs
    if epochs is None or before is None or call.data != last.data:
        return False
    same = attrs.evolve(call.limits, max_epochs=before) == last.limits
    return same and ran.before.epoch == before < epochs


def _is_undisturbed(ran: Ran) -> bool:
    return all(fired.requests == NO_REQUESTS for fired in ran.fired) and not ran.raised


def _reaches(ran: Ran, played: Played) -> str:
    new = bool(ran.fired) and (ran.progress[0].epoch, ran.progress[0].iteration) == (0, 0)
    if not _is_undisturbed(ran) or not new or ran.endless:
        return ""
    data, limits = ran.call.data, ran.call.limits
    if not _knows_length(ran.call) and any(map(_knows_length, _calls_before(ran))):
        return ""  # which may still hold
    wanted = limits.max_iters or (limits.max_epochs or 1) * (limits.epoch_length or data.size)
    reached = ran.progress[-1].iteration
    if reached == wanted or (wanted > data.size and not data.replays):
        return ""
    return f"nothing stopped it, and it is at iteration {reached} in the end, not at {wanted}"


def _knows_length(call: Call) -> bool:
    return call.limits.epoch_length is not None or call.data.kind in ("list", "sized")


def _calls_before(ran: Ran) -> Iterator[Call]:
    while ran.previous is not None:
        ran = ran.previous
        yield ran.call


def _feeds(ran: Ran, played: Played) -> str:
    data = ran.call.data
    parts = _parts(ran)
    if not parts or data.kind == "none" or any(part.raised for part in parts):
        return ""
    if any(part.call.data != data for part in parts):
        return ""  # whose batches come when is not said
    events = [fired.event for part in parts for fired in part.fired]
    batches, before = [], 0
    for part in parts:
        batches += [(batch, before + fired) for batch, fired in part.batches]
        before += len(part.fired)
    expected, seen = {0}, 0
    for batch, fired in batches:
        if "terminate_single_epoch" in events[seen:fired]:
            expected = {0} if data.replays else set(range(data.size))
        if batch not in expected:
            return f"the step got batch {batch!r}, where {sorted(expected)} was to come"
        last = batch == data.size - 1
        expected, seen = {0} if last else {batch + 1}, fired
    return ""


def _parts(ran: Ran) -> list[Ran]:
    """Give the calls that made one run, which was paused between them; none if it fired nothing."""
    if not ran.fired:
        return []
    if ran.fired[0].event == "started" or ran.previous is None:
        return [ran]
    return [*_parts(ran.previous), ran]


def _keeps_output(ran: Ran, played: Played) -> str:
    for returned, seen in ran.outputs:
        if seen is not returned:
            return (
                f"state.output is {seen!r} at ITERATION_COMPLETED; the step returned {returned!r}"
            )
    return ""


RULES: Final = (
    Rule("ends", "a run ends", _ends),
    Rule("starts", "a new engine takes data and limits that make sense", _starts),
    Rule("returns", "a run fires events, and returns the state or raises", _returns),
    Rule("raises", "an exception leaves the run, unless a handler is there that takes it", _raises),
    Rule("once", "EXCEPTION_RAISED fires once for an exception", _handles_once),
    Rule("fires", "what fires, and how the counters grow, is in the automaton", _fires),
    Rule("limits", "a run has the limits that it was given, and no others", _keeps_limits),
    Rule("again", "what has run can be run again in the same way", _runs_again),
    Rule("refusal", "a call that is refused changes nothing", _refuses_whole),
    Rule("reaches", "a run that nothing stops reaches its limits", _reaches),
    Rule("begins", "a run begins at 0, or goes on from where the last one stood", _begins),
    Rule("batches", "the step gets the batches of the data, in their order", _feeds),
    Rule("output", "state.output is what the step returned", _keeps_output),
)
