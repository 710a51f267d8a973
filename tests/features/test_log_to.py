"""Logging looks on: all writers are called, and none of them ends a run unless it is told to."""

from __future__ import annotations

import copy
import io
import json
import os
import pickle
import subprocess
import sys
import warnings
from argparse import Namespace
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch.utils.data import DataLoader

from fengine import SKIP_BATCH, Event, Events, Loop, State, Status, outputs
from fengine.engine import Engine
from fengine.engine import Events as Moments
from fengine.features import evaluation, log_to
from fengine.metrics import mean
from fengine.testing import assert_resume_exact
from fengine.writers import Place, Scalar, console, csv_file, jsonl, tensorboard


@attrs.define(eq=False)
class Kept:
    """Keep what is written, and raise where it is asked to."""

    fails: str = ""
    error: type[BaseException] = OSError
    lines: list[Any] = attrs.field(factory=list)

    def __call__(self, place: Place) -> Kept:
        self._fail("open")
        self.lines.append(("open", place.epoch, place.event))
        return self

    def _fail(self, what: str) -> None:
        if self.fails == what:
            raise self.error(f"no {what}")

    def parameters(self, parameters: Mapping[str, Scalar], /) -> None:
        self._fail("parameters")
        self.lines.append(dict(parameters))

    def numbers(self, place: Place, numbers: Mapping[str, float], /) -> None:
        self._fail("numbers")
        self.lines.append((place.iteration, dict(numbers)))

    def figure(self, place: Place, name: str, figure: Figure, /) -> None:
        self._fail("figure")
        self.lines.append((place.iteration, name, len(figure.axes)))

    def end(self, status: Status, /) -> None:
        self._fail("end")
        self.lines.append(status)


def six_over(batch: float) -> float:
    return 6 / batch


def third(batch: float) -> float:
    return batch / 3


def summed(batch: torch.Tensor) -> float:
    return float(batch.sum())


def measuring() -> Loop[float, float, None]:
    return Loop(outputs(six_over)) | mean("loss")


def drawn(state: Any) -> Figure:
    figure = Figure()
    figure.subplots()
    return figure


def test_a_writer_takes_parameters_numbers_figures_and_the_end_in_their_order() -> None:
    kept = Kept()
    loop = measuring() | log_to(kept, parameters={"lr": 0.1}, figures={"curve": drawn})
    loop.run([1, 2], max_epochs=2)
    assert kept.lines == [
        ("open", 0, "started"),
        {"lr": 0.1},
        (2, {"loss": 4.5}),
        (2, "curve", 1),
        (4, {"loss": 4.5}),
        (4, "curve", 1),
        Status.COMPLETED,
    ]


def test_it_changes_no_state_and_no_moment(tmp_path: Path) -> None:
    plain = list(measuring().iterate([1, 2], max_epochs=2))
    logged = measuring() | log_to(jsonl(tmp_path / "a"), at=Events.ITERATION_COMPLETED)
    assert list(logged.iterate([1, 2], max_epochs=2)) == plain


def test_going_on_is_exact_at_each_event(tmp_path: Path) -> None:
    loop = measuring() | log_to(jsonl(tmp_path / "a"), at=Events.ITERATION_COMPLETED)
    assert_resume_exact(lambda: (loop, [1, 2], {"max_epochs": 2}))


@pytest.mark.parametrize(
    ("ask", "status"),
    [
        (State.terminate, Status.TERMINATED),
        (State.interrupt, Status.INTERRUPTED),
        (lambda state: 1 / 0, Status.FAILED),
    ],
)
def test_a_log_ends_as_its_run_does(ask: Any, status: Status) -> None:
    kept = Kept()
    loop = (measuring() | log_to(kept)).on(Events.ITERATION_COMPLETED(once=2), ask)
    if status is Status.FAILED:
        with pytest.raises(ZeroDivisionError):
            loop.run([1, 2, 3])
    else:
        loop.run([1, 2, 3])
    assert kept.lines[-1] is status


