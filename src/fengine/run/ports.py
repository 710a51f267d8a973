"""Ports: what a run asks of the process around it, as protocols.

What fulfils them lives in outer rooms, which also offer these names to users.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class Preempting(Protocol):
    """Tell whether the process has been asked to end.

    `Preemption` does, from signals; any object with such a flag will do.

    >>> from types import SimpleNamespace
    >>> isinstance(SimpleNamespace(asked=False), Preempting)
    True
    """

    @property
    def asked(self) -> bool:
        """Whether it has been asked to end. Once true, this stays true."""


def require_preempting(preemption: object) -> None:
    """Refuse what has no flag.

    Raises:
        TypeError: it has none.
    """
    if preemption is not None and (
        isinstance(preemption, type) or not isinstance(preemption, Preempting)
    ):
        raise TypeError(
            f"preemption={preemption!r} has no `asked`, which says whether the process is asked to "
            "end; give a Preemption: with Preemption() as preemption: ..."
        )
