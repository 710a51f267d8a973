"""The report: what a training prints and saves on its way, and at its end.

Everything here is an effect of what it is given; how the training is done it does not know.
"""

from __future__ import annotations

import io
import os
from pathlib import Path

import attrs
import torch
from torch import nn

from fengine.examples.digits.task import Epoch, Reached, best_epoch
from fengine.features import save_curves


@attrs.define(eq=False)
class Report:
    """Print a line for each epoch, and keep the best weights in a file.

    Args:
        model: whose weights are saved.
        epochs: how many epochs there are at most.
        folder: where the files go.
        reported: the epochs so far.
    """

    model: nn.Module
    epochs: int
    folder: Path
    reported: tuple[Epoch, ...] = ()

    @property
    def weights(self) -> Path:
        """The file of the best weights so far."""
        return self.folder / "best.pt"

    @property
    def curves(self) -> Path:
        """The file of the curves."""
        return self.folder / "curves.png"

    def epoch(self, history: tuple[Epoch, ...]) -> None:
        """Report the last epoch, and save the weights where it is the best one."""
        number, last = len(history), history[-1]
        is_best = best_epoch(history) == number
        if is_best:
            self._save_weights()
        self.reported = history
        print(
            f"epoch {number:{len(str(self.epochs))}}/{self.epochs}"
            f"   loss {last.loss:.4f}   held-out accuracy {last.accuracy:7.2%}"
            + ("   best so far" if is_best else ""),
            flush=True,
        )

    def go_on(self, history: tuple[Epoch, ...]) -> None:
        """Report that a training goes on after these epochs."""
        self.reported = history
        print(f"Going on with a training that was stopped, after epoch {len(history)}.", flush=True)

    def end(self, reached: Reached, seconds: float) -> None:
        """Report how far the training came, and save the curves."""
        history, best = self.reported, best_epoch(self.reported)
        print()
        if reached.interrupted:
            print(f"Interrupted in epoch {reached.epoch}, iteration {reached.iteration}.")
        elif len(history) < self.epochs:
            print(f"Stopped early: no better accuracy for {len(history) - best} epochs.")
        if not history:
            print("No epoch was completed, so there is nothing to save.", flush=True)
            if self.weights.exists():
                print(f"{self.weights} is of an earlier training.", flush=True)
            return
        best_accuracy = f"{history[best - 1].accuracy:.2%}, in epoch {best}"
        print(f"Best held-out accuracy: {best_accuracy}; {seconds:.1f} s of training.")
        save_curves(
            self.curves,
            {
                "training loss (cross-entropy, nats)": [epoch.loss for epoch in history],
                "held-out accuracy (%)": [100 * epoch.accuracy for epoch in history],
            },
            title="Handwritten digits",
            marked=best,
        )
        print(f"Its weights:  {self.weights}\nThe curves:   {self.curves}", flush=True)

    def _save_weights(self) -> None:
        # Written beside it first: whatever happens, there is a whole file under the name.
        unfinished = self.weights.with_suffix(".tmp")
        try:
            # Through memory: torch tells of a full disk as of an error of its own.
            weights = io.BytesIO()
            torch.save(self.model.state_dict(), weights)
            unfinished.write_bytes(weights.getvalue())
            os.replace(unfinished, self.weights)
        finally:
            unfinished.unlink(missing_ok=True)
