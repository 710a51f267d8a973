"""Rows A-001 to A-005 and A-130 to A-134: where the names are, and what code beside it takes."""

from __future__ import annotations

import importlib
import sys
from functools import partial
from typing import Any

import ignite.engine
import pytest
import torch
from ignite.base.mixins import ResettableHandler
from ignite.contrib.engines.tbptt import Tbptt_Events, create_supervised_tbptt_trainer
from ignite.engine.utils import _check_signature as their_check_signature
from ignite.engine.utils import _to_hours_mins_secs as their_to_hours_mins_secs
from ignite.handlers.checkpoint import Checkpoint, CheckpointEvents
from typing_extensions import override

import fengine.engine
from fengine.engine.utils import _check_signature, _to_hours_mins_secs
from tests.engine.rows.sides import AS_DOCUMENTED, IGNITE, Side, everywhere, here
from tests.engine.rows.table import Check, Rows

rows = Rows()


# Names

PLACES = {
    "A-001": ("", ignite.engine.__all__),
    "A-002": (".engine", ["Engine"]),
    "A-003": (
        ".events",
        [
            "CallableEventWithFilter",
            "EventEnum",
            "Events",
            "EventsList",
            "RemovableEventHandle",
            "State",
        ],
    ),
}


def is_there(module: str, names: list[str]) -> None:
    ours = importlib.import_module(f"fengine.engine{module}")
    assert [name for name in names if not hasattr(ours, name)] == []
    public = [name for name in names if hasattr(fengine.engine, name)]
    assert all(getattr(ours, name) is getattr(fengine.engine, name) for name in public)


for place, (module_name, its_names) in PLACES.items():
    rows(place)(partial(is_there, module_name, its_names))


@rows("A-005")
def names_that_others_import_though_they_are_not_public() -> None:
    is_there("", ["_prepare_batch", "_check_arg"])
    is_there(".utils", ["_check_signature", "_to_hours_mins_secs"])
    is_there(".deterministic", ["_get_rng_states", "_set_rng_states", "_repr_rng_state"])


# Beside the engine


@rows("A-130")
def whether_a_function_can_be_called_is_checked() -> None:
    def handler(engine: Any, number: int) -> None:
        pass

    def filtered(side: Side) -> Any:
        engine = side.engine()
        event = side.events.STARTED(every=2)
        return engine.add_event_handler(event, handler, 1).handler()

    checks = (_check_signature, AS_DOCUMENTED), (their_check_signature, IGNITE)
    for check, side in checks:
        for function in (handler, filtered(side)):
            check(function, "what it is", "engine", 1)
            check(function, "what it is", "engine", number=1)
            with pytest.raises(ValueError, match="what it is"):
                check(function, "what it is", "engine")
        with pytest.raises(TypeError):
            check(7, "what it is")  # type: ignore[arg-type]  # refused


@rows("A-131")
def seconds_are_taken_apart() -> None:
    for seconds in (0, 59.5, 60, 3599, 3600, 7384.25, 360000):
        assert _to_hours_mins_secs(seconds) == their_to_hours_mins_secs(seconds)
    assert _to_hours_mins_secs(7384.25) == (2, 3, 4.25)
    assert [type(part) for part in _to_hours_mins_secs(7384.25)] == [int, int, float]


@rows("A-132")
def an_engine_says_what_it_saves_and_resettable_handlers_attach_to_it() -> None:
    class Counting(ResettableHandler):
        def __init__(self) -> None:
            self.count = 7

        @override
        def reset(self) -> None:
            self.count = 0

        @override
        def attach(self, engine: Any, *args: Any, **kwargs: Any) -> None:
            engine.add_event_handler("STARTED", self.reset)
            engine.add_event_handler("ITERATION_COMPLETED", self.step)

        def step(self) -> None:
            self.count += 1

    def program(side: Side) -> object:
        kind, engine, counting = side.package.Engine, side.engine(), Counting()
        counting.attach(engine)
        engine.run([1, 2, 3])
        return kind._state_dict_all_req_keys, kind._state_dict_one_of_opt_keys, counting.count

    keys = ("epoch_length", "iteration"), (("max_epochs", "max_iters"),)
    everywhere(program, (*keys, 3))


@rows("A-133")
def a_checkpoint_registers_and_fires_its_event() -> None:
    def program(side: Side) -> object:
        engine, saved = side.engine(), list[Any]()

        def save(checkpoint: Any, filename: str, metadata: Any) -> None:
            saved.append(checkpoint["iteration"])

        checkpoint = Checkpoint({"engine": engine}, save, n_saved=1)
        assert not engine.has_registered_events(CheckpointEvents.SAVED_CHECKPOINT)
        engine.add_event_handler(side.events.ITERATION_COMPLETED(every=2), checkpoint)

        def listen() -> None:
            engine.add_event_handler(Checkpoint.SAVED_CHECKPOINT, saved.append, "saved")

        engine.add_event_handler(side.events.ITERATION_COMPLETED(once=2), listen)
        engine.run(range(6))
        return saved

    everywhere(program, [2, 4, "saved", 6, "saved"])


class Recurrent(torch.nn.Module):
    """Give a prediction for each time step, and the hidden state."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = torch.nn.RNN(2, 1)

    @override
    def forward(self, x: torch.Tensor, hidden: Any = None) -> Any:
        return self.cell(x, hidden)


@rows("A-134")
def a_trainer_that_goes_back_in_time_in_steps_runs_on_it() -> None:
    def program(side: Side) -> object:
        torch.manual_seed(0)
        model = Recurrent()
        sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        module = sys.modules[create_supervised_tbptt_trainer.__module__]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "Engine", side.package.Engine)
            trainer: Any = create_supervised_tbptt_trainer(
                model, sgd, torch.nn.MSELoss(), tbtt_step=2
            )
        assert type(trainer) is side.package.Engine
        seen: list[object] = []
        trainer.add_event_handler(Tbptt_Events.TIME_ITERATION_STARTED, seen.append, "started")
        trainer.add_event_handler(
            Tbptt_Events.TIME_ITERATION_COMPLETED, lambda engine: seen.append(engine.state.output)
        )
        x, y = torch.randn(5, 3, 2), torch.randn(5, 3, 1)
        seen.append(trainer.run([(x, y)]).output)
        return seen

    measured: Any = program(IGNITE)
    assert measured[::2] == ["started", "started", "started", sum(measured[1:6:2]) / 3]
    here(program, measured)


@pytest.mark.parametrize("check", rows.params())
def test_row(check: Check) -> None:
    check()
