"""Data that `Loop.try_out` has read gives afterwards what it would have given without it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader
from typing_extensions import override

from fengine import Events, Loop, State, outputs, tap
from fengine.features import evaluation
from fengine.metrics import mean
from fengine.training import Shuffled, TensorBatches, to_device, windows

pytestmark = pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")

NUMBERS: Any = range(20)


def stateful_loader() -> Any:
    torchdata = pytest.importorskip("torchdata.stateful_dataloader")
    generator = torch.Generator().manual_seed(1)
    return torchdata.StatefulDataLoader(NUMBERS, batch_size=2, shuffle=True, generator=generator)


class Resuming:
    """Data that knows its place, and has another order in each pass."""

    def __init__(self) -> None:
        self.done = self.number = 0

    def __iter__(self) -> Any:
        for place in range(self.done, 4):
            self.done = place + 1
            yield torch.tensor([self.number, place])
        self.done, self.number = 0, self.number + 1

    def get_state(self) -> Any:
        return self.done, self.number

    def set_state(self, state: Any) -> None:
        self.done, self.number = state


def noting_in(seen: list[list[int]]) -> Any:
    return lambda state: seen.append(state.output)


class WithState(Resuming):
    """The same, which stands in a pass at its end, and gives nothing then."""

    @override
    def __iter__(self) -> Any:
        if self.done == 4:
            self.done, self.number = 0, self.number + 1
            return
        for place in range(self.done, 4):
            self.done = place + 1
            yield torch.tensor([self.number, place])
        self.done, self.number = 0, self.number + 1

    def state_dict(self) -> Any:
        return {"place": (self.done, self.number)}

    def load_state_dict(self, state: Any) -> None:
        self.done, self.number = state["place"]


KINDS_OF_DATA: dict[str, Any] = {
    "a loader that draws": lambda: DataLoader(NUMBERS, batch_size=2, shuffle=True),
    "its own generator": lambda: DataLoader(
        NUMBERS, batch_size=2, shuffle=True, generator=torch.Generator().manual_seed(1)
    ),
    "windows of that": lambda: windows(KINDS_OF_DATA["its own generator"](), 2),
    "moved": lambda: to_device(KINDS_OF_DATA["its own generator"](), "cpu"),
    "shuffled by pass": lambda: DataLoader(NUMBERS, batch_size=2, sampler=Shuffled(20, seed=5)),
    "in memory": lambda: TensorBatches(torch.arange(20), batch_size=2, seed=5),
    "that knows its place": Resuming,
    "with a state": WithState,
    "a stateful loader": stateful_loader,
    "a stateful loader, moved": lambda: to_device(stateful_loader(), "cpu"),
    "windows of a stateful loader": lambda: windows(stateful_loader(), 3),
    "workers that stay": lambda: DataLoader(
        NUMBERS, batch_size=5, shuffle=True, num_workers=1, persistent_workers=True
    ),
}


def flat(batch: Any) -> list[int]:
    """Return the numbers in a batch, or in a window of them."""
    if isinstance(batch, torch.Tensor):
        return [int(number) for number in batch.flatten()]
    return [number for part in batch for number in flat(part)]


@pytest.mark.parametrize("kind", KINDS_OF_DATA)
@pytest.mark.parametrize("begun", [0, 2, 100])
def test_data_gives_afterwards_what_it_gives_without_it(kind: str, begun: int) -> None:
    given = []
    for tried in (False, True):
        torch.manual_seed(3)
        data, seen = KINDS_OF_DATA[kind](), list[list[int]]()
        loop: Any = Loop(outputs(flat))
        noting = loop.on(Events.ITERATION_COMPLETED, tap(noting_in(seen)))
        if begun:
            stop = Events.ITERATION_COMPLETED(once=begun)
            loop.on(stop, State.terminate).run(data)
        if tried:
            loop.try_out(data)
        seen.extend(map(flat, data))
        noting.run(data, max_epochs=2)
        given.append((seen, float(torch.rand(1))))
    assert given[0] == given[1]


def test_data_of_evaluations_gives_afterwards_what_it_gives_without_it() -> None:
    given = []
    for tried in (False, True):
        held_out = KINDS_OF_DATA["its own generator"]()
        judging: Any = Loop(outputs(lambda batch: float(batch[0]))) | mean("first")
        inner: Any = Loop(outputs(float)) | evaluation(judging, held_out, prefix="own_")
        loop: Any = Loop(outputs(abs)) | evaluation(inner, [1.0])
        if tried:
            loop.try_out([1, 2])
        given.append([batch.tolist() for batch in held_out])
    assert given[0] == given[1]
