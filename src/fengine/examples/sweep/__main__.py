"""The command line of the sweep: arguments in, exit code out.

What takes long to import is imported only once the arguments are known to be good.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
from fengine.examples.sweep.sizes import Sizes

DEFAULT = Sizes()
NEEDED = {"matplotlib": "matplotlib", "scikit-learn": "sklearn"}

TEXT = """\
Train many networks to read handwritten digits, at once: one for each learning rate and seed, as an
ensemble in one run. Then train a population, in which the worst half copies the best after each
epoch. It takes a minute or two."""
EPILOG = """\
The learning rates go from --slowest to --fastest, each a constant factor above the one before.
--out then holds the weights of the best network of the sweep, best.pt, and the accuracies of all of
them, sweep.png. Equal seeds give equal weights.

exit code: 0 when all was trained, 1 when a file could not be written, 2 for bad arguments, 130
after Ctrl-C
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example, and give its exit code."""
    parser = _command_line()
    return exit_code(parser.prog, lambda: _sweep(parser, parser.parse_args(arguments)))


def _command_line() -> Parser:
    parser = parser_of("sweep", TEXT, EPILOG)
    whole, default = whole_number(1, 2**31 - 1), DEFAULT
    seeds = whole_number(0, 2**32 - 1 - 4096)
    patience = "epochs without a better accuracy after which a network is trained no longer"
    add_option(parser, "--members N", whole_number(1, 4096), default.members, "networks to train")
    add_option(parser, "--epochs N", whole, default.epochs, "epochs to train at most")
    add_option(parser, "--patience N", whole, default.patience, patience)
    population = "networks in the population; 0 for none"
    add_option(parser, "--population N", whole_number(0, 4096), default.population, population)
    add_option(parser, "--batch-size N", whole, default.batch_size, "images in a batch")
    add_option(parser, "--slowest X", part_of_one, default.slowest, "the smallest learning rate")
    add_option(parser, "--fastest X", part_of_one, default.fastest, "the largest learning rate")
    add_option(parser, "--seed N", seeds, default.seed, "decides all that is drawn at random")
    add_option(parser, "--out FOLDER", Path, "sweep-out", "for the files, made if need be")
    return parser


def _sweep(parser: Parser, chosen: argparse.Namespace) -> int:
    if chosen.slowest > chosen.fastest:
        parser.error(f"--slowest {chosen.slowest} is above --fastest {chosen.fastest}")
    require_installed(parser, NEEDED)
    require_writable(parser, chosen.out)

    import torch

    from fengine.examples.sweep.picture import save_picture
    from fengine.examples.sweep.population import evolve
    from fengine.examples.sweep.sweeping import restored_accuracy, sweep, task_of

    # Equal weights need equal sums.
    torch.set_num_threads(1)
    sizes = Sizes(**{name: getattr(chosen, name) for name in attrs.fields_dict(Sizes)})
    task = task_of(sizes)
    training, held_out = task.sizes
    print(
        f"Digits: {training:,} images to train on, {held_out} held out; {sizes.members} networks, "
        f"learning rates {sizes.slowest:g} to {sizes.fastest:g}; seed {sizes.seed}",
        flush=True,
    )
    begun = time.perf_counter()
    swept = sweep(task, sizes, _tell)
    rate = swept.curves.rates[-1][swept.best]
    restored = restored_accuracy(task, swept)
    print(
        f"Best network: {swept.best}, learning rate {rate:.2g}; restored and evaluated alone, it "
        f"has an accuracy of {restored:.2%}; {time.perf_counter() - begun:.1f} s of training.\n",
        flush=True,
    )
    evolved = None
    if sizes.population:
        print(f"A population of {sizes.population}: the worst half copies the best.", flush=True)
        begun = time.perf_counter()
        evolved = evolve(task, sizes, _tell)
        reached = evolved.curves.accuracies[-1][evolved.best]
        rate = evolved.curves.rates[-1][evolved.best]
        print(
            f"Best network: {evolved.best}, learning rate {rate:.2g}, with an accuracy of "
            f"{reached:.2%}; {time.perf_counter() - begun:.1f} s of training.\n",
            flush=True,
        )
    weights, picture = chosen.out / "best.pt", chosen.out / "sweep.png"
    torch.save(task.model.state_dict(), weights)
    save_picture(picture, sizes, swept, evolved)
    print(f"Its weights:  {weights}\nThe picture:  {picture}", flush=True)
    return 0


def _tell(state: Any) -> None:
    metrics, trained = state.metrics, len(state.user.training)
    print(
        f"epoch {state.epoch}/{state.limits.max_epochs}   {trained} in training   held-out accuracy"
        f" {metrics['val_accuracy_best']:7.2%} at best, {metrics['val_accuracy_mean']:7.2%} in the "
        "mean",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
