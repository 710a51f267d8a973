"""The command line of the digits example: arguments in, exit code out.

What takes long to import is imported only once the arguments are known to be good, and where Ctrl-C
is already answered.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from typing_extensions import override

NEEDED = {"matplotlib": "matplotlib", "scikit-learn": "sklearn", "tqdm": "tqdm"}

EPILOG = """\
Training ends early when the accuracy on the held-out images has not improved for --patience epochs,
or with Ctrl-C. --out then holds the weights of the best epoch, best.pt, and the loss and accuracy
of each epoch, curves.png. Equal seeds give equal weights, with --engine or without.

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
    except OSError as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 1


def _command_line() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="digits",
        description="Train a small network to read handwritten digits (8 x 8 pixels, real scans "
        "that scikit-learn brings along). It takes some seconds.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )

    def add(name: str, kind: Callable[[str], object], default: object, text: str) -> None:
        parser.add_argument(name, type=kind, default=default, help=f"{text} (default: {default})")

    add("--epochs", _whole_number(1), 60, "epochs to train at most")
    add("--batch-size", _whole_number(1), 64, "images in a batch")
    add("--learning-rate", _positive_number, 2e-3, "learning rate of the optimizer, AdamW")
    add("--patience", _whole_number(1), 8, "epochs to wait for a better held-out accuracy")
    add("--seed", _whole_number(0, 2**63 - 1), 0, "decides all that is drawn at random")
    add("--out", Path, "digits-out", "folder for the files; made if it is not there")
    parser.add_argument(
        "--engine", action="store_true", help="train with the Engine API instead of the functional"
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
    from fengine.examples.digits.task import HELD_OUT, Options, make_task

    # A network this small is slower on several threads, and equal weights need equal sums.
    torch.set_num_threads(1)
    options = Options(
        epochs=chosen.epochs,
        batch_size=chosen.batch_size,
        learning_rate=chosen.learning_rate,
        patience=chosen.patience,
        seed=chosen.seed,
    )
    task = make_task(options)
    report = Report(task.model, options.epochs, chosen.out)
    train, way = (mutable.train, "Engine") if chosen.engine else (functional.train, "functional")
    parameters = sum(parameter.numel() for parameter in task.model.parameters())
    print(
        f"Digits: {len(task.batches.dataset):,} images to train on, {HELD_OUT} held out; "
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


def _whole_number(least: int, most: int | None = None) -> Callable[[str], int]:
    limits = f"from {least}" if most is None else f"from {least} to {most}"

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if number < least or (most is not None and number > most):
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number {limits}")
        return number

    return parse


def _positive_number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return number


if __name__ == "__main__":
    sys.exit(main())