@pytest.mark.parametrize("what", ["open", "parameters", "numbers", "figure", "end"])
def test_a_writer_that_fails_is_told_of_once_and_hinders_nobody(what: str) -> None:
    bad, good, alone = Kept(what), Kept(), Kept()
    written: dict[str, Any] = {"parameters": {"lr": 0.1}, "figures": {"curve": drawn}}
    loop = measuring() | log_to(bad, good, **written)
    with pytest.warns(RuntimeWarning) as told:
        final = loop.run([1, 2], max_epochs=3)
    assert [str(one.message) for one in told] == [str(told[0].message)]
    assert f"OSError: no {what}" in str(told[0].message)
    assert "Kept(" in str(told[0].message)
    assert final == (measuring() | log_to(alone, **written)).run([1, 2], max_epochs=3)
    assert good.lines == alone.lines


@pytest.mark.parametrize("what", ["open", "parameters", "numbers", "figure", "end"])
def test_a_writer_that_fails_ends_the_run_if_it_is_told_to(what: str) -> None:
    bad, good = Kept(what), Kept()
    written: dict[str, Any] = {"parameters": {"lr": 0.1}, "figures": {"curve": drawn}}
    loop = measuring() | log_to(bad, good, **written, on_error="raise")
    with pytest.raises(OSError, match=f"no {what}") as raised:
        loop.run([1, 2], max_epochs=3)
    assert any("in Kept" in note for note in raised.value.__notes__)
    assert isinstance(good.lines[-1], Status)


def test_of_several_that_fail_the_first_is_raised_and_names_the_others() -> None:
    first, second = Kept("numbers", OSError), Kept("numbers", RuntimeError)
    loop = measuring() | log_to(first, Kept(), second, on_error="raise")
    with pytest.raises(OSError, match="no numbers") as raised:
        loop.run([1, 2])
    assert any("RuntimeError: no numbers" in note for note in raised.value.__notes__)


@pytest.mark.parametrize("on_error", ["warn", "raise"])
@pytest.mark.parametrize("what", ["end", "numbers"])
def test_the_exception_of_the_run_is_never_replaced(what: str, on_error: Any) -> None:
    at = Events.EPOCH_COMPLETED | Events.ITERATION_COMPLETED(once=9)
    loop = measuring() | log_to(Kept(what), at=at, on_error=on_error)
    loop |= log_to(Kept(what), at=Events.EXCEPTION_RAISED, on_error=on_error)
    with pytest.raises(ZeroDivisionError) as raised:
        loop.run([1, 0])
    assert any(f"no {what}" in note for note in raised.value.__notes__)


