"""Preemption: signals that ask a process to end, taken for a request to pause.

A signal handler here only sets a flag, which runs read. Nothing is installed at import: a block
does so, in the main thread, and puts back what was there.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Final, Self, SupportsIndex, TypeAlias, final

from typing_extensions import override

_Handler: TypeAlias = Callable[[int, FrameType | None], object] | int | None
# What a child that has ended raises in its parent; torch complains there of lost workers.
_CHILD: Final = getattr(signal, "SIGCHLD", None)
_UNCATCHABLE: Final = {"SIGKILL", "SIGSTOP"}


@final
class Preemption:
    """Take signals for a request to pause, while a block lasts.

    The first signal sets `asked`. A run that was given this pauses at its next event where no batch
    is due. A second signal does what it would have done without the block. A handler that your
    program had installed is called as well, and is put back after the block.

    Args:
        *signals: the signals; SIGTERM if there is none.

    Raises:
        TypeError: a signal is not an int.
        ValueError: there is no such signal, or no program can catch it.

    >>> import os
    >>> from fengine import Loop, outputs
    >>> with Preemption(signal.SIGTERM) as preemption:
    ...     os.kill(os.getpid(), signal.SIGTERM)
    ...     state = Loop(outputs(abs)).run([-1, -2], preemption=preemption)
    >>> state.status.value, state.event, preemption.exit_code
    ('interrupted', Events.STARTED, 143)
    """

    __slots__ = ("_before", "_child_before", "_process", "received", "signals")

    def __init__(self, *signals: SupportsIndex) -> None:
        self.signals = tuple(dict.fromkeys(map(_checked, signals))) or (signal.SIGTERM,)
        self.received: signal.Signals | None = None
        self._process = -1
        self._before: dict[signal.Signals, _Handler] = {}
        self._child_before: _Handler = None

    @override
    def __repr__(self) -> str:
        return f"Preemption({', '.join(f'signal.{one.name}' for one in self.signals)})"

    @property
    def asked(self) -> bool:
        """Whether a signal has come."""
        return self.received is not None

    @property
    def exit_code(self) -> int | None:
        """With what the process is to end: 128 and the number of the signal; None before one."""
        return None if self.received is None else 128 + self.received

    def __enter__(self) -> Self:
        """Install the handlers.

        Raises:
            RuntimeError: this is no main thread, or the block is under way already.
        """
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError(
                "signals reach the main thread alone, so a Preemption begins there: enter it in "
                "the main thread, and hand it to the run"
            )
        if self._before:
            raise RuntimeError(f"{self!r} is entered already; make another one for a block within")
        self.received, self._process = None, os.getpid()
        for one in self.signals:
            self._before[one] = signal.getsignal(one)
            signal.signal(one, self._receive)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Put back the handlers that were there, where nobody has replaced ours since."""
        for one in self.signals:
            _put_back(one, self._receive, self._before.pop(one))
        if _CHILD is not None and self._child_before is not None:
            _put_back(_CHILD, self._receive_of_child, self._child_before)
            self._child_before = None

    def _receive(self, number: int, frame: FrameType | None) -> None:
        one = signal.Signals(number)
        before = self._before.get(one, signal.SIG_DFL)
        is_own = os.getpid() == self._process
        if is_own and self.received is None:
            self.received = one
            self._leave_children_alone()
            if callable(before) and before is not signal.default_int_handler:
                before(number, frame)
            return
        # A second signal; or a process that was forked in the block, which nobody asks to pause.
        if callable(before):
            before(number, frame)
        elif before != signal.SIG_IGN:
            signal.signal(one, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def _leave_children_alone(self) -> None:
        """Have no complaint about lost workers raised within the step: the signal reached them."""
        if _CHILD is not None and callable(before := signal.getsignal(_CHILD)):
            self._child_before = before
            signal.signal(_CHILD, self._receive_of_child)

    def _receive_of_child(self, number: int, frame: FrameType | None) -> None:
        before = self._child_before
        if not callable(before):
            return
        try:
            before(number, frame)
        except RuntimeError as error:
            if not str(error).startswith("DataLoader worker"):
                raise


def _checked(number: SupportsIndex) -> signal.Signals:
    if isinstance(number, bool) or not hasattr(number, "__index__"):
        raise TypeError(
            f"{number!r} of type {type(number).__name__} is no signal; give signal.SIGTERM or the "
            "like"
        )
    try:
        one = signal.Signals(number.__index__())
    except ValueError:
        raise ValueError(f"{number!r} is the number of no signal of this system") from None
    if one.name in _UNCATCHABLE:
        raise ValueError(
            f"signal.{one.name} ends or stops a process, which cannot catch it; give "
            "signal.SIGTERM or the like"
        )
    return one


def _put_back(number: signal.Signals, ours: _Handler, before: _Handler) -> None:
    if signal.getsignal(number) == ours:
        # A handler that was not installed from Python cannot be put back; None stands for it.
        signal.signal(number, signal.SIG_DFL if before is None else before)
