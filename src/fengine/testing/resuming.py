"""Resuming: whether a run that is stopped, written, read and resumed is the uninterrupted one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeAlias

import attrs

from fengine.core.outcome import Status
from fengine.keep.snapshot import Snapshot, is_within_step
from fengine.look.differences import first_difference
from fengine.loop import Loop, Moment
from fengine.testing.purity import changes

Built: TypeAlias = tuple[Loop[Any, Any, Any], Iterable[Any] | None, Mapping[str, Any]]
Moments: TypeAlias = list[Moment[Any, Any, Any]]


def _write(snapshot: Snapshot[Any, Any, Any]) -> object:
    # Only now, since it imports torch.
    from fengine.checkpoints.without_folder import written

    return written(snapshot)


def _read(written: Any, loop: Loop[Any, Any, Any]) -> Snapshot[Any, Any, Any]:
    from fengine.checkpoints.without_folder import read

    return read(written, loop)


def assert_resume_exact(
    build: Callable[[], Built],
    boundaries: Literal["all"] | Iterable[int] = "all",
    *,
    write: Callable[[Snapshot[Any, Any, Any]], object] = _write,
    read: Callable[[Any, Loop[Any, Any, Any]], Snapshot[Any, Any, Any]] = _read,
    replay: bool = False,
) -> None:
    """Assert that a run can be stopped at events, and goes on as if it had not been.

    The run is made once without a stop. Then, for each boundary, everything is built again, as in a
    new process, and goes on from what was written there: the same events have to follow, with equal
    states, and leave what the loop changes outside the state equal. After an event that pauses the
    run there is no boundary, since a resumed run goes on where that one ends; nor is there one
    within the step of a loop that names something outside the state, which the step has changed.

    Args:
        build: gives the loop, the data, and the further arguments of `Loop.iterate`, each time new.
        boundaries: after which firings to stop, by their numbers from 1, or "all".
        write: writes a snapshot; by default as a checkpoint is written, so that what no checkpoint
            can hold is refused.
        read: reads what `write` has written, for a loop.
        replay: as for `Loop.resume`.

    Raises:
        AssertionError: a resumed run differs; the message says where.
        ValueError: there is no boundary to stop at, or a number is that of no firing.
        BaseException: whatever a run raises.

    >>> from fengine import outputs
    >>> def build():
    ...     return Loop(outputs(lambda batch: 2 * batch)), [1, 2, 3], {"max_epochs": 2}
    >>> assert_resume_exact(build)
    """
    if isinstance(boundaries, str) and boundaries != "all":
        raise ValueError(f'boundaries={boundaries!r}; give "all", or the numbers of firings')
    chosen = None if boundaries == "all" else set(boundaries)
    loop, data, arguments = build()
    whole: Moments = []
    written: dict[int, object] = {}
    for number, moment in enumerate(loop.iterate(data, **arguments), start=1):
        whole.append(moment)
        paused = moment.state.status is Status.INTERRUPTED
        if paused or (loop.external and is_within_step(moment.state)):
            continue
        if chosen is None or number in chosen:
            written[number] = write(loop.snapshot(moment.state, data))
    unknown = (chosen or set()) - set(range(1, len(whole) + 1))
    if unknown:
        raise ValueError(
            f"boundaries: {', '.join(map(repr, unknown))} is no firing of the run, which has "
            f"{len(whole)}, counted from 1"
        )
    if not written:
        raise ValueError(
            f"none of the firings chosen of the {len(whole)} of the run is a boundary to stop at"
        )
    left = loop.snapshot(whole[-1].state).external
    for number, text in written.items():
        loop, data, _ = build()
        rest = loop.iterate(data, after=read(text, loop), replay=replay)
        parting = first_difference(whole[number:], rest)
        if parting is not None:
            found = str(attrs.evolve(parting, number=number + parting.number))
        else:
            after = loop.snapshot(whole[-1].state).external
            found = changes({"external": left}, {"external": after})
        if found:
            state = whole[number - 1].state
            raise AssertionError(
                f"resumed after {whole[number - 1].event!r}, firing {number} of {len(whole)}, at "
                f"epoch {state.epoch}, iteration {state.iteration}, the run is not the one that "
                f"was not stopped:\n{found}\nWhat it changes outside the state belongs into "
                "loop.with_external(...), and the data must give the same batches again"
            )
