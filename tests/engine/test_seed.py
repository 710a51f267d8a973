"""What the documentation says of the engine, sentence by sentence, and each of its examples."""

from __future__ import annotations

import gc
import inspect
import weakref
from enum import Enum
from typing import Any

import ignite.metrics
import pytest
import torch
from typing_extensions import override

import fengine.engine.engine
from fengine.engine import (
    Engine,
    Events,
    State,
    create_supervised_evaluator,
    create_supervised_trainer,
)


def engine_of(outputs: list[Any] | None = None) -> Engine:
    """Make an engine whose process function gives the batch back, and notes it."""
    seen = [] if outputs is None else outputs

    def process_function(engine: Engine, batch: Any) -> Any:
        seen.append(batch)
        return batch

    return Engine(process_function)


def parameters(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


# Engine


def test_example_of_an_engine_that_stores_the_loss() -> None:
    model, loss_fn = torch.nn.Linear(2, 1), torch.nn.functional.mse_loss
    losses = []

    def train_and_store_loss(engine: Engine, batch: Any) -> float:
        inputs, targets = batch
        outputs = model(inputs)
        loss = loss_fn(outputs, targets)
        losses.append(loss.item())
        return loss.item()

    engine = Engine(train_and_store_loss)
    data = [(torch.full((1, 2), float(number)), torch.ones(1, 1)) for number in range(3)]
    engine.run(data)
    assert len(losses) == 3
    assert engine.state.output == losses[-1]


def test_the_process_function_receives_the_engine_and_each_batch() -> None:
    calls = []
    engine = Engine(lambda *arguments: calls.append(arguments))
    engine.run(["a", "b"], max_epochs=2)
    assert calls == [(engine, batch) for batch in "abab"]


def test_the_events_come_as_the_run_goes() -> None:
    engine, fired = engine_of(), []
    for event in Events:
        if event is not Events.EXCEPTION_RAISED:
            engine.add_event_handler(
                event, lambda engine: fired.append(engine.last_event_name.name)
            )
    engine.run([1, 2], max_epochs=1)
    documented = [name for name in fired if "BATCH" not in name]
    iteration = ["ITERATION_STARTED", "ITERATION_COMPLETED"]
    assert documented == [
        "STARTED",
        "EPOCH_STARTED",
        *iteration,
        *iteration,
        "EPOCH_COMPLETED",
        "COMPLETED",
    ]


# add_event_handler, on


def test_example_of_add_event_handler(capsys: pytest.CaptureFixture[str]) -> None:
    engine = engine_of()

    def print_epoch(engine: Engine) -> None:
        print(f"Epoch: {engine.state.epoch}")  # noqa: T201

    engine.add_event_handler(Events.EPOCH_COMPLETED, print_epoch)
    engine.run([1], max_epochs=2)
    assert capsys.readouterr().out == "Epoch: 1\nEpoch: 2\n"
    assert parameters(Engine.add_event_handler) == [
        "self",
        "event_name",
        "handler",
        "args",
        "kwargs",
    ]


def test_the_first_argument_is_the_engine_and_the_others_follow() -> None:
    engine, calls = engine_of(), []

    def handler(first: Any, *args: Any, **kwargs: Any) -> None:
        calls.append((first, args, kwargs))

    engine.add_event_handler(Events.STARTED, handler, 1, "two", three=3)
    engine.run([1])
    assert calls == [(engine, (1, "two"), {"three": 3})]


def test_a_handler_may_do_without_the_engine() -> None:
    engine, calls = engine_of(), []
    engine.add_event_handler(Events.STARTED, lambda: calls.append("none"))
    engine.add_event_handler(Events.STARTED, calls.append, "bound")
    engine.add_event_handler(Events.STARTED, lambda *, name: calls.append(name), name="named")
    engine.run([1])
    assert calls == ["none", "bound", "named"]


def test_at_exception_raised_the_exception_comes_before_the_other_arguments() -> None:
    error, calls = ArithmeticError(), []

    def fail(engine: Engine, batch: Any) -> None:
        raise error

    engine = Engine(fail)

    @engine.on(Events.EXCEPTION_RAISED, "more", key="word")
    def handler(engine: Engine, raised: Exception, more: str, key: str) -> None:
        calls.append((engine, raised, more, key))
        raise raised

    with pytest.raises(ArithmeticError) as caught:
        engine.run([1])
    assert caught.value is error
    assert calls == [(engine, error, "more", "word")]


def test_add_event_handler_returns_a_handle_that_removes() -> None:
    engine, calls = engine_of(), []
    handle = engine.add_event_handler(Events.STARTED, lambda: calls.append(1))
    assert isinstance(handle, fengine.engine.engine.RemovableEventHandle)
    handle.remove()
    engine.run([1])
    assert calls == []


def test_handlers_of_an_event_run_in_the_order_of_adding() -> None:
    engine, calls = engine_of(), []
    for number in range(5):
        engine.add_event_handler(
            Events.STARTED, lambda engine, number: calls.append(number), number
        )
    engine.run([1])
    assert calls == [0, 1, 2, 3, 4]


def test_on_is_a_shortcut_for_add_event_handler() -> None:
    engine, calls = engine_of(), []

    @engine.on(Events.EPOCH_STARTED, 7, name="seven")
    def handler(engine: Engine, number: int, name: str) -> None:
        calls.append((engine.state.epoch, number, name))

    engine.run([1], max_epochs=2)
    assert calls == [(1, 7, "seven"), (2, 7, "seven")]
    assert engine.has_event_handler(handler, Events.EPOCH_STARTED)
    assert parameters(Engine.on) == ["self", "event_name", "args", "kwargs"]


@pytest.mark.parametrize("event", ["unknown", 12, Enum("Other", "FOO").FOO])  # type: ignore[attr-defined]  # the functional API of Enum
def test_an_event_that_is_not_registered_has_no_handlers(event: Any) -> None:
    engine = engine_of()
    with pytest.raises(ValueError, match="register_events"):
        engine.add_event_handler(event, print)
    with pytest.raises(ValueError, match="register_events"):
        engine.on(event)(print)
    with pytest.raises(ValueError, match="register_events"):
        engine.fire_event(event)


# fire_event, register_events


class CustomEvents(Enum):
    FOO_EVENT = "foo_event"
    BAR_EVENT = "bar_event"


class TBPTTEvents(Enum):
    TIME_ITERATION_STARTED = "time_iteration_started"
    TIME_ITERATION_COMPLETED = "time_iteration_completed"


def test_example_of_custom_events() -> None:
    fired = []

    def process_function(engine: Engine, batch: Any) -> Any:
        engine.fire_event(CustomEvents.FOO_EVENT)
        return batch

    engine = Engine(process_function)
    engine.register_events(*CustomEvents)
    engine.add_event_handler(CustomEvents.FOO_EVENT, lambda engine: fired.append("foo"))
    engine.add_event_handler(CustomEvents.BAR_EVENT, lambda engine: fired.append("bar"))
    engine.run([1, 2])
    engine.fire_event(CustomEvents.BAR_EVENT)
    assert fired == ["foo", "foo", "bar"]


def test_example_of_an_event_with_a_state_attribute() -> None:
    event_to_attr: dict[Any, str] = {
        TBPTTEvents.TIME_ITERATION_STARTED: "time_iteration",
        TBPTTEvents.TIME_ITERATION_COMPLETED: "time_iteration",
    }
    seen = []

    def process_function(engine: Engine, batch: Any) -> Any:
        for _ in range(2):
            engine.state.time_iteration += 1
            engine.fire_event(TBPTTEvents.TIME_ITERATION_COMPLETED)
        return batch

    engine = Engine(process_function)
    engine.register_events(*TBPTTEvents, event_to_attr=event_to_attr)
    assert engine.state.time_iteration == 0
    event = TBPTTEvents.TIME_ITERATION_COMPLETED
    engine.add_event_handler(event, lambda engine: seen.append(engine.state.time_iteration))
    engine.run([1, 2])
    assert seen == [1, 2, 3, 4]
    assert engine.state.get_event_attrib_value(event) == 4


@pytest.mark.parametrize("event", ["name", 3, (1, 2), CustomEvents.FOO_EVENT], ids=str)
def test_an_event_is_any_name(event: Any) -> None:
    engine, fired = engine_of(), []
    engine.register_events(event)
    engine.add_event_handler(event, lambda: fired.append(event))
    engine.fire_event(event)
    engine.run([1])
    assert fired == [event]


def test_the_built_in_events_are_registered_by_default() -> None:
    engine, fired = engine_of(), []
    for event in Events:
        engine.add_event_handler(event, lambda *args, event=event, **kwargs: fired.append(event))
        if event not in (Events.EXCEPTION_RAISED, Events.TERMINATE_SINGLE_EPOCH):
            engine.fire_event(event)
    assert len(fired) == len(Events) - 2


def test_the_state_exchanges_dynamic_data() -> None:
    def process_function(engine: Engine, batch: int) -> int:
        engine.state.shared = batch * 10
        engine.fire_event(CustomEvents.FOO_EVENT)
        result: int = engine.state.answer
        return result

    engine = Engine(process_function)
    engine.register_events(*CustomEvents)

    @engine.on(CustomEvents.FOO_EVENT)
    def answer(engine: Engine) -> None:
        engine.state.answer = engine.state.shared + 1

    assert engine.run([1, 2]).output == 21


# has_event_handler, remove_event_handler


def test_has_event_handler_searches_one_event_or_all() -> None:
    engine = engine_of()

    def handler() -> None:
        pass

    assert not engine.has_event_handler(handler)
    engine.add_event_handler(Events.STARTED, handler)
    assert engine.has_event_handler(handler)
    assert engine.has_event_handler(handler, Events.STARTED)
    assert engine.has_event_handler(handler, event_name=Events.STARTED)
    assert not engine.has_event_handler(handler, Events.COMPLETED)


def test_remove_event_handler_removes_it_from_the_event() -> None:
    engine, calls = engine_of(), []

    def handler(engine: Engine) -> None:
        calls.append(engine.last_event_name)

    engine.add_event_handler(Events.STARTED, handler)
    engine.add_event_handler(Events.COMPLETED, handler)
    engine.remove_event_handler(handler, Events.STARTED)
    engine.run([1])
    assert calls == [Events.COMPLETED]
    with pytest.raises(ValueError, match="not registered"):
        engine.remove_event_handler(handler, Events.STARTED)


# run


def test_run_goes_over_the_data_max_epochs_times() -> None:
    outputs: list[Any] = []
    engine = engine_of(outputs)
    state = engine.run([1, 2, 3], max_epochs=2)
    assert outputs == [1, 2, 3, 1, 2, 3]
    assert isinstance(state, State)
    assert (state.epoch, state.iteration, state.output) == (2, 6, 3)


def test_run_has_one_epoch_by_default() -> None:
    outputs: list[Any] = []
    engine_of(outputs).run([1, 2, 3])
    assert outputs == [1, 2, 3]


def test_run_takes_data_and_max_epochs_by_position_and_by_name() -> None:
    assert parameters(Engine.run)[:3] == ["self", "data", "max_epochs"]
    assert engine_of().run([1], 3).epoch == 3
    assert engine_of().run(data=[1], max_epochs=2).epoch == 2


def test_run_takes_a_data_loader() -> None:
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.arange(6.0)), 2)
    outputs: list[Any] = []
    engine_of(outputs).run(data, max_epochs=2)
    assert [batch[0].tolist() for batch in outputs] == 2 * [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]


