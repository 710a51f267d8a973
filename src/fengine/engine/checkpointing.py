"""What an Engine writes down of its progress, and takes up again.

The format is that of the documented package, so that either reads what the other wrote. A dict is
checked whole before anything of the engine changes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from immutables import Map

from fengine.core.ledger import Ledger
from fengine.core.requests import NO_REQUESTS
from fengine.core.transitions import with_limit
from fengine.engine.control import Control
from fengine.engine.start import check_progress, set_begin, set_counters


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

        A run that was interrupted is dropped. Other attributes of the state stay as they are.

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
        limit = _one_of(state_dict, "max_epochs", "max_iters")
        iteration, epoch = _progress(state_dict)
        missing = [key for key in self._state_dict_user_keys if key not in state_dict]
        if missing:
            raise ValueError(
                f"state_dict has no user key {missing[0]!r}; it has {list(state_dict)}, and "
                f"state_dict_user_keys is {self._state_dict_user_keys}"
            )
        reached = epoch if limit == "max_epochs" else iteration
        if state_dict[limit] is not None:
            check_progress(limit, state_dict[limit], reached)
        record = self._box.state
        record = set_begin(record, None, 0, NO_REQUESTS, Ledger(), Map())
        record = set_counters(record, iteration, epoch)
        record = with_limit(record, "max_epochs", None)
        record = with_limit(record, "max_iters", None)
        record = with_limit(record, limit, state_dict[limit])
        self._box.state = with_limit(record, "epoch_length", state_dict["epoch_length"])
        self._posts.clear()
        self._dataloader_iter = None
        self._init_iter = None
        for key in self._state_dict_user_keys:
            setattr(self.state, key, state_dict[key])


def _one_of(state_dict: Mapping[str, Any], *names: str) -> str:
    found = [name for name in names if name in state_dict]
    if len(found) != 1:
        raise ValueError(f"state_dict has {found or 'none'} of the keys {list(names)}; give one")
    return found[0]


def _progress(state_dict: Mapping[str, Any]) -> tuple[int, int]:
    """Give the iteration and the epoch that a dict says are done."""
    counter = _one_of(state_dict, "iteration", "epoch")
    done, length = state_dict[counter], state_dict["epoch_length"]
    if done < 0:
        raise ValueError(f"state_dict has {counter}={done}; it counts from 0")
    known = length is not None and length > 0
    if counter == "iteration":
        if length is not None and length < 1 and done:
            raise ValueError(f"state_dict has epoch_length={length}; it is at least 1, or None")
        return done, done // length if known else 0
    if done and not known:
        raise ValueError(
            f"state_dict has epoch={done}, but epoch_length={length}, so the iteration is unknown; "
            "save 'iteration' instead"
        )
    return done * length if known else 0, done
