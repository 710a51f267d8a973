"""What an Engine writes down of its progress, and takes up again.

The format is that of the documented package, so that either reads what the other wrote. A dict is
checked whole before anything of the engine changes.
"""

from __future__ import annotations

import operator
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from immutables import Map

from fengine.core.ledger import Ledger
from fengine.core.outcome import Status
from fengine.core.requests import NO_REQUESTS
from fengine.core.transitions import with_limit
from fengine.engine.control import Control
from fengine.engine.start import check_progress, set_begin, set_counters
from fengine.engine.state import State


class Checkpointing(Control):
    """Be the part of an Engine that is saved and loaded."""

    _state_dict_all_req_keys: ClassVar[tuple[str, ...]] = ("epoch_length", "iteration")
    _state_dict_one_of_opt_keys: ClassVar[tuple[tuple[str, ...], ...]] = (
        ("max_epochs", "max_iters"),
    )

    def __init__(self) -> None:
        super().__init__()
        self._state_dict_user_keys: list[str] = []
        self._dataloader_iter: Iterator[Any] | None = None
        self._init_iter: int | None = None
        self._epoch_length_learned = False
        self._running = False

    @property
    def state_dict_user_keys(self) -> list[str]:
        """The names of further attributes of the state to save and load; append yours.

        >>> from fengine.engine import Engine
        >>> engine = Engine(lambda engine, batch: None)
        >>> engine.state_dict_user_keys.append("alpha")
        >>> engine.state.alpha = 0.1
        >>> dict(engine.state_dict())["alpha"]
        0.1
        """
        return self._state_dict_user_keys

    def state_dict(self) -> OrderedDict[str, Any]:
        """Give the progress and the limits, and what `state_dict_user_keys` names.

        Raises:
            AttributeError: the state has no attribute that a user key names.

        >>> from fengine.engine import Engine
        >>> engine = Engine(lambda engine, batch: None)
        >>> state = engine.run([1, 2], max_epochs=3)
        >>> engine.state_dict()
        OrderedDict([('epoch_length', 2), ('iteration', 6), ('max_epochs', 3)])
        """
        limit = "max_epochs" if self.state.max_iters is None else "max_iters"
        names = (*self._state_dict_all_req_keys, limit, *self._state_dict_user_keys)
        return OrderedDict((name, getattr(self.state, name)) for name in names)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take up progress that `state_dict` wrote; the next `run` goes on from there.

        A run that was interrupted is dropped; one that is under way goes on with what is loaded.
        Other attributes of the state stay as they are.

        Args:
            state_dict: has `epoch_length`, one of `iteration` and `epoch` (how many are done), one
                of `max_epochs` and `max_iters`, and the user keys.

        Raises:
            TypeError: it is not a mapping.
            ValueError: a key is missing or too many, or the values contradict each other; nothing
                is changed then.

        >>> from fengine.engine import Engine
        >>> engine = Engine(lambda engine, batch: None)
        >>> engine.load_state_dict({"epoch": 2, "epoch_length": 5, "max_epochs": 4})
        >>> engine.run([0] * 5).iteration
        20
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(
                f"state_dict={state_dict!r} of type {type(state_dict).__name__} is not a mapping"
            )
        if "epoch_length" not in state_dict:
            raise ValueError(f"state_dict has no key 'epoch_length'; it has {list(state_dict)}")
        limit, *_ = [_one_of(state_dict, *group) for group in self._state_dict_one_of_opt_keys]
        iteration, epoch, length = _progress(state_dict)
        for key in self._state_dict_user_keys:
            if key not in state_dict:
                raise ValueError(
                    f"state_dict has no user key {key!r}; it has {list(state_dict)}, and "
                    f"state_dict_user_keys is {self._state_dict_user_keys}"
                )
            if State._is_reserved(key):
                raise ValueError(
                    f"state_dict_user_keys has {key!r}, which the state needs for itself; give "
                    "what is to be saved another name"
                )
        reached = epoch if limit == "max_epochs" else iteration
        if state_dict[limit] is not None:
            check_progress(limit, state_dict[limit], reached)
        if not self._running:
            self._drop()
        record = set_counters(self._box.state, iteration, epoch)
        record = with_limit(record, "max_epochs", None)
        record = with_limit(record, "max_iters", None)
        record = with_limit(record, limit, state_dict[limit])
        self._box.state = with_limit(record, "epoch_length", length)
        self._epoch_length_learned = False
        for key in self._state_dict_user_keys:
            setattr(self.state, key, state_dict[key])

    def _drop(self) -> None:
        """Forget the run that was suspended, or that failed, and what was asked of it."""
        self._last_fired = (self.last_event_name, None)  # which the record will not tell any more
        if self._box.state.status is Status.INTERRUPTED:
            self._dataloader_iter = None
        self._box.state = set_begin(self._box.state, None, 0, NO_REQUESTS, Ledger(), Map())
        self._posts.clear()
        self._init_iter = None


def _one_of(state_dict: Mapping[str, Any], *names: str) -> str:
    found = [name for name in names if name in state_dict]
    if len(found) != 1:
        raise ValueError(f"state_dict has {found or 'none'} of the keys {list(names)}; give one")
    return found[0]


def _progress(state_dict: Mapping[str, Any]) -> tuple[int, int, int | None]:
    """Give the iteration and the epoch that a dict says are done, and the epoch length."""
    counter = _one_of(state_dict, "iteration", "epoch")
    done, length = _whole(state_dict, counter), None
    if state_dict["epoch_length"] is not None:
        length = _whole(state_dict, "epoch_length")
    if counter == "iteration":
        if length == 0 and done:
            raise ValueError("state_dict has epoch_length=0; it is at least 1, or None")
        return done, done // length if length else 0, length
    if done and not length:
        raise ValueError(
            f"state_dict has epoch={done}, but epoch_length={length}, so the iteration is unknown; "
            "save 'iteration' instead"
        )
    return done * length if length else 0, done, length


def _whole(state_dict: Mapping[str, Any], key: str) -> int:
    """Give a number that counts something, as a plain int."""
    value = state_dict[key]
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(
            f"state_dict has {key}={value!r} of type {type(value).__name__}; it is an int"
        ) from None
    if number < 0:
        raise ValueError(f"state_dict has {key}={number}; it counts from 0")
    return number
