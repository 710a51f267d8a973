"""The command line of the digits example: arguments in, exit code out.

What takes long to import is imported only once the arguments are known to be good, and within what
answers Ctrl-C.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from fengine.examples.arguments import (
    Parser,
    add_option,
    exit_code,
    parser_of,
    part_of_one,
    require_installed,
    require_writable,
    whole_number,
)
from fengine.examples.digits.options import Options

if TYPE_CHECKING:  # it imports torch
    from fengine.distributed import Ranks

DEFAULT = Options()
NEEDED = {"matplotlib": "matplotlib", "scikit-learn": "sklearn", "tqdm": "tqdm"}

EPILOG = """\
Training ends early when the accuracy on the held-out images has not improved for --patience epochs,
or with Ctrl-C. --out then holds the weights of the best epoch, best.pt, and the loss and accuracy
of each epoch, curves.png. Equal seeds give equal weights, with --engine or without. A training that
was stopped or killed goes on where it is started again with the same options (not with --engine).
Several processes train together under torchrun:
torchrun --standalone --nproc-per-node 2 -m fengine.examples.digits

exit code: 0 when training ended, 1 when a file could not be written, 2 for bad arguments, 130 after
Ctrl-C
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example, and give its exit code."""
    parser = _command_line()

    def run() -> int:
        try:
            return _train(parser, parser.parse_args(arguments))
        except RuntimeError as error:
            if not _is_of_checkpoints(error):
                raise
            print(f"{parser.prog}: error: {error}", file=sys.stderr)
            return 1

    return exit_code(parser.prog, run)  # during training, Ctrl-C is answered there


def _is_of_checkpoints(error: RuntimeError) -> bool:
    from fengine.checkpoints import CheckpointError  # it imports torch

    return isinstance(error, CheckpointError)


def _command_line() -> Parser:
    text = (
        "Train a small network to read handwritten digits: 8 x 8 pixels, real scans that come "
        "with\nscikit-learn. It takes some seconds."
    )
    parser = parser_of("digits", text, EPILOG)
    whole, default = whole_number(1, 2**31 - 1), DEFAULT
    seeds = whole_number(0, 2**63 - 1)
    add_option(parser, "--epochs N", whole, default.epochs, "epochs to train at most")
    add_option(parser, "--batch-size N", whole, default.batch_size, "images in a batch")
    rate = "of the optimizer, AdamW"
    add_option(parser, "--learning-rate X", part_of_one, default.learning_rate, rate)
    patience = "epochs to wait for a better accuracy"
    add_option(parser, "--patience N", whole, default.patience, patience)
    add_option(parser, "--seed N", seeds, default.seed, "decides all that is drawn at random")
    add_option(parser, "--out FOLDER", Path, "digits-out", "for the files, made if need be")
    parser.add_argument(
        "--engine", action="store_true", help="train with the Engine API, not the functional one"
    )
    return parser


def _train(parser: Parser, chosen: argparse.Namespace) -> int:
    require_installed(parser, NEEDED)
    require_writable(parser, chosen.out)

    import torch

    from fengine.distributed import ranks_of_torchrun

    # A network this small is slower on several threads, and equal weights need equal sums.
    torch.set_num_threads(1)
    chosen_options = {name: getattr(chosen, name) for name in attrs.fields_dict(Options)}
    options = Options(**chosen_options)
    with ranks_of_torchrun() as ranks:
        if ranks.size > 1 and chosen.engine:
            parser.error("--engine trains in one process; leave it out under torchrun")
        if options.batch_size % ranks.size:
            parser.error(
                f"--batch-size {options.batch_size} is not shared by {ranks.size} processes; "
                f"give a multiple of {ranks.size}"
            )
        return _train_on(ranks, options, chosen)


def _train_on(ranks: Ranks, options: Options, chosen: argparse.Namespace) -> int:
    from fengine.examples.digits import functional, mutable
    from fengine.examples.digits.report import Report
    from fengine.examples.digits.task import make_task

    task = make_task(options, ranks)
    report = Report(task.model, options.epochs, chosen.out)
    way = "Engine" if chosen.engine else "functional"
    tells = ranks.rank == 0
    processes = f"; {ranks.size} processes" if ranks.size > 1 else ""
    parameters = sum(parameter.numel() for parameter in task.model.parameters())
    training, held_out = task.sizes
    if tells:
        print(
            f"Digits: {training:,} images to train on, {held_out} held out; "
            f"{parameters:,} parameters; seed {options.seed}; {way} API{processes}",
            flush=True,
        )
    start = time.perf_counter()
    if chosen.engine:
        reached = mutable.train(task, options, report)
    else:
        reached = functional.train(task, options, report, ranks)
    if tells:
        report.end(reached, time.perf_counter() - start)
    return 130 if reached.interrupted else 0


if __name__ == "__main__":
    code = main()
    # To leave takes torch a while, in which Ctrl-C has nothing left to end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(code)
