"""The differences from pytorch-ignite 0.5.5 that generated programs meet, each with one program.

Those that are `MENDED` in `mended` do not end the comparison. Those that `STAND` do, and the lines
that say what happens there and here are for readers of the documentation.
"""

from __future__ import annotations

from typing import Final

import attrs

from fengine import DOCUMENTED, IGNITE_0_5_5, Semantics
from tests.engine.differential.batches import Data
from tests.engine.differential.deeds import (
    Fire,
    Flag,
    Give,
    Listener,
    Load,
    Pause,
    Put,
    RunInside,
    Stop,
    Throw,
    Tick,
)
from tests.engine.differential.program import PROCESS, Act, Program, Run


@attrs.frozen
class Difference:
    """Name a difference by its row, with a program that shows it, under these semantics."""

    row: str
    program: Program
    semantics: Semantics = IGNITE_0_5_5


@attrs.frozen
class Standing(Difference):
    """Say what pytorch-ignite does there, and what the Engine does here."""

    there: str = attrs.field(kw_only=True)
    here: str = attrs.field(kw_only=True)


_TWICE: Final = (Run(), Run())
_TWO_EPOCHS: Final = (Run(max_epochs=2),)
_ERROR: Final = Act(PROCESS, 1, Throw())
_PAUSE: Final = Act(PROCESS, 1, Pause())

STAND: Final = (
    Standing(
        "D18",
        Program(acts=(Act("iteration_completed", 1, Fire("dataloader_stop_iteration")),)),
        there="DATALOADER_STOP_ITERATION fired by hand silences the next GET_BATCH_STARTED",
        here="only what the loop fires itself stands for that announcement",
    ),
    Standing(
        "R-12",
        Program(
            (Run(Data("iterator"), max_epochs=3, epoch_length=2), Run()),
            (
                Act("dataloader_stop_iteration", 1, Tick()),
                Act("get_batch_started", 4, Pause()),
            ),
        ),
        there="after a pause at a GET_BATCH_STARTED that fires again after "
        "DATALOADER_STOP_ITERATION, an epoch without a batch ends at once",
        here="DATALOADER_STOP_ITERATION fires once more before it ends",
    ),
    Standing(
        "R-21",
        Program(
            (Run(Data("none"), max_iters=5, epoch_length=4),),
            (Act("iteration_completed", 2, Put("max_iters", 1)),),
        ),
        there="a `max_iters` set below the iteration is overlooked until the epoch ends",
        here="it ends the run after the iteration",
    ),
    Standing(
        "C17",
        Program(acts=(Act(PROCESS, 1, Flag("should_interrupt", True)),), pauses=False),
        there="without `interrupt_resume_enabled`, nothing looks at a written `should_interrupt`",
        here="it pauses the run; only `interrupt` is forbidden",
    ),
    Standing(
        "R-13",
        Program(
            (Run(Data("sized", 3, fails=2), max_epochs=3, epoch_length=1),),
            (Act("epoch_completed", 2, Put("dataloader", None)),),
            answers=("take",),
        ),
        there="where `state.dataloader = None` was set, an exception of the data that is taken at "
        "the first batch of an epoch ends the epoch",
        here="it ends the run",
    ),
    Standing(
        "C-07",
        Program(
            (Run(Data("iterator", 2), max_epochs=2, epoch_length=2),),
            (Act("get_batch_started", 3, Stop("terminate_epoch")),),
        ),
        DOCUMENTED,
        there="a stop acts after the event at which it is asked for",
        here="it waits for the end of the iteration, or for a batch that does not come",
    ),
)

MENDED: Final = (
    Difference(
        "A9",
        Program(
            acts=(Act(PROCESS, 1, Stop()),), listeners=(Listener(("terminate",), (("once", 1),)),)
        ),
    ),
    Difference("C4", Program(acts=(_ERROR,), answers=("raise",))),
    Difference("C5", Program(acts=(Act(PROCESS, 1, Throw("stop")),))),
    Difference("C7", Program(acts=(Act(PROCESS, 1, Throw("keyboard")),), answers=("replace",))),
    Difference(
        "C13",
        Program(
            _TWICE,
            (
                Act("started", 1, Throw()),
                Act("exception_raised", 1, Give(Data("sized"), "set_data")),
            ),
            answers=("raise",),
        ),
    ),
    Difference("D5", Program((Run(Data("unsized", 1)), Run(Data("unsized", 3))))),
    Difference("D7", Program((Run(before=(Load(done=3, epoch_length=None),)),))),
    Difference("E-42", Program((Run(before=(Load(epoch_length=0),)),))),
    Difference("Q-01", Program(_TWICE, (_ERROR,))),
    Difference(
        "Q-02",
        Program((Run(), Run(before=(Put("max_epochs", None),))), (_PAUSE,), answers=("take",)),
    ),
    Difference("Q-03", Program(acts=(_ERROR,), removed=True)),
    Difference("Q-06", Program(_TWO_EPOCHS, (Act(PROCESS, 1, RunInside()),), answers=("take",))),
    Difference(
        "Q-08", Program((Run(Data("unsized"), max_iters=3), Run(Data("unsized"), max_iters=5)))
    ),
    Difference("Q-09", Program((Run(before=(Load(done=4, value=1),)),))),
    Difference("Q-16", Program((Run(), Run(before=(Load(done=2),))), (_PAUSE,))),
    Difference(
        "Q-22", Program((Run(before=(Give(Data("sized")), Give(Data("none"), "set_data"))),))
    ),
    Difference("Q-27", Program((Run(before=(Load(done=-1),)),))),
    Difference("Q-30", Program((Run(Data("iterator", 3), max_iters=9, epoch_length=4),))),
    Difference("R-07", Program((Run(), Run(before=(Stop(),))), (Act("started", 1, Pause()),))),
    Difference("C-07", Program(_TWO_EPOCHS, (Act("iteration_started", 1, Stop()),)), DOCUMENTED),
    Difference(
        "C-11", Program(_TWO_EPOCHS, (Act("started", 1, Stop("terminate_epoch")),)), DOCUMENTED
    ),
    Difference("C-16", Program((Run(Data("list", 0)),)), DOCUMENTED),
)
