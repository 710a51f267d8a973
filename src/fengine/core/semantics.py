"""Semantics: when a requested stop acts, which is where two versions of the engine API differ.

What else differs between them is for the adapter to say.
"""

from __future__ import annotations

from typing import Final, final

import attrs
from typing_extensions import override


@final
@attrs.frozen(kw_only=True, repr=False)
class Semantics:
    """Choose when a requested stop acts.

    Args:
        finish_iteration: a stop that is requested between EPOCH_STARTED and ITERATION_STARTED acts
            after that iteration is completed, or at once if no batch comes; requested at STARTED,
            `terminate_epoch` leaves the first epoch one iteration. Otherwise a stop acts at the
            next event, and `terminate_epoch` before the first batch event is an error.

    >>> DOCUMENTED.finish_iteration, IGNITE_0_5_5.finish_iteration
    (True, False)
    """

    finish_iteration: bool

    @override
    def __repr__(self) -> str:
        return "DOCUMENTED" if self.finish_iteration else "IGNITE_0_5_5"


DOCUMENTED: Final = Semantics(finish_iteration=True)
"""What the documentation of the Engine API says; the default."""
IGNITE_0_5_5: Final = Semantics(finish_iteration=False)
"""What pytorch-ignite 0.5.5 does."""
