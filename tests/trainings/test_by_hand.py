"""Trainings with steps of one's own give the same bits as the loop that one would write by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.trainings.folds import by_hand as folds_by_hand
from tests.trainings.folds import with_fengine as folds
from tests.trainings.gan import by_hand as gan_by_hand
from tests.trainings.gan import with_fengine as gan
from tests.trainings.pieces import by_hand as pieces_by_hand
from tests.trainings.pieces import with_fengine as pieces
from tests.trainings.rewards import by_hand as rewards_by_hand
from tests.trainings.rewards import with_fengine as rewards


def are_equal(ours: list[Tensor], theirs: list[Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


def test_two_models_against_each_other() -> None:
    assert are_equal(gan.train(), gan_by_hand.train())


def test_a_sequence_in_pieces() -> None:
    assert are_equal(pieces.train(), pieces_by_hand.train())


def test_learning_from_rewards_until_they_do_not_grow() -> None:
    iterations, ours = rewards.train()
    expected, theirs = rewards_by_hand.train()
    assert iterations == expected < 300
    assert are_equal(ours, theirs)


def test_forks_of_each_fold_with_rates_of_their_own() -> None:
    losses = folds.train()
    assert losses == {
        rate: pytest.approx(of_folds, rel=1e-6) for rate, of_folds in folds_by_hand.train().items()
    }
    slow, fast = losses.values()
    assert slow != fast
