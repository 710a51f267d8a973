"""What the semantics of an Engine decide: where the documentation and version 0.5.5 differ."""

from __future__ import annotations

from enum import Enum
from typing import Any, Final

import torch

from tests.engine.rows.records import versions
from tests.engine.rows.sides import (
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


@VERSIONS(
    "C-16",
    "data of length 0, or unsized data without a batch",
    ("an epoch without a batch, with a warning", ["S ES BS W EC C"] * 2),
    ("ValueError; without a length, an epoch without a batch", ["!ValueError", "S ES BS EC C"]),
)
def empty(side: Side) -> object:
    return [tale(side, data=[]), tale(side, data=iter(()))]


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