# terminate, terminate_epoch

BEFORE_THE_STEP = (
    Events.EPOCH_STARTED,
    Events.GET_BATCH_STARTED,
    Events.GET_BATCH_COMPLETED,
    Events.ITERATION_STARTED,
)


def test_terminate_ends_the_run_after_the_current_iteration() -> None:
    outputs: list[Any] = []
    completed: list[Any] = []
    engine = engine_of(outputs)
    engine.add_event_handler(Events.ITERATION_STARTED(once=2), lambda engine: engine.terminate())
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: completed.append(1))
    engine.run([1, 2, 3], max_epochs=3)
    assert outputs == [1, 2]
    assert completed == [1, 1]


@pytest.mark.parametrize("event", BEFORE_THE_STEP)
def test_terminate_before_the_step_lets_one_iteration_pass(event: Any) -> None:
    outputs: list[Any] = []
    engine = engine_of(outputs)
    engine.add_event_handler(event, lambda engine: engine.terminate())
    engine.run([1, 2, 3], max_epochs=3)
    assert outputs == [1]


@pytest.mark.parametrize("event", BEFORE_THE_STEP)
def test_terminate_epoch_before_the_step_lets_one_iteration_pass(event: Any) -> None:
    outputs: list[Any] = []
    engine = engine_of(outputs)
    engine.add_event_handler(event, lambda engine: engine.terminate_epoch())
    engine.run([1, 2, 3], max_epochs=3)
    assert outputs == [1, 1, 1]