def test_what_is_no_exception_of_a_program_always_leaves() -> None:
    loop = measuring() | log_to(Kept("numbers", KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        loop.run([1, 2])


def test_a_figure_that_cannot_be_made_is_told_of_and_pyplot_keeps_none() -> None:
    def pyplot(state: State[int, float]) -> Figure:
        return plt.figure()

    def broken(state: State[int, float]) -> Figure:
        raise ValueError("no axes")

    kept = Kept()
    loop = measuring() | log_to(kept, figures={"broken": broken, "pyplot": pyplot})
    with pytest.warns(RuntimeWarning, match=r"broken \(test_log_to.*: ValueError: no axes"):
        loop.run([1, 2], max_epochs=2)
    assert [line for line in kept.lines if isinstance(line, tuple) and len(line) == 3][1:] == [
        (2, "pyplot", 0),
        (4, "pyplot", 0),
    ]
    assert plt.get_fignums() == []


def test_it_writes_what_is_set_before_it() -> None:
    kept, late = Kept(), Kept()
    loop = Loop(outputs(float)) | log_to(late) | mean("loss") | log_to(kept)
    loop.run([1, 2], max_epochs=2)
    assert kept.lines[1:3] == [(2, {"loss": 1.5}), (4, {"loss": 1.5})]
    assert late.lines[1:3] == [(2, {}), (4, {"loss": 1.5})]


def test_an_event_of_the_users_and_a_payload_event_are_written_at() -> None:
    chunk = Event("chunk")
    kept = Kept()

    def step(state: State[int, int]) -> Any:
        state = yield chunk, state
        return state.evolve(output=1)

    (Loop(step).register(chunk) | log_to(kept, at=chunk)).run([1, 2])
    assert [line[0] for line in kept.lines[1:-1]] == [1, 2]
    kept = Kept()
    ending = Loop(outputs(third)) | log_to(kept, at=Events.EXITED)
    ending.run([1, 2])
    assert kept.lines[1:] == [(2, {}), Status.COMPLETED]


def test_a_recovered_exception_is_in_no_log() -> None:
    kept = Kept()
    loop = (measuring() | log_to(kept, at=Events.ITERATION_COMPLETED)).on(
        Events.EXCEPTION_RAISED, lambda state, error: state.recover(SKIP_BATCH)
    )
    loop.run([1, 0, 2])
    assert [line[0] for line in kept.lines[1:-1]] == [1, 3]
    assert kept.lines[-1] is Status.COMPLETED


def test_runs_of_one_loop_in_turns_have_a_log_each() -> None:
    logs: list[Kept] = []

    def opening(place: Place) -> Kept:
        logs.append(Kept())
        return logs[-1]

    loop = measuring() | log_to(opening, at=Events.ITERATION_COMPLETED)
    for _ in zip(*(loop.iterate([1, 2]) for _ in range(2)), strict=True):
        pass
    assert [len(one.lines) for one in logs] == [3, 3]


def test_a_dropped_run_leaves_its_file_to_the_next(tmp_path: Path) -> None:
    path = tmp_path / "a"
    loop = measuring() | log_to(jsonl(path), at=Events.ITERATION_COMPLETED)
    run = loop.iterate([1, 2, 3])
    half = next(one.state for one in run if one.state.iteration == 2)
    run.close()
    loop.resume(half, [1, 2, 3])
    assert [json.loads(line)["iteration"] for line in path.read_text().splitlines()] == [1, 2, 3]


def test_a_log_that_another_run_takes_over_is_told_so(tmp_path: Path) -> None:
    path = tmp_path / "a"
    inner = measuring() | log_to(jsonl(path))
    outer = measuring() | evaluation(inner, [1]) | log_to(jsonl(path))
    with pytest.warns(RuntimeWarning, match="another log of this process writes to"):
        outer.run([1, 2])
    assert path.read_text().count("\n") == 1


def test_workers_of_a_loader_write_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a"
    loop = Loop(outputs(summed)) | mean("loss")
    loop = loop | log_to(jsonl(path), tensorboard(tmp_path / "b"), at=Events.ITERATION_COMPLETED)
    loader: Any = DataLoader(torch.arange(4), batch_size=2, num_workers=2)  # type: ignore[arg-type]
    loop.run(loader, max_epochs=2)
    assert path.read_text().count("\n") == 4


def test_a_forked_process_writes_nothing(tmp_path: Path) -> None:
    program = f"""
import os
from fengine import Events, Loop, outputs
from fengine.features import log_to
from fengine.writers import csv_file, jsonl
children = []
def step(batch):
    if batch == 2:
        children.append(os.fork())
    return batch
logs = jsonl({str(tmp_path / "a")!r}), csv_file({str(tmp_path / "b")!r})
(Loop(outputs(step)) | log_to(*logs, at=Events.ITERATION_COMPLETED)).run([1, 2, 3])
if children[0]:
    os.waitpid(children[0], 0)
"""
    subprocess.run([sys.executable, "-c", program], check=True)
    assert (tmp_path / "a").read_text().count("\n") == 3
    assert (tmp_path / "b").read_text().count("\n") == 4


def test_a_full_disk_leaves_whole_lines_and_the_training_goes_on(tmp_path: Path) -> None:
    program = f"""
import resource, sys, warnings
from pathlib import Path
from fengine import Events, Loop, outputs
from fengine.features import log_to, plots
from fengine.metrics import mean
from fengine.writers import csv_file, jsonl, tensorboard
folder = Path({str(tmp_path)!r})
loop = Loop(outputs(float)) | mean("loss") | plots(folder / "curves.png", "loss")
logs = jsonl(folder / "a"), csv_file(folder / "b"), tensorboard(folder / "c")
loop = loop | log_to(*logs, at=Events.ITERATION_COMPLETED)
resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
warnings.simplefilter("always")
print(loop.run(range(40), max_epochs=2).iteration)
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "80\n"
    assert done.stderr.count("RuntimeWarning: ") == 4
    assert done.stderr.count("File too large") == 4
    lines = (tmp_path / "a").read_text().splitlines(keepends=True)
    assert [json.loads(line)["iteration"] for line in lines] == list(range(1, len(lines) + 1))
    rows = (tmp_path / "b").read_text().splitlines(keepends=True)
    assert all(row.endswith("\n") and row.count(",") >= 2 for row in rows)
    assert not (tmp_path / "curves.png").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b", "c"}


def test_a_device_that_is_full_is_told_of() -> None:
    loop = measuring() | log_to(jsonl("/dev/full"), csv_file("/dev/full"))
    with pytest.warns(RuntimeWarning) as told:
        loop.run([1, 2], max_epochs=2)
    assert ["No space left" in str(one.message) for one in told] == [False, True]
    assert "is no file that can be written again" in str(told[0].message)
    assert Path("/dev/full").is_char_device()


def test_a_terminal_that_is_closed_does_not_end_the_training() -> None:
    program = """
import sys
from fengine import Loop, outputs
from fengine.features import log_to
from fengine.writers import console
state = (Loop(outputs(float)) | log_to(console())).run([1.0], max_epochs=2000)
print(state.epoch, file=sys.stderr)
"""
    command = f"'{sys.executable}' -c '{program}' | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout == "epoch 1  iteration 1\n"
    assert done.stderr.count("BrokenPipeError: ") >= 1
    assert "\n2000\n" in done.stderr


def test_a_closed_standard_error_stream_does_not_end_the_training(tmp_path: Path) -> None:
    program = f"""
import os, sys
from pathlib import Path
from fengine import Loop, outputs
from fengine.features import log_to, plots, profiled
from fengine.metrics import mean
from fengine.writers import console
sys.stdin.close()
sys.stderr.close()
folder = Path({str(tmp_path)!r})
loop = Loop(outputs(float)) | mean("loss") | log_to(console(sys.stdin)) | plots(folder, "loss")
loop = loop | profiled()
print(loop.run([1.0, 2.0], max_epochs=3).epoch)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout == b"3\n"


def test_the_console_is_the_stream_of_the_time_or_a_given_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given, papers = io.StringIO(), [io.StringIO(), io.StringIO()]
    loop = measuring() | log_to(console(), console(given), parameters={"lr": 0.1, "batch": 2})
    for paper in papers:
        monkeypatch.setattr(sys, "stdout", paper)
        loop.run([1, 2])
    lines = "parameters  batch 2  lr 0.1\nepoch 1  iteration 2  loss 4.5\n"
    assert [paper.getvalue() for paper in papers] == [lines, lines]
    assert given.getvalue() == 2 * lines
    monkeypatch.setattr(sys, "stdout", None)
    loop.run([1, 2])


def test_letters_that_the_console_lacks_become_question_marks() -> None:
    binary = io.BytesIO()
    file = io.TextIOWrapper(binary, encoding="ascii")
    (Loop(outputs(float)) | mean("lößs") | log_to(console(file))).run([1])
    assert binary.getvalue() == b"epoch 1  iteration 1  l??s 1\n"


def test_two_logs_of_one_kind_and_two_features_go_side_by_side(tmp_path: Path) -> None:
    one, two, three = (jsonl(tmp_path / name) for name in "abc")
    loop = measuring() | log_to(one, two, console(io.StringIO()), console(io.StringIO()))
    loop |= log_to(three, at=Events.ITERATION_COMPLETED)
    loop.run([1, 2])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "c").read_text().count("\n") == 2


def test_one_log_is_refused_twice() -> None:
    with pytest.raises(ValueError, match="is written twice"):
        log_to(jsonl("a"), jsonl("a"))
    with pytest.raises(ValueError, match=r"is written twice.*at=one \| other"):
        measuring() | log_to(jsonl("a")) | log_to(console(), jsonl("a"))


@pytest.mark.parametrize("name", ["epoch", "iteration", "event"])
def test_a_metric_with_the_name_of_a_place_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"there is a metric '{name}'"):
        Loop(outputs(float)) | mean(name) | log_to(console())
    kept = Kept()
    loop = (Loop(outputs(float)) | log_to(kept)).on(
        Events.ITERATION_COMPLETED, lambda state: state.with_metric(name, 1)
    )
    with pytest.warns(RuntimeWarning, match=f"there is a metric '{name}'"):
        loop.run([1])
    assert kept.lines == [("open", 0, "started"), Status.COMPLETED]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (log_to, "needs something to write to"),
        (lambda: log_to("log.jsonl"), r"give jsonl\('log.jsonl'\)"),  # type: ignore[arg-type]
        (lambda: log_to(jsonl), r"call it first: log_to\(jsonl"),  # type: ignore[arg-type]
        (lambda: log_to(console), r"call it first: log_to\(console"),  # type: ignore[arg-type]
        (lambda: log_to(3), "a log takes"),  # type: ignore[arg-type]
        (lambda: log_to(console(), figures=drawn), r"give \{'name'"),  # type: ignore[arg-type]
        (lambda: log_to(console(), parameters=Namespace(lr=1)), r"vars\("),  # type: ignore[arg-type]
        (lambda: log_to(console(), parameters="lr"), "'lr' of type str is not a"),  # type: ignore[arg-type]
        (lambda: log_to(console(), parameters=0), "=0 of type int is not a"),  # type: ignore[arg-type]
        (lambda: log_to(console(), on_error="ignore"), "neither"),  # type: ignore[arg-type]
        (lambda: log_to(console(), parameters={"a": {1: 2}}), "has the name 1 of type int"),
        (lambda: log_to(console(), parameters={"device": torch.device("cpu")}), "such as str"),
        (lambda: log_to(console(), parameters={"a.b": 1, "a": {"b": 2}}), "two parameters 'a.b'"),
        (lambda: log_to(console(), figures={"a": 3}), "makes the figure"),  # type: ignore[dict-item]
        (lambda: console(3), "has no write and no flush"),  # type: ignore[arg-type]
        (lambda: measuring() | log_to(console(), at=Event("mine")), "mine"),
    ],
)
def test_what_makes_no_log_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        make()


