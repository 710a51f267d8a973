"""Given logs: what `log_to` is given is a log, and none is given twice."""

from __future__ import annotations

import os
from typing import Final

from fengine.core.describe import name_of, require_callable
from fengine.writers import (
    CsvFile,
    JsonLines,
    MLflow,
    OpensWriter,
    TensorBoard,
    WandB,
    console,
    csv_file,
    jsonl,
    mlflow,
    tensorboard,
    wandb,
)

# What make logs, which are easily given uncalled.
_MAKERS: Final[tuple[object, ...]] = (console, csv_file, jsonl, mlflow, tensorboard, wandb)
# Logs that two writers would spoil.
_AT_ONE_PLACE: Final = (CsvFile, JsonLines, MLflow, TensorBoard, WandB)


def require_log(log: object) -> None:
    """Refuse what is no log, and say what was meant.

    Raises:
        TypeError: it is not called with a place.
    """
    if isinstance(log, str | os.PathLike):
        raise TypeError(f"a log takes (place), and {log!r} is a path: give jsonl({str(log)!r})")
    if any(log is one for one in _MAKERS):
        raise TypeError(
            f"{name_of(log)} makes a log, so call it first: log_to({name_of(log)}(...))"
        )
    require_callable(log, "a log", "place", or_class=True)


def require_apart(logs: tuple[OpensWriter, ...]) -> None:
    """Refuse a log that is given twice.

    Raises:
        ValueError: there is one.
    """
    files = [log for log in logs if isinstance(log, _AT_ONE_PLACE)]
    for number, log in enumerate(files):
        if log in files[:number]:
            raise ValueError(
                f"{log!r} is written twice, and a log takes one writer; to write at several "
                "events join them: at=one | other"
            )
