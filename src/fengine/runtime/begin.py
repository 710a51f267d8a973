"""What a run begins with, new or going on: its source, its state and what is to be restored.

Everything that can be refused is refused here, before anything runs or is restored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from immutables import Map

from fengine.core.ledger import Ledger
from fengine.core.limits import Limits
from fengine.core.state import Batch, Output, State, User
from fengine.runtime.external import Stateful, require_names
from fengine.runtime.later import module_later
from fengine.runtime.positions import require_place
from fengine.runtime.source import DataSource, NoData, source_of

if TYPE_CHECKING:
    from fengine.runtime import snapshots
else:
    snapshots = module_later("fengine.runtime.snapshots")

AnySource: TypeAlias = DataSource[Batch] | NoData


def source_for(data: Iterable[Batch] | None, epoch_length: int | None) -> AnySource[Batch]:
    """Give the source of a new run.

    Raises:
        TypeError: there is neither data nor an epoch length, or the data is none.
    """
    if data is not None:
        return source_of(data)
    if epoch_length is None:
        raise TypeError(
            "data is None and there is no epoch_length, so the length of an epoch is unknown; "
            "give data, or epoch_length for a run without data"
        )
    return NoData()


def start(
    source: AnySource[Batch],
    user: User,
    max_epochs: int | None,
    max_iters: int | None,
    epoch_length: int | None,
) -> State[Batch, Output, User]:
    """Give the state in which a new run begins.

    Raises:
        TypeError: a limit is not an int.
        ValueError: a limit is below 1, or both limits are given.
    """
    if max_epochs is not None and max_iters is not None:
        raise ValueError(
            f"both max_epochs={max_epochs} and max_iters={max_iters} are given; give one of them"
        )
    if max_epochs is None and max_iters is None:
        max_epochs = 1
    if epoch_length is None and isinstance(source, DataSource):
        epoch_length = source.length
    ledger = Ledger(has_data=isinstance(source, DataSource))
    return State(user=user, limits=Limits(max_epochs, max_iters, epoch_length), ledger=ledger)


def go_on(
    after: State[Batch, Output, User] | snapshots.Snapshot[Batch, Output, User],
    data: Iterable[Batch] | None,
    external: Mapping[str, Stateful],
    *,
    replay: bool,
) -> tuple[State[Batch, Output, User], AnySource[Batch], Map[str, object]]:
    """Give the state to go on from, the source of its data, and what is to be restored.

    Raises:
        TypeError: there is nothing to go on from, or no data.
        ValueError: the run would never end, the data cannot be entered where the state stands, or
            the snapshot holds other things than the loop names.
    """
    if isinstance(after, snapshots.Snapshot):
        if external and not after.external and snapshots.is_within_step(after.state):
            raise ValueError(
                f"the snapshot stands at {after.state.event!r}, within the step, which had changed "
                f"external {sorted(external)} already; go on from ITERATION_STARTED, ahead of it"
            )
        require_names(external, after.external)
        for name, thing in external.items():
            if id(thing) == id(data):
                raise ValueError(
                    f"the data is external[{name!r}] too, and would be told its place twice; "
                    "leave it out there, since data that knows its place is asked anyway"
                )
        state, position, saved = after.state, after.position, after.external
    elif isinstance(after, State):
        state, position, saved = after, None, Map()
    else:
        raise TypeError(
            f"{after!r} of type {type(after).__name__} is not a State or Snapshot to go on from"
        )
    if state.limits.max_epochs is None and state.limits.max_iters is None:
        raise ValueError(
            "the state to go on from has neither max_epochs nor max_iters, so the run would never "
            "end; take it from a run, or give it limits: State(..., limits=Limits(max_epochs=1))"
        )
    if data is None and state.ledger.has_data:
        raise TypeError(
            "data is None, but the state to go on from is that of a run over data; give the data"
        )
    source = source_for(data, state.limits.epoch_length)
    if isinstance(source, DataSource):
        if isinstance(data, Stateful):
            source.position = position
        require_place(data, state, source.position, replay=replay)
    return state, source, saved
