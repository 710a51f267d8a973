"""Curves are drawn when a run ends, whatever ends it, and of the whole run."""

from __future__ import annotations

import contextlib
import json
import math
import pickle
from pathlib import Path
from typing import Any

import pytest

from fengine import Events, Loop, State, outputs
from fengine.engine import Engine
from fengine.features import Curves, Plots, plots
from fengine.metrics import mean
from fengine.testing import assert_resume_exact


def six_over(batch: int) -> float:
    return 6 / batch


def half_of(output: float) -> float:
    return output / 2


def measuring(path: Path, **more: Any) -> tuple[Loop[int, float, None], Plots]:
    drawn = plots(path, "loss", "half", **more)
    loop = Loop(outputs(six_over)) | mean("loss") | mean("half", half_of) | drawn
    return loop, drawn


def test_the_picture_of_a_run_that_goes_on_is_that_of_the_whole_run(tmp_path: Path) -> None:
    loop, drawn = measuring(tmp_path / "whole.png")
    final = loop.run([1, 2], max_epochs=4)
    assert final.part(drawn.part).epochs == ((4.5, 2.25),) * 4
    again, _ = measuring(tmp_path / "parts.png")
    half = again.run([1, 2], max_epochs=2)
    first = (tmp_path / "parts.png").read_bytes()
    written = json.loads(json.dumps(again.snapshot(half).to_dict()))
    snapshot = again.read(written)
    again.resume(snapshot.state.with_limits(max_epochs=4), [1, 2])
    assert (tmp_path / "parts.png").read_bytes() == (tmp_path / "whole.png").read_bytes() != first


def test_going_on_is_exact_at_each_event(tmp_path: Path) -> None:
    assert_resume_exact(
        lambda: (measuring(tmp_path / "a.png")[0], [1, 2], {"max_epochs": 2}), boundaries=[2, 5, 9]
    )


@pytest.mark.parametrize("ask", [State.interrupt, State.terminate, lambda state: 1 // 0])
def test_it_draws_whatever_ends_the_run(ask: Any, tmp_path: Path) -> None:
    loop, _ = measuring(tmp_path / "a.png")
    loop = loop.on(Events.ITERATION_COMPLETED(once=3), ask)
    with contextlib.suppress(ZeroDivisionError):
        loop.run([1, 2], max_epochs=3)
    assert (tmp_path / "a.png").read_bytes()[1:4] == b"PNG"


def test_without_a_whole_epoch_there_is_no_picture(tmp_path: Path) -> None:
    loop, _ = measuring(tmp_path / "a.png")
    loop.on(Events.ITERATION_COMPLETED, State.interrupt).run([1, 2])
    assert not list(tmp_path.iterdir())


def test_an_epoch_that_was_cut_and_a_number_that_is_none_are_gaps(tmp_path: Path) -> None:
    loop, drawn = measuring(tmp_path / "new" / "a.png")
    cut = loop.on(
        Events.ITERATION_COMPLETED(once=3), lambda s: s.terminate_epoch(skip_epoch_completed=True)
    )
    final = cut.run([1, 2], max_epochs=3)
    first, second, third = final.part(drawn.part).epochs
    assert all(map(math.isfinite, first + third))
    assert all(map(math.isnan, second))
    assert (tmp_path / "new" / "a.png").exists()


def test_what_cannot_be_drawn_is_told_and_ends_nothing(tmp_path: Path) -> None:
    loop, _ = measuring(tmp_path)
    with pytest.warns(RuntimeWarning, match="could not draw: IsADirectoryError"):
        assert loop.run([1, 2]).iteration == 2
    failing = loop.on(Events.COMPLETED, lambda state: 1 // 0)  # type: ignore[arg-type, return-value]
    with pytest.raises(ZeroDivisionError) as raised:
        failing.run([1, 2])
    assert any("could not draw" in note for note in raised.value.__notes__)


def test_two_of_them_take_two_names(tmp_path: Path) -> None:
    loop, _ = measuring(tmp_path / "a.png")
    with pytest.raises(ValueError, match="'plots'"):
        loop | plots(tmp_path / "b.png", "loss")
    both = loop | plots(tmp_path / "b.png", "loss", name="other")
    both.run([1, 2])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: plots("a.png"), "each once, and got none"),
        (lambda: plots("a.png", "a", "a"), "each once"),
        (lambda: plots(3, "a"), "the path of a file"),  # type: ignore[arg-type]
        (lambda: plots("a.png", 3), "name of a metric"),  # type: ignore[arg-type]
        (lambda: Loop(outputs(float)) | plots("a.png", "loss"), "no feature before it sets"),
    ],
)
def test_what_cannot_be_drawn_is_refused(make: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        make()


def test_it_compares_prints_and_pickles() -> None:
    made = plots("a.png", "loss", name="mine")
    assert made == plots("a.png", "loss", name="mine") == pickle.loads(pickle.dumps(made))
    assert repr(made) == "plots('a.png', 'loss', name='mine')"


def test_the_picture_of_an_engine_is_that_of_a_loop(tmp_path: Path) -> None:
    def step(engine: Engine, batch: int) -> None:
        engine.state.metrics.update(loss=4.5, half=2.25)

    loop, drawn = measuring(tmp_path / "loop.png")
    loop.run([1, 2], max_epochs=2)
    engine = Engine(step)
    plots(tmp_path / "engine.png", "loss", "half").attach(engine)
    for _ in range(2):  # a run that begins forgets the one before
        engine.run([1, 2], max_epochs=2)
        assert (tmp_path / "engine.png").read_bytes() == (tmp_path / "loop.png").read_bytes()
    assert drawn.part.initial == Curves()
