"""Snapshots: a whole run at one event as a value: its state, what is outside of it, and the data.

`Loop.snapshot` takes one. `Loop.resume` and `Loop.iterate` go on from it, as often as one likes.

Does not live here: what a state is as plain data (`plain_data`).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from typing import Any, Final, Generic, final

import attrs
from immutables import Map
from typing_extensions import override

from fengine.core.equality import same
from fengine.core.events import Events
from fengine.core.outcome import Failure
from fengine.core.parts import Part
from fengine.core.phases import PHASES
from fengine.core.registry import BUILT_IN_EVENTS, EventRegistry
from fengine.core.state import Batch, Output, ReadBatch, ReadOutput, ReadUser, State, User
from fengine.core.stateful import Stateful
from fengine.keep.external import saved
from fengine.keep.fitting import class_names
from fengine.keep.plain_data import SCHEMA, read_schema
from fengine.keep.readers import SnapshotError, map_of, read_fields, text
from fengine.run.place import position_of

_SHARDED: Final = "torch.distributed.tensor"  # the module of its one kind of tensors
_DEEPEST: Final = 100  # more than any state


def _frozen(external: Mapping[str, object]) -> Map[str, object]:
    return Map(external)


def _frozen_classes(classes: Mapping[str, str]) -> Map[str, str]:
    return Map(classes)


@final
@attrs.frozen(eq=False, repr=False)
class Snapshot(Generic[Batch, Output, User]):
    """Hold a run at one event; taken by `Loop.snapshot`.

    Args:
        state: the state.
        external: copies of what the things outside the state, by their names, gave of theirs;
            empty within the step, which has changed them.
        position: what the data said of its place; None if it knows none.
        classes: of which class each thing outside the state was, but for modules; empty in
            snapshots of version 0.1.

    >>> from fengine import Loop, outputs
    >>> loop = Loop(outputs(abs))
    >>> loop.snapshot(loop.run([-1, -2])).state.iteration
    2
    """

    state: State[Batch, Output, User]
    external: Map[str, object] = attrs.field(factory=Map, converter=_frozen)
    position: object = None
    classes: Map[str, str] = attrs.field(factory=Map, converter=_frozen_classes)

    def __setstate__(self, kept: Any) -> None:
        """Take up what `copy` and `pickle` kept, of version 0.1 too."""
        fields: dict[str, Any] = kept[1] if isinstance(kept, tuple) else kept
        for name, value in {"classes": Map(), **fields}.items():
            object.__setattr__(self, name, value)

    @override
    def __repr__(self) -> str:
        named = f" with {', '.join(self.external)}" if self.external else ""
        return f"<Snapshot of {self.state!r}{named}>"

    def to_dict(
        self,
        *,
        user: Callable[[User], object] | None = None,
        output: Callable[[Output], object] | None = None,
        batch: Callable[[Batch], object] | None = None,
    ) -> dict[str, Any]:
        """Return this snapshot as plain data, but for what `external` and the data gave.

        Tensors in there are left as they are: `torch.save` writes them.

        Args:
            user: as for `State.to_dict`.
            output: as for `State.to_dict`.
            batch: as for `State.to_dict`.

        Raises:
            ValueError: `external` has a sharded tensor, of which this process holds a part.

        >>> list(Snapshot(State(epoch=2)).to_dict())
        ['schema', 'state', 'external', 'position', 'classes']
        """
        for path in _shards("external", self.external):
            raise ValueError(
                f"{path} is a sharded tensor, of which this process holds a part only, so that the "
                "run could not go on from what it writes; keep it with "
                "fengine.checkpoints.Checkpoints and Loop(step, ranks=ranks), which write all parts"
            )
        return plain_of(self, self.state.to_dict(user=user, output=output, batch=batch))

    @staticmethod
    def from_dict(
        plain: object,
        *,
        events: EventRegistry = BUILT_IN_EVENTS,
        parts: Mapping[str, Part[Any]] = Map(),
        user: type[ReadUser] | Callable[[Any], ReadUser] | None = None,
        output: Callable[[Any], ReadOutput] | None = None,
        batch: Callable[[Any], ReadBatch] | None = None,
    ) -> Snapshot[ReadBatch, ReadOutput, ReadUser]:
        """Read a snapshot from what `to_dict` returned.

        Args:
            plain: the data; it is checked whole before anything is made of it.
            events: as for `State.from_dict`.
            parts: as for `State.from_dict`.
            user: as for `State.from_dict`.
            output: as for `State.from_dict`.
            batch: as for `State.from_dict`.

        Raises:
            SnapshotError: the data is not what `to_dict` returns; the error names the place.

        >>> snapshot = Snapshot(State(epoch=2), {"model": {"weight": 0.5}})
        >>> Snapshot.from_dict(snapshot.to_dict()) == snapshot
        True
        """

        def read_state(value: object, path: str) -> State[ReadBatch, ReadOutput, ReadUser]:
            try:
                return State.from_dict(
                    value, events=events, parts=parts, user=user, output=output, batch=batch
                )
            except SnapshotError as error:
                place = f"{path}.{error.path}" if error.path else path
                raise SnapshotError(place, error.reason) from None

        if isinstance(plain, Mapping):
            plain = {"classes": {}, **plain}  # version 0.1 did not write them
        fields = read_fields(
            plain,
            "",
            {
                "schema": read_schema,
                "external": _names,
                "position": lambda value, path: value,
                "classes": map_of(text),
                "state": read_state,
            },
        )
        del fields["schema"]
        return Snapshot(**fields)

    @override
    def __eq__(self, other: object) -> bool:
        """Compare every field, as states do. Always a bool."""
        if not isinstance(other, Snapshot):
            return NotImplemented
        return (
            self.state == other.state
            and same(self.external, other.external)
            and same(self.position, other.position)
            and self.classes == other.classes
        )

    __hash__ = None  # type: ignore[assignment]  # a snapshot holds tensors, which compare by content


def plain_of(snapshot: Snapshot[Any, Any, Any], state: Mapping[str, object]) -> dict[str, Any]:
    """Return a snapshot as plain data, whose state is plain already."""
    return {
        "schema": SCHEMA,
        "state": state,
        "external": dict(snapshot.external),
        "position": snapshot.position,
        "classes": dict(snapshot.classes),
    }


def _shards(path: str, value: Any, depth: int = 0) -> Iterator[str]:
    """Give the paths of tensors in plain data that are sharded over several processes."""
    if depth > _DEEPEST:
        return
    if isinstance(value, Mapping):
        for name, one in value.items():
            yield from _shards(f"{path}.{name}", one, depth + 1)
    elif isinstance(value, list | tuple):
        for place, one in enumerate(value):
            yield from _shards(f"{path}.{place}", one, depth + 1)
    elif type(value).__module__.startswith(_SHARDED) and value.device_mesh.size() > 1:
        yield path


def taken(
    external: Mapping[str, Stateful],
    state: State[Batch, Output, User],
    data: object,
    before: Snapshot[Batch, Output, User] | None = None,
) -> Snapshot[Batch, Output, User]:
    """Take a snapshot; what has not changed since an earlier one is shared with that.

    Within the step nothing outside the state is saved: the step, which is done again where the run
    goes on, has changed it already.
    """
    if is_within_step(state):
        external = {}
    copies = saved(external, None if before is None else before.external)
    return Snapshot(state, copies, position_of(data, state), class_names(external))


def require_whole(
    external: Mapping[str, Stateful], parts: Container[str], state: State[Any, Any, Any]
) -> None:
    """Refuse a state of which no whole snapshot can be taken.

    Args:
        external: what the loop changes outside the state.
        parts: the names of the parts that the loop knows.
        state: the state.

    Raises:
        ValueError: it stands within the step, which has changed something outside already; or it
            has a part that the loop does not know, so that it could not be read.
    """
    if external and is_within_step(state):
        raise ValueError(
            f"the state stands at {state.event!r}, within the step, which has changed external "
            f"{sorted(external)} and is done again where a run goes on; take the snapshot at an "
            "event before the step or after it. To stop on Ctrl-C where it can be taken, give the "
            "run a fengine.checkpoints.Preemption(signal.SIGINT)"
        )
    unknown = sorted(name for name in state.parts if name not in parts)
    if unknown:
        raise ValueError(
            f"the state has the parts {unknown}, which the loop does not know, so that they could "
            "not be read again; name them: loop.with_part(key)"
        )


def is_within_step(state: State[Batch, Output, User]) -> bool:
    """Tell whether the step has begun where a state stands, and will be done again."""
    if state.event is None or state.requests.recovery is not None:
        return False
    failed = state.event == Events.ITERATION_STARTED and state.failure is Failure.ELSEWHERE
    return failed or state.event.name not in PHASES


def _names(value: object, path: str) -> Map[str, object]:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise SnapshotError(path, f"{value!r} is not a dict with names as keys")
    return Map(value)
