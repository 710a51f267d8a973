"""The digits example keeps its promises: accuracy, files, messages, exit codes, equal weights."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest
import torch
from torch import Tensor, nn

from fengine.examples.digits import functional, mutable
from fengine.examples.digits.__main__ import main
from fengine.examples.digits.options import Options
from fengine.examples.digits.report import Report
from fengine.examples.digits.task import Epoch, Reached, Task, best_epoch, make_task
from fengine.training import Shuffled

COMMAND = [sys.executable, "-m", "fengine.examples.digits"]
LINE = re.compile(r"^epoch +(\d+)/60   loss \d\.\d{4}   held-out accuracy +([\d.]+)%", re.MULTILINE)
BEST = re.compile(r"Best held-out accuracy: (?P<percent>[\d.]+)%, in epoch (?P<epoch>\d+)")


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Compute as the program does."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def refused(*arguments: str) -> int | str | None:
    """Call the command where it leaves at once, and return its exit code."""
    with pytest.raises(SystemExit) as left:
        main(arguments)
    return left.value.code


def accuracy(task: Task) -> float:
    task.model.eval()
    with torch.no_grad():
        right = [(task.model(x).argmax(dim=1) == y).sum() for x, y in task.held_out]
    return sum(map(float, right)) / task.sizes[1]


Train = Callable[[Task, Options, Report], Reached]
Add = Callable[[Tensor, Tensor, int], Tensor]


def add_in_two_operations(total: Tensor, loss: Tensor, images: int) -> Tensor:
    return total + loss * images


def add_in_double(total: Tensor, loss: Tensor, images: int) -> Tensor:
    """Add as `fengine.metrics.mean` does, which rounds less."""
    return torch.add(total.double(), loss, alpha=images)


def train_by_hand(task: Task, options: Options, add: Add) -> tuple[list[float], list[float]]:
    """Train as a user without any engine would, and give the losses and accuracies."""
    losses, accuracies = [], []
    for number in range(options.epochs):
        assert isinstance(task.batches.sampler, Shuffled)
        task.batches.sampler.set_epoch(number)
        task.model.train()
        total = torch.tensor(0.0)
        for x, y in task.batches:
            task.optimizer.zero_grad()
            loss = task.loss_fn(task.model(x), y)
            loss.backward()  # type: ignore[no-untyped-call]
            task.optimizer.step()
            total = add(total, loss.detach(), len(y))
        losses.append(float(total) / task.sizes[0])
        accuracies.append(accuracy(task))
        if len(accuracies) - 1 - accuracies.index(max(accuracies)) >= options.patience:
            break
    return losses, accuracies


def same_bits(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a.view(torch.uint8), b.view(torch.uint8)) for a, b in pairs)


@pytest.mark.parametrize(
    "options",
    [
        Options(epochs=4, seed=3),
        Options(epochs=50, patience=1, batch_size=200, learning_rate=0.02),  # ends early
    ],
    ids=["all epochs", "early stop"],
)
def test_three_ways_to_train_end_with_bitwise_the_same_weights(
    options: Options, tmp_path: Path
) -> None:
    ways: list[tuple[Train, Add]] = [
        (functional.train, add_in_double),
        (mutable.train, add_in_two_operations),
    ]
    for train, add in ways:
        by_hand = make_task(options)
        losses, accuracies = train_by_hand(by_hand, options, add)
        assert (len(losses) < options.epochs) == (options.patience == 1)
        task = make_task(options)
        reached = train(task, options, Report(task.model, options.epochs, tmp_path))
        assert same_bits(task.model, by_hand.model)
        assert [epoch.loss for epoch in reached.history] == losses
        assert [epoch.accuracy for epoch in reached.history] == accuracies
        assert (reached.epoch, reached.interrupted) == (len(losses), False)
        assert reached.iteration == len(losses) * len(task.batches)
        assert not same_bits(task.model, make_task(options).model)


def test_the_main_job(tmp_path: Path) -> None:
    done = subprocess.run(COMMAND, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")

    best = BEST.search(done.stdout)
    assert best is not None
    assert float(best["percent"]) >= 97
    lines = re.findall(
        r"^epoch +(\d+)/60   loss \d\.\d{4}   held-out accuracy +([\d.]+)%", done.stdout, re.M
    )
    assert [int(number) for number, _ in lines] == list(range(1, len(lines) + 1))
    assert lines[int(best["epoch"]) - 1][1] == best["percent"]
    assert "Stopped early: no better accuracy for 8 epochs." in done.stdout
    assert len(lines) == int(best["epoch"]) + 8

    assert "digits-out/best.pt" in done.stdout
    assert "digits-out/curves.png" in done.stdout
    folder = tmp_path / "digits-out"
    assert sorted(path.name for path in folder.iterdir()) == ["best.pt", "curves.png"]
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    task = make_task(Options())
    task.model.load_state_dict(torch.load(folder / "best.pt", weights_only=True))
    assert f"{accuracy(task):.2%}" == best["percent"] + "%"


def test_the_engine_prints_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed = []
    for way in ([], ["--engine"]):
        assert main(["--epochs=2", f"--out={tmp_path}", *way]) == 0
        output, errors = capsys.readouterr()
        assert errors == ""
        printed.append(re.sub(r"[\d.]+ s of training", "", output))
    assert "functional API" in printed[0]
    assert printed[0].replace("functional", "Engine") == printed[1]


def test_the_seed_decides_everything(tmp_path: Path) -> None:
    models = []
    for seed in (0, 0, 1):
        options = Options(epochs=1, seed=seed)
        task = make_task(options)
        functional.train(task, options, Report(task.model, 1, tmp_path))
        models.append(task.model)
    assert same_bits(models[0], models[1])
    assert not same_bits(models[0], models[2])


def test_help_says_what_can_be_chosen_and_what_comes_of_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert refused("--help") == 0
    help_, errors = capsys.readouterr()
    assert errors == ""
    for said in (
        "python -m fengine.examples.digits",
        "--epochs N ",
        "--batch-size N ",
        "--learning-rate X ",
        "--patience N ",
        "--seed N ",
        "--out FOLDER ",
        "--engine ",
        "(default: 60)",
        "best.pt",
        "curves.png",
        "Ctrl-C",
    ):
        assert said in help_
    assert max(map(len, help_.splitlines())) <= 100


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--epochs", "0"], "argument --epochs: '0' is not a whole number from 1"),
        (["--epochs", "many"], "argument --epochs: 'many' is not a whole number from 1"),
        (["--batch-size", "-1"], "argument --batch-size: '-1' is not a whole number from 1"),
        (
            ["--learning-rate", "0"],
            "argument --learning-rate: '0' is not a number above 0",
        ),
        (
            ["--learning-rate", "nan"],
            "argument --learning-rate: 'nan' is not a number above 0",
        ),
        (
            ["--learning-rate", "x"],
            "argument --learning-rate: 'x' is not a number above 0",
        ),
        (["--learning-rate", "1e38"], "argument --learning-rate: '1e38' is not a number above 0"),
        (["--batch-size", "9" * 20], f"argument --batch-size: '{'9' * 20}' is not a whole number"),
        (["--patience", "1.5"], "argument --patience: '1.5' is not a whole number from 1"),
        (["--seed", "-1"], "argument --seed: '-1' is not a whole number from 0 to "),
        (["--out", "file/folder"], "argument --out: cannot write to file/folder: Not a directory"),
        (["--out", "file"], "argument --out: cannot write to file: File exists"),
        (["--gpu"], "unrecognized arguments: --gpu"),
        (["quickly"], "unrecognized arguments: quickly"),
    ],
    ids=" ".join,
)
def test_bad_arguments_get_one_line(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    assert refused(*arguments) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith(f"digits: error: {said}")
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    ("missing", "named"),
    [(["tqdm"], "tqdm"), (["sklearn", "matplotlib"], "matplotlib and scikit-learn")],
)
def test_a_missing_extra_gets_one_line(missing: list[str], named: str, tmp_path: Path) -> None:
    program = f"""
