"""Features: what each ready-made one costs an iteration, beside the same in other frameworks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import torch

from fengine import Events, Loop, Part, State, outputs
from tests.benchmarks.by_hand import Pairs
from tests.benchmarks.contenders import Count, evolving_handler, identity
from tests.benchmarks.effort import Effort
from tests.benchmarks.featured import (
    CLIP,
    OWN_STEP,
    PLAIN,
    Key,
    evaluations,
    systems_with_features,
    trainings,
)
from tests.benchmarks.featured_things import CLASSES, Pair
from tests.benchmarks.sections import MICRO, Section, Table, Target, spread_cells
from tests.benchmarks.systems import IGNITE, LOOP
from tests.benchmarks.timing import Spread, differences, per_iteration, rounds

PART: Final = "a part that a handler updates"
RECORD: Final = "the user's record"
OVER_RECORD: Final = f"{PART}, over {RECORD}"
MOST: Final = 0.4

TEXT: Final = """\
Microseconds that a feature adds to an iteration: the median, and in brackets the quartiles, of the
differences within a round to a run of the same system without the feature. Training: Linear(8, 1),
batches of one; evaluation: Linear(8, {classes}), batches of 4; on the CPU. A Trainer has no logger,
checkpoints and summary on either side of a difference. A handler between the stages of a step
unfuses it: the first row is one that does nothing, and clip_grad_norm and lr_schedule have theirs
there too. pytorch-ignite does not clip: a step of one's own that does is compared with one that
does not, so its number is what torch takes. Its trainer has read the loss with `.item()`, and the
mean is that of numbers; elsewhere the loss is summed as a tensor. The scheduler steps at each
update. The learning rate becomes a metric at each iteration, in pytorch-ignite by a handler of
one's own, as metrics of torchmetrics are updated there, and in a Trainer by its log. A Loop logs it
as JSON lines, each in the file at once, a Trainer by its CSVLogger, which writes every hundred
steps; pytorch-ignite has none that is text. Progress goes to a file that swallows it. If that is no
terminal, a Loop writes a line an epoch; the other two draw a bar all the same, anew at each
iteration as they do by default. throughput counts samples and waiting, in a Trainer by its
ThroughputMonitor. profiled times the step, the data and the handlers, in pytorch-ignite by its
BasicTimeProfiler, in a Trainer by its SimpleProfiler. The guard of pytorch-ignite judges the output
after the update; in a Trainer a line of one's own judges the loss. keep_best copies the weights at
each iteration here, where an epoch is usual: pytorch-ignite has a Checkpoint that saves to a dict,
and a Trainer a line of one's own, since its callback writes a file. A Trainer always moves its
batches, so its loop without a feature does too. frozen keeps the bias from being trained, which
spares its gradient: in pytorch-ignite by a handler of one's own, in a Trainer by its
BaseFinetuning. A Trainer has torchmetrics count both accuracies. What is done once an epoch or once
a run adds next to nothing to an iteration, and is left out: early_stopping, evaluation,
random_state and seeded. The last row is of a Loop with the identity step: a handler that counts in
a part of the state, over one that counts in the user's record."""


def measure_features(effort: Effort, have: frozenset[str]) -> Section:
    """Compare what features cost."""
    costs = {
        **_costs(trainings(have), _pairs(effort), effort),
        **_costs(evaluations(have), _samples_of_classes(effort), effort),
        (LOOP, OVER_RECORD): _part_over_record(effort),
    }
    systems = systems_with_features(have)
    features = dict.fromkeys(feature for _, feature in costs)
    part = costs[LOOP, OVER_RECORD]
    return Section(
        "Features",
        TEXT.format(classes=CLASSES),
        Table(
            ("feature", *systems),
            [
                (feature, *(_cell(costs.get((system, feature))) for system in systems))
                for feature in features
            ],
        ),
        targets=[Target(f"{LOOP}, {PART}", MOST, f"us over {RECORD}", part.median * MICRO)],
    )


def _costs(
    runs: Mapping[Key, Callable[[Pairs], object]],
    data: Sequence[Pair],
    effort: Effort,
) -> dict[Key, Spread]:
    """Measure each run with a feature over the run of its system without one."""
    found = rounds({key: per_iteration(run, data) for key, run in runs.items()}, effort.rounds)
    return {
        (system, feature): Spread.of(
            differences(
                seconds, found[system, OWN_STEP if (system, feature) == (IGNITE, CLIP) else PLAIN]
            )
        )
        for (system, feature), seconds in found.items()
        if feature not in (PLAIN, OWN_STEP)
    }


def _pairs(effort: Effort) -> list[Pair]:
    torch.manual_seed(1)
    return [(torch.randn(1, 8), torch.randn(1, 1)) for _ in range(effort.batches)]


def _samples_of_classes(effort: Effort) -> list[Pair]:
    torch.manual_seed(1)
    return [(torch.randn(4, 8), torch.randint(CLASSES, (4,))) for _ in range(effort.batches)]


def _part_over_record(effort: Effort) -> Spread:
    """Measure a handler that counts in a part over one that counts in the user's record."""
    counted = Part("counted", Count(0))

    def handler(state: State[int, int]) -> State[int, int]:
        return state.with_part(counted, Count(state.part(counted).number + 1))

    done = Events.ITERATION_COMPLETED
    in_part = Loop(outputs(identity)).on(done, handler)
    in_record: Loop[int, int, Count] = Loop(outputs(identity))
    in_record = in_record.on(done, evolving_handler())
    data = range(effort.iterations)
    found = rounds(
        {
            PART: per_iteration(in_part.run, data),
            RECORD: per_iteration(lambda batches: in_record.run(batches, user=Count(0)), data),
        },
        effort.rounds,
    )
    return Spread.of(differences(found[PART], found[RECORD]))


def _cell(spread: Spread | None) -> str:
    if spread is None:
        return "-"
    median, quartiles = spread_cells(spread, MICRO, 2)
    return f"{median} ({quartiles})"
