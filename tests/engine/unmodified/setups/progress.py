"""What is shown and stored of a run as it goes: progress bars, the outputs of an epoch."""

from __future__ import annotations

import re
from io import StringIO
from typing import Any

from ignite.engine import Engine, EventEnum, Events
from ignite.handlers import EpochOutputStore, ProgressBar
from ignite.metrics import Average, RunningAverage

from tests.engine.unmodified.setups import setup
from tests.engine.unmodified.setups.common import echo

TIMELESS = "{desc}[{n_fmt}/{total_fmt}] {percentage:3.0f}%|{bar}{postfix}"


class Moments(EventEnum):
    NOW = "now"


def shown(engine: Engine, runs: int = 1, bar: Any = None, **attached: Any) -> str:
    """Run an engine under a progress bar that draws each change; give what it drew."""
    screen = StringIO()
    always: Any = {"file": screen, "mininterval": 0, "miniters": 1, "ncols": 80, "ascii": True}
    options = always | {"bar_format": TIMELESS} | (bar or {})
    ProgressBar(**options).attach(engine, **attached)
    for _ in range(runs):
        engine.run([1.0, 2.0, 4.0], max_epochs=2)
    return screen.getvalue()


@setup("handlers/tqdm_logger.py")
def progress_bar() -> Any:
    return shown(Engine(echo), runs=2)


@setup("handlers/tqdm_logger.py")
def progress_bar_with_results() -> Any:
    engine: Any = Engine(echo)
    engine.state.alpha = 0.5
    Average().attach(engine, "mean")
    RunningAverage(output_transform=lambda output: output).attach(engine, "running")
    return [
        shown(engine, metric_names="all", state_attributes=["alpha"]),
        shown(Engine(echo), output_transform=lambda output: {"twice": 2 * output}),
    ]


@setup("handlers/tqdm_logger.py")
def progress_bar_of_filtered_iterations() -> Any:
    return shown(Engine(echo), event_name=Events.ITERATION_COMPLETED(every=2))


@setup("handlers/tqdm_logger.py")
def progress_bar_of_epochs() -> Any:
    return shown(
        Engine(echo),
        bar={"persist": True, "desc": "Epochs"},
        event_name=Events.EPOCH_STARTED,
        closing_event_name=Events.COMPLETED,
    )


@setup("handlers/tqdm_logger.py")
def progress_bar_with_times() -> Any:
    text = shown(Engine(echo), bar={"bar_format": ProgressBar().bar_format})
    return re.sub(r"\d\d:\d\d|\?", "time", text)


@setup("handlers/tqdm_logger.py")
def progress_bar_refuses_events() -> Any:
    engine, refused = Engine(echo), []
    engine.register_events(*Moments)
    for event, closing in (
        ("unknown", Events.COMPLETED),
        (Moments.NOW, Events.COMPLETED),
        (Events.COMPLETED, Events.EPOCH_COMPLETED),
        (Events.STARTED, Events.COMPLETED(once=1)),
    ):
        try:
            ProgressBar().attach(engine, event_name=event, closing_event_name=closing)  # type: ignore[arg-type]
        except (AttributeError, ValueError) as error:
            refused.append(type(error).__name__)
    return refused


@setup("handlers/stores.py")
def outputs_of_an_epoch() -> Any:
    engine: Any = Engine(echo)
    store = EpochOutputStore(output_transform=lambda output: 2 * output)
    store.attach(engine, "outputs")
    EpochOutputStore().attach(engine)
    kept: list[Any] = []
    engine.add_event_handler(
        Events.EPOCH_COMPLETED, lambda: kept.append(list(engine.state.outputs))
    )
    engine.run([1, 2, 3], max_epochs=2)
    return [kept, store.data, engine.state.outputs]
