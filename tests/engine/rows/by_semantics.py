"""What the semantics of an Engine decide: where the documentation and version 0.5.5 differ."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Any, Final

import torch

from tests.engine.rows.fixed_runs import Unsized
from tests.engine.rows.records import versions
from tests.engine.rows.sides import (
    AGAIN,
    EPOCH,
    ONE,
    Side,
    Tale,
    interrupt,
    outcome,
    tale,
    terminate,
    terminate_epoch,
)

VERSIONS: Final = versions()

BEFORE_THE_STEP: Final = ("ES1", "BS1", "BC1", "IS1", "DS1")


class Plain(Enum):
    TICK = "tick"


@VERSIONS(
    "C-07",
    "`terminate()` between EPOCH_STARTED and ITERATION_STARTED",
    (
        "acts after that iteration, or at once if no batch comes",
        [f"S ES {ONE} T C"] * 4 + [f"S {EPOCH} ES BS DS BC IS IC T C"],
    ),
    (
        "acts at once",
        [f"S {words} T C" for words in ("ES", "ES BS", "ES BS BC", "ES BS BC IS")]
        + [f"S {EPOCH} ES BS DS T C"],
    ),
)
def stopping_before_the_step(side: Side) -> object:
    return [tale(side, {word: terminate}) for word in BEFORE_THE_STEP]


@VERSIONS(
    "C-12",
    "`terminate_epoch()` between GET_BATCH_STARTED and ITERATION_STARTED",
    ("acts after that iteration, or at once if no batch comes", [f"S ES {ONE} TE EC C"] * 3),
    ("acts at once", [f"S ES {words} TE EC C" for words in ("BS", "BS BC", "BS BC IS")]),
)
def cutting_before_the_step(side: Side) -> object:
    return [tale(side, {word: terminate_epoch}, max_epochs=1) for word in BEFORE_THE_STEP[1:4]]


@VERSIONS(
    "C-11 C16",
    "`terminate_epoch()` in STARTED or EPOCH_STARTED",
    ("leaves the epoch one iteration", [f"S ES {ONE} TE EC C"] * 2),
    ("raises RuntimeError", ["S !RuntimeError", "S ES !RuntimeError"]),
)
def cutting_before_the_epoch(side: Side) -> object:
    told = [tale(side, {word: terminate_epoch}, max_epochs=1) for word in ("S1", "ES1")]
    return [words.replace("RequestError", "RuntimeError") for words in told]


@VERSIONS(
    "R-07",
    "`terminate()` while the run is interrupted",
    ("acts at once", "T C"),
    ("acts at the next event", "BS T C"),
)
def stopping_between(side: Side) -> object:
    told = Tale(side, {"IC1": interrupt})
    told.run()
    told.engine.terminate()
    return told.run()


class Liar:
    """Data that gives 3 batches, and says something else."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        return iter(range(3))


@VERSIONS(
    "C-14 C-15",
    "data that gives 3 batches, and says that they are 2, or 4",
    (
        "an epoch is a pass, of 2 batches, or of 3 with a warning",
        [
            (f"S {EPOCH} ES {AGAIN} {ONE} EC C", [0, 1, 0, 1]),
            (f"S ES {ONE} {ONE} {ONE} BS W EC ES {AGAIN} {ONE} {ONE} BS W EC C", [0, 1, 2] * 2),
        ],
    ),
    (
        "an epoch has 2 batches, or 4, some of them of another pass",
        [
            (f"S {EPOCH} ES {ONE} {AGAIN} EC C", [0, 1, 2, 0]),
            (
                f"S ES {ONE} {ONE} {ONE} {AGAIN} EC ES {ONE} {ONE} {AGAIN} {ONE} EC C",
                [0, 1, 2, 0, 1, 2, 0, 1],
            ),
        ],
    ),
)
def lying(side: Side) -> object:
    told = [Tale(side), Tale(side)]
    return [(one.run(Liar(length)), one.batches) for one, length in zip(told, (2, 4), strict=True)]


@VERSIONS(
    "C-16",
    "data of length 0, or unsized data without a batch",
    ("an epoch without a batch, with a warning", ["S ES BS W EC C"] * 2),
    ("ValueError; without a length, an epoch without a batch", ["!ValueError", "S ES BS EC C"]),
)
def empty(side: Side) -> object:
    return [tale(side, data=[]), tale(side, data=iter(()))]


@VERSIONS(
    "Q-08",
    "`max_iters=3`, where the data turns out to have 2 batches",
    ("`state.max_epochs` stays None", [3, None, 3]),
    ("`state.max_epochs` is 2 from then on", [3, 2, 3]),
)
def epochs_of_iterations(side: Side) -> object:
    engine = side.engine()
    state = engine.run(Unsized(2), max_iters=3)
    return [state.iteration, state.max_epochs, state.max_iters]


@VERSIONS(
    "C-19",
    "what can be an event",
    ("anything hashable", [None] * 5),
    ("strings and members of an EventEnum", [None] + ["TypeError"] * 4),
)
def kinds(side: Side) -> object:
    kinds: list[Any] = ["tick", Plain.TICK, 3, (1, 2), None]
    return [outcome(side.engine().register_events, kind) for kind in kinds]


@VERSIONS(
    "C-35",
    "`device` of the supervised factories",
    ("applies to the model and the batches", "meta"),
    ("applies to the batches", "cpu"),
)
def device(side: Side) -> object:
    model = torch.nn.Linear(1, 1)
    side.package.create_supervised_evaluator(model, device="meta")
    return model.weight.device.type
