"""Versions: what differs between two versions of the Engine API beside when a stop acts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, final

import attrs

from fengine.core.semantics import DOCUMENTED, IGNITE_0_5_5, Semantics


@final
@attrs.frozen(kw_only=True)
class Version:
    """Say what an Engine does where the versions differ.

    Args:
        any_event: any hashable can be an event; otherwise strings and members of an EventEnum only.
        empty_data: data of length 0 runs as epochs without a batch, with a warning; otherwise it is
            refused, as a Loop always does.
        tells_epochs: a sampler is told which pass over the data begins, as by a Loop.
        fills_epochs: an epoch has as many batches as its data says, also where a pass has fewer or
            more: then batches of another pass are among them. Otherwise a pass ends with its epoch.
        derives_max_epochs: once the length of the data is found out, `max_iters` says how many
            epochs there are, so `max_epochs` is set.
        move_model: the `device` of the supervised factories applies to the model too.

    >>> version_of(DOCUMENTED).any_event
    True
    """

    any_event: bool
    empty_data: bool
    tells_epochs: bool
    fills_epochs: bool
    derives_max_epochs: bool
    move_model: bool


_VERSIONS: Final[Mapping[Semantics, Version]] = {
    DOCUMENTED: Version(
        any_event=True,
        empty_data=True,
        tells_epochs=True,
        fills_epochs=False,
        derives_max_epochs=False,
        move_model=True,
    ),
    IGNITE_0_5_5: Version(
        any_event=False,
        empty_data=False,
        tells_epochs=False,
        fills_epochs=True,
        derives_max_epochs=True,
        move_model=False,
    ),
}


def version_of(semantics: Semantics) -> Version:
    """Return what an Engine with these semantics does.

    >>> version_of(IGNITE_0_5_5).move_model
    False
    """
    return _VERSIONS[semantics]
