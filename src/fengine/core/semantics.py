"""Semantics: the points on which the documented engine and today's differ, as data.

The loop and the Engine read these fields where the two differ and nowhere ask which version they
imitate. A field earns its place by a documented difference.
"""

from __future__ import annotations

from typing import Final, final

import attrs


@final
@attrs.frozen(kw_only=True)
class Semantics:
    """Choose the behaviour where two versions of the engine API disagree.

    Args:
        finish_iteration: a stop that is requested between EPOCH_STARTED and ITERATION_STARTED acts
            after that iteration is completed, or at once if no batch comes; requested at STARTED,
            `terminate_epoch` leaves the first epoch one iteration. Otherwise a stop acts at the
            next event, and `terminate_epoch` before the first batch event is an error.
        any_event: any hashable can be an event of the Engine; otherwise strings and members of an
            EventEnum only.
        empty_data: the Engine runs data of length 0 as epochs without a batch, with a warning;
            otherwise it refuses such data, as a Loop always does.
        move_model: the `device` of the Engine's supervised factories applies to the model too.

    >>> DOCUMENTED.finish_iteration, IGNITE_0_5_5.finish_iteration
    (True, False)
    """

    finish_iteration: bool
    any_event: bool
    empty_data: bool
    move_model: bool


DOCUMENTED: Final = Semantics(
    finish_iteration=True, any_event=True, empty_data=True, move_model=True
)
IGNITE_0_5_5: Final = Semantics(
    finish_iteration=False, any_event=False, empty_data=False, move_model=False
)
