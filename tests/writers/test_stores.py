"""Logs in TensorBoard, MLflow and Weights & Biases: what their own readers find there."""

from __future__ import annotations

import importlib
import json
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb as weights_and_biases
from matplotlib.figure import Figure
from mlflow import MlflowClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fengine import Events, Loop, State, outputs
from fengine.features import log_to
from fengine.metrics import mean
from fengine.writers import OpensWriter, mlflow, tensorboard, wandb
from tests.writers.trainings import DATA, Cut, as_float, go_on_after, loop_with, moments

Scalars = dict[str, list[tuple[int, float]]]

pytestmark = [
    # MLflow maps its tables in a way that SQLAlchemy warns of.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow"),
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy"),
]


@pytest.fixture(scope="module")
def offline() -> Iterator[None]:
    """Have Weights & Biases keep to this machine, and end its service."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_SILENT", "true")
        patch.setenv("WANDB__DISABLE_STATS", "true")
        yield
        weights_and_biases.teardown()


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Make the tables of MLflow, which takes seconds, once; its artifacts are where it runs."""
    folder = tmp_path_factory.mktemp("mlflow")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield f"sqlite:///{folder / 'runs.db'}"


def inverse(batch: int) -> float:
    return 1 / batch


def third(batch: int) -> float:
    return batch / 3


def drawn(state: State[int, float]) -> Figure:
    figure = Figure()
    figure.subplots().plot([0.0, state.metrics["loss"]])
    return figure


def events_of(folder: Path) -> Scalars:
    found: Any = EventAccumulator(str(folder)).Reload()
    return {
        tag: [(one.step, one.value) for one in found.Scalars(tag)]
        for tag in found.Tags()["scalars"]
    }


def metrics_of(store: str, run: str, experiment: str) -> tuple[Any, Scalars]:
    client = MlflowClient(tracking_uri=store)
    known = client.get_experiment_by_name(experiment)
    assert known is not None
    (found,) = [
        one
        for one in client.search_runs([known.experiment_id])
        if one.info.run_name == run  # type: ignore[attr-defined]
    ]
    histories = {
        name: [(one.step, one.value) for one in client.get_metric_history(found.info.run_id, name)]
        for name in found.data.metrics
    }
    return found, histories


def records_of(path: Path) -> Iterator[bytes]:
    """Read the records of a file of Weights & Biases, which has the form of a log of LevelDB."""
    content, place, record = path.read_bytes(), 7, b""
    while place + 7 <= len(content):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        length, kind = struct.unpack("<HB", content[place + 4 : place + 7])
        record += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # the whole record, or the end of one
            yield record
            record = b""


def read_to_its_exit(path: Path) -> list[Any]:
    """Read a run of Weights & Biases, whose service may write on after its end was told."""
    protocol: Any = importlib.import_module("wandb.proto.wandb_internal_pb2")
    while True:
        records = []
        for content in records_of(path):
            records.append(protocol.Record())
            records[-1].ParseFromString(content)
        if any(record.WhichOneof("record_type") == "exit" for record in records):
            return records
        time.sleep(0.05)