def test_terminate_in_the_process_function_completes_the_iteration() -> None:
    completed: list[Any] = []

    def process_function(engine: Engine, batch: int) -> int:
        if batch == 2:
            engine.terminate()
        return batch

    engine = Engine(process_function)
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: completed.append(1))
    engine.add_event_handler(Events.COMPLETED, lambda: completed.append("all"))
    assert engine.run([1, 2, 3], max_epochs=3).output == 2
    assert completed == [1, 1, "all"]


def test_terminate_epoch_ends_the_epoch_only() -> None:
    outputs: list[Any] = []
    ended: list[int] = []
    engine = engine_of(outputs)

    @engine.on(Events.ITERATION_COMPLETED)
    def cut(engine: Engine) -> None:
        if engine.state.output == 2:
            engine.terminate_epoch()

    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda e: ended.append(e.state.epoch))
    engine.run([1, 2, 3], max_epochs=2)
    assert outputs == [1, 2, 1, 2]
    assert ended == [1, 2]


def test_terminate_takes_no_argument_that_is_needed() -> None:
    for method in (Engine.terminate, Engine.terminate_epoch):
        _, *others = inspect.signature(method).parameters.values()
        assert all(parameter.default is not parameter.empty for parameter in others)


# Events, State


def test_the_documented_events_have_their_values() -> None:
    names = [
        "COMPLETED",
        "EPOCH_COMPLETED",
        "EPOCH_STARTED",
        "EXCEPTION_RAISED",
        "ITERATION_COMPLETED",
        "ITERATION_STARTED",
        "STARTED",
    ]
    assert all(issubclass(kind, Enum) for kind in [Events])
    for name in names:
        assert Events(name.lower()) is Events[name]
        assert Events[name].value == name.lower()


