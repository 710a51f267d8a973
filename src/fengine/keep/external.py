"""External: what a run changes outside its state, by name, and how it is saved and restored.

A model that is trained in place is in no state. What is named here is saved with a snapshot and
restored where a run goes on from one; what is not named is as the program left it.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping
from typing import Any, Final

from immutables import Map

from fengine.core.stateful import Stateful


def saved(
    external: Mapping[str, Stateful], before: Mapping[str, object] | None = None
) -> Map[str, object]:
    """Return copies of the states, which later training does not change.

    Args:
        external: the things.
        before: earlier copies; what has not changed since is returned again.
    """
    states = {}
    for name, thing in external.items():
        state = thing.state_dict()
        known = None if before is None else before.get(name)
        states[name] = known if _is_alike(known, state) else copy.deepcopy(state)
    return Map(states)


def require_names(external: Mapping[str, Stateful], states: Mapping[str, object]) -> None:
    """Refuse states of other things than these.

    Raises:
        ValueError: a name is missing or too many.
    """
    if set(states) != set(external):
        raise ValueError(
            f"the snapshot holds external {sorted(states)}, but the loop names "
            f"{sorted(external)}; go on with a loop that names what the snapshot holds, by the "
            "same features, or by loop.with_external(...)"
        )


@contextlib.contextmanager
def restoring(external: Mapping[str, Stateful], states: Mapping[str, object]) -> Iterator[None]:
    """Have each thing take up its state, in the order of their names; all, or none.

    They do so before the block, whose exception has them put back, and once more after it, for what
    the block itself changes.

    Raises:
        BaseException: whatever a thing raises, with a note that names it, or the block.
    """
    before = saved({name: external[name] for name in states})
    try:
        _load(external, states)
        yield
        _load(external, states)
    except BaseException as error:
        for name, state in before.items():
            try:
                external[name].load_state_dict(state)
            except Exception as another:
                error.add_note(f"external[{name!r}] is not put back, which raised {another!r}")
        if before:
            error.add_note(f"all else of external {sorted(before)} is as it was before")
        raise


def _load(external: Mapping[str, Stateful], states: Mapping[str, object]) -> None:
    for name in sorted(states):
        try:
            # A copy, since some keep what they are given, and change it.
            external[name].load_state_dict(copy.deepcopy(states[name]))
        except BaseException as error:
            error.add_note(f"in restoring external[{name!r}]")
            raise


# Such are alike where they are written alike: 0.0 and -0.0 are not, nor 1 and True.
_SCALARS: Final = (bool, int, float, complex, str, bytes, type(None))


def _is_alike(copied: Any, state: Any) -> bool:
    """Tell whether a copy is known to have every type, place and bit of a state."""
    kind = type(state)
    if type(copied) is not kind:
        return False
    if kind in _SCALARS:
        return repr(copied) == repr(state)
    if hasattr(state, "signbit"):
        alike = _is_alike_tensor(copied, state)
    elif isinstance(state, dict | list | tuple):
        # The order of a dict counts: an optimizer numbers its parameters by it.
        parts = zip(*map(_parts, (copied, state)), strict=False)
        alike = len(copied) == len(state) and all(_is_alike(ours, its) for ours, its in parts)
    else:
        return False
    return alike and (not hasattr(state, "__dict__") or _is_alike(vars(copied), vars(state)))


def _parts(state: Any) -> Any:
    return state.items() if isinstance(state, dict) else state


def _is_alike_tensor(copied: Any, state: Any) -> bool:
    try:
        return (
            (copied.device, copied.dtype, copied.shape) == (state.device, state.dtype, state.shape)
            and (copied.stride(), copied.requires_grad) == (state.stride(), state.requires_grad)
            and bool(((copied == state) & (copied.signbit() == state.signbit())).all())
        )
    except (NotImplementedError, RuntimeError, TypeError):
        return False  # of a layout or on a device that compares nothing
