"""The deterministic engine as code for pytorch-ignite 0.5.5 calls it."""

from __future__ import annotations

from fengine.engine.deterministic import DeterministicEngine as DocumentedDeterministicEngine
from fengine.engine.deterministic import ReproducibleBatchSampler as ReproducibleBatchSampler
from fengine.engine.deterministic import _get_rng_states as _get_rng_states
from fengine.engine.deterministic import _repr_rng_state as _repr_rng_state
from fengine.engine.deterministic import _set_rng_states as _set_rng_states
from fengine.engine.deterministic import keep_random_state as keep_random_state
from fengine.engine.deterministic import update_dataloader as update_dataloader
from fengine.engine.events import Events as Events
from fengine.engine.ignite.stand_in.positional_engine import Engine


class DeterministicEngine(Engine, DocumentedDeterministicEngine):
    """Run as the DeterministicEngine of pytorch-ignite 0.5.5 does, with its order of arguments.

    >>> DeterministicEngine(lambda engine, batch: 2 * batch).run([1, 2, 3], None, 2).output
    4
    """
