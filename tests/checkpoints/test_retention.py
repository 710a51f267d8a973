"""Laws of what is retained, which is told from the listing alone."""

from __future__ import annotations

import math
from pathlib import PurePath
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fengine.checkpoints import Best, Kept, retained
from fengine.checkpoints.manifest import name_of

VALUES = st.sampled_from([0.0, 1.0, 2.0, math.nan, math.inf, -math.inf])


@st.composite
def listings(draw: Any) -> list[Kept]:
    numbers = draw(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 2)), unique=True))
    return [
        Kept(
            PurePath(name_of(iteration, save)),
            iteration,
            1,
            save,
            metrics=draw(st.just({}) | VALUES.map(lambda value: {"loss": value})),
            fresh=draw(st.sampled_from([(), ("loss",)])),
        )
        for iteration, save in sorted(numbers)
    ]


KEEPS = st.none() | st.integers(1, 4)
BESTS = st.none() | st.builds(
    Best, st.just("loss"), mode=st.sampled_from(["min", "max"]), keep=st.integers(1, 3)
)


@given(listings(), KEEPS, BESTS, st.randoms())
def test_what_is_retained(kept: list[Kept], keep: Any, best: Any, random: Any) -> None:
    stay = retained(kept, keep, best)
    assert stay <= set(kept)
    if kept:
        assert kept[-1] in stay
    if keep is not None:
        assert len(stay) <= keep + (0 if best is None else best.keep)
    shuffled = list(kept)
    random.shuffle(shuffled)
    assert retained(shuffled, keep, best) == stay
    assert retained(stay, keep, best) == stay


@given(listings(), st.sampled_from(["min", "max"]))
def test_only_a_finite_metric_of_its_own_event_is_the_best(kept: list[Kept], mode: Any) -> None:
    found = Best("loss", mode=mode).among(kept)
    fit = [
        one
        for one in kept
        if one.fresh == ("loss",) and math.isfinite(one.metrics.get("loss", math.nan))
    ]
    assert bool(found) == bool(fit)
    if found:
        values = [one.metrics["loss"] for one in fit]
        best = min(values) if mode == "min" else max(values)
        assert found[0] == next(one for one in fit if one.metrics["loss"] == best)


@given(listings(), listings(), st.integers(1, 3))
def test_a_later_save_never_brings_one_back(kept: list[Kept], more: list[Kept], keep: int) -> None:
    best = Best("loss", mode="min")
    before = set(retained(kept, keep, best))
    gone = set(kept) - before
    later = [one for one in more if kept and one.iteration > kept[-1].iteration]
    assert not set(retained([*kept, *later], keep, best)) & gone
