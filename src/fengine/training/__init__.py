"""Steps for the functional API that train and evaluate a model in the usual, supervised way."""

from fengine.training.accumulation import count_samples as count_samples
from fengine.training.accumulation import supervised_accumulation as supervised_accumulation
from fengine.training.accuracy import Accuracy as Accuracy
from fengine.training.accuracy import count_correct as count_correct
from fengine.training.accuracy import report_accuracy as report_accuracy
from fengine.training.evaluation import Prediction as Prediction
from fengine.training.evaluation import supervised_evaluation as supervised_evaluation
from fengine.training.in_memory import TensorBatches as TensorBatches
from fengine.training.preparing import moved as moved
from fengine.training.preparing import prepare_batch as prepare_batch
from fengine.training.shuffling import Shuffled as Shuffled
from fengine.training.supervised_step import Backprop as Backprop
from fengine.training.supervised_step import ForwardPass as ForwardPass
from fengine.training.supervised_step import Update as Update
from fengine.training.supervised_step import supervised as supervised
from fengine.training.windows import windows as windows

__all__ = [
    "Accuracy",
    "Backprop",
    "ForwardPass",
    "Prediction",
    "Shuffled",
    "TensorBatches",
    "Update",
    "count_correct",
    "count_samples",
    "moved",
    "prepare_batch",
    "report_accuracy",
    "supervised",
    "supervised_accumulation",
    "supervised_evaluation",
    "windows",
]
