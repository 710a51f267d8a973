"""The benchmark runs and shows what it should; how long anything takes is not tested."""

import gc
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from tests.benchmarks import __main__ as command
from tests.benchmarks import scaling
from tests.benchmarks.before import contenders_of
from tests.benchmarks.contenders import Workload
from tests.benchmarks.effort import TINY
from tests.benchmarks.sections import Section, Table, Target
from tests.benchmarks.systems import installed, missing
from tests.benchmarks.timing import (
    Spread,
    differences,
    in_turns,
    per_epoch,
    per_iteration,
    ratios,
    rounds,
)
from tests.benchmarks.versions import other_version, this_version

ROOT = Path(__file__).parents[2]
NUMBER, QUARTILES = r"-?\d+\.\d+", r"-?\d+\.\d+ \.\. -?\d+\.\d+"


def rows_of(text: str) -> list[list[str]]:
    """Read the rows of all Markdown tables."""
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    ]


def test_the_benchmark_writes_a_document_and_a_picture(tmp_path: Path) -> None:
    document, picture = tmp_path / "found.md", tmp_path / "pictures" / "found.png"
    picture.parent.mkdir()
    files = ("--markdown", str(document), "--png", str(picture))
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", "--tiny", "--also", sys.executable, *files],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    text = document.read_text(encoding="utf-8")
    assert text == done.stdout
    assert re.search(r"^- CPython 3\.\S+; fengine \S+, torch \S+, pytorch-ignite 0\S+", text, re.M)
    assert "(pictures/found.png)" in text
    assert picture.read_bytes().startswith(b"\x89PNG")
    rows = rows_of(text)
    for handlers in ("0", "1", "1 that evolves", "10", "10, every=100", "100"):
        for system in ("fengine Loop", "fengine Engine", "pytorch-ignite"):
            (row,) = [row for row in rows if row[:2] == [handlers, system] and len(row) == 7]
            patterns = (NUMBER, QUARTILES, NUMBER, NUMBER, QUARTILES)
            assert all(map(re.fullmatch, patterns, row[2:]))
    for system in ("fengine Loop", "fengine Engine", "pytorch-ignite"):
        (row,) = [row for row in rows if row[0] == system and len(row) == 5]
        assert all(map(re.fullmatch, (NUMBER, QUARTILES, NUMBER, QUARTILES), row[1:]))
    for trainer in ("bare loop, a second time", "fengine Loop", "fengine Engine", "pytorch-ignite"):
        (row,) = [row for row in rows if row[0] == trainer and len(row) == 4]
        assert row[-1] == "0"  # no weight differs from those of the loop written by hand
    features = text.partition("\n## Features\n")[2].partition("\n## ")[0]
    heads, _, *of_features = rows_of(features)
    has_lightning = "lightning" in installed()
    peers = ["pytorch-ignite", *(["Lightning Trainer"] if has_lightning else [])]
    assert heads == ["feature", "fengine Loop", *peers]
    with_it = ["progress, to no terminal", "progress, to a terminal"] if has_lightning else []
    and_it = ["torch_metric"] if has_lightning else []
    only_a_loop = (
        "the step, unfused",
        "a part that a handler updates, over the user's record",
        "stop_on_nan, of gradients too",
    )
    logged = [f"learning_rate, logged at each {span}" for span in ("epoch", "iteration")]
    assert [row[0] for row in of_features] == [
        only_a_loop[0],
        "clip_grad_norm",
        "lr_schedule, StepLR",
        "learning_rate",
        *logged,
        "mean of the loss",
        *with_it,
        "throughput",
        "profiled, handlers",
        "ema",
        "stop_on_nan",
        only_a_loop[2],
        "time_limit",
        "keep_best, a copy at each iteration",
        "to_device, the CPU",
        "frozen, the bias",
        "accuracy",
        "mean_loss",
        *and_it,
        only_a_loop[1],
    ]
    lacks = {
        **dict.fromkeys(only_a_loop, peers),
        **{feature: ["pytorch-ignite"] for feature in logged},
        "throughput": ["pytorch-ignite"],
        "to_device, the CPU": ["Lightning Trainer"],
    }
    for feature, *costs in of_features:
        for system, cost in zip(heads[1:], costs, strict=True):
            is_lacking = system in lacks.get(feature, [])
            assert re.fullmatch("-" if is_lacking else rf"{NUMBER} \({QUARTILES}\)", cost)
    titles = re.findall(r"^## (.*)$", text, re.M)
    assert [title for title in titles if title.startswith("Scaling")] == [
        "Scaling: handlers",
        "Scaling: filters",
        "Scaling: custom events, not fired",
        "Scaling: custom events, fired",
        "Scaling: iterations",
        "Scaling: epochs",
    ]
    assert "Epochs of one iteration" in titles
    agreements = [row for row in rows if row[0].startswith("fengine Loop, ") and len(row) == 3]
    assert [row[0].partition(", ")[2] for row in agreements] == [
        "without ranks",
        "every iteration",
        "AgreeEvery(10)",
        "WHEN_ASKED",
    ]
    assert all(re.fullmatch(r"-?\d+", row[1]) for row in agreements)
    faults = {row[0]: row[2] for row in rows if row[1:] and re.match(r"[\d.]+ s, ", row[1])}
    assert faults.keys() == {"raises", "is killed", "asks for the end", "has fewer batches"}
    assert faults["asks for the end"].endswith("ends well")
    assert faults["has fewer batches"].endswith("RanksDiverged names it")
    assert faults["raises"].endswith("PeerFailed names it")
    assert {"In short", "Supervised evaluation", "Imports", "Memory", "Other Pythons"} <= {*titles}
    assert {"Trainings in the state", "Memory of trainings in the state"} <= {*titles}
    ensembles = text.partition("\n## Ensembles\n")[2].partition("\n## ")[0]
    _, _, *at_once = rows_of(ensembles)
    assert {(row[0], row[1]) for row in at_once} == {
        (name, number) for name in ("SGD", "AdamW") for number in ("16", "64")
    }
    verdicts = [row[-1] for row in rows if len(row) == 4 and row[1].startswith("<=")]
    assert len(verdicts) == 34
    assert set(verdicts) <= {"reached", "MISSED"}


