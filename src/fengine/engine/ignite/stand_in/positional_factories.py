"""The factories and step functions as code for pytorch-ignite 0.5.5 calls them.

They are those of `fengine.engine`, with the same defaults. Different are the order of the
parameters, any of which can be given by position, and the classes of the engines.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from inspect import Parameter, Signature, signature
from typing import Any, TypeVar

import fengine.engine.supervised.evaluation_functions as evaluation
import fengine.engine.supervised.factories as factories
import fengine.engine.supervised.training_functions as training
from fengine.engine.ignite.stand_in.positional_deterministic import DeterministicEngine
from fengine.engine.ignite.stand_in.positional_engine import Engine

Made = TypeVar("Made")


def _in_order(
    order: str, documented: Callable[..., Made], call: Callable[..., Made] | None = None
) -> Callable[..., Made]:
    """Make a function that takes the parameters of another one in an order of its own.

    Args:
        order: the names of the parameters.
        documented: has them, with their defaults.
        call: what is called with those that were given; `documented` unless given.

    >>> def documented(a, b=1, *, c=2):
    ...     return a, b, c
    >>> _in_order("a c b", documented)(10, 20)
    (10, 1, 20)
    """
    parameters = signature(documented).parameters
    ordered = Signature(
        [parameters[name].replace(kind=Parameter.POSITIONAL_OR_KEYWORD) for name in order.split()]
    )

    def function(*args: Any, **kwargs: Any) -> Made:
        return (call or documented)(**ordered.bind(*args, **kwargs).arguments)

    name = documented.__name__
    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"Make what `fengine.engine.{name}` makes."
    function.__signature__ = ordered  # type: ignore[attr-defined]  # what inspect looks for
    return function


def _trainer(*, deterministic: bool = False, **arguments: Any) -> Engine:
    return factories.build_trainer(DeterministicEngine if deterministic else Engine, **arguments)


_MODEL = "device non_blocking prepare_batch model_transform output_transform"
_TRAINED = f"model optimizer loss_fn {_MODEL}"
_LAST = "gradient_accumulation_steps model_fn"

supervised_training_step = _in_order(f"{_TRAINED} {_LAST}", training.supervised_training_step)
supervised_training_step_amp = _in_order(
    f"{_TRAINED} scaler {_LAST}", training.supervised_training_step_amp
)
supervised_training_step_apex = _in_order(
    f"{_TRAINED} {_LAST}", training.supervised_training_step_apex
)
supervised_training_step_tpu = _in_order(
    f"{_TRAINED} {_LAST}", training.supervised_training_step_tpu
)
supervised_evaluation_step = _in_order(
    f"model {_MODEL} model_fn", evaluation.supervised_evaluation_step
)
supervised_evaluation_step_amp = _in_order(
    f"model {_MODEL} model_fn", evaluation.supervised_evaluation_step_amp
)
create_supervised_trainer = _in_order(
    f"{_TRAINED} deterministic amp_mode scaler {_LAST}",
    factories.create_supervised_trainer,
    _trainer,
)
create_supervised_evaluator = _in_order(
    f"model metrics {_MODEL} amp_mode model_fn",
    factories.create_supervised_evaluator,
    partial(factories.build_evaluator, Engine),
)