def test_numbers_of_numpy_are_parameters() -> None:
    kept = Kept()
    given = {"size": np.int64(3), "rates": [np.float32(0.5)], "lr": np.float64(0.1)}
    (measuring() | log_to(kept, parameters=given)).run([1])
    assert kept.lines[1] == {"size": 3, "rates.0": 0.5, "lr": 0.1}
    assert {type(one) for one in kept.lines[1].values()} <= {int, float, np.float64}


def test_it_compares_prints_and_pickles() -> None:
    def make() -> Any:
        return log_to(jsonl("a"), at=Events.COMPLETED, parameters={"lr": 0.1}, on_error="raise")

    assert make() == make() == pickle.loads(pickle.dumps(make())) == copy.deepcopy(make())
    assert make() != log_to(jsonl("a"))
    assert repr(make()) == (
        "log_to(jsonl('a'), at=Events.COMPLETED, parameters={'lr': 0.1}, on_error='raise')"
    )
    assert repr(log_to(console(), csv_file("b"))) == "log_to(console(), csv_file('b'))"
    loop = measuring() | log_to(console(), csv_file("b"))
    assert "log_to(console(), csv_file('b'))" in str(loop)


def test_no_file_is_left_open_whatever_ends_a_run(tmp_path: Path) -> None:
    loop = measuring() | log_to(jsonl(tmp_path / "a"), csv_file(tmp_path / "b"))
    loop = loop | log_to(tensorboard(tmp_path / "c"), at=Events.ITERATION_COMPLETED)
    before = len(os.listdir("/proc/self/fd"))
    loop.run([1, 2])
    with pytest.raises(ZeroDivisionError):
        loop.run([1, 0])
    loop.on(Events.ITERATION_COMPLETED, State.interrupt).run([1, 2])
    next(loop.iterate([1, 2]))
    del loop
    assert len(os.listdir("/proc/self/fd")) == before


