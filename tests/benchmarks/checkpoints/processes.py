"""Processes: work that is done in a forked process, and what it found.

So systems do not see the memory that others have left, and one that is killed takes nobody along.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.checkpoints.trainings import in_child


def forked(work: Callable[[], object]) -> Any:
    """Do some work in a forked process, and return what it returned, which is plain JSON.

    Raises:
        RuntimeError: it failed; its error stands on stderr.

    >>> forked(lambda: {"sum": 1 + 2})
    {'sum': 3}
    """
    reading, writing = os.pipe()

    def write() -> None:
        os.close(reading)
        with os.fdopen(writing, "w") as file:
            json.dump(work(), file)

    child = in_child(write)
    os.close(writing)
    with os.fdopen(reading) as file:
        found = file.read()
    _, status = os.waitpid(child, 0)
    if status != 0:
        raise RuntimeError(f"the work in process {child} failed; see above")
    return json.loads(found)


def memory(field: str) -> int:
    """Return how many bytes of memory this process has ("VmRSS"), or had at most ("VmHWM")."""
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    raise KeyError(field)
