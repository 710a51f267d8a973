"""Models and losses that torch.compile has compiled are trained, kept and timed as others are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from fengine import Loop, diff
from fengine.checkpoints import CheckpointError, Checkpoints, weights
from fengine.features import evaluation, throughput
from fengine.metrics import accuracy
from fengine.testing import FakeClock
from fengine.training import TensorBatches, evaluation_step, training_step

X = torch.randn(24, 3, generator=torch.Generator().manual_seed(0))
Y = (X.sum(dim=1) > 0).long()
DATA = TensorBatches(X, Y, batch_size=8, seed=0)


@pytest.fixture(autouse=True)
def _compile_again() -> Any:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def build(
    model_of: Callable[[nn.Module], Any], loss_fn: Any = cross_entropy
) -> tuple[nn.Module, Any]:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    model = model_of(plain)
    optimizer = torch.optim.AdamW(plain.parameters(), lr=0.05)
    loop: Any = Loop(training_step(model, optimizer, loss_fn))
    return plain, loop | evaluation(Loop(evaluation_step(model)) | accuracy(), DATA)


def compiled(model: nn.Module) -> Any:
    return torch.compile(model, backend="eager")


def as_it_is(model: nn.Module) -> nn.Module:
    return model


def test_a_compiled_model_ends_with_the_same_weights() -> None:
    plain, loop = build(as_it_is)
    wanted = loop.run(DATA, max_epochs=3).metrics
    other, loop = build(compiled)
    assert loop.run(DATA, max_epochs=3).metrics == wanted
    assert not diff(dict(plain.state_dict()), dict(other.state_dict()))


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # dynamo looks at all
def test_a_compiled_loss_ends_with_the_same_weights() -> None:
    plain, loop = build(as_it_is)
    loop.run(DATA, max_epochs=3)
    other, loop = build(as_it_is, torch.compile(cross_entropy, backend="eager"))
    loop.run(DATA, max_epochs=3)
    assert not diff(dict(plain.state_dict()), dict(other.state_dict()))


def test_a_compiled_training_goes_on(tmp_path: Path) -> None:
    plain, loop = build(compiled)
    loop.run(DATA, max_epochs=4)
    _, loop = build(compiled)
    Checkpoints(tmp_path).run(loop, DATA, max_epochs=2)
    other, loop = build(compiled)
    Checkpoints(tmp_path).run(loop, DATA, max_epochs=4)
    assert not diff(dict(plain.state_dict()), dict(other.state_dict()))
    assert {name.partition(".")[0] for name in weights(tmp_path, "model")} == {"_orig_mod"}
    _, loop = build(as_it_is)
    with pytest.raises(CheckpointError, match=r"0\.weight is not in the snapshot"):
        Checkpoints(tmp_path).run(loop, DATA, max_epochs=5)


def test_a_model_that_is_compiled_in_place_has_the_names_of_the_plain_one(tmp_path: Path) -> None:
    def in_place(model: nn.Module) -> nn.Module:
        model.compile(backend="eager")
        return model

    _, loop = build(in_place)
    Checkpoints(tmp_path).run(loop, DATA, max_epochs=2)
    other, loop = build(as_it_is)
    Checkpoints(tmp_path).run(loop, DATA, max_epochs=4)
    plain, loop = build(as_it_is)
    loop.run(DATA, max_epochs=4)
    assert not diff(dict(plain.state_dict()), dict(other.state_dict()))


def test_the_time_of_compiling_is_kept_out_of_the_throughput() -> None:
    clock = FakeClock()

    def backend(graph: Any, inputs: Any) -> Any:
        clock.advance(1000)

        def run(*values: Any) -> Any:
            clock.advance(1)
            return graph.forward(*values)

        return run

    _, loop = build(lambda model: torch.compile(model, backend=backend))
    step_alone: Any = Loop(loop.step)
    timed = step_alone | throughput(warmup=1, clock=clock)
    assert timed.run(DATA).metrics["batches_per_second"] == pytest.approx(1.0)
