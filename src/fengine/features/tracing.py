"""Tracing: torch's profiler, for one run, by its schedule.

torch has one profiler in a process, and a second one ends the first without a word. So a second one
is refused here. What is written replaces a file as a whole, or not at all.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final, TypeAlias, TypedDict, final

import attrs
import torch
from torch.profiler import ProfilerActivity, profile, record_function, schedule

from fengine.core.describe import typed
from fengine.writers.writing import tell

_ONE: Final = threading.Lock()
# What does with a trace what is to be done with it, or the file that it goes to.
Trace: TypeAlias = Path | Callable[[profile], object]


class ProfilerOptions(TypedDict, total=False):
    """Be what `torch.profiler.profile` takes beside its schedule.

    >>> ProfilerOptions(record_shapes=True)
    {'record_shapes': True}
    """

    activities: Iterable[ProfilerActivity]
    record_shapes: bool
    profile_memory: bool
    with_stack: bool
    with_flops: bool


@final
@attrs.frozen
class Cycles:
    """Hold what `torch.profiler.schedule` takes, in batches."""

    wait: int
    warmup: int
    active: int
    repeat: int
    skip_first: int

    def __attrs_post_init__(self) -> None:
        """Refuse what is no schedule."""
        for name, number in attrs.asdict(self).items():
            if type(number) is not int:
                raise TypeError(f"{name}={typed(number)} is not an int")
            least = int(name == "active")
            if number < least:
                raise ValueError(f"{name}={number} is below {least}")


@final
@attrs.define(eq=False)
class Tracing:
    """Profile one run.

    Args:
        trace: what is done with a trace.
        cycles: when the profiler records.
        options: what else it is given.
        profiler: it, while it is on.
        traces: the files that are written.
        failed: what was raised where something was to be done with a trace.
        is_sound: whether each step of the profiler has been done to its end.
    """

    trace: Trace
    cycles: Cycles
    options: ProfilerOptions
    profiler: profile | None = None
    traces: tuple[Path, ...] = ()
    failed: Exception | None = None
    is_sound: bool = True

    def start(self) -> None:
        """Begin.

        Raises:
            FileNotFoundError: there is no folder for the trace.
            RuntimeError: torch's profiler is in use.
        """
        if isinstance(self.trace, Path) and not self.trace.parent.is_dir():
            raise FileNotFoundError(
                f"trace={str(self.trace)!r} is in the folder {str(self.trace.parent)!r}, which is "
                "not there; make it first"
            )
        if _is_in_use() or not _ONE.acquire(blocking=False):
            raise RuntimeError(
                "torch's profiler is in use already, and there is one in a process: another run "
                "with profiled(trace=...) is under way, or code of yours profiles. Leave trace= "
                "out of one of them, which then times its handlers only"
            )
        try:
            found = schedule(**attrs.asdict(self.cycles))
            self.profiler = profile(schedule=found, on_trace_ready=self._ready, **self.options)
            self.profiler.start()
        except BaseException:
            self.profiler = None
            _ONE.release()
            raise

    def step(self) -> None:
        """Be done with a batch.

        Raises:
            Exception: what was to be done with the trace has failed.
        """
        if self.profiler is None:
            return
        self.is_sound = False
        with warnings.catch_warnings() if self.cycles.repeat != 1 else nullcontext():
            if self.cycles.repeat != 1:  # a trace has one cycle, and is dealt with before the next
                warnings.filterwarnings("ignore", ".*clears events at the end of each cycle")
            self.profiler.step()
        self.is_sound = True
        self._tell()

    def named(self, name: str, handler: Callable[..., Any]) -> Callable[..., Any]:
        """Return a handler that has its name in the trace."""
        if self.profiler is None or not _is_in_use():
            return handler

        def call(*given: Any) -> Any:
            with record_function(name):
                return handler(*given)

        return call

    def stop(self, error: BaseException | None = None) -> None:
        """End; what is recorded so far is a trace too.

        Args:
            error: what has ended the run, which is told of a failure here.

        Raises:
            Exception: what was to be done with the trace has failed, and nothing else has.
        """
        profiler, self.profiler = self.profiler, None
        if profiler is None:
            return
        try:
            if self.is_sound:
                profiler.stop()
            elif _is_in_use():  # whatever else torch would do then may end the process
                profiler.stop_trace()
            self._tell()
        except Exception as failure:
            if error is None:
                raise
            error.add_note(f"beside it, the trace of profiled() has failed: {failure!r}")
        finally:
            _ONE.release()

    def _ready(self, profiler: profile) -> None:
        try:
            if isinstance(self.trace, Path):
                self._write(profiler, self.trace)
            else:
                self.trace(profiler)
        except Exception as error:
            self.failed = error  # torch's profiler would not end as it should

    def _tell(self) -> None:
        failed, self.failed = self.failed, None
        if failed is not None:
            raise failed

    def _write(self, profiler: profile, path: Path) -> None:
        number = len(self.traces) + 1
        if number > 1:
            path = path.with_name(f"{path.name.partition('.')[0]}.{number}{_suffixes(path)}")
        unfinished = path.with_name(f".{os.getpid()}.{path.name}")
        try:
            profiler.export_chrome_trace(str(unfinished))
            _require_whole(unfinished)
            unfinished.replace(path)
        except (OSError, RuntimeError) as error:
            tell(f"the trace could not be written to {path}: {error}. The run goes on")
        else:
            self.traces = (*self.traces, path)
        finally:
            for rest in (unfinished, unfinished.with_name(f"{unfinished.name}.tmp")):
                rest.unlink(missing_ok=True)


def _is_in_use() -> bool:
    """Tell whether torch's profiler records in this thread."""
    found: bool = torch._C._autograd._profiler_enabled()
    return found


def _suffixes(path: Path) -> str:
    return "".join(path.name.partition(".")[1:])


def _require_whole(path: Path) -> None:
    """Refuse a trace without its end, which torch leaves where a disk is full.

    Raises:
        OSError: it has none, or is not there.
    """
    if not path.exists():
        raise OSError("torch has written none; is the disk full?")
    if path.suffix == ".gz":
        return
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 64))
        if not file.read().rstrip().endswith(b"}"):
            raise OSError("its end is missing; is the disk full?")
