"""The report: what was measured of checkpoints, as one Markdown document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from textwrap import fill
from typing import Final, final

import attrs

from tests.benchmarks.checkpoints.costs import Cost
from tests.benchmarks.checkpoints.kills import LATEST, Left
from tests.benchmarks.checkpoints.things import Things
from tests.benchmarks.sections import MILLI, Table, Target

OURS: Final = "fengine"
BACKGROUND: Final = "fengine, in the background"
TORCH: Final = "torch.save, with fsync"
_MEGA: Final = 1e6

BEGINNING: Final = """\
What a save takes of training, what going on takes, and what is left when the process is killed. The
machine does other work meanwhile, so times are processor time, and systems take turns."""
COSTS: Final = """\
A model of {parameters:,} parameters in {tensors} tensors, with AdamW, saved to {place}.
Milliseconds of processor time, the median of {rounds} saves after a first one: all systems save the
same things in one process, in a new random order each round. What a disk takes is not in it. In
brackets: how often the time is that of torch.save. The training thread is what training waits for;
the process has all threads. The first save in the background makes the buffers that later ones copy
into. The size is that of all files of one checkpoint. Going on is measured in three new processes,
from a model and an optimizer that has no state yet. Its memory is the most that the process has
meanwhile, beyond what it had before and beyond the state of the optimizer, which stays; the largest
tensor has {largest:.1f} MB. Before fengine reads a tensor it compares the digest of the file. Only
fengine and torch.save, as it is used here, flush what they write to the disk."""
KILLS: Final = """\
A process saves a model and its AdamW, about {megabytes:.1f} MB, on and on, and says through a pipe
which saves are done. SIGKILL ends it up to {latest} seconds after the second, {kills} times. It
does nothing but save, so nearly every kill falls into a save, which is much rarer in a training.
Lost: what was said to be done last cannot be read, nor a later one; in brackets, how often nothing
at all can. Unreadable: something cannot be read that has the name of a checkpoint. A process that
is killed is no machine that loses its power. torch.distributed.checkpoint is made for a new id at
each save, which leaves it to its user which one is whole."""


@final
@attrs.frozen
class Findings:
    """Hold what was measured.

    Args:
        setting: where.
        place: the kind of folder that was written to.
        rounds: how many saves of each system.
        parameters: of the model.
        costs: of each system.
        kills: how many of each.
        killed_parameters: of the model that is saved until a kill.
        left: by each system.
    """

    setting: Sequence[str]
    place: str
    rounds: int
    parameters: int
    costs: Mapping[str, Cost]
    kills: int
    killed_parameters: int
    left: Mapping[str, Left]

    def targets(self) -> list[Target]:
        """Return what was to be reached."""
        ours, background, torch = (self.costs[name] for name in (OURS, BACKGROUND, TORCH))
        lost = [self.left[name].lost for name in self.left if name.startswith(OURS)]
        broken = [self.left[name].unreadable for name in self.left if name.startswith(OURS)]
        of_torch = "x torch.save"
        return [
            Target("a save, of the training thread", 1.6, of_torch, ours.thread / torch.thread),
            Target("a save in the background", 0.35, of_torch, background.thread / torch.thread),
            Target("the size of a checkpoint", 1.01, of_torch, ours.size / torch.size),
            Target("acknowledged checkpoints that are lost", 0, "", sum(lost)),
            Target("listed checkpoints that are unreadable", 0, "", sum(broken)),
        ]

    def document(self) -> Iterator[str]:
        """Give the parts of the whole."""
        lines = "\n".join(f"- {line}" for line in self.setting)
        yield f"# Benchmarks of checkpoints\n\n{BEGINNING}\n\n{lines}\n"
        yield self._costs()
        yield self._kills()
        yield (
            "## Targets\n\n"
            + Table(
                ("number", "to reach", "measured", ""), [one.cells() for one in self.targets()]
            ).markdown()
        )

    def _costs(self) -> str:
        things = Things(self.parameters, stepped=False)
        tensors = [*things.model.parameters()]
        text = COSTS.format(
            parameters=sum(one.numel() for one in tensors),
            tensors=len(tensors),
            place=self.place,
            rounds=self.rounds,
            largest=max(one.nbytes for one in tensors) / _MEGA,
        )
        by_torch = self.costs[TORCH]
        rows = [
            (
                name,
                f"{cost.thread * MILLI:.0f} ({cost.thread / by_torch.thread:.2f} x)",
                f"{cost.process * MILLI:.0f}",
                f"{cost.first * MILLI:.0f}",
                f"{cost.size / _MEGA:.2f} ({cost.size / by_torch.size - 1:+.3%})",
                f"{cost.resume * MILLI:.0f} ({cost.resume / by_torch.resume:.2f} x)",
                f"{cost.memory / _MEGA:.1f}",
            )
            for name, cost in self.costs.items()
        ]
        heads = (
            "system",
            "a save, training thread",
            "process",
            "the first",
            "MB",
            "going on",
            "its memory, MB",
        )
        return f"## Costs\n\n{fill(text, 100)}\n\n{Table(heads, rows).markdown()}"

    def _kills(self) -> str:
        tensors = sum(
            one.nbytes for one in Things(self.killed_parameters, stepped=False).model.parameters()
        )
        text = KILLS.format(megabytes=3 * tensors / _MEGA, latest=LATEST, kills=self.kills)
        rows = [
            (name, f"{one.lost} ({one.nothing})", str(one.unreadable))
            for name, one in self.left.items()
        ]
        table = Table(("system", f"lost, of {self.kills}", "unreadable"), rows)
        return f"## Kills\n\n{fill(text, 100)}\n\n{table.markdown()}"
