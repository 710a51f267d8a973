"""The State of the Engine API: a live, mutable view over the registers of the run.

Reading sees the run as it is now. Writing a counter, a limit, the batch or the output writes the
register, which the loop reads next. Metrics and free attributes are plain objects in a dict, which
is the user's record of the run; there, and only there, purity ends.

Every name that is not in the documented API lies under `_fengine`, so that subclasses are free.
"""

from __future__ import annotations

import numbers
from collections.abc import Iterator, MutableMapping
from typing import Any, ClassVar, Final, TypeAlias, final

import attrs
from typing_extensions import override

from fengine.core.missing import MISSING
from fengine.core.outcome import Status
from fengine.core.state import State as Record
from fengine.engine.enums import Events
from fengine.run.box import Box

Free: TypeAlias = dict[str, Any]

_LIMITS: Final = ("epoch_length", "max_epochs", "max_iters")
_COUNTED: Final = ("iteration", "epoch", "batch", "output")


@final
class _Mirrored(str):
    """Name an attribute that counts an event of one engine; for others it decides nothing."""

    __slots__ = ()


@final
class _Inside:
    """Hold what a state is a view of.

    Args:
        box: the run.
        attr_of: which attribute counts an event of the engine of this state.
    """

    __slots__ = ("attr_of", "box")

    def __init__(self, box: Box[Any, Any, Free], attr_of: dict[Any, str]) -> None:
        self.box = box
        self.attr_of = attr_of


class _WithAttributes:
    """Have room for the attributes that classes of the user's put into their states."""


# What `__dict__` is for any other object; that of a State shows the run.
_OTHERS: Final[Any] = vars(_WithAttributes)["__dict__"]


class State(_WithAttributes):
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

    __slots__ = ("_fengine",)

    _fengine: _Inside

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
        object.__setattr__(self, "_fengine", _Inside(Box(Record(user=free)), {}))
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
        attr = attribute_of(self, event_name)
        if attr is None:
            raise RuntimeError(
                f"event {event_name!r} has no counter on the state; "
                "register it with event_to_attr={event: attribute}"
            )
        value: int = getattr(self, attr)
        return value

    def __getattr__(self, name: str) -> Any:
        """Read an attribute from the run, or a free one."""
        if name == "_fengine":  # of a state that is being made
            raise AttributeError(name)
        box = self._fengine.box
        free = box.user
        if name in free:
            return free[name]
        if name in _LIMITS:
            return getattr(box.limits, name)
        raise AttributeError(
            f"the state has no attribute {name!r}; it has {', '.join(sorted(_names(self)))}"
        )

    @override
    def __setattr__(self, name: str, value: Any) -> None:
        box = self._fengine.box
        if name in box.user and (type(self) is State or not hasattr(type(self), name)):
            box.user[name] = value
        elif name in _COUNTED:
            object.__setattr__(self, name, value)
        elif name in _LIMITS:
            box.limit(name, value)
        elif hasattr(State, name):
            raise AttributeError(
                f"the state needs {name!r} for itself; give your attribute another name"
            )
        elif hasattr(type(self), name):
            object.__setattr__(self, name, value)  # of a class of the user's
        else:
            box.user[name] = value

    @override
    def __delattr__(self, name: str) -> None:
        free = self._fengine.box.user
        if name in ("batch", "output"):
            setattr(self, name, None)
        elif name in free:
            del free[name]
        else:
            raise AttributeError(f"attribute {name!r} of the state cannot be deleted")

    @property
    @override
    def __dict__(self) -> Any:  # type: ignore[override]  # that of object can be replaced
        """The attributes by name, live: what is written here is written to the run."""
        return _Attributes(self)

    @property
    def iteration(self) -> int:
        """Number of iterations begun."""
        return self._fengine.box.iteration

    @iteration.setter
    def iteration(self, value: int) -> None:
        self._fengine.box.iteration = value

    @property
    def epoch(self) -> int:
        """Number of epochs begun."""
        return self._fengine.box.epoch

    @epoch.setter
    def epoch(self, value: int) -> None:
        self._fengine.box.epoch = value

    @property
    def batch(self) -> Any:
        """The batch of this iteration, or None."""
        batch = self._fengine.box._batch
        return None if batch is MISSING else batch

    @batch.setter
    def batch(self, value: Any) -> None:
        # None too, and not MISSING: the step gets it.
        self._fengine.box._batch = value

    @property
    def output(self) -> Any:
        """What the process function returned, or None."""
        output = self._fengine.box._output
        return None if output is MISSING else output

    @output.setter
    def output(self, value: Any) -> None:
        self._fengine.box._output = MISSING if value is None else value

    @override
    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *_names(self)})

    @override
    def __repr__(self) -> str:
        lines = ["State:"]
        for name in _names(self):
            value = getattr(self, name)
            described = value if isinstance(value, numbers.Number | str) else type(value)
            lines.append(f"\t{name}: {described}")
        return "\n".join([*lines, ""])

    @override
    def __getstate__(self) -> Any:
        """Return what `copy` and `pickle` keep."""
        inside = self._fengine
        return inside.box.state, inside.attr_of, _OTHERS.__get__(self)

    def __setstate__(self, kept: Any) -> None:
        """Take up what `copy` and `pickle` keep; a dict is what pytorch-ignite has kept."""
        if isinstance(kept, dict):
            State.__init__(self, **kept)
            return
        record, attr_of, others = kept
        status = Status.READY if record.status is Status.RUNNING else record.status
        # A run that is under way is that of the original.
        box = Box(attrs.evolve(record, status=status, user=dict(record.user)))
        object.__setattr__(self, "_fengine", _Inside(box, dict(attr_of)))
        for name, value in others.items():
            object.__setattr__(self, name, value)

    def _update_attrs(self) -> None:
        """Have each attribute that counts an event."""
        for attr in (*State.event_to_attr.values(), *self._fengine.attr_of.values()):
            if not isinstance(attr, _Mirrored) and not hasattr(self, attr):
                setattr(self, attr, 0)