# The Engine.


def engine_with(numbers: dict[str, Any]) -> Engine:
    def step(engine: Engine, batch: float) -> float:
        engine.state.metrics.update(numbers, loss=6 / batch)
        return batch

    return Engine(step)


def test_the_log_of_an_engine_is_that_of_a_loop(tmp_path: Path) -> None:
    at = Events.ITERATION_COMPLETED | Events.EPOCH_COMPLETED
    loop = Loop(outputs(six_over)) | mean("loss", over=Events.ITERATION_COMPLETED)
    logs = {
        name: (jsonl(tmp_path / f"{name}.jsonl"), csv_file(tmp_path / f"{name}.csv"))
        for name in ("loop", "engine")
    }
    (loop | log_to(*logs["loop"], at=at)).run([1, 2], max_epochs=2)
    engine = engine_with({})
    log_to(*logs["engine"], at=at).attach(engine)
    engine.run([1, 2], max_epochs=2)
    for kind in ("jsonl", "csv"):
        own, other = ((tmp_path / f"{name}.{kind}").read_text() for name in logs)
        assert own == other
        assert own.count("epoch_completed") == 2


def test_an_engine_logs_what_are_numbers() -> None:
    kept = Kept()
    numbers = {
        "tensor": torch.tensor([0.5]),
        "array": np.float32(0.25),
        "int": 3,
        "bool": True,
        "matrix": torch.ones(2, 2),
        "words": "many",
        "map": {"a": 1},
        "none": None,
    }
    engine = engine_with(numbers)
    log_to(kept).attach(engine)
    engine.run([1])
    assert kept.lines[1] == (1, {"array": 0.25, "int": 3.0, "loss": 6.0, "tensor": 0.5})


