"""Logs that are files: what they hold, whatever stops the run that writes them."""

from __future__ import annotations

import csv
import json
import math
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from fengine import Events, Loop, When, outputs
from fengine.features import log_to
from fengine.metrics import mean
from fengine.writers import CsvFile, JsonLines, Place, csv_file, jsonl
from fengine.writers.log_files import write_whole
from tests.writers.trainings import DATA, EVERYWHERE, Cut, as_float, go_on_after, loop_with, moments

EVENTS: list[When] = [
    Events.EPOCH_COMPLETED,
    Events.ITERATION_COMPLETED(every=2) | Events.EPOCH_COMPLETED,
    EVERYWHERE,
]


def third(batch: float) -> float:
    return batch / 3


def both(folder: Path) -> tuple[JsonLines, CsvFile]:
    return jsonl(folder / "log.jsonl"), csv_file(folder / "log.csv")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("at", EVENTS)
def test_the_log_of_a_run_that_dies_and_goes_on_is_that_of_the_whole_run(
    at: When, tmp_path: Path
) -> None:
    parameters = {"lr": 0.1}
    whole = tmp_path / "whole"
    count = sum(1 for _ in moments(loop_with(*both(whole), at=at, parameters=parameters)))
    for beyond in (0, 4):
        for after in range(1, count):
            folder = tmp_path / f"{after}-{beyond}"
            first, again = (
                loop_with(*both(folder), at=at, parameters=parameters) for _ in range(2)
            )
            go_on_after(Cut(after, beyond), first, again)
            assert contents(folder) == contents(whole), (after, beyond)


@pytest.mark.parametrize("torn", [b'{"epoch": 3, "iter', b"3,9,epoch_com", b"\xff\xfe"])
def test_a_line_that_was_not_finished_is_written_again(torn: bytes, tmp_path: Path) -> None:
    at = Events.ITERATION_COMPLETED
    list(moments(loop_with(*both(tmp_path / "whole"), at=at)))
    folder = tmp_path / "cut"
    run = moments(loop_with(*both(folder), at=at))
    half = next(one.state for one in run if one.state.iteration == 5 and one.event is at)
    for name in ("log.jsonl", "log.csv"):
        with (folder / name).open("ab") as file:
            file.write(torn)
    loop_with(*both(folder), at=at).resume(half, DATA)
    assert contents(folder) == contents(tmp_path / "whole")


