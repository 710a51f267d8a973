"""The command line of the digits example: arguments in, exit code out.

What takes long to import is imported only once the arguments are known to be good, and within what
answers Ctrl-C.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import attrs
from typing_extensions import override

from fengine.examples.digits.options import Options

DEFAULT = Options()
NEEDED = {"matplotlib": "matplotlib", "scikit-learn": "sklearn", "tqdm": "tqdm"}

EPILOG = """\
Training ends early when the accuracy on the held-out images has not improved for --patience epochs,
or with Ctrl-C. --out then holds the weights of the best epoch, best.pt, and the loss and accuracy
of each epoch, curves.png. Equal seeds give equal weights, with --engine or without. A training that
was stopped or killed goes on where it is started again with the same options (not with --engine).

exit code: 0 when training ended, 1 when a file could not be written, 2 for bad arguments, 130 after
Ctrl-C
"""


class _Parser(argparse.ArgumentParser):
    @override
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n")  # the usage would be several lines more


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example, and give its exit code."""
    parser = _command_line()
    try:
        return _train(parser, parser.parse_args(arguments))
    except KeyboardInterrupt:  # during training it is answered there
        print(f"\n{parser.prog}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Nobody reads the lines any more, so the last of them cannot be flushed at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (OSError, RuntimeError) as error:
        if not isinstance(error, OSError) and not _is_of_checkpoints(error):
            raise
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 1


def _is_of_checkpoints(error: RuntimeError) -> bool:
    from fengine.checkpoints import CheckpointError  # it imports torch

    return isinstance(error, CheckpointError)


def _command_line() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="digits",
        usage="python -m fengine.examples.digits [options]",
        description="Train a small network to read handwritten digits: 8 x 8 pixels, real scans "
        "that come with\nscikit-learn. It takes some seconds.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )

    whole, default = _whole_number(1, 2**31 - 1), DEFAULT

    def add(option: str, kind: Callable[[str], object], value: object, text: str) -> None:
        name, _, metavar = option.partition(" ")
        text = f"{text} (default: {value})"
        parser.add_argument(name, metavar=metavar, type=kind, default=value, help=text)

    add("--epochs N", whole, default.epochs, "epochs to train at most")
    add("--batch-size N", whole, default.batch_size, "images in a batch")
    add("--learning-rate X", _part_of_one, default.learning_rate, "of the optimizer, AdamW")
    add("--patience N", whole, default.patience, "epochs to wait for a better accuracy")
    add(
        "--seed N", _whole_number(0, 2**63 - 1), default.seed, "decides all that is drawn at random"
    )
    add("--out FOLDER", Path, "digits-out", "for the files, made if need be")
    parser.add_argument(
        "--engine", action="store_true", help="train with the Engine API, not the functional one"
    )
    return parser


def _train(parser: argparse.ArgumentParser, chosen: argparse.Namespace) -> int:
    missing = [name for name, module in NEEDED.items() if importlib.util.find_spec(module) is None]
    if missing:
        parser.error(f"{' and '.join(missing)} not found; run: pip install 'fengine[demo]'")
    _require_writable(parser, chosen.out)

    import torch

    from fengine.examples.digits import functional, mutable
    from fengine.examples.digits.report import Report
    from fengine.examples.digits.task import make_task

    # A network this small is slower on several threads, and equal weights need equal sums.
    torch.set_num_threads(1)
    chosen_options = {name: getattr(chosen, name) for name in attrs.fields_dict(Options)}
    options = Options(**chosen_options)
    task = make_task(options)
    report = Report(task.model, options.epochs, chosen.out)
    train, way = (mutable.train, "Engine") if chosen.engine else (functional.train, "functional")
    parameters = sum(parameter.numel() for parameter in task.model.parameters())
    training, held_out = task.sizes
    print(
        f"Digits: {training:,} images to train on, {held_out} held out; "
        f"{parameters:,} parameters; seed {options.seed}; {way} API",
        flush=True,
    )
    start = time.perf_counter()
    reached = train(task, options, report)
    report.end(reached, time.perf_counter() - start)
    return 130 if reached.interrupted else 0


def _require_writable(parser: argparse.ArgumentParser, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        parser.error(f"argument --out: cannot write to {folder}: {error.strerror}")


def _whole_number(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(
                f"{text!r} is not a whole number from {least} to {most}"
            )
        return number

    return parse


def _part_of_one(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0 and at most 1")
    return number


if __name__ == "__main__":
    code = main()
    # To leave takes torch a while, in which Ctrl-C has nothing left to end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(code)
