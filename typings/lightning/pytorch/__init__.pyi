from collections.abc import Iterable, Mapping

from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.optim import Optimizer

class LightningModule(nn.Module):
    def configure_optimizers(self) -> Optimizer | Mapping[str, object]: ...
    def log(self, name: str, value: object, *, on_step: bool, on_epoch: bool) -> None: ...

class Trainer:
    def __init__(
        self,
        *,
        accelerator: str,
        devices: int,
        max_epochs: int,
        barebones: bool = False,
        inference_mode: bool = True,
        logger: bool | CSVLogger = ...,
        enable_checkpointing: bool = ...,
        enable_model_summary: bool = ...,
        enable_progress_bar: bool = ...,
        num_sanity_val_steps: int = ...,
        gradient_clip_val: float | None = None,
    ) -> None: ...
    def fit(
        self,
        model: LightningModule,
        train_dataloaders: Iterable[tuple[Tensor, Tensor]],
    ) -> None: ...
    def validate(
        self,
        model: LightningModule,
        dataloaders: Iterable[tuple[Tensor, Tensor]],
        *,
        verbose: bool,
    ) -> object: ...
