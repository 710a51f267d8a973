"""What pytorch-ignite 0.5.5 has in `ignite.engine`: the same names, in the same order of arguments.

`fengine.engine.install` puts this package there. It decides nothing: it is `fengine.engine` under
`IGNITE_0_5_5`, for code that counts on the positions of arguments. The names that
`__all__` lacks are not public there, but other packages import them.
"""

from fengine.engine.events import (
    CallableEventWithFilter,
    EventEnum,
    Events,
    EventsList,
    RemovableEventHandle,
    State,
)
from fengine.engine.ignite.stand_in.positional_deterministic import DeterministicEngine
from fengine.engine.ignite.stand_in.positional_engine import Engine
from fengine.engine.ignite.stand_in.positional_factories import (
    create_supervised_evaluator,
    create_supervised_trainer,
)
from fengine.engine.ignite.stand_in.positional_steps import (
    supervised_evaluation_step,
    supervised_evaluation_step_amp,
    supervised_training_step,
    supervised_training_step_amp,
    supervised_training_step_apex,
    supervised_training_step_tpu,
)
from fengine.engine.ignite.stand_in.underscored import _check_arg as _check_arg
from fengine.engine.ignite.stand_in.underscored import _prepare_batch as _prepare_batch
from fengine.engine.ignite.stand_in.underscored import convert_tensor as convert_tensor

__all__ = [
    "CallableEventWithFilter",
    "DeterministicEngine",
    "Engine",
    "EventEnum",
    "Events",
    "EventsList",
    "RemovableEventHandle",
    "State",
    "create_supervised_evaluator",
    "create_supervised_trainer",
    "supervised_evaluation_step",
    "supervised_evaluation_step_amp",
    "supervised_training_step",
    "supervised_training_step_amp",
    "supervised_training_step_apex",
    "supervised_training_step_tpu",
]
