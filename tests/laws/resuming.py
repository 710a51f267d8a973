"""Go on with runs in a new process: read programs and states, write what their rest does."""

from __future__ import annotations

import contextlib
import json
import pickle
import sys
from typing import Any

from immutables import Map

from fengine import RequestError, State
from fengine.testing import Fault, Program


def identity(batch: Any) -> Any:
    return batch


def rest_of(program: Program, text: str) -> list[object]:
    """Read a state from text, and list the names and states of the events after it."""
    loop = program.loop()
    state: State[Any, Any, Any] = State.from_dict(
        json.loads(text), events=loop.registry, parts=loop.parts, user=Map, output=tuple
    )
    rest: list[object] = []
    with contextlib.suppress(Fault, RequestError):  # the moments tell
        for moment in program.iterate(after=state):
            rest.append([moment.event.name, moment.state.to_dict(user=dict, batch=identity)])
    return rest


if __name__ == "__main__":
    tasks = pickle.load(sys.stdin.buffer)
    json.dump([rest_of(program, text) for program, texts in tasks for text in texts], sys.stdout)
