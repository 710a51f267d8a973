"""Predictions are those of a loop by hand, in order, and leave the model as it was."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from typing_extensions import override

from fengine import DataExhausted
from fengine.training import TensorBatches, predict, prepare_batch


class Both(NamedTuple):
    logits: Tensor
    parts: dict[str, list[Tensor]]


class Nesting(nn.Module):
    @override
    def forward(self, x: Tensor) -> Both:
        return Both(2 * x, {"rows": [x[:, 0], x.sum(1)]})


class Returning(nn.Module):
    """Return one value after the other."""

    def __init__(self, *values: object) -> None:
        super().__init__()
        self.values = list(values)

    @override
    def forward(self, x: Tensor) -> object:
        return self.values.pop(0)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))


@given(st.integers(1, 20), st.integers(1, 7), st.booleans())
def test_law_it_is_a_loop_by_hand(count: int, batch_size: int, paired: bool) -> None:
    model, x = network(), torch.randn(count, 3)
    batches = [(part, None) if paired else part for part in torch.split(x, batch_size)]
    modes = [module.training for module in model.modules()]
    found = predict(model, batches)
    assert [module.training for module in model.modules()] == modes
    assert not found.requires_grad
    model.eval()
    with torch.no_grad():
        assert torch.equal(found, torch.cat([model(part) for part in torch.split(x, batch_size)]))
        torch.testing.assert_close(found, model(x))


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_it_is_what_the_trainer_of_lightning_predicts() -> None:
    lightning = pytest.importorskip("lightning")

    class Module(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.model = network()

        def forward(self, x: Tensor) -> Any:
            return self.model(x)

    module = Module()
    loader: Any = DataLoader(torch.randn(11, 3), batch_size=4)  # type: ignore[arg-type]
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = lightning.Trainer(accelerator="cpu", enable_checkpointing=False, **quiet)
    theirs = torch.cat(trainer.predict(module, loader))
    assert torch.equal(predict(module.model, loader), theirs)


def test_nests_are_joined_part_by_part() -> None:
    x = torch.arange(10.0).reshape(5, 2)
    found: Both = predict(Nesting(), torch.split(x, 2))
    assert type(found) is Both
    assert torch.equal(found.logits, 2 * x)
    first, second = found.parts["rows"]
    assert torch.equal(first, x[:, 0])
    assert torch.equal(second, x.sum(1))


def test_parts_keep_the_mode_that_they_had() -> None:
    model = network()
    model[1].eval()
    seen: list[bool] = []
    model[2].register_forward_hook(lambda module, *_: seen.append(module.training))
    predict(model, [torch.ones(2, 3)] * 2)
    assert seen == [False, False]
    assert [module.training for module in model] == [True, False, True, True]


def test_modes_are_put_back_after_an_error() -> None:
    model = network()
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        predict(model, [torch.ones(2, 3), torch.ones(2, 9)])
    assert all(module.training for module in model.modules())
    assert torch.is_grad_enabled()


def test_it_predicts_on_a_device() -> None:
    model = nn.Linear(2, 1)
    assert predict(model, TensorBatches(torch.ones(3, 2), torch.ones(3), batch_size=2)).ndim == 2
    found = predict(model, [torch.ones(3, 2)] * 2, device="meta")
    assert (found.device.type, found.shape) == ("meta", (6, 1))


def of_dict(
    batch: dict[str, Tensor], device: object, non_blocking: bool
) -> tuple[Tensor, Tensor | None]:
    return batch["x"], None


def test_batches_of_another_kind_are_prepared() -> None:
    batches = [{"x": torch.ones(2, 3)}, {"x": torch.zeros(1, 3)}]
    assert torch.equal(
        predict(nn.Flatten(), batches, prepare_batch=of_dict),
        torch.cat([torch.ones(2, 3), torch.zeros(1, 3)]),
    )
    pairs = [(torch.ones(2, 3), torch.ones(2))]
    assert torch.equal(predict(nn.Flatten(), pairs, prepare_batch=prepare_batch), torch.ones(2, 3))


@pytest.mark.parametrize(
    ("batch", "said"),
    [
        ({"x": torch.ones(1)}, "the data gave a dict; give prepare_batch="),
        ((torch.ones(1),), "the data gave a tuple of 1; give prepare_batch="),
        ([torch.ones(1)] * 3, "the data gave a list of 3; give prepare_batch="),
        (None, "the data gave a NoneType; give prepare_batch="),
    ],
)
def test_another_batch_is_refused(batch: object, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        predict(nn.Flatten(), [batch])


def test_empty_data_is_refused() -> None:
    with pytest.raises(ValueError, match="data is empty: this list has the length 0"):
        predict(nn.Flatten(), [])
    nothing: Iterator[Tensor] = iter(())
    with pytest.raises(DataExhausted, match="data is empty"):
        predict(nn.Flatten(), nothing)


@pytest.mark.parametrize(
    ("first", "second", "error", "said"),
    [
        (torch.ones(2), torch.tensor(1.0), ValueError, "for batch 2 is one number"),
        (torch.ones(2), 3.0, TypeError, "of type float, but it was of type Tensor for batch 1"),
        (2.0, 3.0, TypeError, "for batch 1 is of type float; known are tensors"),
        (None, None, TypeError, "for batch 1 is of type NoneType; known are tensors"),
        (torch.ones(2, 3), torch.ones(2, 4), ValueError, r"the shape \(2, 4\), and for batch 1"),
        (
            (torch.ones(2), torch.ones(2)),
            (torch.ones(2),),
            TypeError,
            "for batch 2 has 1 parts, but for batch 1 it had 2",
        ),
        ({"a": torch.ones(2)}, {"b": torch.ones(2)}, TypeError, "has the keys 'b', but"),
        (
            {"a": [torch.ones(2)]},
            {"a": [torch.ones(2, 2)]},
            ValueError,
            r"the output\['a'\]\[0\] of the model for batch 2 has the shape",
        ),
    ],
)
def test_outputs_that_cannot_be_joined_are_refused(
    first: object, second: object, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        predict(Returning(first, second, "never made"), [torch.ones(2)] * 3)


def test_what_is_no_model_is_refused() -> None:
    wrong: Any = len
    with pytest.raises(TypeError, match=r"model is len of type .*; give"):
        predict(wrong, [torch.ones(1)])


def test_it_takes_what_a_loader_collates() -> None:
    data = TensorDataset(torch.randn(5, 3), torch.arange(5))
    assert torch.equal(predict(nn.Flatten(), DataLoader(data, batch_size=2)), data.tensors[0])


class Filling(nn.Module):
    """Return one tensor again and again."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kept", torch.zeros(2, 1))

    @override
    def forward(self, x: Tensor) -> Any:
        return {"y": (self.get_buffer("kept").copy_(x),)}