def test_a_state_holds_user_defined_values() -> None:
    state = State(rate=0.1, names=["a"])
    state.names.append("b")
    state.more = 1
    assert (state.rate, state.names, state.more) == (0.1, ["a", "b"], 1)


# RemovableEventHandle


def test_example_of_a_handle_in_a_with_statement() -> None:
    engine, epochs = engine_of(), []

    def print_epoch(engine: Engine) -> None:
        epochs.append(engine.state.epoch)

    with engine.add_event_handler(Events.EPOCH_COMPLETED, print_epoch):
        engine.run([1], max_epochs=2)
    engine.run([1], max_epochs=2)
    assert epochs == [1, 2]
    assert not engine.has_event_handler(print_epoch)


def test_a_handle_is_of_the_documented_place_and_signature() -> None:
    kind = fengine.engine.engine.RemovableEventHandle
    assert parameters(kind) == ["event_name", "handler", "engine"]
    engine, calls = engine_of(), []

    def handler() -> None:
        calls.append(1)

    engine.add_event_handler(Events.STARTED, handler)
    handle = kind(Events.STARTED, handler, engine)
    assert handle.event_name is Events.STARTED
    handle.remove()
    handle.remove()
    engine.run([1])
    assert calls == []


def test_a_handle_holds_handler_and_engine_weakly() -> None:
    class Handler:
        def __call__(self) -> None:
            pass

    engine, handler = engine_of(), Handler()
    handle = engine.add_event_handler(Events.STARTED, handler)
    assert handle.handler() is handler
    assert handle.engine() is engine
    references = weakref.ref(engine), weakref.ref(handler)
    gc.disable()
    try:
        del engine, handler
        assert [reference() for reference in references] == [None, None]
    finally:
        gc.enable()
    assert (handle.engine(), handle.handler()) == (None, None)
    handle.remove()


