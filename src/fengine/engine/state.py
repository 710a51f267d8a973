"""The State of the Engine API: a live, mutable view over the loop's one frozen record.

Reading sees the record as it is now, and writing a counter, a limit, the batch or the output puts
another record in its place, which the loop reads next. Metrics and free attributes are plain
objects in a dict that the record carries as its user's slot; there, and only there, purity ends.
"""

from __future__ import annotations

import numbers
from typing import Any, ClassVar, Final, TypeAlias, final

import attrs
from typing_extensions import override

from fengine.core.missing import MISSING
from fengine.core.outcome import Status
from fengine.core.ports import Box
from fengine.core.records import copier
from fengine.core.state import State as Record
from fengine.core.transitions import shown, with_limit, with_status
from fengine.engine.enums import Events

Free: TypeAlias = dict[str, Any]
AnyRecord: TypeAlias = Record[Any, Any, Free]

_copied: Final = copier(Record)
_set_iteration: Final = copier(Record, "iteration")
_set_epoch: Final = copier(Record, "epoch")
_set_batch: Final = copier(Record, "_batch")
_set_output: Final = copier(Record, "_output")
_LIMITS: Final = ("epoch_length", "max_epochs", "max_iters")
_COUNTED: Final = ("iteration", "epoch", "batch", "output")


@final
class _Mirrored(str):
    """Name an attribute that counts an event of one engine; for others it decides nothing."""

    __slots__ = ()