class FillingData:
    """Give one tensor again and again."""

    def __init__(self) -> None:
        self.batch = torch.zeros(2, 1)

    def __iter__(self) -> Iterator[Tensor]:
        for number in range(3):
            yield self.batch.fill_(number)

    def __len__(self) -> int:
        return 3


def test_outputs_that_are_written_over_each_other_are_refused() -> None:
    batches = [torch.full((2, 1), float(number)) for number in range(3)]
    with pytest.raises(ValueError, match=r"\['y'\]\[0\] of the model for batch 2 has overwritten"):
        predict(Filling(), batches)
    with pytest.raises(ValueError, match=r"for batch 2 has overwritten an earlier one.*clone\(\)"):
        predict(nn.Identity(), FillingData())


def test_outputs_that_are_the_inputs_are_not_refused() -> None:
    x = torch.arange(6.0).reshape(6, 1)
    assert torch.equal(predict(nn.Identity(), [x, x, x[:0]]), torch.cat([x, x]))
    assert torch.equal(predict(nn.ReLU(inplace=True), [x[:2], x[2:4], x[4:]]), x)
    with torch.inference_mode():
        assert torch.equal(predict(nn.Identity(), [x[:2], x[2:]]), x)
    sparse = torch.eye(2).to_sparse()
    assert torch.equal(predict(nn.Identity(), [sparse]).to_dense(), torch.eye(2))