# Factories


class Recording(torch.nn.Linear):
    """Record the devices that the model is moved to, and its modes."""

    def __init__(self) -> None:
        super().__init__(2, 1)
        self.moves: list[Any] = []
        self.modes: list[bool] = []
        self.gradients: list[bool] = []

    @override
    def to(self, *args: Any, **kwargs: Any) -> Any:
        self.moves.append((*args, *kwargs.values()))
        return super().to(*args, **kwargs)

    @override
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        self.modes.append(self.training)
        self.gradients.append(torch.is_grad_enabled())
        return super().forward(input)


@pytest.fixture
def model() -> Recording:
    torch.manual_seed(0)
    return Recording()


@pytest.fixture
def data() -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(4, 2, generator=generator), torch.randn(4, 1, generator=generator))
        for _ in range(3)
    ]


@pytest.fixture
def prepared() -> list[Any]:
    return []


def mean_error(y_pred: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.mse_loss(y_pred, y)


def test_a_trainer_trains_and_gives_the_loss(model: Recording, data: list[Any]) -> None:
    twin = torch.nn.Linear(2, 1)
    twin.load_state_dict(model.state_dict())
    by_hand = torch.optim.SGD(twin.parameters(), lr=0.1)
    losses = []
    for x, y in data:
        by_hand.zero_grad()
        loss = mean_error(twin(x), y)
        loss.backward()  # type: ignore[no-untyped-call]  # torch declares no types for it
        by_hand.step()
        losses.append(loss.item())

    trainer = create_supervised_trainer(
        model, torch.optim.SGD(model.parameters(), lr=0.1), mean_error
    )
    outputs = []
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: outputs.append(engine.state.output)
    )
    assert isinstance(trainer, Engine)
    trainer.run(data)
    assert outputs == losses
    assert all(model.modes)
    assert torch.equal(model.weight, twin.weight)
    assert torch.equal(model.bias, twin.bias)


def test_an_evaluator_infers_and_gives_prediction_and_target(
    model: Recording, data: list[Any]
) -> None:
    evaluator = create_supervised_evaluator(model)
    assert isinstance(evaluator, Engine)
    y_pred, y = evaluator.run(data).output
    assert torch.equal(y, data[-1][1])
    assert torch.equal(y_pred, model(data[-1][0]))
    assert model.modes[:-1] == [False, False, False]
    assert model.gradients[:-1] == [False, False, False]


