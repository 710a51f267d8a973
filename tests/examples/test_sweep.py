"""The sweep keeps its promises: curves, files, messages, exit codes, equal weights."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch

from fengine import State
from fengine.core.equality import same
from fengine.examples.sweep.__main__ import main
from fengine.examples.sweep.population import SLOWER, copy_the_best, evolve
from fengine.examples.sweep.sizes import Sizes
from fengine.examples.sweep.sweeping import new_models, restored_accuracy, sweep, task_of
from fengine.metrics import MemberValues
from fengine.training import members

COMMAND = [sys.executable, "-m", "fengine.examples.sweep"]
TINY = Sizes(members=3, epochs=2, population=2, batch_size=1440, slowest=1e-3, fastest=1e-2)
OPTIONS = ["--members=2", "--epochs=1", "--batch-size=1440"]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Compute as the program does."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tell(state: State[Any, Any, Any]) -> None:
    """Say nothing."""


def test_a_sweep_trains_a_network_for_each_rate_and_seed() -> None:
    task = task_of(TINY)
    swept = sweep(task, TINY, tell)
    assert [len(one) for one in swept.curves.accuracies] == [3, 3]
    found = [one.learning_rates[0] for one in members(swept.ensemble)]
    assert found == pytest.approx([1e-3, 10**-2.5, 1e-2])
    last = swept.curves.accuracies[-1]
    assert last[swept.best] == max(last)
    assert restored_accuracy(task, swept) == last[swept.best]
    weights = {name: one.data for name, one in task.model.named_parameters()}
    assert same({**members(swept.ensemble)[swept.best].parameters}, weights)
    first, second, _ = new_models(3, TINY.seed)
    assert not same(first.state_dict(), second.state_dict())


def test_the_seed_decides_everything() -> None:
    sizes = attrs.evolve(TINY, members=2, epochs=1)
    one, other = (sweep(task_of(sizes), sizes, tell) for _ in range(2))
    assert one.ensemble == other.ensemble


def test_the_worst_half_copies_the_best() -> None:
    sizes = Sizes(members=1, epochs=1, population=4, batch_size=720)
    evolved = evolve(task_of(sizes), sizes, tell).ensemble
    values = MemberValues((0.5, 0.9, 0.1, 0.8))
    state: State[Any, Any, Any] = State(user=evolved, epoch=1, parts={"val_accuracy": values})
    before, after = members(evolved), members(copy_the_best(state).user)
    assert (after[1], after[3]) == (before[1], before[3])
    for copy, original in ((0, 1), (2, 3)):  # the better one of the worse half copies the best
        (rate,) = before[original].learning_rates
        assert after[copy] == before[original].with_learning_rate(rate * SLOWER)


def test_a_population_gets_better_together() -> None:
    evolved = evolve(task_of(TINY), TINY, tell)
    (first, second) = evolved.curves.rates
    assert first == pytest.approx((1e-3, 1e-2))
    worse = evolved.curves.accuracies[0].index(min(evolved.curves.accuracies[0]))
    assert second[worse] != first[worse]
    assert second[1 - worse] == first[1 - worse]


def test_the_main_job(tmp_path: Path) -> None:
    options = [*OPTIONS, "--population=2"]
    done = subprocess.run(
        [*COMMAND, *options], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    folder = tmp_path / "sweep-out"
    assert sorted(path.name for path in folder.iterdir()) == ["best.pt", "sweep.png"]
    assert (folder / "sweep.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert len(re.findall(r"^epoch 1/1   \d in training   held-out", done.stdout, re.M)) == 2
    said = re.search(r"evaluated alone, it has an accuracy of ([\d.]+%)", done.stdout)
    assert said is not None
    best = re.search(r"accuracy +([\d.]+%) at best", done.stdout)
    assert best is not None
    assert said[1] == best[1]
    assert "A population of 2: the worst half copies the best." in done.stdout


def test_a_sweep_may_have_no_population(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*OPTIONS, "--population=0", f"--out={tmp_path}"]) == 0
    assert "population" not in capsys.readouterr().out


def test_help_says_what_can_be_chosen_and_what_comes_of_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    assert left.value.code == 0
    said = capsys.readouterr().out
    options = ("members", "epochs", "patience", "population", "batch-size", "slowest", "seed")
    for option in (*(f"--{one} " for one in options), "python -m fengine.examples.sweep"):
        assert option in said
    assert max(map(len, said.splitlines())) <= 100


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--members", "0"], "argument --members: '0' is not a whole number from 1"),
        (["--population", "-1"], "argument --population: '-1' is not a whole number from 0"),
        (["--slowest", "0"], "argument --slowest: '0' is not a number above 0"),
        (["--slowest", "0.5"], "--slowest 0.5 is above --fastest 0.1"),
        (["--gpu"], "unrecognized arguments: --gpu"),
    ],
    ids=" ".join,
)
def test_bad_arguments_get_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"sweep: error: {said}")
    assert error.count("\n") == 1
