"""Compiled models and steps: the training is the same, and so are its snapshots."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fengine import Events, Loop, State, diff, outputs
from fengine.checkpoints import Checkpoints, weights
from fengine.features import (
    ema,
    evaluation,
    find_learning_rate,
    frozen,
    keep_best,
    throughput,
)
from fengine.metrics import accuracy
from fengine.testing import FakeClock
from fengine.training import RandomState, TensorBatches, evaluation_step, training_step

X = torch.randn(24, 3, generator=torch.Generator().manual_seed(0))
Y = (X.sum(dim=1) > 0).long()
DATA = TensorBatches(X, Y, batch_size=8, seed=0)


@pytest.fixture(autouse=True)
def _nothing_is_compiled_before() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class Training:
    """A model that is compiled in one of several ways, and its loop."""

    def __init__(self, kind: str) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(
            nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 2)
        )
        used: Any = self.model
        if kind == "model":
            used = torch.compile(self.model, backend="aot_eager")
        elif kind == "in place":
            self.model.compile(backend="eager")
        optimizer = torch.optim.AdamW(used.parameters(), 0.1)
        if kind == "optimizer":
            optimizer.step = torch.compile(optimizer.step, backend="eager")  # type: ignore[method-assign]
        if kind == "loss":
            step = training_step(used, optimizer, loss=torch.compile(loss_of, backend="eager"))
        else:
            step = training_step(used, optimizer, cross_entropy)
        self.averaged = ema(used, 0.5)
        judging = Loop(evaluation_step(used)) | accuracy()
        self.loop: Any = (
            Loop(step)
            | self.averaged
            | frozen(self.model[0], until=1)
            | evaluation(judging, DATA)
            | keep_best("val_accuracy", mode="max", model=used)
        )


def loss_of(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return cross_entropy(model(batch[0]), batch[1])


KINDS = ["model", "in place", "loss"]


def trained() -> Training:
    torch.manual_seed(1)
    whole = Training("not")
    torch.manual_seed(1)
    whole.loop.run(DATA, max_epochs=2)
    return whole


@pytest.mark.parametrize("kind", KINDS)
def test_a_compiled_training_is_the_one_that_is_not(kind: str) -> None:
    whole, compiled = trained(), Training(kind)
    torch.manual_seed(1)
    compiled.loop.run(DATA, max_epochs=2)
    assert not diff(dict(whole.model.state_dict()), dict(compiled.model.state_dict()))
    assert list(compiled.averaged.model.state_dict()) == list(whole.model.state_dict())


def test_a_compiled_update_is_the_one_that_is_not_to_rounding() -> None:
    whole, compiled = trained(), Training("optimizer")
    torch.manual_seed(1)
    compiled.loop.run(DATA, max_epochs=2)
    torch.testing.assert_close(compiled.model.state_dict(), whole.model.state_dict())


@pytest.mark.parametrize(
    ("before", "after"),
    [("model", "model"), ("model", "not"), ("not", "model"), ("in place", "model")],
)
def test_a_snapshot_does_not_know_what_was_compiled(before: str, after: str) -> None:
    whole, first = trained(), Training(before)
    torch.manual_seed(1)
    state = next(
        moment.state
        for moment in first.loop.iterate(DATA, max_epochs=2)
        if moment.event is Events.ITERATION_COMPLETED and moment.state.iteration == 4
    )
    file = io.BytesIO()
    torch.save(first.loop.snapshot(state, DATA).to_dict(batch=list, output=float), file)
    file.seek(0)
    second = Training(after)
    snapshot = second.loop.read(torch.load(file), batch=tuple, output=torch.tensor)
    assert sorted(snapshot.external["model"]) == sorted(whole.model.state_dict())
    second.loop.resume(snapshot, DATA)
    assert not diff(dict(whole.model.state_dict()), dict(second.model.state_dict()))


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # dynamo looks at all
def test_a_step_that_is_compiled_as_a_whole() -> None:
    ends = []
    for compiles in (False, True):
        torch.manual_seed(0)
        model = nn.Linear(3, 2)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)

        def step(batch: Any, model: Any = model, optimizer: Any = optimizer) -> Tensor:
            optimizer.zero_grad()
            loss = loss_of(model, batch)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            return loss.detach()

        used: Any = torch.compile(step, backend="eager") if compiles else step
        loop: Any = Loop(outputs(used)).with_external(
            model=model, optimizer=optimizer, random=RandomState()
        )
        stop = Events.ITERATION_COMPLETED(once=4)
        half = loop.on(stop, State.interrupt).run(DATA, max_epochs=2)
        snapshot = loop.snapshot(half)
        nn.init.zeros_(model.weight)
        final = loop.resume(snapshot, DATA)
        ends.append((dict(model.state_dict()), final.output))
    assert not diff(*ends)


def test_a_compiled_training_is_tried_out_and_swept() -> None:
    whole, compiled = Training("not"), Training("model")
    found = []
    for one in (whole, compiled):
        torch.manual_seed(1)
        found.append(find_learning_rate(one.loop, DATA, iterations=4).losses)
        one.loop.try_out(DATA)
    assert found[1] == pytest.approx(found[0])
    assert not diff(dict(whole.model.state_dict()), dict(compiled.model.state_dict()))


def test_what_is_named_is_the_module_within() -> None:
    model = nn.Linear(1, 1)
    compiled: Any = torch.compile(model, backend="eager")
    loop: Any = Loop(outputs(abs)).with_external(model=compiled)
    assert loop.external["model"] is model
    assert loop.with_external(model=model) == loop


@pytest.mark.parametrize("before", ["model", "in place"])
def test_checkpoints_do_not_know_what_was_compiled(tmp_path: Path, before: str) -> None:
    whole, first, second = trained(), Training(before), Training("not")
    torch.manual_seed(1)
    Checkpoints(tmp_path).run(first.loop, DATA, max_epochs=1)
    Checkpoints(tmp_path).run(second.loop, DATA, max_epochs=2)
    assert not diff(dict(whole.model.state_dict()), dict(second.model.state_dict()))
    assert sorted(weights(tmp_path, "model")) == sorted(whole.model.state_dict())


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # dynamo looks at all
def test_a_compiled_loss_function_ends_with_the_same_weights() -> None:
    ends = []
    for loss_fn in (cross_entropy, torch.compile(cross_entropy, backend="eager")):
        torch.manual_seed(0)
        model = nn.Linear(3, 2)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        Loop(training_step(model, optimizer, loss_fn)).run(DATA, max_epochs=2)
        ends.append(dict(model.state_dict()))
    assert not diff(*ends)


def test_the_time_of_compiling_is_kept_out_of_the_throughput() -> None:
    clock = FakeClock()

    def backend(graph: Any, inputs: Any) -> Any:
        clock.advance(1000)

        def run(*values: Any) -> Any:
            clock.advance(1)
            return graph.forward(*values)

        return run

    model: Any = torch.compile(nn.Linear(3, 2), backend=backend)
    step = training_step(model, torch.optim.SGD(model.parameters(), 0.1), cross_entropy)
    timed = Loop(step) | throughput(warmup=1, clock=clock)
    assert timed.run(DATA).metrics["batches_per_second"] == pytest.approx(1.0)
