"""Batches: what is a pair, and what a move to a device does to a nest of tensors."""

from __future__ import annotations

from collections import OrderedDict, UserList, defaultdict
from types import MappingProxyType
from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_sequence

from fengine.training import moved, prepare_batch


class Point(NamedTuple):
    x: Tensor
    y: Tensor


ONE = torch.ones(1)


def test_without_a_device_the_very_parts_come_back() -> None:
    x, y = [ONE], {"a": object()}
    prepared = prepare_batch((x, y))
    assert prepared[0] is x
    assert prepared[1] is y


def test_a_list_of_two_is_a_pair_too() -> None:
    assert prepare_batch([ONE, ONE]) == (ONE, ONE)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("batch", "said"),
    [
        (torch.ones(2, 3), r"one Tensor of shape \(2, 3\)"),
        ({"image": ONE, "label": ONE}, "a dict with the keys 'image', 'label'"),
        ((ONE, ONE, ONE), "a tuple of 3"),
        (None, "a NoneType"),
    ],
)
def test_what_is_no_pair_is_refused(batch: object, said: str) -> None:
    with pytest.raises(TypeError, match=f"the data gave {said}; give prepare_batch"):
        prepare_batch(batch)  # type: ignore[arg-type]


def test_a_nest_keeps_its_types_keys_and_order() -> None:
    nest = {
        "b": (ONE, [ONE, None]),
        "a": Point(ONE, ONE),
        "c": OrderedDict(z=ONE, y="text"),
        "d": defaultdict(float, n=1.5),
        "e": MappingProxyType({"f": ONE}),
        "g": UserList([ONE]),
    }
    result = moved(nest, "meta")
    assert list(result) == ["b", "a", "c", "d", "e", "g"]
    assert all(type(result[key]) is type(nest[key]) for key in nest)
    assert str(result).count("device='meta'") == 7
    assert not str(nest).count("meta")


def test_a_packed_sequence_keeps_its_lengths_where_they_must_be() -> None:
    packed = moved(pack_sequence([torch.ones(2), ONE]), "meta")
    assert isinstance(packed, PackedSequence)
    assert packed.data.is_meta
    assert packed.batch_sizes.device.type == "cpu"


def test_what_cannot_be_moved_is_named() -> None:
    with pytest.raises(TypeError, match="cannot move a set to meta"):
        moved([{ONE}], "meta")
