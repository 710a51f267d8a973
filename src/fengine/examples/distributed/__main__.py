"""The command line of the distributed example: it starts torchrun, and gives its exit code."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from fengine.examples.arguments import (
    Parser,
    add_option,
    exit_code,
    parser_of,
    require_writable,
    whole_number,
)

TEXT = """\
Train a small transformer on several processes of this machine, sharded by fully_shard. In the
middle, one of the processes kills itself. torchrun starts all of them again, and they go on from
the last checkpoint. It takes less than a minute."""
EPILOG = """\
--out then holds the checkpoints. What is there before is removed. A training that nobody kills,
with --killed-in 0, ends with the same losses.

exit code: 0 when the training ended, 1 when it failed, 2 for bad arguments, 130 after Ctrl-C
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example, and give its exit code."""
    parser = _command_line()
    return exit_code(parser.prog, lambda: _launch(parser, parser.parse_args(arguments)))


def _command_line() -> Parser:
    parser = parser_of("distributed", TEXT, EPILOG)
    epoch = "the epoch in which a process kills itself, 0 for none"
    add_option(parser, "--processes N", whole_number(1, 64), 2, "how many train together")
    add_option(parser, "--epochs N", whole_number(1, 10_000), 6, "epochs to train")
    add_option(parser, "--killed-in N", whole_number(0, 10_000), 4, epoch)
    add_option(parser, "--out FOLDER", Path, "distributed-out", "for the checkpoints")
    return parser


def _launch(parser: Parser, chosen: argparse.Namespace) -> int:
    require_writable(parser, chosen.out)
    checkpoints = chosen.out / "checkpoints"
    shutil.rmtree(checkpoints, ignore_errors=True)
    print(f"{chosen.processes} processes, started by torchrun", flush=True)
    # The same thing as: torchrun --standalone --nproc-per-node 2 --max-restarts 1 ...
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(chosen.processes)]
    program = ["--module", "fengine.examples.distributed.training", str(checkpoints)]
    numbers = [str(chosen.epochs), str(chosen.killed_in)]
    with subprocess.Popen(
        [sys.executable, "-m", *torchrun, "--max-restarts", "1", *program, *numbers],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            _, complaints = process.communicate()
        except KeyboardInterrupt:
            process.wait()  # Ctrl-C has reached torchrun too, which ends its processes
            raise
    if process.returncode:
        print(complaints, file=sys.stderr)
        return 1
    print(f"Its checkpoints:  {checkpoints}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
