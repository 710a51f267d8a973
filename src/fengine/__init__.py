"""A training loop for PyTorch whose state is a value.

This is the functional API by name. Importing it does not import torch. What looks at runs is
imported when it is first named. The compatible, mutable API is `fengine.engine`.
"""

from typing import TYPE_CHECKING

from fengine.core.events import Event, Events, EventSet, PayloadEvent
from fengine.core.filters import Filter, after, before, every, once, where
from fengine.core.handlers import Handler, PayloadHandler, compose, focus, tap, when
from fengine.core.limits import Limits
from fengine.core.named import NameTaken, When
from fengine.core.outcome import Failure, Outcome, Status
from fengine.core.parts import Part
from fengine.core.registration import Registration
from fengine.core.registry import EventRegistry
from fengine.core.requests import (
    END_EPOCH,
    END_RUN,
    SKIP_BATCH,
    Interrupt,
    Recovery,
    RequestError,
    Requests,
    Terminate,
    TerminateEpoch,
)
from fengine.core.semantics import DOCUMENTED, IGNITE_0_5_5, Semantics
from fengine.core.state import State
from fengine.core.stateful import Stateful
from fengine.core.steps import Stages, outputs, stages
from fengine.core.table import Table
from fengine.keep.readers import SnapshotError
from fengine.keep.snapshot import Snapshot
from fengine.later import importing_later
from fengine.look.plan import Firing, Plan
from fengine.loop import Feature, Loop, Moment
from fengine.run.failures import last_state
from fengine.run.place import Enterable, Resumable
from fengine.run.source import DataExhausted

if TYPE_CHECKING:
    from fengine.look.blame import Write, blame
    from fengine.look.differences import (
        Difference,
        Differences,
        Divergence,
        diff,
        first_difference,
    )
    from fengine.look.entry import Entry
    from fengine.recorder import Recorder
else:
    __getattr__ = importing_later(
        __name__,
        {
            "fengine.look.blame": (
                "Write",
                "blame",
            ),
            "fengine.look.differences": (
                "Difference",
                "Differences",
                "Divergence",
                "diff",
                "first_difference",
            ),
            "fengine.look.entry": ("Entry",),
            "fengine.recorder": ("Recorder",),
        },
    )

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


__all__ = [
    "DOCUMENTED",
    "END_EPOCH",
    "END_RUN",
    "IGNITE_0_5_5",
    "SKIP_BATCH",
    "DataExhausted",
    "Difference",
    "Differences",
    "Divergence",
    "Enterable",
    "Entry",
    "Event",
    "EventRegistry",
    "EventSet",
    "Events",
    "Failure",
    "Feature",
    "Filter",
    "Firing",
    "Handler",
    "Interrupt",
    "Limits",
    "Loop",
    "Moment",
    "NameTaken",
    "Outcome",
    "Part",
    "PayloadEvent",
    "PayloadHandler",
    "Plan",
    "Recorder",
    "Recovery",
    "Registration",
    "RequestError",
    "Requests",
    "Resumable",
    "Semantics",
    "Snapshot",
    "SnapshotError",
    "Stages",
    "State",
    "Stateful",
    "Status",
    "Table",
    "Terminate",
    "TerminateEpoch",
    "When",
    "Write",
    "after",
    "before",
    "blame",
    "compose",
    "diff",
    "every",
    "first_difference",
    "focus",
    "last_state",
    "once",
    "outputs",
    "stages",
    "tap",
    "when",
    "where",
]