class State:
    """Pass internal and user-defined values between the handlers of an engine.

    Attributes beside those below may be set at will and stay as they are.

    Args:
        **kwargs: attributes to set.

    Attributes:
        iteration: number of iterations begun, 1 in the first one.
        epoch: number of epochs begun, 1 in the first one.
        epoch_length: number of batches in an epoch, or None.
        max_epochs: number of epochs to run, or None.
        max_iters: number of iterations to run, or None.
        output: what the process function returned for the last batch, or None.
        batch: the batch of this iteration, or None.
        metrics: named results; a plain dict.
        dataloader: the data of the run.
        seed: set by a deterministic engine.
        times: seconds that the last epoch and the run took, under "EPOCH_COMPLETED" and
            "COMPLETED".

    >>> state = State(epoch=2, lr=0.1)
    >>> state.lr, state.epoch, state.output is None
    (0.1, 2, True)
    """

    event_to_attr: ClassVar[dict[Any, str]] = {
        Events.GET_BATCH_STARTED: "iteration",
        Events.GET_BATCH_COMPLETED: "iteration",
        Events.ITERATION_STARTED: "iteration",
        Events.ITERATION_COMPLETED: "iteration",
        Events.EPOCH_STARTED: "epoch",
        Events.EPOCH_COMPLETED: "epoch",
        Events.STARTED: "epoch",
        Events.COMPLETED: "epoch",
    }
    """Which attribute counts an event, for all states; what `register_events` adds only shows here,
    since each engine has its own."""

    __slots__ = ("__weakref__", "_attr_of", "_box")

    _box: Box[Any, Any, Free]
    _attr_of: dict[Any, str]

    # Read by __getattr__ and written by __setattr__.
    epoch_length: int | None
    max_epochs: int | None
    max_iters: int | None
    metrics: dict[str, Any]
    dataloader: Any
    seed: int | None
    times: dict[str, float | None]

    def __init__(self, **kwargs: Any) -> None:
        free: Free = {
            "metrics": {},
            "dataloader": None,
            "seed": None,
            "times": {"EPOCH_COMPLETED": None, "COMPLETED": None},
        }
        object.__setattr__(self, "_box", Box(Record(user=free)))
        object.__setattr__(self, "_attr_of", {})
        for name, value in kwargs.items():
            setattr(self, name, value)
        self._update_attrs()

    def get_event_attrib_value(self, event_name: Any) -> int:
        """Give the counter of an event.

        Raises:
            RuntimeError: the event has no counter.

        >>> from fengine.engine import Events, State
        >>> State(epoch=3).get_event_attrib_value(Events.EPOCH_STARTED)
        3
        """
        attr = self._attribute_of(event_name)
        if attr is None:
            raise RuntimeError(
                f"event {event_name!r} has no counter on the state; "
                "register it with event_to_attr={event: attribute}"
            )
        value: int = getattr(self, attr)
        return value

    def _attribute_of(self, event: Any) -> str | None:
        own = self._attr_of.get(event)
        if own is not None:
            return own
        shared = State.event_to_attr.get(event)
        return None if isinstance(shared, _Mirrored) else shared

    def __getattr__(self, name: str) -> Any:
        """Read an attribute from the record of the run, or a free one."""
        if name in ("_box", "_attr_of"):
            raise AttributeError(name)
        record = self._box.state
        if name in _LIMITS:
            return getattr(record.limits, name)
        free = record.user
        if name in free:
            return free[name]
        raise AttributeError(
            f"the state has no attribute {name!r}; it has {', '.join(sorted(self._names()))}"
        )

    @override
    def __setattr__(self, name: str, value: Any) -> None:
        box = self._box
        if name in _COUNTED:
            object.__setattr__(self, name, value)
        elif name in _LIMITS:
            box.state = with_limit(box.state, name, value)
        elif hasattr(State, name):
            raise AttributeError(
                f"the state needs {name!r} for itself; give your attribute another name"
            )
        elif hasattr(type(self), name):
            object.__setattr__(self, name, value)  # of a class of the user's
        else:
            box.state.user[name] = value

    @classmethod
    def _is_reserved(cls, name: str) -> bool:
        """Tell whether an attribute is no place for a value of the user's."""
        return hasattr(State, name) or name in (*_LIMITS, "metrics", "dataloader", "times")

    @override
    def __delattr__(self, name: str) -> None:
        if name in ("batch", "output"):
            setattr(self, name, None)
            return
        if name not in self._box.state.user:
            raise AttributeError(f"attribute {name!r} of the state cannot be deleted")
        del self._box.state.user[name]

    @property
    def iteration(self) -> int:
        """Number of iterations begun."""
        return self._box.state.iteration

    @iteration.setter
    def iteration(self, value: int) -> None:
        self._box.state = _set_iteration(self._box.state, value)

    @property
    def epoch(self) -> int:
        """Number of epochs begun."""
        return self._box.state.epoch

    @epoch.setter
    def epoch(self, value: int) -> None:
        self._box.state = _set_epoch(self._box.state, value)

    @property
    def batch(self) -> Any:
        """The batch of this iteration, or None."""
        batch = self._box.state._batch
        return None if batch is MISSING else batch

    @batch.setter
    def batch(self, value: Any) -> None:
        # None too, and not MISSING: the step gets it.
        self._box.state = _set_batch(self._box.state, value)

    @property
    def output(self) -> Any:
        """What the process function returned, or None."""
        output = self._box.state._output
        return None if output is MISSING else output

    @output.setter
    def output(self, value: Any) -> None:
        self._box.state = _set_output(self._box.state, MISSING if value is None else value)

    @override
    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._names()})

    @override
    def __repr__(self) -> str:
        lines = ["State:"]
        for name in self._names():
            value = getattr(self, name)
            described = value if isinstance(value, numbers.Number | str) else type(value)
            lines.append(f"\t{name}: {described}")
        return "\n".join([*lines, ""])

    def _names(self) -> list[str]:
        return ["iteration", "epoch", *_LIMITS, "output", "batch", *self._box.state.user]

    @override
    def __getstate__(self) -> Any:
        """Give what `copy` and `pickle` keep."""
        # The record may be a draft, which the run goes on to fill.
        return _copied(self._box.state), self._attr_of, getattr(self, "__dict__", {})

    def __setstate__(self, kept: Any) -> None:
        record, attr_of, others = kept
        if record.status is Status.RUNNING:
            record = with_status(record, Status.READY)  # the run is that of the original
        object.__setattr__(self, "_box", Box(attrs.evolve(record, user=dict(record.user))))
        object.__setattr__(self, "_attr_of", dict(attr_of))
        for name, value in others.items():
            object.__setattr__(self, name, value)

    def _adopt(self, box: Box[Any, Any, Free], attr_of: dict[Any, str]) -> None:
        """Become the view over another box, with the values that this state has."""
        here = self._box.state
        box.state = attrs.evolve(
            shown(box.state),
            iteration=here.iteration,
            epoch=here.epoch,
            batch=self.batch,
            output=here._output,
            limits=here.limits,
            user=here.user,
        )
        object.__setattr__(self, "_box", box)
        object.__setattr__(self, "_attr_of", attr_of)
        self._update_attrs()

    def _count_by(self, event: Any, attr: str) -> None:
        """Have an attribute count an event of the engine of this state."""
        self._attr_of[event] = str(attr)  # which may have been found in event_to_attr
        State.event_to_attr.setdefault(event, _Mirrored(attr))

    def _update_attrs(self) -> None:
        """Have each attribute that counts an event."""
        for attr in (*State.event_to_attr.values(), *self._attr_of.values()):
            if not isinstance(attr, _Mirrored) and not hasattr(self, attr):
                setattr(self, attr, 0)
