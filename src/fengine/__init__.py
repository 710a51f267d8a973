"""A training loop for PyTorch whose state is a value.

This is the functional API: the pure core and the runtime around it, by name. Importing it does not
import torch; what looks at runs is imported when it is first named. The compatible, mutable API is
`fengine.engine`.
"""

from typing import TYPE_CHECKING

from fengine.core.events import Event as Event
from fengine.core.events import Events as Events
from fengine.core.events import EventSet as EventSet
from fengine.core.events import PayloadEvent as PayloadEvent
from fengine.core.filters import Filter as Filter
from fengine.core.filters import after as after
from fengine.core.filters import before as before
from fengine.core.filters import every as every
from fengine.core.filters import once as once
from fengine.core.filters import where as where
from fengine.core.handlers import Handler as Handler
from fengine.core.handlers import PayloadHandler as PayloadHandler
from fengine.core.handlers import compose as compose
from fengine.core.handlers import focus as focus
from fengine.core.handlers import tap as tap
from fengine.core.handlers import when as when
from fengine.core.limits import Limits as Limits
from fengine.core.outcome import Outcome as Outcome
from fengine.core.outcome import Status as Status
from fengine.core.readers import SnapshotError as SnapshotError
from fengine.core.registration import Registration as Registration
from fengine.core.registry import EventRegistry as EventRegistry
from fengine.core.requests import END_EPOCH as END_EPOCH
from fengine.core.requests import END_RUN as END_RUN
from fengine.core.requests import SKIP_BATCH as SKIP_BATCH
from fengine.core.requests import Interrupt as Interrupt
from fengine.core.requests import Recovery as Recovery
from fengine.core.requests import RequestError as RequestError
from fengine.core.requests import Requests as Requests
from fengine.core.requests import Terminate as Terminate
from fengine.core.requests import TerminateEpoch as TerminateEpoch
from fengine.core.semantics import DOCUMENTED as DOCUMENTED
from fengine.core.semantics import IGNITE_0_5_5 as IGNITE_0_5_5
from fengine.core.semantics import Semantics as Semantics
from fengine.core.state import State as State
from fengine.core.steps import Stages as Stages
from fengine.core.steps import outputs as outputs
from fengine.core.steps import stages as stages
from fengine.core.table import Table as Table
from fengine.core.table import fire as fire
from fengine.runtime.driver import last_state as last_state
from fengine.runtime.external import Stateful as Stateful
from fengine.runtime.later import importing_later
from fengine.runtime.loop import Loop as Loop
from fengine.runtime.loop import Moment as Moment
from fengine.runtime.source import DataExhausted as DataExhausted

if TYPE_CHECKING:
    from fengine.runtime.blame import Write as Write
    from fengine.runtime.blame import blame as blame
    from fengine.runtime.differences import Difference as Difference
    from fengine.runtime.differences import Differences as Differences
    from fengine.runtime.differences import Divergence as Divergence
    from fengine.runtime.differences import diff as diff
    from fengine.runtime.differences import first_difference as first_difference
    from fengine.runtime.evaluate import evaluate as evaluate
    from fengine.runtime.plan import Firing as Firing
    from fengine.runtime.plan import Plan as Plan
    from fengine.runtime.recorder import Entry as Entry
    from fengine.runtime.recorder import Recorder as Recorder
    from fengine.runtime.snapshots import Snapshot as Snapshot
else:
    __getattr__ = importing_later(
        __name__,
        {
            "fengine.runtime.blame": (
                "Write",
                "blame",
            ),
            "fengine.runtime.differences": (
                "Difference",
                "Differences",
                "Divergence",
                "diff",
                "first_difference",
            ),
            "fengine.runtime.evaluate": ("evaluate",),
            "fengine.runtime.plan": ("Firing", "Plan"),
            "fengine.runtime.recorder": (
                "Entry",
                "Recorder",
            ),
            "fengine.runtime.snapshots": ("Snapshot",),
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
    "Entry",
    "Event",
    "EventRegistry",
    "EventSet",
    "Events",
    "Filter",
    "Firing",
    "Handler",
    "Interrupt",
    "Limits",
    "Loop",
    "Moment",
    "Outcome",
    "PayloadEvent",
    "PayloadHandler",
    "Plan",
    "Recorder",
    "Recovery",
    "Registration",
    "RequestError",
    "Requests",
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
    "Write",
    "after",
    "before",
    "blame",
    "compose",
    "diff",
    "evaluate",
    "every",
    "fire",
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
