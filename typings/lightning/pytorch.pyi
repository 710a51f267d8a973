from collections.abc import Iterable

from torch import Tensor, nn
from torch.optim import Optimizer

class LightningModule(nn.Module):
    def configure_optimizers(self) -> Optimizer: ...

class Trainer:
    def __init__(
        self,
        *,
        accelerator: str,
        devices: int,
        max_epochs: int,
        barebones: bool,
        inference_mode: bool = True,
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