def test_the_order_of_the_factories_parameters() -> None:
    common = ["device", "non_blocking", "prepare_batch", "output_transform"]
    assert parameters(create_supervised_trainer)[:7] == ["model", "optimizer", "loss_fn", *common]
    assert parameters(create_supervised_evaluator)[:6] == ["model", "metrics", *common]
    for factory in (create_supervised_trainer, create_supervised_evaluator):
        defaults = inspect.signature(factory).parameters
        assert defaults["device"].default is None
        assert defaults["non_blocking"].default is False


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu")])
def test_the_device_applies_to_the_model_and_the_batches(
    model: Recording, data: list[Any], device: Any
) -> None:
    moved = []

    class Moving(torch.Tensor):
        @override
        def to(self, *args: Any, **kwargs: Any) -> Any:
            moved.append((args, kwargs))
            return super().to(*args, **kwargs)

    batches = [tuple(part.as_subclass(Moving) for part in batch) for batch in data]
    evaluator = create_supervised_evaluator(model, {}, device, True)
    assert model.moves == [(device,)]
    evaluator.run(batches)
    assert len(moved) == 6
    assert all(device in args and kwargs == {"non_blocking": True} for args, kwargs in moved)


def test_the_trainer_moves_the_model_to_its_device(data: list[Any]) -> None:
    model = Recording()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    create_supervised_trainer(model, sgd, mean_error, "meta")
    assert model.moves == [("meta",)]
    assert model.weight.device == torch.device("meta")


def test_without_a_device_nothing_moves(model: Recording, data: list[Any]) -> None:
    create_supervised_evaluator(model).run(data)
    assert model.moves == []


def test_prepare_batch_receives_batch_device_and_non_blocking(
    model: Recording, data: list[Any], prepared: list[Any]
) -> None:
    def prepare_batch(batch: Any, device: Any, non_blocking: bool) -> tuple[Any, Any]:
        prepared.append((device, non_blocking))
        return batch["x"], batch["y"]

    batches = [{"x": x, "y": y} for x, y in data]
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    create_supervised_trainer(model, sgd, mean_error, "cpu", True, prepare_batch).run(batches)
    create_supervised_evaluator(model, None, None, False, prepare_batch).run(batches)
    assert prepared == 3 * [("cpu", True)] + 3 * [(None, False)]


def test_output_transform_decides_the_output(model: Recording, data: list[Any]) -> None:
    sgd = torch.optim.SGD(model.parameters(), lr=0.0)
    trainer = create_supervised_trainer(
        model,
        sgd,
        mean_error,
        output_transform=lambda x, y, y_pred, loss: (x, y, y_pred, loss),
    )
    x, y, y_pred, loss = trainer.run(data).output
    assert x is data[-1][0]
    assert y is data[-1][1]
    assert torch.equal(loss, mean_error(y_pred, y))
    evaluator = create_supervised_evaluator(
        model, output_transform=lambda x, y, y_pred: {"x": x, "y": y, "y_pred": y_pred}
    )
    assert set(evaluator.run(data).output) == {"x", "y", "y_pred"}


def test_metrics_are_attached_by_their_names(model: Recording, data: list[Any]) -> None:
    class Count:
        def attach(self, engine: Engine, name: str) -> None:
            engine.add_event_handler(Events.EPOCH_STARTED, self.start, name)
            engine.add_event_handler(Events.ITERATION_COMPLETED, self.count, name)

        def start(self, engine: Engine, name: str) -> None:
            engine.state.metrics[name] = 0

        def count(self, engine: Engine, name: str) -> None:
            y_pred, _ = engine.state.output
            engine.state.metrics[name] += len(y_pred)

    evaluator = create_supervised_evaluator(model, metrics={"seen": Count(), "again": Count()})
    assert evaluator.run(data).metrics == {"seen": 12, "again": 12}


def test_a_metric_of_pytorch_ignite_fits_the_default_output() -> None:
    evaluator = create_supervised_evaluator(
        torch.nn.Identity(), metrics={"accuracy": ignite.metrics.Accuracy()}
    )
    right = torch.tensor([[0.9, 0.1], [0.2, 0.8]]), torch.tensor([0, 1])
    half = torch.tensor([[0.9, 0.1], [0.2, 0.8]]), torch.tensor([0, 0])
    assert evaluator.run([right, half]).metrics == {"accuracy": 0.75}
    assert evaluator.run([half]).metrics == {"accuracy": 0.5}
