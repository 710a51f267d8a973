"""Ready-made features: functions from a loop to a loop, each a line to use.

`loop | feature` applies one. Features print as they were made, compare and pickle. Importing this
imports no package of an extra.
"""

from fengine.features.early_stopping import EarlyStopping as EarlyStopping
from fengine.features.early_stopping import Patience as Patience
from fengine.features.early_stopping import early_stopping as early_stopping
from fengine.features.evaluation import Evaluation as Evaluation
from fengine.features.evaluation import evaluation as evaluation
from fengine.features.gradients import ClipGradNorm as ClipGradNorm
from fengine.features.gradients import ClipGradValue as ClipGradValue
from fengine.features.gradients import clip_grad_norm as clip_grad_norm
from fengine.features.gradients import clip_grad_value as clip_grad_value
from fengine.features.keeping_random_state import KeepRandomState as KeepRandomState
from fengine.features.keeping_random_state import random_state as random_state
from fengine.features.optimizers import LearningRate as LearningRate
from fengine.features.optimizers import LRSchedule as LRSchedule
from fengine.features.optimizers import learning_rate as learning_rate
from fengine.features.optimizers import lr_schedule as lr_schedule
from fengine.features.plots import save_curves as save_curves
from fengine.features.progress import Progress as Progress
from fengine.features.progress import progress as progress

__all__ = [
    "ClipGradNorm",
    "ClipGradValue",
    "EarlyStopping",
    "Evaluation",
    "KeepRandomState",
    "LRSchedule",
    "LearningRate",
    "Patience",
    "Progress",
    "clip_grad_norm",
    "clip_grad_value",
    "early_stopping",
    "evaluation",
    "learning_rate",
    "lr_schedule",
    "progress",
    "random_state",
    "save_curves",
]
