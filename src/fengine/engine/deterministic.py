"""The deterministic engine: the same seed gives the same batches, resumed or not.

Each pass over the data begins from a seed of its own, and a pass over a DataLoader draws its order
before anything else. So the batches of a resumed pass are those of the pass that was left, and the
random states saved there can be set after that without deciding the order again.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from typing_extensions import override

from fengine.core.events import Events as CoreEvents
from fengine.core.semantics import Semantics
from fengine.engine.engine import Engine
from fengine.engine.engine_source import data_length
from fengine.engine.enums import Events
from fengine.engine.random_states import _get_rng_states as _get_rng_states
from fengine.engine.random_states import _repr_rng_state as _repr_rng_state
from fengine.engine.random_states import _set_rng_states as _set_rng_states
from fengine.engine.random_states import (
    check_rng_states,
    get_cuda_rng_states,
    seed_all,
    set_cuda_rng_states,
)
from fengine.engine.random_states import keep_random_state as keep_random_state
from fengine.engine.reproducible_batches import ReproducibleBatchSampler as ReproducibleBatchSampler
from fengine.engine.reproducible_batches import begin_reproducible_pass, reproducible
from fengine.engine.reproducible_batches import update_dataloader as update_dataloader
from fengine.engine.state import State, box_of

# The engine itself is exported by the package.
__all__ = ["ReproducibleBatchSampler", "keep_random_state", "update_dataloader"]


class DeterministicEngine(Engine):
    """Run as an Engine does, with batches that only depend on a seed and on how far the run is.

    The seed, `state.seed`, is drawn when a run starts: set one with `torch.manual_seed` before each
    `run`, the same one before a run that is resumed. From it `random`, torch and numpy are seeded
    for each pass over the data. A DataLoader is replaced by one with a `ReproducibleBatchSampler`,
    so that a resumed run begins at its iteration without making the batches in front of it; other
    data is iterated over up to there.

    A run that is resumed within a pass goes on with the random states of `random`, torch, numpy and
    CUDA that `state_dict` saved. Not reproduced are what a `generator` of a DataLoader or sampler
    gives, which is left alone, what worker processes draw in a pass that is resumed or where they
    are persistent, and the order of the passes after `terminate_epoch`.

    Where CUDA is available, a run turns its deterministic algorithms on.

    Args:
        process_function: as for `Engine`.
        semantics: as for `Engine`.

    Attributes:
        state: has `seed`, and the `rng_states` that have been loaded until they are used.

    Raises:
        TypeError: `process_function` is not callable.
        ValueError: it is None, or does not take the engine and a batch.

    >>> from torch.utils.data import DataLoader
    >>> def run(checkpoint=None):
    ...     seen = []
    ...     engine = DeterministicEngine(lambda engine, batch: seen.append(batch.tolist()))
    ...     if checkpoint is not None:
    ...         engine.load_state_dict(checkpoint)
    ...     torch.manual_seed(12)
    ...     engine.run(DataLoader(range(8), batch_size=2, shuffle=True), max_epochs=2)
    ...     return seen
    >>> run({"iteration": 3, "epoch_length": 4, "max_epochs": 2}) == run()[3:]
    True
    """

    def __init__(
        self,
        process_function: Callable[[Engine, Any], Any],
        *,
        semantics: Semantics | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        super().__init__(process_function, semantics=semantics, clock=clock)
        self.state_dict_user_keys.append("rng_states")
        self.state.rng_states = None
        self.add_event_handler(Events.STARTED, _draw_seed)

    @override
    def run(
        self,
        data: Iterable[Any] | None = None,
        max_epochs: int | None = None,
        *,
        max_iters: int | None = None,
        epoch_length: int | None = None,
    ) -> State:
        """Run the process function over the data; see `Engine.run`.

        Raises:
            TypeError: `data` is not iterable, or is of a subclass of DataLoader that cannot be
                made again.
            ValueError: `data` is None; the limits contradict each other, the data or the state.
            EngineRunningError: the engine runs already.
            BaseException: as for `Engine.run`.

        >>> DeterministicEngine(lambda engine, batch: 2 * batch).run([1, 2, 3]).output
        6
        """
        if data is None and self._dataloader_iter is None:
            raise ValueError(
                f"data is None, but a {type(self).__name__} needs data to seed each pass over it; "
                "give data, or use Engine for a run without data"
            )
        return super().run(
            reproducible(data), max_epochs, max_iters=max_iters, epoch_length=epoch_length
        )

    @override
    def state_dict(self) -> OrderedDict[str, Any]:
        """Give what `Engine.state_dict` gives, and the random states as they are now.

        They are in `rng_states`, those of `random`, torch and numpy, and where CUDA is in use in
        `cuda_rng_states`, one for each device.

        >>> list(DeterministicEngine(lambda engine, batch: None).state_dict())
        ['epoch_length', 'iteration', 'max_epochs', 'rng_states']
        """
        state_dict = super().state_dict()
        state_dict["rng_states"] = _get_rng_states()
        cuda_rng_states = get_cuda_rng_states()
        if cuda_rng_states is not None:
            state_dict["cuda_rng_states"] = cuda_rng_states
        return state_dict

    @override
    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take up progress that `state_dict` wrote; see `Engine.load_state_dict`.

        Args:
            state_dict: as for an Engine. Without `rng_states`, or where they are None, a run that
                is resumed within a pass sees the same batches, but goes on with other random
                numbers.

        Raises:
            TypeError: it is not a mapping.
            ValueError: as for an Engine, or `rng_states` are none; nothing is changed then.

        >>> engine = DeterministicEngine(lambda engine, batch: None)
        >>> engine.load_state_dict(Engine(lambda engine, batch: None).state_dict())
        """
        if isinstance(state_dict, Mapping):
            check_rng_states(state_dict.get("rng_states"))
            state_dict = {"rng_states": None, **state_dict}
        super().load_state_dict(state_dict)
        self._fengine.cuda_rng_states = state_dict.get("cuda_rng_states")

    @override
    def _setup_engine(self) -> None:
        """Begin iteration over the data after the batches of a resumed run, as it left them."""
        _warn_of_sampler(self.state)
        # A pass begins where the sampler stands, so it may have fewer batches.
        self._fengine.feed.said_length = None
        iteration, epoch_length = self.state.iteration, self.state.epoch_length
        self._dataloader_iter = self._from_iteration(iteration)
        # After a terminated run too: the epoch goes on where the batches do.
        self._init_iter = iteration % epoch_length if epoch_length else iteration
        rng_states = getattr(self.state, "rng_states", None)
        if rng_states is not None and _seen_of_pass(self.state, iteration):
            _set_rng_states(rng_states)
            set_cuda_rng_states(self._fengine.cuda_rng_states)
        self.state.rng_states = self._fengine.cuda_rng_states = None

    @override
    def _setup_dataloader_iter(self) -> None:
        """Begin another pass over the data."""
        box = box_of(self.state)
        begun = box.payload if box.event is CoreEvents.TERMINATE_SINGLE_EPOCH else None
        self._setup_seed(iter_counter=begun or None)  # type: ignore[arg-type]  # it is an int
        super()._setup_dataloader_iter()

    def _from_iteration(self, iteration: int) -> Iterator[Any]:
        """Begin the pass that an iteration is in, after the batches before it."""
        data = self.state.dataloader
        if data is None:
            raise RuntimeError(
                f"{type(self).__name__} has no data to begin at iteration {iteration} of: "
                "state.dataloader is None; give data to run"
            )
        seen = _seen_of_pass(self.state, iteration)
        begun_at = iteration - seen
        self._setup_seed(iteration=begun_at)
        if isinstance(getattr(data, "batch_sampler", None), ReproducibleBatchSampler):
            return begin_reproducible_pass(data, seen, first=begun_at == 0)
        if seen:
            self.logger.info("Iterate over the data up to iteration %d to resume there", iteration)
        batches: Iterator[Any] = iter(data)
        for count in range(seen):
            try:
                next(batches)
            except StopIteration:
                self._setup_seed(iteration=begun_at + count)
                batches = iter(data)
                next(batches, None)
        return batches

    def _setup_seed(self, *, iter_counter: int | None = None, iteration: int | None = None) -> None:
        """Seed for the pass that begins at an iteration.

        Args:
            iter_counter: the batches of a pass; by default the length of the data, else 1.
            iteration: where it begins; by default where the run is.
        """
        if iter_counter is not None and iter_counter < 1:
            raise ValueError(
                f"iter_counter={iter_counter} is how many batches a pass has; it is at least 1"
            )
        length = iter_counter or data_length(self.state.dataloader) or 1
        begun_at = self.state.iteration if iteration is None else iteration
        if self.state.seed is None:
            raise RuntimeError(
                "state.seed is None, so a pass cannot be seeded; a run draws it at STARTED, and a "
                "handler that replaces engine.state has to keep it"
            )
        seed_all(self.state.seed + begun_at // length)


def _warn_of_sampler(state: State) -> None:
    data, epoch_length = state.dataloader, state.epoch_length
    batch_sampler = getattr(data, "batch_sampler", None)
    sampler = getattr(data if batch_sampler is None else batch_sampler, "sampler", None)
    length = data_length(data)
    if hasattr(sampler, "epoch") and length is not None and length != epoch_length:
        warnings.warn(
            f"epoch_length={epoch_length} is not the length {length} of the DataLoader, whose "
            f"{type(sampler).__name__} draws by its own epoch; a resumed run may see other "
            "batches. Run without epoch_length",
            UserWarning,
            stacklevel=2,
        )


def _seen_of_pass(state: State, iteration: int) -> int:
    """Tell how many batches of its pass are in front of an iteration; of unsized data, all."""
    length = data_length(state.dataloader)
    return iteration % length if length else iteration


def _draw_seed(engine: Engine) -> None:
    engine.state.seed = int(torch.randint(0, 10**9, (1,)).item())
    if torch.cuda.is_available():
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = False
