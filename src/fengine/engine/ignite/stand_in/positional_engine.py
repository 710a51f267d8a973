"""The Engine as code for pytorch-ignite 0.5.5 calls it, and what else is found in its module."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

from typing_extensions import override

from fengine.core.semantics import IGNITE_0_5_5, Semantics
from fengine.engine.engine import Engine as DocumentedEngine
from fengine.engine.events import CallableEventWithFilter as CallableEventWithFilter
from fengine.engine.events import EventEnum as EventEnum
from fengine.engine.events import Events as Events
from fengine.engine.events import EventsList as EventsList
from fengine.engine.events import RemovableEventHandle as RemovableEventHandle
from fengine.engine.events import State as State
from fengine.engine.ignite.stand_in.log_texts import IgniteWords
from fengine.engine.utils import _check_signature as _check_signature
from fengine.engine.utils import _to_hours_mins_secs as _to_hours_mins_secs


class Engine(DocumentedEngine):
    """Run as the Engine of pytorch-ignite 0.5.5 does, with its order of arguments.

    Args:
        process_function: called with the engine and the batch in each iteration.
        semantics: `IGNITE_0_5_5` unless given.

    >>> Engine(lambda engine, batch: 2 * batch).run([1, 2, 3], None, 2).output
    4
    """

    semantics = IGNITE_0_5_5

    def __init__(
        self,
        process_function: Callable[[DocumentedEngine, Any], Any],
        *,
        semantics: Semantics | None = None,
    ) -> None:
        super().__init__(process_function, semantics=semantics)
        # Programs set the level of these loggers by name, and filter what they say.
        self.logger = logging.getLogger(f"ignite.engine.engine.{type(self).__name__}")
        self._fengine.words = IgniteWords()

    @override
    def run(
        self,
        data: Iterable[Any] | None = None,
        max_epochs: int | None = None,
        max_iters: int | None = None,
        epoch_length: int | None = None,
    ) -> State:
        """Run the process function over the data; see `fengine.engine.Engine.run`.

        >>> Engine(lambda engine, batch: batch).run([1, 2, 3], 2, None, 2).iteration
        4
        """
        return super().run(data, max_epochs, max_iters=max_iters, epoch_length=epoch_length)