def test_what_is_not_installed_is_named_and_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "never.png"
    monkeypatch.setattr(command, "installed", frozenset)
    assert command.main(["--tiny", "--png", str(picture)]) == 0
    said = capsys.readouterr()
    lines = said.err.splitlines()
    for peer in ("pytorch-ignite", "lightning", "accelerate", "matplotlib"):
        assert (
            f"{peer} is not installed and left out; pip install -e '.[benchmarks]' adds it" in lines
        )
    systems = {row[1] for row in rows_of(said.out) if len(row) == 7 and row[0] in ("0", "10")}
    assert systems == {"bare loop", "fengine Loop"}
    assert "Supervised" not in said.out
    assert not picture.exists()


def test_nothing_is_said_to_be_missing_where_all_is_there() -> None:
    everything = {"torch", "ignite", "lightning", "accelerate", "matplotlib"}
    assert not [*missing(frozenset(everything))]


@pytest.mark.parametrize(
    ("got", "options", "status"),
    [
        (0.1, ["--check"], 0),
        (0.3, ["--check"], 1),
        (None, ["--check"], 1),
        (0.3, [], 0),
    ],
)
def test_only_the_check_fails_where_a_target_is_not_reached(
    got: float | None,
    options: list[str],
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    target = Target("core", 0.2, "x pytorch-ignite", got)

    def measure(*_: object) -> Iterator[Section]:
        yield Section("Cores", "As they are.", Table(("system",), [("core",)]), targets=[target])

    monkeypatch.setattr(command, "_measure", measure)
    assert command.main(options) == status
    assert [*target.cells()] in rows_of(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("got", "verdict"), [(0.1, "reached"), (0.2, "reached"), (0.3, "MISSED"), (None, "")]
)
def test_a_number_is_reached_up_to_its_bound(got: float | None, verdict: str) -> None:
    target = Target("core", 0.2, "x pytorch-ignite", got)
    assert target.cells()[-1] == verdict
    assert target.reached == (verdict == "reached")


def test_an_interpreter_that_cannot_measure_is_refused_at_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        command.main(["--also", "/nowhere/python"])
    assert "/nowhere/python cannot import fengine" in capsys.readouterr().err


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Copy the sources, as if they were another version."""
    shutil.copytree(ROOT / "src" / "fengine", tmp_path / "src" / "fengine")
    return tmp_path


@pytest.mark.parametrize("folder", ["", "src"])
def test_two_versions_are_compared_row_by_row(
    folder: str, checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["--tiny", "--before", str(checkout / folder)]) == 0
    text = capsys.readouterr().out
    assert re.findall(r"^## (.*)$", text, re.M) == ["Before and after"]
    heads, _, *rows = rows_of(text)
    assert [head for head in heads if head != "quartiles"] == [
        "system",
        "row",
        "us before",
        "us after",
        "after / before",
    ]
    both = [
        *(f"handlers: {name}" for name in ("0", "1", "1 that evolves", "10", "10, every=100")),
        "handlers: 100",
        "own events fired in the step: 10",
        "epochs of one iteration",
    ]
    only_a_loop = ["a plain step", "iterate, all moments"]
    assert sorted(row[:2] for row in rows) == sorted(
        [
            *(["fengine Loop", what] for what in (*both, *only_a_loop)),
            *(["fengine Engine", what] for what in both),
        ]
    )
    for row in rows:
        assert all(map(re.fullmatch, (NUMBER, QUARTILES) * 3, row[2:]))


def test_versions_do_not_mix(checkout: Path) -> None:
    have = frozenset({"torch"})
    this = this_version(have)
    before = {name: module for name, module in sys.modules.items() if name.startswith("fengine")}
    other = other_version(checkout / "src", have)
    for contender in contenders_of(other, TINY).values():
        contender()
    with other.active():
        imported_later = other.functional.Recorder
        assert sys.modules[imported_later.__module__] is not before.get(imported_later.__module__)
    after = {name: module for name, module in sys.modules.items() if name.startswith("fengine")}
    assert after == before
    assert imported_later.__module__ in other.modules
    for version, sources in ((this, ROOT), (other, checkout)):
        for module in version.modules.values():
            assert Path(str(module.__file__)).is_relative_to(sources / "src")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--before", "/nowhere"], "there is no fengine in /nowhere, nor in its folder src"),
        (["--before", str(ROOT), "--check"], "not allowed with argument --before"),
    ],
)
def test_what_cannot_be_compared_is_refused_at_once(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        command.main(options)
    assert said in capsys.readouterr().err


def test_two_contenders_of_a_pair_are_first_in_turn() -> None:
    seen: list[str] = []

    def contender(name: str) -> float:
        seen.append(name)
        return float(ord(name))

    pair = in_turns(lambda: contender("a"), lambda: contender("b"))
    assert [pair() for _ in range(3)] == [(97.0, 98.0)] * 3
    assert "".join(seen) == "abbaab"


def test_the_collector_is_off_while_contenders_run_and_passes_over_what_was_there() -> None:
    def contender() -> tuple[bool, bool]:
        return gc.isenabled(), gc.get_freeze_count() > 0

    assert rounds({"a": contender}, 2) == {"a": [(False, True)] * 2}
    assert contender() == (True, False)


def test_the_collector_passes_over_what_was_there_in_a_long_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frozen: list[bool] = []

    def make(_: Workload) -> Callable[..., None]:
        def run(data: Iterable[int], epochs: int = 1) -> None:
            frozen.append(gc.get_freeze_count() > 0)
            for _ in range(epochs):
                list(data)

        return run

    monkeypatch.setattr(scaling, "systems", lambda _: {"core": make})
    assert [*scaling.measure_scaling(TINY, frozenset())]
    assert frozen[-2:] == [True, True]  # the one over iterations, and the one over epochs
    assert gc.get_freeze_count() == 0


def test_contenders_take_turns() -> None:
    seen: list[str] = []

    def contender(name: str) -> float:
        seen.append(name)
        return float(len(seen))

    found = rounds({name: lambda name=name: contender(name) for name in "abc"}, 4)  # type: ignore[misc]  # mypy infers no type for a default of a lambda
    assert {name: len(samples) for name, samples in found.items()} == {"a": 4, "b": 4, "c": 4}
    turns = [tuple(seen[place : place + 3]) for place in range(0, len(seen), 3)]
    assert all(sorted(turn) == ["a", "b", "c"] for turn in turns)
    assert len(set(turns)) > 1


def test_a_contender_runs_over_every_batch() -> None:
    seen: list[int] = []
    assert per_iteration(seen.extend, [1, 2, 3])() >= 0
    assert seen == [1, 2, 3]


def test_a_contender_runs_all_epochs() -> None:
    seen: list[int] = []

    def run(data: Iterable[int], epochs: int) -> None:
        for _ in range(epochs):
            seen.extend(data)

    assert per_epoch(run, 3)() >= 0
    assert seen == [0, 0, 0]


def test_contenders_are_compared_within_a_round() -> None:
    slow_machine_in_round_two = [3.0, 30.0, 3.0], [1.0, 10.0, 1.0]
    assert differences(*slow_machine_in_round_two) == [2.0, 20.0, 2.0]
    assert ratios(*slow_machine_in_round_two) == [3.0, 3.0, 3.0]
    assert Spread.of([1.0, 2.0, 3.0, 4.0, 50.0]) == Spread(2.0, 3.0, 4.0)


def test_tables_are_markdown_that_is_aligned() -> None:
    table = Table(("system", "each"), [("core", "0.5"), ("a long name", "12.5")])
    assert table.markdown().splitlines() == [
        "| system      | each |",
        "| ----------- | ---: |",
        "| core        |  0.5 |",
        "| a long name | 12.5 |",
    ]
