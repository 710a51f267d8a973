"""pytorch-ignite 0.5.5, mended, that stops where the documentation says: rows C-06 to C-13, C-16.

The checks of its loop are replaced, and what it says of missing data is used to stop there.
"""

from __future__ import annotations

import warnings
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any, Final

import ignite.engine
from typing_extensions import override

from tests.engine.differential.mended import Mended

# Where a stop waits for the end of the iteration in the documented engine.
_WINDOW: Final = frozenset(
    {
        "epoch_started",
        "get_batch_started",
        "get_batch_completed",
        "dataloader_stop_iteration",
        "iteration_started",
    }
)


class Documented(Mended):
    """Stop where the documentation says, and leave max_epochs alone."""

    derives = False

    @property
    def _waits(self) -> bool:
        first = self.place == "started" and not self.should_terminate
        return self.place in _WINDOW or first

    def _stop(self) -> None:
        if not self._waits:
            ignite.engine.Engine._maybe_terminate_legacy(self)

    @override
    def _maybe_terminate_or_interrupt(self) -> Generator[Any, None, None]:
        self._stop()
        if self.should_interrupt:
            self._fire_event(ignite.engine.Events.INTERRUPT)
            self.should_interrupt = False
            yield self.state
            if self.place != "epoch_completed":
                self._stop()
            elif self.should_terminate:
                self.should_terminate_single_epoch = False
                self._stop()
        self._look()

    @override
    def _maybe_terminate_legacy(self) -> None:
        self._stop()
        self._look()

    def _no_batch(self) -> None:
        # C-07: a stop that waits acts at once where no batch comes.
        if self.place in _WINDOW:
            ignite.engine.Engine._maybe_terminate_legacy(self)

    @override
    def gets(self, data: Any) -> None:
        if hasattr(data, "giver") and data.giver.data.kind == "liar":
            self.result.met("C-15")  # its epochs are not its passes

    @override
    def end_epoch(self) -> None:
        if self.place in _WINDOW and (self.should_terminate or self.should_terminate_single_epoch):
            self.result.met("C-07")  # in the last epoch the loop says nothing of its lack of data
        super().end_epoch()

    @override
    @contextmanager
    def warning(self) -> Iterator[None]:
        self._no_batch()
        with super().warning():
            yield

    @override
    def learn(self, epoch_length: int) -> None:
        self.learned = True
        if epoch_length == 0:
            self._no_batch()
            warnings.warn("no batch", stacklevel=2)  # C-16
        super().learn(epoch_length)
        if epoch_length:
            self._no_batch()

    @override
    def _get_data_length(self, data: Any) -> int | None:
        length = super()._get_data_length(data)
        if length == 0:
            # C-16: it may be empty, as data without a length may.
            self.state.epoch_length = self._said = None
        return length or None