import sys
sys.modules.update(dict.fromkeys({missing!r}))
from fengine.examples.digits.__main__ import main
main([])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    said = f"digits: error: {named} not found; run: pip install 'fengine[demo]'\n"
    assert done.stderr == said
    assert list(tmp_path.iterdir()) == []


@contextlib.contextmanager
def started(*arguments: str, folder: Path) -> Iterator[tuple[int, IO[str]]]:
    """Start the command in a fork, which has nothing left to import; give its id and its output."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        code = 1
        try:
            os.dup2(writing, 1)
            sys.stdout = os.fdopen(1, "w")
            signal.signal(signal.SIGINT, signal.default_int_handler)
            code = main([*arguments, f"--out={folder}"])
            sys.stdout.flush()
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as output:
        yield child, output


def ended(child: int) -> int:
    """Wait for a child, and return its exit code, or the signal that ended it, below 0."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def read_up_to(begin: str, output: IO[str]) -> str:
    """Return the lines up to the first that begins so."""
    text = ""
    for line in output:
        text += line
        if line.startswith(begin):
            break
    return text


def require_reached(folder: Path, output: str, kept: list[str]) -> None:
    """Check what a training has said and left that Ctrl-C has ended."""
    assert re.search(r"^Interrupted in epoch \d+, iteration \d+\.$", output, re.M)
    assert BEST.search(output)
    assert sorted(path.name for path in folder.iterdir()) == ["best.pt", *kept, "curves.png"]


def test_ctrl_c_ends_it_with_what_was_reached(tmp_path: Path) -> None:
    # Where the tests run in the background Ctrl-C may be ignored, and children inherit that.
    program = (
        "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "runpy.run_module('fengine.examples.digits', run_name='__main__', alter_sys=True)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, "--epochs=500", "--patience=500"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        output = read_up_to("epoch   2/", process.stdout)
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "")
    require_reached(tmp_path / "digits-out", output + rest, ["checkpoints"])


