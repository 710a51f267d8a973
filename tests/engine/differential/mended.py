"""pytorch-ignite 0.5.5 without the defects that are fixed here; each mend names its rows.

A subclass, so that all the rest is what that version does. What cannot be mended from outside is
noted in the result, by its row: what comes after may differ.
"""

from __future__ import annotations

import inspect
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, Final

import ignite.engine
from ignite.engine.engine import _EngineTerminateException
from typing_extensions import override

from tests.engine.differential.program import LOOP_EVENTS
from tests.engine.differential.seen import Endless, Result

# The events that move the loop on; the others are fired beside it.
_MOVING: Final = frozenset(LOOP_EVENTS) - {"exception_raised", "interrupt"}


class Watched(ignite.engine.Engine):
    """Run as pytorch-ignite does, but not for ever."""

    def __init__(self, process_function: Callable[[Any, Any], Any], result: Result) -> None:
        self.result = result
        super().__init__(process_function)

    @override
    def _fire_event(self, event_name: Any, *event_args: Any, **event_kwargs: Any) -> None:
        self.result.watch()
        super()._fire_event(event_name, *event_args, **event_kwargs)


class _Zero(int):
    """Be the length of empty data, by which anything can be divided: rows Q-08 and E-42."""

    @override
    def __rtruediv__(self, other: int) -> float:
        return 0.0

    @override
    def __rfloordiv__(self, other: int) -> int:
        return 0

    @override
    def __rmod__(self, other: int) -> int:
        return other


class _State(ignite.engine.State):
    """Know whether the loop writes, and count the firings that no attribute counts."""

    _engine: Mended

    def __init__(self, engine: Mended) -> None:
        object.__setattr__(self, "_engine", engine)
        super().__init__()

    @override
    def __setattr__(self, name: str, value: Any) -> None:
        if sys._getframe(1).f_code.co_name.startswith("_run_once_on_dataset"):
            if name == "max_epochs":
                self._engine.derived = value
                if not self._engine.derives or value == 0:
                    return
            if name == "epoch_length":
                self._engine.learn(value)
                return
        if name == "dataloader":
            self._engine.gets(value)
        if name == "epoch_length" and value == 0:
            value = _Zero()
        super().__setattr__(name, value)

    @override
    def get_event_attrib_value(self, event_name: Any) -> int:
        # A9, Q-11: a filter on an event without an attribute fails when the event fires.
        if event_name in self.event_to_attr:
            return super().get_event_attrib_value(event_name)
        count: int = self._engine.fired[event_name]
        return count