@final
class _Attributes(MutableMapping[str, Any]):
    """Be the `__dict__` of a state: a view that reads and writes its attributes."""

    def __init__(self, state: State) -> None:
        self._state = state

    @override
    def __getitem__(self, name: str) -> Any:
        """Read an attribute of the state."""
        if name not in self._names():
            raise KeyError(name)
        return getattr(self._state, name)

    @override
    def __setitem__(self, name: str, value: Any) -> None:
        """Write an attribute of the state."""
        setattr(self._state, name, value)

    @override
    def __delitem__(self, name: str) -> None:
        """Delete an attribute of the state, where that can be."""
        if name not in self._names():
            raise KeyError(name)
        delattr(self._state, name)

    @override
    def __iter__(self) -> Iterator[str]:
        """Name the attributes of the state."""
        return iter(self._names())

    @override
    def __len__(self) -> int:
        """Count the attributes of the state."""
        return len(self._names())

    def copy(self) -> dict[str, Any]:
        """Return the attributes as they are now."""
        return dict(self)

    @override
    def __repr__(self) -> str:
        return repr(dict(self))

    @override
    def __reduce__(self) -> Any:
        """Return what `copy` and `pickle` make it of: the attributes as they are now."""
        return dict, (dict(self),)

    def _names(self) -> list[str]:
        return [*dict.fromkeys([*_names(self._state), *_OTHERS.__get__(self._state)])]


def attribute_of(state: State, event: Any) -> str | None:
    """Return the attribute of a state that counts an event, or None."""
    own = state._fengine.attr_of.get(event)
    if own is not None:
        return own
    shared = State.event_to_attr.get(event)
    return None if isinstance(shared, _Mirrored) else shared


def is_reserved(name: str) -> bool:
    """Tell whether an attribute cannot count events of the user's."""
    return hasattr(State, name) or name in (*_LIMITS, "metrics", "dataloader", "times")


def is_method(name: str) -> bool:
    """Tell whether a state has something by a name that no value can be written to."""
    return hasattr(State, name) and name not in _COUNTED


def not_a_state(value: object) -> str:
    """Say why a value cannot be the state of an engine, and what can."""
    kind = type(value)
    lacking = ", ".join(name for name in _names(State()) if not hasattr(value, name))
    return (
        f"engine.state is given a {kind.__module__}.{kind.__qualname__}, which is not a "
        f"fengine.engine.State{lacking and f', and lacks {lacking}'}; give "
        "State(epoch=1, metrics={...}), which takes any attributes and has the others. For the "
        "State of pytorch-ignite call fengine.engine.install() before it is imported"
    )


def box_of(state: State) -> Box[Any, Any, Free]:
    """Return the run that a state is a view of."""
    return state._fengine.box


def count_by(state: State, event: Any, attr: str) -> None:
    """Have an attribute count an event of the engine of this state."""
    state._fengine.attr_of[event] = str(attr)  # which may have been found in event_to_attr
    State.event_to_attr.setdefault(event, _Mirrored(attr))


def replace(old: State, new: State) -> None:
    """Have a new state be the view over the run of an old one, with the values that it has.

    The old state becomes a view of its own, with the values that it had.

    Raises:
        ValueError: the new state is that of an engine that is running.
    """
    here, there = new._fengine, old._fengine
    if here.box.status is Status.RUNNING:
        raise ValueError(
            f"this state is that of an engine that is running, at epoch {new.epoch}, "
            f"iteration {new.iteration}; share it before the run, or give a copy"
        )
    kept = there.box.state
    box = there.box
    box.iteration, box.epoch, box._batch, box._output = (
        here.box.iteration,
        here.box.epoch,
        new.batch,
        here.box._output,
    )
    box.limits, box.user = here.box.limits, here.box.user
    object.__setattr__(new, "_fengine", there)
    new._update_attrs()
    old.__setstate__((kept, {}, {}))


def _names(state: State) -> list[str]:
    return ["iteration", "epoch", *_LIMITS, "output", "batch", *state._fengine.box.user]
