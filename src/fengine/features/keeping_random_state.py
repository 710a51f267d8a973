"""Random state: keep it in snapshots, for steps of one's own."""

from __future__ import annotations

from typing import TypeVar, final

import attrs
from typing_extensions import override

from fengine import Loop
from fengine.training import RandomState

B = TypeVar("B")
O = TypeVar("O")  # noqa: E741  # the output, beside the batch and the user
U = TypeVar("U")


@final
@attrs.frozen(repr=False)
class KeepRandomState:
    """Keep the random state in snapshots; made by `random_state`.

    >>> random_state() == KeepRandomState()
    True
    """

    @override
    def __repr__(self) -> str:
        return "random_state()"

    def __call__(self, loop: Loop[B, O, U], /) -> Loop[B, O, U]:
        """Return the loop with the random state named `random`.

        Raises:
            ValueError: the name stands for something else.
        """
        return loop.with_external(random=RandomState())


def random_state() -> KeepRandomState:
    """Make a feature that keeps the random state of this process in snapshots.

    It is that of `random`, torch, numpy and CUDA. `training_step` keeps it anyway.

    >>> from fengine import outputs
    >>> list((Loop(outputs(abs)) | random_state()).external)
    ['random']
    """
    return KeepRandomState()
