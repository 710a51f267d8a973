"""`assert_resume_exact` tells a run that can be resumed from one that cannot."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import attrs
import pytest
import torch
from hypothesis import given, settings
from immutables import Map
from torch import nn

from fengine import DOCUMENTED, Events, Loop, Snapshot, State, outputs
from fengine.testing import Program, assert_resume_exact, data, programs
from fengine.testing.resuming import Built

AnyState = State[Any, Any, Any]
BATCHES = [torch.ones(2, 2) * number for number in range(3)]


def training(*external: str) -> Built:
    torch.manual_seed(0)
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def train_on(batch: torch.Tensor) -> float:
        optimizer.zero_grad()
        loss = (model(batch) - 1).pow(2).mean()
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    known: dict[str, Any] = {"model": model, "optimizer": optimizer}
    loop = Loop[Any, Any, Any](outputs(train_on)).with_external(
        **{name: known[name] for name in external}
    )
    return loop, BATCHES, {"max_epochs": 2}


def complaint(*arguments: Any, **keywords: Any) -> str:
    with pytest.raises(AssertionError) as found:
        assert_resume_exact(*arguments, **keywords)
    return str(found.value)


def test_a_training_whose_parts_are_named_is_exact() -> None:
    assert_resume_exact(lambda: training("model", "optimizer"))


def test_what_is_not_named_is_found() -> None:
    found = complaint(lambda: training("model"))
    assert "resumed after Events.ITERATION_COMPLETED, firing 6 of " in found
    assert "at epoch 1, iteration 1" in found
    assert "state.output: " in found
    assert "belongs into loop.with_external(...)" in found


def test_what_is_left_in_the_end_counts_too() -> None:
    class Total:
        """Counts batches, and writes too little."""

        def __init__(self) -> None:
            self.total = self.hidden = 0

        def state_dict(self) -> dict[str, int]:
            return {"total": self.total}

        def load_state_dict(self, state_dict: dict[str, int]) -> None:
            self.total = 0

    def build() -> Built:
        total = Total()

        def add(batch: int) -> int:
            total.total += batch
            return batch

        return Loop[Any, Any, Any](outputs(add)).with_external(total=total), [1, 2], {}

    assert "external.total" in complaint(build)


@settings(max_examples=20)
@given(programs(data=data(["list", "sized", "none"]), recoveries=(), semantics=[DOCUMENTED]))
def test_generated_programs_are_exact(program: Program) -> None:
    def build() -> Built:
        arguments = {"user": Map(), **attrs.asdict(program.limits)}
        return program.loop(), program.data.fresh(), arguments

    loop, batches, arguments = build()
    firings = len(list(loop.iterate(batches, **arguments)))
    assert_resume_exact(build, boundaries=range(1, firings + 1, 7), replay=True)


def test_boundaries_may_be_chosen_and_have_to_be_there() -> None:
    built: list[int] = []

    def build() -> Built:
        built.append(1)
        return Loop[Any, Any, Any](outputs(abs)), [1, 2], {}

    assert_resume_exact(build, boundaries={2, 5})
    assert len(built) == 3
    with pytest.raises(ValueError, match="boundaries: 99 is no firing of the run, which has 13"):
        assert_resume_exact(build, boundaries={2, 99})
    mistyped: Any = "al"
    with pytest.raises(ValueError, match=r"boundaries='al'; give .*the numbers of firings"):
        assert_resume_exact(build, boundaries=mistyped)
    with pytest.raises(ValueError, match="none of the firings chosen of the 13 of the run"):
        assert_resume_exact(build, boundaries=())


def test_a_pause_is_no_boundary() -> None:
    def build() -> Built:
        loop = Loop[Any, Any, Any](outputs(abs)).on(Events.EPOCH_COMPLETED, State.interrupt)
        return loop, [1, 2], {"max_epochs": 2}

    assert_resume_exact(build)


def test_data_that_gives_other_batches_is_found() -> None:
    given_out = iter(range(100))

    def build() -> Built:
        return Loop[Any, Any, Any](outputs(abs)), [next(given_out), next(given_out)], {}

    assert "the data must give the same batches again" in complaint(build)


@attrs.frozen
class Best:
    loss: float = 9.0


def keep_best(state: AnyState) -> AnyState:
    return state.evolve(user=Best(min(state.user.loss, state.output)))


def test_the_user_says_how_it_is_written_and_read() -> None:
    def build() -> Built:
        loop = Loop[Any, Any, Any](outputs(abs)).on(Events.ITERATION_COMPLETED, keep_best)
        return loop, [3, 1, 2], {"max_epochs": 2, "user": Best()}

    def write(snapshot: Snapshot[Any, Any, Any]) -> str:
        return json.dumps(snapshot.to_dict(user=attrs.asdict))

    def read(text: str, loop: Loop[Any, Any, Any]) -> Snapshot[Any, Any, Any]:
        return Snapshot.from_dict(
            json.loads(text), events=loop.registry, user=lambda plain: Best(**plain)
        )

    def read_too_little(text: str, loop: Loop[Any, Any, Any]) -> Snapshot[Any, Any, Any]:
        return Snapshot.from_dict(json.loads(text), events=loop.registry, user=lambda _: Best())

    assert_resume_exact(build, write=write, read=read)
    assert "state.user.loss: 3 -> 9.0" in complaint(build, write=write, read=read_too_little)


def test_the_run_ends_differently() -> None:
    lengths = iter([3, 2])

    def batches() -> Iterator[int]:
        yield from range(next(lengths))

    def build() -> Built:
        return Loop[Any, Any, Any](outputs(abs)), batches(), {}

    assert "is the first that differs" in complaint(build, boundaries={1})
