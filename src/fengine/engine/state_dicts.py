"""State dicts: what an Engine writes down of how far it is, and takes up again.

The format is that of the documented package, so that either reads what the other wrote. A dict is
checked whole before anything of the engine changes.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from typing import Any, final

import attrs

from fengine.engine.beginning import check_progress
from fengine.engine.state import is_method


@final
@attrs.frozen
class Progress:
    """Hold what a dict says of a run.

    Args:
        iteration: how many iterations are done.
        epoch: how many epochs are done.
        epoch_length: the batches in an epoch, if they are known.
        limit: the name of the limit.
        value: the limit, or None.
    """

    iteration: int
    epoch: int
    epoch_length: int | None
    limit: str
    value: int | None


def read_progress(
    state_dict: object, one_of: Iterable[tuple[str, ...]], user_keys: list[str]
) -> Progress:
    """Read what `Engine.state_dict` wrote.

    Args:
        state_dict: the dict.
        one_of: groups of keys, of each of which there has to be one; the first are the limits.
        user_keys: further keys that have to be there.

    Raises:
        TypeError: it is not a mapping.
        ValueError: a key is missing or too many, or the values contradict each other.

    >>> keys = [("max_epochs", "max_iters")]
    >>> read_progress({"epoch": 2, "epoch_length": 5, "max_epochs": 4}, keys, []).iteration
    10
    """
    if not isinstance(state_dict, Mapping):
        raise TypeError(
            f"state_dict={state_dict!r} of type {type(state_dict).__name__} is not a mapping"
        )
    if "epoch_length" not in state_dict:
        raise ValueError(f"state_dict has no key 'epoch_length'; it has {list(state_dict)}")
    limit, *_ = [_one_of(state_dict, *group) for group in one_of]
    iteration, epoch, length = _done(state_dict)
    for key in user_keys:
        if key not in state_dict:
            raise ValueError(
                f"state_dict has no user key {key!r}; it has {list(state_dict)}, and "
                f"state_dict_user_keys is {user_keys}"
            )
    check_user_keys(user_keys, limit)
    value = state_dict[limit]
    if value is not None:
        check_progress(limit, value, epoch if limit == "max_epochs" else iteration)
    return Progress(iteration, epoch, length, limit, value)


def check_user_keys(user_keys: Iterable[str], limit: str) -> None:
    """Refuse to save or load by a key that the state cannot take a value for.

    Args:
        user_keys: the keys.
        limit: the name of the limit that is saved beside them.

    Raises:
        ValueError: it is refused.

    >>> check_user_keys(["metrics", "alpha"], "max_epochs")
    """
    twice = {"epoch": "iteration", "max_epochs": "max_iters", "max_iters": "max_epochs"}
    for key in user_keys:
        if is_method(key):
            raise ValueError(
                f"state_dict_user_keys has {key!r}, which the state needs for itself; give "
                "what is to be saved another name"
            )
        if key in twice and key != limit:
            raise ValueError(
                f"state_dict_user_keys has {key!r}, but a state_dict has {twice[key]!r}, and it "
                f"cannot have both; remove {key!r} from state_dict_user_keys"
            )


def _one_of(state_dict: Mapping[str, Any], *names: str) -> str:
    found = [name for name in names if name in state_dict]
    if len(found) != 1:
        raise ValueError(f"state_dict has {found or 'none'} of the keys {list(names)}; give one")
    return found[0]


def _done(state_dict: Mapping[str, Any]) -> tuple[int, int, int | None]:
    """Return the iteration and the epoch that a dict says are done, and the epoch length."""
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
    """Return a number that counts something, as a plain int."""
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