class Mended(Watched):
    """Run as pytorch-ignite 0.5.5 does, without the defects that are fixed here."""

    place: str | None = None
    learned: bool = False
    derives: bool = True
    derived: int | None = None
    handled: BaseException | None = None
    _again: bool = False
    _by_hand: int = 0
    _running: bool = False
    _began: bool = False
    _said: int | None = None

    def __init__(self, process_function: Callable[[Any, Any], Any], result: Result) -> None:
        self.fired: Counter[Any] = Counter()
        super().__init__(process_function, result)
        self.state = _State(self)

    @override
    def _fire_event(self, event_name: Any, *event_args: Any, **event_kwargs: Any) -> None:
        name = getattr(event_name, "value", event_name)
        if name in _MOVING and not self._by_hand:
            self._again = (self.place, name) == ("dataloader_stop_iteration", "get_batch_started")
            self.place = name
        if name == "interrupt" and self._again:
            self.result.met("R-12")  # after it, what was announced twice is not announced again
        self.fired[event_name] += 1
        super()._fire_event(event_name, *event_args, **event_kwargs)

    @override
    def fire_event(self, event_name: Any) -> None:
        if event_name == ignite.engine.Events.DATALOADER_STOP_ITERATION:
            self.result.met("D18")  # fired by hand, it silences the next GET_BATCH_STARTED
        self._by_hand += 1
        try:
            super().fire_event(event_name)
        finally:
            self._by_hand -= 1

    def gets(self, data: Any) -> None:
        """Take note of the data that the state is given."""

    def learn(self, epoch_length: int) -> None:
        """Take note of a length that the loop found out."""
        self.learned = True
        self.state.epoch_length = epoch_length

    @contextmanager
    def warning(self) -> Iterator[None]:
        """Take note of an epoch without data."""
        yield
        self.place = "warning"
        if self.state.max_epochs is None:
            self.terminate()  # what does not come is waited for, for ever

    @override
    def _run_once_on_dataset_as_gen(self) -> Generator[Any, None, float]:
        took = yield from super()._run_once_on_dataset_as_gen()
        self.end_epoch()
        return took

    @override
    def _run_once_on_dataset_legacy(self) -> float:
        took = super()._run_once_on_dataset_legacy()
        self.end_epoch()
        return took

    def end_epoch(self) -> None:
        """Stand after an epoch, whether EPOCH_COMPLETED fires or not."""
        self.place = "epoch_completed"

    @override
    def _maybe_terminate_or_interrupt(self) -> Generator[Any, None, None]:
        yield from super()._maybe_terminate_or_interrupt()
        if self.should_terminate and self.place in ("started", "epoch_completed"):
            # asked for during a pause before an epoch, it ends the run without TERMINATE.
            if self.place == "epoch_completed":
                self.should_terminate_single_epoch = False
            raise _EngineTerminateException
        self._look()

    @override
    def _maybe_terminate_legacy(self) -> None:
        super()._maybe_terminate_legacy()
        self._look()

    def _look(self) -> None:
        """Take note of what the loop overlooks at its checks."""
        limit = self.state.max_iters
        after = limit is not None and self.state.iteration > limit
        if after and self.place == "iteration_completed":
            self.result.met("R-21")  # until the epoch ends
        if self.should_interrupt and not self.interrupt_resume_enabled:
            self.result.met("C17")  # for ever, in the second copy of the loop

    @override
    def _handle_exception(self, e: BaseException) -> None:
        # a suspended run that is dropped reports a GeneratorExit.
        # Q-03, C2: a handler that was there once swallows every exception.
        # C4: what a handler raised is handled a second time.
        known = isinstance(e, GeneratorExit | Endless) or e is self.handled
        inside = sys._getframe(1).f_code.co_name.startswith("_run_once_on_dataset")
        if inside and self.place == "epoch_started":
            self.result.met("R-13")  # `state.dataloader = None`, and what gave the batches fails
        if known or not self._event_handlers.get(ignite.engine.Events.EXCEPTION_RAISED):
            raise e
        try:
            super()._handle_exception(e)
        except BaseException as raised:
            # C7: a KeyboardInterrupt is replaced by what a handler of it raises.
            stays = isinstance(raised, Exception) and not isinstance(e, Exception)
            self.handled = e if stays else raised
            raise self.handled from None
        self.place = "exception_raised"

    @override
    def run(self, data: Any = None, *args: Any, **kwargs: Any) -> Any:
        if self._running:
            # Q-06, C15: the outer run is broken off.
            raise RuntimeError("running")
        before = dict(vars(self.state))
        if self.state.epoch_length == 0 and self._internal_run_generator is None:
            # E-42: the length of empty data is kept for all data.
            limit = kwargs.get("max_iters") or self.state.max_iters or 0
            if self.state.max_epochs is None and self.state.iteration < limit:
                self.state.epoch_length = None
        known = self.derives and self.derived is not None and self.state.max_iters is not None
        follows = known and self.state.max_epochs == self.derived
        if follows and (args or kwargs.keys() & {"max_epochs", "max_iters"}):
            # what followed from max_iters is refused beside it, and beside another limit.
            self.state.max_epochs = None
        self._running, self._began = True, False
        self._said = kwargs.get("epoch_length")
        try:
            return super().run(data, *args, **kwargs)
        except BaseException:
            # Q-01, C1: the generator of a run that raised is kept; the next run does nothing.
            course = self._internal_run_generator
            if course is not None and inspect.getgeneratorstate(course) == "GEN_CLOSED":
                self._internal_run_generator = None
            # arguments that are refused have been written into the state by then.
            if not self._began:
                vars(self.state).update(before)
            # C13: what was set in a handler of the exception would stand in for the next data.
            else:
                self._dataloader_iter = None
            raise
        finally:
            self._running = False

    @override
    def _get_data_length(self, data: Any) -> int | None:
        self._said = super()._get_data_length(data)
        # D5: data of unknown length takes over the length that a run before found out; E-42: or
        # that of empty data.
        if self._said is None and (self.learned or self.state.epoch_length == 0):
            self.state.epoch_length = None
        return self._said

    @override
    def set_data(self, data: Any) -> None:
        before = self.state.dataloader
        try:
            super().set_data(data)
        except TypeError:
            # what cannot be iterated is kept.
            self.state.dataloader = before
            raise

    @override
    def _internal_run(self) -> Any:
        self._begin()
        return super()._internal_run()

    @override
    def _internal_run_legacy(self) -> Any:
        self._begin()
        return super()._internal_run_legacy()

    def _begin(self) -> None:
        self._began = True
        if self._said is not None:
            self.learned = False

    @override
    def load_state_dict(self, state_dict: Any) -> None:
        before = dict(vars(self.state))
        length, done = state_dict["epoch_length"], state_dict.get("iteration")
        if length is None and done is not None:
            # D7: progress in iterations is refused while the length of an epoch is not known.
            state_dict = {**state_dict, "epoch_length": sys.maxsize}
        try:
            super().load_state_dict(state_dict)
            if self.state.iteration < 0:
                raise ValueError("Q-27: negative progress is accepted")
        except BaseException:
            # what is refused has been written by halves.
            vars(self.state).update(before)
            raise
        self.state.epoch_length = length
        self.learned = False
        if not self._running:
            # the suspended run is not dropped, and goes on with the new counters; so do the
            # stops that were asked of it.
            self._internal_run_generator = None
            self.should_terminate = self.should_terminate_single_epoch = False
            self.should_interrupt = False
