"""The random state of a process: that of `random`, torch and numpy, and of CUDA beside them.

Numpy is left out where it is not imported yet, CUDA where it is not in use.
"""

from __future__ import annotations

import random
import sys
from types import ModuleType
from typing import Any, Final, Self, SupportsIndex, final

import torch
from typing_extensions import override

from fengine.training.attaching import AnyEngine, SavedEngine, require_engine
from fengine.training.shuffling import integer


@final
class RandomState:
    """Be the random state of this process, to be saved in snapshots and restored from them.

    It has no state of its own, so there is only one. `training_step` names it `random`; for a step
    of your own, `fengine.features.random_state` does.

    >>> RandomState() is RandomState()
    True
    >>> kept = RandomState().state_dict()
    >>> first = torch.rand(1), random.random()
    >>> RandomState().load_state_dict(kept)
    >>> (torch.rand(1), random.random()) == first
    True
    """

    __slots__ = ()

    def __new__(cls) -> Self:
        """Return the one there is."""
        return _THE_ONE[0] if _THE_ONE else super().__new__(cls)

    @override
    def __repr__(self) -> str:
        return "RandomState()"

    @override
    def __reduce__(self) -> tuple[type[RandomState], tuple[()]]:
        """Return what `copy` and `pickle` make it of."""
        return RandomState, ()

    def state_dict(self) -> dict[str, Any]:
        """Return the state as tensors and numbers."""
        version, internal, gauss = random.getstate()
        state: dict[str, Any] = {
            "python": {"version": version, "internal": torch.tensor(internal), "gauss": gauss},
            "torch": torch.get_rng_state(),
        }
        numpy_random = imported_numpy_random()
        if numpy_random is not None:
            state["numpy"] = _plain(numpy_random.get_state(legacy=False))
        cuda = get_cuda_rng_states()
        if cuda is not None:
            state["cuda"] = cuda
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up a state that `state_dict` returned, in this process or another one.

        Raises:
            KeyError: it is another dict.
        """
        python, numpy_state = state_dict["python"], state_dict.get("numpy")
        internal = tuple(python["internal"].tolist())
        torch_state = state_dict["torch"].cpu()  # loading may have put it on a device
        random.setstate((python["version"], internal, python["gauss"]))
        torch.set_rng_state(torch_state)
        if numpy_state is not None:
            import numpy as np

            np.random.set_state(_with_arrays(numpy_state))
        set_cuda_rng_states(state_dict.get("cuda"))

    def attach(self, engine: SavedEngine, name: str = "random") -> None:
        """Have an Engine write this down in its `state_dict`, and put it back.

        What is written down is the random state at the end of the last epoch that is over. It is
        put back where a run goes on after that epoch, so that it draws what an uninterrupted run
        does. So attach it before what saves. For a run that goes on within an epoch see
        `fengine.engine.deterministic`.

        Args:
            engine: a `fengine.engine.Engine`.
            name: what it is called there, and in `engine.state`.

        Raises:
            TypeError: `engine` is none.
            ValueError: it saves something of that name already.

        >>> from fengine.engine import Engine
        >>> engine = Engine(lambda engine, batch: random.random())
        >>> RandomState().attach(engine)
        >>> state = engine.run([1, 2])
        >>> saved = engine.state_dict()
        >>> second = engine.run([1, 2], max_epochs=2).output
        >>> engine.load_state_dict(saved)
        >>> engine.run([1, 2], max_epochs=2).output == second
        True
        """
        require_engine(engine, self)
        if name in engine.state_dict_user_keys or hasattr(engine.state, name):
            raise ValueError(
                f"the state of the engine has {name!r} already; give attach another name="
            )
        kept = _Kept(name)
        kept.keep(engine)
        engine.state_dict_user_keys.append(name)
        engine.add_event_handler("STARTED", kept.put_back)
        engine.add_event_handler("EPOCH_COMPLETED", kept.keep)


@final
class _Kept:
    """Hold the random state that an engine has, to tell one that it has loaded."""

    def __init__(self, name: str) -> None:
        self.name, self.own = name, dict[str, Any]()

    def keep(self, engine: AnyEngine) -> None:
        """Have the engine hold the random state as it is now."""
        self.own = RandomState().state_dict()
        setattr(engine.state, self.name, self.own)

    def put_back(self, engine: AnyEngine) -> None:
        """Take up what the engine has loaded, or what it had when its last epoch was over."""
        found = getattr(engine.state, self.name)
        if engine.state.epoch or found is not self.own:
            RandomState().load_state_dict(found)
        else:
            self.keep(engine)


# Of numpy; the others take more.
_LARGEST_SEED: Final = 2**32 - 1
_THE_ONE: Final[list[Any]] = []
_THE_ONE.append(RandomState())


def _plain(state: Any) -> Any:
    """Write the state of numpy, of whatever generator, as tensors and numbers."""
    if isinstance(state, dict):
        return {name: _plain(part) for name, part in state.items()}
    if hasattr(state, "dtype") and state.ndim:
        size = state.dtype.itemsize
        signed = torch.from_numpy(state.view(f"i{size}").copy())
        return {"array": signed, "dtype": str(state.dtype)}
    return state.item() if hasattr(state, "item") else state


def _with_arrays(state: Any) -> Any:
    """Read what `_plain` has written."""
    if not isinstance(state, dict):
        return state
    if set(state) == {"array", "dtype"}:
        return state["array"].cpu().numpy().view(state["dtype"])
    return {name: _with_arrays(part) for name, part in state.items()}


def imported_numpy_random() -> Any:
    """Return `numpy.random` if something has imported it, else None; so nobody has drawn of it.

    >>> import numpy
    >>> imported_numpy_random() is numpy.random
    True
    """
    return sys.modules.get("numpy.random")


def numpy_random() -> ModuleType | None:
    """Return `numpy.random`, imported now if need be; None where numpy is not installed.

    >>> found = numpy_random()
    >>> found is None or found.__name__
    'numpy.random'
    """
    try:
        import numpy.random as found
    except ImportError:
        return None
    return found


def seed_all(seed: int) -> None:
    """Seed `random`, torch with its devices, and numpy.

    >>> seed_all(3)
    >>> first = random.random()
    >>> seed_all(3)
    >>> random.random() == first
    True
    """
    random.seed(seed)
    torch.manual_seed(seed)
    found = numpy_random()
    if found is not None:
        found.seed(seed)


def require_seed(seed: SupportsIndex) -> int:
    """Return a seed as an int, and refuse one that numpy does not take.

    Raises:
        TypeError: it is not an int.
        ValueError: it is out of the range.

    >>> require_seed(-1)
    Traceback (most recent call last):
    ValueError: seed=-1 is not from 0 to 4294967295, which is what random generators take
    """
    number = integer("seed", seed)
    if not 0 <= number <= _LARGEST_SEED:
        raise ValueError(
            f"seed={number} is not from 0 to {_LARGEST_SEED}, which is what random generators take"
        )
    return number


def get_cuda_rng_states() -> list[torch.Tensor] | None:
    """Return the state of each CUDA device, or None where CUDA is not in use.

    >>> states = get_cuda_rng_states()
    >>> states is None or len(states) == torch.cuda.device_count()
    True
    """
    in_use = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]  # torch declares no types
    return torch.cuda.get_rng_state_all() if in_use else None


def set_cuda_rng_states(states: list[torch.Tensor] | None) -> None:
    """Set the state of each CUDA device that there is, and that there was.

    >>> set_cuda_rng_states(get_cuda_rng_states())
    """
    for device, state in zip(range(torch.cuda.device_count()), states or (), strict=False):
        torch.cuda.set_rng_state(state.cpu(), device)
