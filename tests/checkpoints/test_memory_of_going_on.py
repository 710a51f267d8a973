"""Going on needs little memory beside what stays: measured as the benchmark of checkpoints does."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fengine import Loop, diff, outputs
from fengine.checkpoints import Checkpoints
from tests.benchmarks.checkpoints.processes import forked, memory

WIDTH, LAYERS = 768, 12
LARGEST = WIDTH * WIDTH * 4
OPTIMIZER = 2 * LAYERS * LARGEST
SLACK = 1 << 22  # what is imported, and the buffer of a digest


def stepped(
    seed: int, *, kind: Any = torch.optim.AdamW, width: int = 16
) -> tuple[nn.Module, Any, Any]:
    torch.manual_seed(seed)
    model = nn.Sequential(*(nn.Linear(width, width, bias=False) for _ in range(LAYERS)))
    # No gradients beside the parameters, whose memory going on might use.
    optimizer = kind(model.parameters(), lr=0.01, foreach=False)
    for parameter in model.parameters():
        parameter.grad = parameter.detach()
    optimizer.step()
    optimizer.zero_grad()
    loop: Any = Loop(outputs(abs))
    return model, optimizer, loop.with_external(model=model, optimizer=optimizer)


def peak_of_going_on(folder: str) -> int:
    """Return how many bytes more were in use at most than before a run goes on."""
    _, _, loop = stepped(1, width=WIDTH)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of what came before
    before = memory("VmRSS")
    Checkpoints(folder).run(loop, [1])
    return memory("VmHWM") - before


def test_an_optimizer_that_has_a_state_takes_up_another_one_in_its_place(tmp_path: Path) -> None:
    _, optimizer, loop = stepped(0, width=WIDTH)
    Checkpoints(tmp_path).run(loop, [1])
    saved = optimizer.state_dict()
    _, other, loop = stepped(1, width=WIDTH)
    assert diff(other.state_dict()["state"], saved["state"])
    Checkpoints(tmp_path).run(loop, [1])
    assert not diff(other.state_dict(), saved)
    assert forked(lambda: peak_of_going_on(str(tmp_path))) < LARGEST + SLACK < OPTIMIZER / 4


def test_what_an_optimizer_copies_is_read_tensor_by_tensor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, optimizer, loop = stepped(0)
    Checkpoints(tmp_path).run(loop, [1])
    read: list[weakref.ref[Any]] = []
    alive: list[int] = []

    def moved_elsewhere(param: object, value: torch.Tensor, *rest: Any, **named: Any) -> Any:
        read.append(weakref.ref(value))
        alive.append(sum(one() is not None for one in read))
        return value.clone()

    monkeypatch.setattr(
        torch.optim.Optimizer,
        "_process_value_according_to_param_policy",
        staticmethod(moved_elsewhere),
    )
    _, other, loop = stepped(1)
    Checkpoints(tmp_path).run(loop, [1])
    assert len(read) == 3 * LAYERS
    assert max(alive) <= 6  # what is kept for one parameter, and for the next one
    assert not diff(other.state_dict(), optimizer.state_dict())


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adagrad, torch.optim.RMSprop])
def test_other_optimizers_take_up_their_states(tmp_path: Path, kind: Any) -> None:
    _, optimizer, loop = stepped(0, kind=kind)
    Checkpoints(tmp_path).run(loop, [1])
    _, other, loop = stepped(1, kind=kind)
    Checkpoints(tmp_path).run(loop, [1])
    assert not diff(other.state_dict(), optimizer.state_dict())


def test_a_state_that_a_hook_has_put_into_another_dict_is_taken_up(tmp_path: Path) -> None:
    _, optimizer, loop = stepped(0)
    saving: Any = optimizer
    saving.register_state_dict_post_hook(lambda optimizer, state: OrderedDict(state))
    Checkpoints(tmp_path).run(loop, [1])
    _, other, loop = stepped(1)
    Checkpoints(tmp_path).run(loop, [1])
    assert not diff(other.state_dict()["state"], optimizer.state_dict()["state"])


def test_a_hook_before_loading_sees_the_whole_state(tmp_path: Path) -> None:
    _, _, loop = stepped(0)
    Checkpoints(tmp_path).run(loop, [1])
    _, other, loop = stepped(1)
    seen: list[int] = []

    def look(optimizer: Any, state: dict[str, Any]) -> None:
        seen.append(len(state["state"]))

    other.register_load_state_dict_pre_hook(look)
    Checkpoints(tmp_path).run(loop, [1])
    assert seen == [LAYERS]
