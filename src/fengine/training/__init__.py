"""Steps that train and evaluate a model, and data for them. Importing this imports torch."""

from fengine.training.counting import count_samples as count_samples
from fengine.training.ensembles.ensemble_evaluation_step import (
    ensemble_evaluation_step as ensemble_evaluation_step,
)
from fengine.training.ensembles.ensemble_state import EnsembleState as EnsembleState
from fengine.training.ensembles.ensemble_step import EnsembleStep as EnsembleStep
from fengine.training.ensembles.ensemble_step import EnsembleStepInPart as EnsembleStepInPart
from fengine.training.ensembles.ensemble_step import ensemble_step as ensemble_step
from fengine.training.ensembles.own_optimizers import OwnOptimizer as OwnOptimizer
from fengine.training.ensembles.own_optimizers import adam as adam
from fengine.training.ensembles.own_optimizers import adamw as adamw
from fengine.training.ensembles.own_optimizers import sgd as sgd
from fengine.training.ensembles.stacking import compact as compact
from fengine.training.ensembles.stacking import members as members
from fengine.training.ensembles.stacking import stack as stack
from fengine.training.evaluation_step import Prediction as Prediction
from fengine.training.evaluation_step import evaluation_step as evaluation_step
from fengine.training.events import Backprop as Backprop
from fengine.training.events import ForwardPass as ForwardPass
from fengine.training.events import Update as Update
from fengine.training.events import Updated as Updated
from fengine.training.functional.functional_evaluation_step import (
    functional_evaluation_step as functional_evaluation_step,
)
from fengine.training.functional.functional_step import FunctionalStep as FunctionalStep
from fengine.training.functional.functional_step import functional_step as functional_step
from fengine.training.functional.restoring import restore as restore
from fengine.training.functional.train_state import OptimizerState as OptimizerState
from fengine.training.functional.train_state import TrainState as TrainState
from fengine.training.functional.values import Donated as Donated
from fengine.training.functional.values import Values as Values
from fengine.training.in_memory import TensorBatches as TensorBatches
from fengine.training.loading_weights import Matched as Matched
from fengine.training.loading_weights import load_matching as load_matching
from fengine.training.moving_ahead import to_device as to_device
from fengine.training.predicting import predict as predict
from fengine.training.preparing import moved as moved
from fengine.training.preparing import prepare_batch as prepare_batch
from fengine.training.random_state import RandomState as RandomState
from fengine.training.seeding_items import Seeded as Seeded
from fengine.training.shuffling import Shuffled as Shuffled
from fengine.training.training_step import TrainingStep as TrainingStep
from fengine.training.training_step import training_step as training_step
from fengine.training.windows import Window as Window
from fengine.training.windows import windows as windows

__all__ = [
    "Backprop",
    "Donated",
    "EnsembleState",
    "EnsembleStep",
    "EnsembleStepInPart",
    "ForwardPass",
    "FunctionalStep",
    "Matched",
    "OptimizerState",
    "OwnOptimizer",
    "Prediction",
    "RandomState",
    "Seeded",
    "Shuffled",
    "TensorBatches",
    "TrainState",
    "TrainingStep",
    "Update",
    "Updated",
    "Values",
    "Window",
    "adam",
    "adamw",
    "compact",
    "count_samples",
    "ensemble_evaluation_step",
    "ensemble_step",
    "evaluation_step",
    "functional_evaluation_step",
    "functional_step",
    "load_matching",
    "members",
    "moved",
    "predict",
    "prepare_batch",
    "restore",
    "sgd",
    "stack",
    "to_device",
    "training_step",
    "windows",
]