def test_ctrl_c_ends_an_engine_with_what_was_reached(tmp_path: Path) -> None:
    with started("--engine", "--epochs=500", "--patience=500", folder=tmp_path) as (child, lines):
        output = read_up_to("epoch   2/", lines)
        os.kill(child, signal.SIGINT)
        output += lines.read()
    assert ended(child) == 130
    require_reached(tmp_path, output, [])


def test_ctrl_c_in_the_first_epoch_leaves_no_file(tmp_path: Path) -> None:
    with started("--batch-size=1", folder=tmp_path) as (child, lines):
        read_up_to("Digits:", lines)
        os.kill(child, signal.SIGINT)
        rest = lines.read()
    assert ended(child) == 130
    assert "No epoch was completed" in rest or rest == ""  # before the training, or within it
    assert [path.name for path in tmp_path.iterdir()] in ([], ["checkpoints"])


def weights_of(folder: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = torch.load(folder / "best.pt", weights_only=True)
    return found


OPTIONS = ["--epochs=6", "--seed=3"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], dict[str, Tensor]]:
    """Return the lines and the weights of a training that nobody stops."""
    folder = tmp_path_factory.mktemp("whole")
    with contextlib.redirect_stdout(io.StringIO()) as output:
        assert main([*OPTIONS, f"--out={folder}"]) == 0
    return re.findall(r"^epoch \d/6 .*$", output.getvalue(), re.M), weights_of(folder)


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_training_that_was_stopped_goes_on(
    ending: int,
    whole: tuple[list[str], dict[str, Tensor]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "cut"
    with started(*OPTIONS, folder=folder) as (child, lines_of_child):
        read_up_to("epoch 3/", lines_of_child)
        os.kill(child, ending)
        lines_of_child.read()
    assert ended(child) == (130 if ending == signal.SIGINT else -ending)
    assert main(["--epochs=7", "--seed=3", f"--out={folder}"]) == 1
    assert "holds a training with Options(epochs=6" in capsys.readouterr().err
    assert main([*OPTIONS, f"--out={folder}"]) == 0
    output, errors = capsys.readouterr()
    assert errors == ""
    going_on = re.search(r"^Going on with a training .*, after epoch (\d)\.$", output, re.M)
    assert going_on is not None
    lines, weights = whole
    assert re.findall(r"^epoch \d/6 .*$", output, re.M) == lines[int(going_on[1]) :]
    kept = weights_of(folder)
    assert all(torch.equal(kept[name], weights[name]) for name in weights)
    assert sorted(path.name for path in folder.iterdir()) == ["best.pt", "curves.png"]


def test_on_a_terminal_there_is_a_progress_bar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    master, terminal = pty.openpty()
    try:
        with os.fdopen(terminal, "w") as errors:
            monkeypatch.setattr(sys, "stderr", errors)
            assert main(["--epochs=1", f"--out={tmp_path}"]) == 0
            errors.flush()
            drawn = os.read(master, 100_000).decode()
    finally:
        os.close(master)
    assert "epoch 1/1:   0%|" in drawn
    assert drawn.endswith("\r")  # wiped away
    assert "%|" not in capsys.readouterr().out


def test_a_reader_that_goes_away_ends_it_quietly(tmp_path: Path) -> None:
    with subprocess.Popen(
        [*COMMAND, "--epochs=500", "--patience=500"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1


def test_a_full_disk_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    assert main(["--epochs=1", "--out", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "digits: error: [Errno 28] No space left on device\n"


def test_a_folder_that_is_gone_is_told_in_one_line(tmp_path: Path) -> None:
    task = make_task(Options())
    with pytest.raises(FileNotFoundError, match="gone"):
        Report(task.model, 1, tmp_path / "gone").epoch((Epoch(1.0, 0.5),))


@pytest.mark.parametrize("train", [functional.train, mutable.train], ids=["functional", "engine"])
@pytest.mark.parametrize("place", ["save", "replace"])
def test_ctrl_c_while_weights_are_saved_waits_for_them(
    place: str,
    train: Train,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    owner: Any = torch if place == "save" else os
    task, saved = make_task(Options(epochs=3)), list[dict[str, Tensor]]()
    act = getattr(owner, place)

    def interrupted(*arguments: Any) -> None:
        if saved:  # the curves, at the end
            act(*arguments)
            return
        signal.raise_signal(signal.SIGINT)
        act(*arguments)
        saved.append({name: value.clone() for name, value in task.model.state_dict().items()})

    monkeypatch.setattr(owner, place, interrupted)
    report = Report(task.model, 3, tmp_path)
    report.end(train(task, Options(epochs=3), report), 1.0)
    assert len(saved) == 1
    weights = torch.load(report.weights, weights_only=True)
    assert all(torch.equal(weights[name], value) for name, value in saved[0].items())
    output = capsys.readouterr().out
    best = BEST.search(output)
    assert best is not None
    assert best["epoch"] == "1"
    assert f"held-out accuracy  {best['percent']}%" in output
    assert report.curves.exists()


def test_the_best_epoch_of_none_is_none() -> None:
    assert best_epoch(()) == 0
