"""Ready-made handlers. Importing them does not import torch, or a package of an extra."""

from fengine.handlers.early_stopping import EarlyStopping as EarlyStopping
from fengine.handlers.early_stopping import Patience as Patience
from fengine.handlers.early_stopping import early_stopping as early_stopping
from fengine.handlers.plots import save_curves as save_curves
from fengine.handlers.progress import ProgressBar as ProgressBar
from fengine.handlers.progress import progress as progress

__all__ = [
    "EarlyStopping",
    "Patience",
    "ProgressBar",
    "early_stopping",
    "progress",
    "save_curves",
]
