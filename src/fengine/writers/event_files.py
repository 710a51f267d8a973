"""Event files: a log that TensorBoard shows.

An event is written as one record, so that what is in a folder can be read at any time.
"""

from __future__ import annotations

import io
import itertools
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, final

import attrs
from typing_extensions import override

from fengine import Status
from fengine.core.describe import call_in_words
from fengine.writers.log_files import LogFile, prepared, require_path
from fengine.writers.places import Place
from fengine.writers.writing import Scalar, require_package

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

_BEGINNING: Final = "events.out.tfevents."
_NUMBERS: Final = itertools.count()
_PACKAGE: Final = "tensorboard.summary.writer.record_writer"


@final
@attrs.frozen(repr=False)
class TensorBoard:
    """Write event files; made by `tensorboard`.

    >>> tensorboard("runs/first").folder
    'runs/first'
    """

    folder: str

    @override
    def __repr__(self) -> str:
        return call_in_words("tensorboard", self.folder)

    def __call__(self, place: Place, /) -> _Events:
        """Open a new file in the folder, which hides what the others have from a place on.

        Raises:
            OSError: the file cannot be written.
        """
        folder = Path(self.folder)
        earlier = sorted(one.name for one in folder.glob(f"{_BEGINNING}*"))
        # Files are read in the order of their names, so this one comes after all others.
        second = max(int(time.time()), *(_second_of(name) + 1 for name in earlier), 0)
        name = f"{_BEGINNING}{second:010d}.{socket.gethostname()}.{os.getpid()}.{next(_NUMBERS)}"
        return _Events(LogFile(prepared(folder / name)), place, is_first=not earlier)


def _second_of(name: str) -> int:
    second = name.removeprefix(_BEGINNING).partition(".")[0]
    return int(second) if second.isdecimal() else 0


@final
class _Events:
    def __init__(self, file: LogFile, place: Place, *, is_first: bool) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog

        self._file, self._has_parameters = file, not (place.is_start or is_first)
        self._write(Event(file_version="brain.Event:2"))
        self._write(Event(session_log=SessionLog(status=SessionLog.START), step=place.iteration))

    def parameters(self, parameters: Mapping[str, Scalar], /) -> None:
        """Write them for the tab of hyperparameters, unless they are there."""
        from tensorboard.plugins.hparams.summary_v2 import hparams_pb

        if not self._has_parameters:
            known = {name: "None" if one is None else one for name, one in parameters.items()}
            self._summarize(hparams_pb(known, trial_id=self._file.path.parent.name), 0)

    def numbers(self, place: Place, numbers: Mapping[str, float], /) -> None:
        """Write scalars, and the epoch as one."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        scalars = {"epoch": place.epoch, **numbers}
        values = [Summary.Value(tag=name, simple_value=one) for name, one in scalars.items()]
        self._summarize(Summary(value=values), place.iteration)

    def figure(self, place: Place, name: str, figure: Figure, /) -> None:
        """Write an image."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        image = Summary.Image(encoded_image_string=as_png(figure), colorspace=4)
        self._summarize(Summary(value=[Summary.Value(tag=name, image=image)]), place.iteration)

    def end(self, status: Status, /) -> None:
        """Close the file."""
        self._file.close()

    def _summarize(self, summary: Summary, step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._write(Event(summary=summary, step=step))

    def _write(self, event: Event) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        event.wall_time = time.time()
        record = io.BytesIO()
        RecordWriter(record).write(event.SerializeToString())
        self._file.append(record.getvalue())


def as_png(figure: Figure) -> bytes:
    """Return a figure as the content of a PNG file."""
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()


def tensorboard(folder: str | os.PathLike[str]) -> TensorBoard:
    """Make a log that TensorBoard shows: `tensorboard --logdir folder`.

    The step is the iteration, and the epoch is a scalar too. Numbers have the precision of float32.
    A run that begins hides what another one has written there. A run that goes on hides, of what is
    there, the steps from where it writes first; so log at one event for each step.

    Args:
        folder: where the event files are; it is made where there is none.

    Raises:
        ModuleNotFoundError: tensorboard is not installed.
        TypeError: `folder` is no path.

    >>> import tempfile
    >>> from fengine import Loop, outputs
    >>> from fengine.features import log_to
    >>> from fengine.metrics import mean
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     loop = Loop(outputs(float)) | mean("loss") | log_to(tensorboard(folder))
    ...     done = loop.run([1, 2])
    ...     [name.partition(".")[0] for name in os.listdir(folder)]
    ['events']
    """
    require_path("tensorboard", folder)
    require_package(_PACKAGE, "tensorboard", "tensorboard")
    return TensorBoard(os.fspath(folder))