def test_the_log_of_an_engine_goes_on_where_it_does(tmp_path: Path) -> None:
    at = Events.ITERATION_COMPLETED
    for name, ends in (("whole", [3]), ("parts", [1, 3])):
        engine = engine_with({})
        log_to(jsonl(tmp_path / name), at=at).attach(engine)
        for end in ends:
            engine.run([1, 2], max_epochs=end)
    assert (tmp_path / "parts").read_text() == (tmp_path / "whole").read_text()


def test_an_engine_that_fails_has_its_lines_and_its_exception(tmp_path: Path) -> None:
    kept = Kept()
    engine = engine_with({})
    log_to(kept, jsonl(tmp_path / "a")).attach(engine, at=Moments.ITERATION_COMPLETED(every=1))
    with pytest.raises(ZeroDivisionError):
        engine.run([1, 0])
    assert kept.lines[1:] == [(1, {"loss": 6.0})]
    assert (tmp_path / "a").read_text().count("\n") == 1


def test_the_engine_of_ignite_is_logged_too() -> None:
    from ignite.engine import Engine as Theirs

    kept = Kept()

    def step(engine: Any, batch: float) -> None:
        engine.state.metrics["loss"] = batch

    engine = Theirs(step)
    log_to(kept).attach(engine)
    engine.run([1.0, 2.0], max_epochs=2)
    assert kept.lines[1:] == [(2, {"loss": 2.0}), (4, {"loss": 2.0}), Status.COMPLETED]


def test_what_no_engine_has_is_refused() -> None:
    with pytest.raises(ValueError, match=r"attach\(engine, at=\.\.\.\)"):
        log_to(console(), at=Events.EPOCH_COMPLETED(every=2)).attach(engine_with({}))
    with pytest.raises(TypeError, match="is attached to an Engine"):
        log_to(console()).attach(measuring())  # type: ignore[arg-type]


def test_a_csv_file_has_the_numbers_of_that_of_lightning(tmp_path: Path) -> None:
    lightning: Any = pytest.importorskip("lightning.pytorch")
    loggers: Any = pytest.importorskip("lightning.pytorch.loggers")
    logger = loggers.CSVLogger(tmp_path, name="theirs", version=0, flush_logs_every_n_steps=1)

    class Module(lightning.LightningModule):  # type: ignore[misc]
        def training_step(self, batch: Any, index: int) -> None:
            self.log("loss", batch / 3, on_step=True, on_epoch=False, batch_size=1)

        def configure_optimizers(self) -> None:
            return None

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = lightning.Trainer(
            max_epochs=2,
            logger=logger,
            log_every_n_steps=1,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            accelerator="cpu",
        )
        trainer.fit(Module(), DataLoader([1.0, 2.0, 4.0], batch_size=1))  # type: ignore[arg-type]
    loop = Loop(outputs(third)) | mean("loss", over=Events.ITERATION_COMPLETED)
    loop = loop | log_to(csv_file(tmp_path / "ours.csv"), at=Events.ITERATION_COMPLETED)
    loop.run([1.0, 2.0, 4.0], max_epochs=2)
    import pandas as pd

    ours = pd.read_csv(tmp_path / "ours.csv")
    theirs = pd.read_csv(tmp_path / "theirs" / "version_0" / "metrics.csv")
    assert ours["loss"].tolist() == pytest.approx(theirs["loss"].tolist(), rel=1e-6)
    assert (ours["epoch"] - 1).tolist() == theirs["epoch"].tolist()
