"""What an engine writes to its log: under `ignite.engine` as there, elsewhere in our words."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any

import ignite.engine
import pytest
from typing_extensions import override

import fengine.engine
import fengine.engine.ignite.stand_in as stand_in


class Records(logging.Handler):
    """Keep what is logged, without the times."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[tuple[str, str, str]] = []

    @override
    def emit(self, record: logging.LogRecord) -> None:
        text = re.sub(r"\d\d:\d\d:\d\d\.\d{3}", "TIME", record.getMessage())
        if "over the data" not in text and "provided data" not in text:
            # What a DeterministicEngine does to find its place differs.
            self.said.append((record.levelname, record.name, text))


Deed = Callable[[Any], None]


def take(engine: Any) -> None:
    engine.add_event_handler("EXCEPTION_RAISED", lambda engine, error: None)


def fail_at(event: str) -> Deed:
    def add(engine: Any) -> None:
        engine.add_event_handler(event, lambda: 1 // 0)

    return add


def at(event: str, name: str, *args: object) -> Deed:
    def add(engine: Any) -> None:
        engine.add_event_handler(event, lambda: getattr(engine, name)(*args))

    return add


DEEDS: dict[str, list[Deed]] = {
    "plain": [],
    "failing": [fail_at("ITERATION_STARTED")],
    "failing outside": [fail_at("EPOCH_STARTED")],
    "taken": [fail_at("ITERATION_STARTED"), take],
    "taken outside": [fail_at("EPOCH_COMPLETED"), take],
    "terminate": [at("ITERATION_COMPLETED", "terminate")],
    "terminate at the end": [at("EPOCH_COMPLETED", "terminate")],
    "terminate_epoch": [at("ITERATION_COMPLETED", "terminate_epoch")],
    "terminate_epoch in silence": [at("ITERATION_COMPLETED", "terminate_epoch", True)],
    "interrupt": [at("ITERATION_COMPLETED", "interrupt")],
}


def said(package: Any, kind: str, deeds: list[Deed], **limits: int) -> list[tuple[str, str, str]]:
    engine = getattr(package, kind)(lambda engine, batch: batch)
    records = Records()
    logger = engine.logger
    logger.addHandler(records)
    try:
        logger.setLevel(logging.INFO)
        for deed in deeds:
            deed(engine)
        for more in ({}, {}, {"max_epochs": 3}):
            try:
                engine.run([1, 2], **limits, **more)
            except Exception as error:
                records.said.append(("left", "", repr(error)))
                break
    finally:
        logger.removeHandler(records)
        logger.setLevel(logging.NOTSET)
    return records.said


@pytest.mark.parametrize("kind", ["Engine", "DeterministicEngine"])
@pytest.mark.parametrize("name", DEEDS)
def test_records_are_those_of_ignite(name: str, kind: str) -> None:
    ours, theirs = (said(package, kind, DEEDS[name]) for package in (stand_in, ignite.engine))
    assert ours == theirs
    assert any("run starting with max_epochs=1" in text for _, _, text in ours)


def test_records_of_a_run_of_iterations() -> None:
    ours, theirs = (
        said(package, "Engine", [], max_iters=3) for package in (stand_in, ignite.engine)
    )
    assert ours[:3] == theirs[:3]
    assert ours[0][2] == "Engine run starting with max_iters=3."


def test_debug_records_are_those_of_ignite() -> None:
    seen = []
    for package in (stand_in, ignite.engine):
        engine: Any = package.Engine(lambda engine, batch: batch)
        records = Records()
        engine.logger = logging.Logger("mine", logging.DEBUG)
        engine.logger.addHandler(records)
        engine.add_event_handler(package.Events.STARTED, lambda: None)
        engine.run([1])
        seen.append(records.said)
    assert seen[0] == seen[1]


@pytest.mark.parametrize("kind", ["Engine", "DeterministicEngine"])
def test_elsewhere_records_are_in_our_words(kind: str) -> None:
    records = said(fengine.engine, kind, DEEDS["taken"])
    name = f"fengine.engine.engine.{kind}"
    assert records[0] == (
        "INFO",
        name,
        f"{kind}, at epoch 0, iteration 0, runs with max_epochs=1, max_iters=None, epoch_length=2",
    )
    assert (
        "ERROR",
        name,
        f"{kind} is stopped by ZeroDivisionError('integer division or modulo by zero')",
    ) in records
    assert ("INFO", name, f"{kind}, at epoch 1, iteration 1, is completed after TIME") in records
    assert not any("Engine run" in text for _, _, text in records)
