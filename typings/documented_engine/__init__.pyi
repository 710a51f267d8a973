# The engine API as its documentation states it: a contract that tests hold against ours.
# Names, order, defaults and kinds of the parameters count; a default of `...` is any function.

from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Any, TypeVar

import torch
from documented_engine.engine import RemovableEventHandle

_F = TypeVar("_F", bound=Callable[..., Any])

class Events(Enum):
    COMPLETED = "completed"
    EPOCH_COMPLETED = "epoch_completed"
    EPOCH_STARTED = "epoch_started"
    EXCEPTION_RAISED = "exception_raised"
    ITERATION_COMPLETED = "iteration_completed"
    ITERATION_STARTED = "iteration_started"
    STARTED = "started"

class State:
    def __init__(self, **kwargs: Any) -> None: ...
    def __getattr__(self, name: str) -> Any: ...
    def __setattr__(self, name: str, value: Any) -> None: ...

class Engine:
    state: State
    def __init__(self, process_function: Callable[[Engine, Any], Any]) -> None: ...
    def add_event_handler(
        self, event_name: Any, handler: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> RemovableEventHandle: ...
    def fire_event(self, event_name: Any) -> None: ...
    def has_event_handler(self, handler: Callable[..., Any], event_name: Any = None) -> bool: ...
    def on(self, event_name: Any, *args: Any, **kwargs: Any) -> Callable[[_F], _F]: ...
    # Documented as **kwargs of which event_to_attr is the only one.
    def register_events(
        self, *event_names: Any, event_to_attr: dict[Any, str] | None = None
    ) -> None: ...
    def remove_event_handler(self, handler: Callable[..., Any], event_name: Any) -> None: ...
    def run(self, data: Iterable[Any], max_epochs: int = 1) -> State: ...
    def terminate(self) -> None: ...
    def terminate_epoch(self) -> None: ...

def create_supervised_evaluator(
    model: torch.nn.Module,
    metrics: Mapping[str, Any] | None = None,
    device: str | torch.device | None = None,
    non_blocking: bool = False,
    prepare_batch: Callable[[Any, Any, bool], tuple[Any, Any]] = ...,
    output_transform: Callable[[Any, Any, Any], Any] = ...,
) -> Engine: ...
def create_supervised_trainer(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    loss_fn: Callable[[Any, Any], torch.Tensor],
    device: str | torch.device | None = None,
    non_blocking: bool = False,
    prepare_batch: Callable[[Any, Any, bool], tuple[Any, Any]] = ...,
    output_transform: Callable[[Any, Any, Any, torch.Tensor], Any] = ...,
) -> Engine: ...