def test_a_killed_process_goes_on_in_another(tmp_path: Path) -> None:
    program = f"""
import json, os, signal
from pathlib import Path
from fengine import Events
from tests.writers.test_files import both
from tests.writers.trainings import loop_with, moments
text = lambda loop, state: json.dumps(loop.snapshot(state).to_dict())
loop = loop_with(*both(Path({os.fspath(tmp_path / "killed")!r})), at=Events.ITERATION_COMPLETED)
for moment in moments(loop):
    if moment.state.iteration == 4:
        Path({os.fspath(tmp_path / "state.json")!r}).write_text(text(loop, moment.state))
    if moment.state.iteration == 7:
        os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", program], check=False)
    assert done.returncode == -signal.SIGKILL
    at = Events.ITERATION_COMPLETED
    again = loop_with(*both(tmp_path / "killed"), at=at)
    snapshot = again.read(json.loads((tmp_path / "state.json").read_text()))
    assert len((tmp_path / "killed" / "log.jsonl").read_text().splitlines()) >= 6
    again.resume(snapshot, DATA)
    list(moments(loop_with(*both(tmp_path / "whole"), at=at)))
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_a_line_has_the_place_and_all_metrics_that_are_set(tmp_path: Path) -> None:
    loop_with(*both(tmp_path), at=Events.EPOCH_COMPLETED).run(DATA, max_epochs=2)
    first, second = map(json.loads, (tmp_path / "log.jsonl").read_text().splitlines())
    place = {"epoch": 1, "iteration": 3, "event": "epoch_completed"}
    assert first == {**place, "all": 2.0, "loss": 3.0}
    assert (second["nan"], second["inf"], second["an,odd\nname"]) == ("NaN", "-Infinity", 0.2)
    assert math.isnan(float(second["nan"]))
    assert float(second["inf"]) == -math.inf


def test_pandas_reads_both(tmp_path: Path) -> None:
    loop_with(*both(tmp_path), at=Events.EPOCH_COMPLETED).run(DATA, max_epochs=3)
    table = pd.read_csv(tmp_path / "log.csv")
    assert list(table.columns) == [
        "epoch",
        "iteration",
        "event",
        "all",
        "an,odd\nname",
        "inf",
        "loss",
        "nan",
    ]
    assert table["loss"].tolist() == [3.0, 3.0, 3.0]
    assert table["inf"].tolist()[1:] == [-math.inf, -math.inf]
    assert table["an,odd\nname"].isna().tolist() == [True, False, False]
    lines = pd.read_json(tmp_path / "log.jsonl", lines=True)
    assert lines["loss"].tolist() == table["loss"].tolist()


def test_numbers_come_back_to_the_last_bit(tmp_path: Path) -> None:
    loop = Loop(outputs(third)) | mean("loss")
    final = (loop | log_to(*both(tmp_path))).run([1, 2, 4.1])
    line = json.loads((tmp_path / "log.jsonl").read_text())
    with (tmp_path / "log.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert line["loss"] == float(row["loss"]) == final.metrics["loss"]


def test_a_run_that_begins_sets_the_log_before_aside(tmp_path: Path) -> None:
    loop = loop_with(*both(tmp_path), at=Events.EPOCH_COMPLETED, parameters={"lr": 0.1})
    loop.run(DATA, max_epochs=3)
    before = contents(tmp_path)
    loop.run(DATA, max_epochs=1)
    after = contents(tmp_path)
    for name in ("log.jsonl", "log.csv"):
        assert after[f"{name}.old"] == before[name]
        assert before[name] != after[name]
    assert after["log.jsonl"].count(b"\n") == 1


def test_no_log_stands_beside_the_parameters_of_another_run(tmp_path: Path) -> None:
    at = Events.EPOCH_COMPLETED
    for parameters, aside in (({"lr": 0.1}, None), (None, 0.1), ({"lr": 0.3}, None)):
        loop_with(*both(tmp_path), at=at, parameters=parameters).run(DATA)
        for name in ("log.jsonl", "log.csv"):
            for log, wanted in ((name, parameters), (f"{name}.old", aside and {"lr": aside})):
                beside = tmp_path / f"{log}.parameters.json"
                assert (json.loads(beside.read_text()) if beside.exists() else None) == wanted


def test_the_parameters_of_a_run_that_wrote_no_line_do_not_stay(tmp_path: Path) -> None:
    at = Events.EPOCH_COMPLETED
    next(moments(loop_with(*both(tmp_path), at=at, parameters={"lr": 0.1})))
    loop_with(*both(tmp_path), at=at).run(DATA)
    assert sorted(contents(tmp_path)) == ["log.csv", "log.jsonl"]


def test_a_longer_run_goes_on_in_the_log(tmp_path: Path) -> None:
    loop = loop_with(*both(tmp_path / "longer"), at=EVENTS[1])
    short = loop.run(DATA, max_epochs=2)
    loop.resume(short.with_limits(max_epochs=3), DATA)
    loop_with(*both(tmp_path / "whole"), at=EVENTS[1]).run(DATA, max_epochs=3)
    assert contents(tmp_path / "longer") == contents(tmp_path / "whole")


def test_parameters_are_written_once_and_stay_where_a_run_goes_on(tmp_path: Path) -> None:
    parameters: dict[str, Any] = {"lr": 0.1, "adam": {"betas": (0.9, 0.99)}, "nan": math.nan}
    loop = loop_with(*both(tmp_path), at=Events.EPOCH_COMPLETED, parameters=parameters)
    run = moments(loop)
    half = next(one.state for one in run if one.state.iteration == 5)
    for name in ("log.jsonl", "log.csv"):
        written = json.loads((tmp_path / f"{name}.parameters.json").read_text())
        assert written == {"lr": 0.1, "adam.betas.0": 0.9, "adam.betas.1": 0.99, "nan": "NaN"}
    other = loop_with(*both(tmp_path), at=Events.EPOCH_COMPLETED, parameters={"lr": 0.2})
    other.resume(half, DATA)
    assert json.loads((tmp_path / "log.csv.parameters.json").read_text())["lr"] == 0.1


def test_every_line_is_on_the_disk_at_once(tmp_path: Path) -> None:
    run = moments(loop_with(*both(tmp_path), at=Events.ITERATION_COMPLETED))
    for moment in run:
        if moment.event is Events.ITERATION_COMPLETED:
            lines = (tmp_path / "log.jsonl").read_text().splitlines()
            rows = (tmp_path / "log.csv").read_text().splitlines()
            assert json.loads(lines[-1])["iteration"] == moment.state.iteration
            assert rows[-1].startswith(f"{moment.state.epoch},{moment.state.iteration},")


def test_a_log_that_was_removed_is_told_of(tmp_path: Path) -> None:
    def remove(state: Any) -> Any:
        for log in both(tmp_path):
            Path(log.path).unlink()
        return state

    loop = loop_with(*both(tmp_path), at=Events.ITERATION_COMPLETED)
    with pytest.warns(RuntimeWarning) as told:
        loop.on(Events.EPOCH_STARTED(once=2), remove).run(DATA, max_epochs=2)
    assert ["was removed while the run writes it" in str(one.message) for one in told] == [
        True,
        True,
    ]


@pytest.mark.parametrize("text", ["import torch\n", '{"loss": 1}\n', "a,b\n1,2\n", "1\n"])
def test_a_file_that_is_no_log_is_not_touched(text: str, tmp_path: Path) -> None:
    half = next(one.state for one in moments(Loop(outputs(as_float))) if one.state.iteration == 4)
    for log in both(tmp_path):
        Path(log.path).write_text(text)
        loop = Loop(outputs(as_float)) | mean("loss") | log_to(log)
        with pytest.warns(RuntimeWarning, match="nothing there is touched"):
            loop.resume(half, DATA)
        assert Path(log.path).read_text() == text


def test_a_link_and_the_mode_of_a_file_stay(tmp_path: Path) -> None:
    real, link = tmp_path / "real.csv", tmp_path / "link.csv"
    real.touch(mode=0o640)
    link.symlink_to(real)
    loop_with(csv_file(link), at=Events.EPOCH_COMPLETED).run(DATA, max_epochs=3)
    assert link.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    assert real.read_text().count("epoch_completed") == 3


def test_a_failure_leaves_a_file_that_is_replaced_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log.csv"
    write_whole(path, b"before")

    def fail(descriptor: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space left"):
        write_whole(path, b"after")
    assert contents(tmp_path) == {"log.csv": b"before"}


def test_logs_compare_print_and_pickle() -> None:
    for log in (jsonl("a"), csv_file("a")):
        assert log == pickle.loads(pickle.dumps(log))
        assert hash(log) == hash(pickle.loads(pickle.dumps(log)))
    assert jsonl("a") != jsonl("b")
    assert repr(jsonl(Path("a"))) == "jsonl('a')"
    assert repr(csv_file("a")) == "csv_file('a')"


@pytest.mark.parametrize("make", [jsonl, csv_file])
def test_what_is_no_path_is_refused(make: Any) -> None:
    with pytest.raises(TypeError, match="takes the path of a file or folder, not 3"):
        make(3)


def test_places_are_in_the_order_of_a_run() -> None:
    seen = [
        Place(one.state.epoch, one.state.iteration, one.event.name).order
        for one in moments(loop_with(lambda place: Silent(), at=EVERYWHERE))
    ]
    assert seen == sorted(seen)
    assert len(set(seen)) == len(seen)


class Silent:
    def parameters(self, parameters: object, /) -> None: ...

    def numbers(self, place: Place, numbers: object, /) -> None: ...

    def figure(self, place: Place, name: str, figure: object, /) -> None: ...

    def end(self, status: object, /) -> None: ...