def rows_of(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    """Read the runs of Weights & Biases that wait: the name of each run, and its rows."""
    found = []
    for path in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        for record in read_to_its_exit(path):
            kind = record.WhichOneof("record_type")
            items = record.history.item if kind == "history" else record.run.config.update
            row = {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in items}
            row.pop("_wandb", None)
            if kind == "history":
                found.append((path.stem.removeprefix("run-"), row))
            elif kind == "run":
                found.append(("config", row))
    return found


@pytest.mark.parametrize("beyond", [0, 4])
def test_what_tensorboard_shows_of_a_run_that_goes_on_is_the_whole_run(
    beyond: int, tmp_path: Path
) -> None:
    at = Events.ITERATION_COMPLETED
    count = sum(1 for _ in moments(loop_with(tensorboard(tmp_path / "whole"), at=at)))
    whole = repr(events_of(tmp_path / "whole"))
    for after in range(1, count, 3):
        folder = tmp_path / str(after)
        first, again = (loop_with(tensorboard(folder), at=at) for _ in range(2))
        go_on_after(Cut(after, beyond), first, again)
        assert repr(events_of(folder)) == whole


def test_tensorboard_shows_the_same_as_that_of_ignite(tmp_path: Path) -> None:
    from ignite.engine import Engine
    from ignite.engine import Events as Moments
    from ignite.handlers import TensorboardLogger, global_step_from_engine

    def step(engine: Engine, batch: int) -> float:
        engine.state.metrics["loss"] = batch / 3
        return batch / 3

    engine = Engine(step)
    with TensorboardLogger(log_dir=str(tmp_path / "ignite")) as logger:
        logger.attach_output_handler(
            engine,
            Moments.ITERATION_COMPLETED,
            tag="training",
            metric_names=["loss"],
            global_step_transform=global_step_from_engine(engine, Moments.ITERATION_COMPLETED),
        )
        engine.run(DATA, max_epochs=2)
    loop = Loop(outputs(third)) | mean("loss", over=Events.ITERATION_COMPLETED)
    loop = loop | log_to(tensorboard(tmp_path / "fengine"), at=Events.ITERATION_COMPLETED)
    loop.run(DATA, max_epochs=2)
    ours, theirs = events_of(tmp_path / "fengine"), events_of(tmp_path / "ignite")
    assert ours["loss"] == theirs["training/loss"]
    assert [epoch for _, epoch in ours["epoch"]] == [1, 1, 1, 2, 2, 2]


def test_tensorboard_has_the_parameters_once_and_the_figures(tmp_path: Path) -> None:
    def loop() -> Loop[int, float, None]:
        return loop_with(
            tensorboard(tmp_path),
            at=Events.EPOCH_COMPLETED,
            parameters={"lr": 0.1, "name": "first", "none": None},
            figures={"curve": drawn},
        )

    half = loop().run(DATA, max_epochs=2)
    loop().resume(half.with_limits(max_epochs=3), DATA)
    found: Any = EventAccumulator(str(tmp_path)).Reload()
    assert [one.step for one in found.Images("curve")] == [3, 6, 9]
    assert found.Images("curve")[0].encoded_image_string[1:4] == b"PNG"
    content = found.PluginTagToContent("hparams")["_hparams_/session_start_info"]
    assert b"first" in content
    files = [path.read_bytes() for path in sorted(tmp_path.iterdir())]
    assert [b"session_start_info" in one for one in files] == [True, False]


@pytest.mark.filterwarnings("ignore:.*MLflow takes no metric named 'an,odd:RuntimeWarning")
def test_mlflow_has_the_whole_run_where_a_run_goes_on(database: str) -> None:
    at = Events.ITERATION_COMPLETED
    whole = mlflow("whole", experiment="law", store=database)
    list(moments(loop_with(whole, at=at)))
    _, wanted = metrics_of(database, "whole", "law")
    wanted.pop("inf")  # MLflow has it as its largest number, so that it comes twice
    assert sorted(wanted) == ["all", "epoch", "loss", "nan"]
    for after, beyond in ((5, 0), (11, 8)):
        log = mlflow(f"it's {after}", experiment="law", store=database)
        first, again = (loop_with(log, at=at) for _ in range(2))
        go_on_after(Cut(after, beyond), first, again)
        found, metrics = metrics_of(database, f"it's {after}", "law")
        metrics.pop("inf")
        assert found.info.status == "FINISHED"
        assert repr(sorted(metrics.items())) == repr(sorted(wanted.items()))


def test_mlflow_has_numbers_parameters_and_figures(database: str, tmp_path: Path) -> None:
    loop = Loop(outputs(as_float)) | mean("loss")
    log = mlflow("one", experiment="numbers", store=database)
    parameters = {"lr": 0.1, "model": {"name": "first"}}
    loop = loop | log_to(log, parameters=parameters, figures={"curve": drawn})
    loop.run(DATA, max_epochs=2)
    found, metrics = metrics_of(database, "one", "numbers")
    assert metrics == {"epoch": [(3, 1.0), (6, 2.0)], "loss": [(3, 2.0), (6, 2.0)]}
    assert found.data.params == {"lr": "0.1", "model.name": "first"}
    assert found.info.status == "FINISHED"
    artifacts = MlflowClient(tracking_uri=database).list_artifacts(found.info.run_id, "curve")
    assert [one.path for one in artifacts] == ["curve/00000003.png", "curve/00000006.png"]


def test_mlflow_takes_all_parameters_but_those_of_odd_names(database: str) -> None:
    parameters = {f"p{number}": number for number in range(150)}
    loop = Loop(outputs(as_float))
    log = log_to(
        mlflow("many", experiment="parameters", store=database), parameters={**parameters, "a=": 1}
    )
    with pytest.warns(RuntimeWarning, match="takes no parameter named 'a='"):
        (loop | log).run(DATA)
    found, _ = metrics_of(database, "many", "parameters")
    assert found.data.params == {name: str(one) for name, one in parameters.items()}


def test_no_batch_is_larger_than_a_server_of_mlflow_takes(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.utils.validation import MAX_PARAMS_TAGS_PER_BATCH

    sizes: list[int] = []
    whole = MlflowClient.log_batch

    def log_batch(client: MlflowClient, run: str, params: Any = (), **more: Any) -> None:
        sizes.append(len(params))
        whole(client, run, params=params, **more)

    monkeypatch.setattr(MlflowClient, "log_batch", log_batch)
    parameters = {f"p{number}": number for number in range(150)}
    log = mlflow("batches", experiment="parameters", store=database)
    (Loop(outputs(as_float)) | log_to(log, parameters=parameters)).run(DATA)
    assert sum(sizes) == 150
    assert max(sizes) <= MAX_PARAMS_TAGS_PER_BATCH


@pytest.mark.parametrize(
    ("ask", "status"), [(State.interrupt, "SCHEDULED"), (State.terminate, "FINISHED")]
)
def test_mlflow_says_how_a_run_has_ended(ask: Any, status: str, database: str) -> None:
    log = mlflow(status, experiment="ends", store=database)
    loop = Loop(outputs(as_float)) | log_to(log)
    loop.on(Events.ITERATION_COMPLETED(once=2), ask).run(DATA)
    assert metrics_of(database, status, "ends")[0].info.status == status


def test_mlflow_says_that_a_run_has_failed_or_was_dropped(database: str) -> None:
    def loop(name: str) -> Loop[int, float, None]:
        log = mlflow(name, experiment="failures", store=database)
        return Loop(outputs(inverse)) | log_to(log)

    with pytest.raises(ZeroDivisionError):
        loop("failed").run([0])
    assert metrics_of(database, "failed", "failures")[0].info.status == "FAILED"
    next(loop("dropped").iterate([1])).state  # noqa: B018
    assert metrics_of(database, "dropped", "failures")[0].info.status == "KILLED"


@pytest.mark.usefixtures("offline")
def test_two_runs_of_wandb_side_by_side_have_numbers_parameters_and_figures(
    tmp_path: Path,
) -> None:
    logs = [wandb(name, project="p", mode="offline", folder=tmp_path) for name in ("one", "two")]
    loop = Loop(outputs(as_float)) | mean("loss")
    loop = loop | log_to(*logs, parameters={"lr": 0.1}, figures={"curve": drawn})
    loop.run(DATA, max_epochs=2)
    for name in ("one", "two"):
        rows = [row for run, row in rows_of(tmp_path) if run == name]
        numbers = [(row["epoch"], row["iteration"], row["loss"]) for row in rows if "loss" in row]
        assert numbers == [(1, 3, 2.0), (2, 6, 2.0)]
        assert sum("curve/_type" in row or "curve" in row for row in rows) == 2
    configs = [row for run, row in rows_of(tmp_path) if run == "config" and row]
    assert len(list(tmp_path.glob("wandb/offline-run-*/files/media/images/curve*.png"))) == 4
    assert all(row == {"lr": 0.1} for row in configs)


@pytest.mark.usefixtures("offline")
def test_a_run_of_wandb_goes_on_under_its_id(tmp_path: Path) -> None:
    log = wandb("again", project="p", mode="offline", folder=tmp_path)
    loop = loop_with(log, at=Events.ITERATION_COMPLETED)
    go_on_after(Cut(5, 4), loop, loop)
    rows = [row for run, row in rows_of(tmp_path) if run == "again"]
    assert {row["iteration"] for row in rows} == set(range(1, 10))
    losses = {(row["iteration"], row["loss"]) for row in rows}
    assert len(losses) == 9  # what comes twice is the same


def test_a_disabled_run_of_wandb_writes_nothing(tmp_path: Path) -> None:
    log = wandb("off", project="p", mode="disabled", folder=tmp_path)
    loop_with(log, at=Events.EPOCH_COMPLETED).run(DATA)
    assert not rows_of(tmp_path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mlflow(3), "run=3 of type int is not a str"),  # type: ignore[arg-type]
        (lambda: mlflow(""), "run is empty"),
        (lambda: mlflow("a", store=""), "store is empty"),
        (lambda: wandb("a/b"), "which has no slash"),
        (lambda: wandb("a", mode="off"), "is none of online, offline"),  # type: ignore[arg-type]
        (lambda: wandb("a", project=""), "project is empty"),
        (lambda: tensorboard(3), "not 3 of type int"),  # type: ignore[arg-type]
    ],
)
def test_what_can_be_no_log_is_refused(make: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        make()


@pytest.mark.parametrize(
    ("package", "extra", "call"),
    [
        ("tensorboard", "tensorboard", "tensorboard('a')"),
        ("mlflow", "mlflow", "mlflow('a')"),
        ("wandb", "wandb", "wandb('a')"),
        ("matplotlib", "plots", "plots('a.png', 'loss')"),
    ],
)
def test_without_its_package_the_error_names_the_extra(package: str, extra: str, call: str) -> None:
    program = f"""
import sys
sys.modules[{package!r}] = None
from fengine.features import plots
from fengine.writers import mlflow, tensorboard, wandb
try:
    {call}
except ModuleNotFoundError as error:
    print(error)
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"pip install 'fengine[{extra}]'" in done.stdout


def test_logs_compare_and_print() -> None:
    logs: list[OpensWriter] = [tensorboard("a"), mlflow("a"), wandb("a", mode="offline")]
    assert list(map(repr, logs)) == [
        "tensorboard('a')",
        "mlflow('a')",
        "wandb('a', mode='offline')",
    ]
    assert tensorboard("a") == tensorboard("a")
    assert mlflow("a") != mlflow("b")
