"""The documented Engine API on the core: what code written for it imports.

One import line changes; docs/engine.md says how it differs. What makes an engine for a task is
imported when it is first named.
"""

import logging
from typing import TYPE_CHECKING

from fengine.engine.engine import Engine, EngineRunningError
from fengine.engine.enums import CallableEventWithFilter, EventEnum, Events, EventsList
from fengine.engine.handles import RemovableEventHandle
from fengine.engine.state import State
from fengine.later import importing_later

if TYPE_CHECKING:
    from fengine.engine.deterministic import DeterministicEngine
    from fengine.engine.ignite.replacement import install
    from fengine.engine.ignite.stand_in import _check_arg as _check_arg
    from fengine.engine.ignite.stand_in import _prepare_batch as _prepare_batch
    from fengine.engine.supervised.evaluation_functions import (
        supervised_evaluation_step,
        supervised_evaluation_step_amp,
    )
    from fengine.engine.supervised.factories import (
        create_supervised_evaluator,
        create_supervised_trainer,
    )
    from fengine.engine.supervised.training_functions import (
        supervised_training_step,
        supervised_training_step_amp,
        supervised_training_step_apex,
        supervised_training_step_tpu,
    )
else:
    __getattr__ = importing_later(
        __name__,
        {
            "fengine.engine.deterministic": ("DeterministicEngine",),
            "fengine.engine.supervised.evaluation_functions": (
                "supervised_evaluation_step",
                "supervised_evaluation_step_amp",
            ),
            "fengine.engine.ignite.replacement": ("install",),
            "fengine.engine.ignite.stand_in": ("_check_arg", "_prepare_batch"),
            "fengine.engine.supervised.factories": (
                "create_supervised_evaluator",
                "create_supervised_trainer",
            ),
            "fengine.engine.supervised.training_functions": (
                "supervised_training_step",
                "supervised_training_step_amp",
                "supervised_training_step_apex",
                "supervised_training_step_tpu",
            ),
        },
    )

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


# A library says nothing unless its user has set up logging.
logging.getLogger("fengine.engine").addHandler(logging.NullHandler())

__all__ = [
    "CallableEventWithFilter",
    "DeterministicEngine",
    "Engine",
    "EngineRunningError",
    "EventEnum",
    "Events",
    "EventsList",
    "RemovableEventHandle",
    "State",
    "create_supervised_evaluator",
    "create_supervised_trainer",
    "install",
    "supervised_evaluation_step",
    "supervised_evaluation_step_amp",
    "supervised_training_step",
    "supervised_training_step_amp",
    "supervised_training_step_apex",
    "supervised_training_step_tpu",
]
