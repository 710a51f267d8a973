"""Run each training with each library, and print how long it is and what it reaches."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.trainings.comparing import LIBRARIES, TRAININGS, lines_of


def main() -> None:
    """Print a line for each program."""
    for training in TRAININGS:
        for library in LIBRARIES:
            with tempfile.TemporaryDirectory() as folder:
                given = f"Path({folder!r}, 'run.pt')" if training == "language_model" else ""
                program = (
                    "from pathlib import Path; import torch; torch.set_num_threads(1); "
                    f"from tests.trainings.{training}.with_{library} import train; "
                    f"print(); print(train({given}))"
                )
                ran = subprocess.run(
                    [sys.executable, "-W", "ignore", "-c", program],
                    capture_output=True,
                    text=True,
                    check=False,
                    cwd=folder,
                    env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
                )
            said = ran.stdout if ran.returncode == 0 else ran.stderr
            last = said.strip().rpartition("\n")[2]
            print(f"{training:15} {library:10} {lines_of(training, library):4} lines  {last}")


if __name__ == "__main__":
    main()
