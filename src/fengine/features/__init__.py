"""Ready-made features: functions from a loop to a loop, each a line to use.

`loop | feature` applies one. Features print as they were made, compare and pickle. Importing this
imports no package of an extra.
"""

from fengine.features.averages import Averaged as Averaged
from fengine.features.averages import ema as ema
from fengine.features.averages_in_state import AveragedInState as AveragedInState
from fengine.features.curves import save_curves as save_curves
from fengine.features.devices import CudaDevices as CudaDevices
from fengine.features.devices import Devices as Devices
from fengine.features.early_stopping import EarlyStopping as EarlyStopping
from fengine.features.early_stopping import Patience as Patience
from fengine.features.early_stopping import early_stopping as early_stopping
from fengine.features.evaluation import Evaluation as Evaluation
from fengine.features.evaluation import OuterEvaluation as OuterEvaluation
from fengine.features.evaluation import evaluation as evaluation
from fengine.features.freezing import Flags as Flags
from fengine.features.freezing import Frozen as Frozen
from fengine.features.freezing import frozen as frozen
from fengine.features.gradients import ClipGradNorm as ClipGradNorm
from fengine.features.gradients import ClipGradValue as ClipGradValue
from fengine.features.gradients import clip_grad_norm as clip_grad_norm
from fengine.features.gradients import clip_grad_value as clip_grad_value
from fengine.features.keeping_best import BestStates as BestStates
from fengine.features.keeping_best import BestValue as BestValue
from fengine.features.keeping_best import KeepBest as KeepBest
from fengine.features.keeping_best import keep_best as keep_best
from fengine.features.keeping_random_state import KeepRandomState as KeepRandomState
from fengine.features.keeping_random_state import random_state as random_state
from fengine.features.learning_rates import LearningRates as LearningRates
from fengine.features.learning_rates import find_learning_rate as find_learning_rate
from fengine.features.logs import LogTo as LogTo
from fengine.features.logs import log_to as log_to
from fengine.features.nan_guard import StopOnNan as StopOnNan
from fengine.features.nan_guard import stop_on_nan as stop_on_nan
from fengine.features.optimizers import LearningRate as LearningRate
from fengine.features.optimizers import LRSchedule as LRSchedule
from fengine.features.optimizers import learning_rate as learning_rate
from fengine.features.optimizers import lr_schedule as lr_schedule
from fengine.features.outer import OUTER as OUTER
from fengine.features.outer import Outer as Outer
from fengine.features.outer import OuterPart as OuterPart
from fengine.features.plots import Curves as Curves
from fengine.features.plots import Plots as Plots
from fengine.features.plots import plots as plots
from fengine.features.profiling import Profiled as Profiled
from fengine.features.profiling import profiled as profiled
from fengine.features.progress import Progress as Progress
from fengine.features.progress import progress as progress
from fengine.features.seeding import SeedRun as SeedRun
from fengine.features.seeding import seeded as seeded
from fengine.features.stopping_members import StopMembers as StopMembers
from fengine.features.stopping_members import StoppedMembers as StoppedMembers
from fengine.features.stopping_members import stop_members as stop_members
from fengine.features.stopwatch import Profile as Profile
from fengine.features.stopwatch import Timing as Timing
from fengine.features.throughput import Throughput as Throughput
from fengine.features.throughput import ThroughputOf as ThroughputOf
from fengine.features.throughput import throughput as throughput
from fengine.features.time_limits import TimeLimit as TimeLimit
from fengine.features.time_limits import time_limit as time_limit
from fengine.features.tracing import ProfilerOptions as ProfilerOptions

__all__ = [
    "OUTER",
    "Averaged",
    "AveragedInState",
    "BestStates",
    "BestValue",
    "ClipGradNorm",
    "ClipGradValue",
    "CudaDevices",
    "Curves",
    "Devices",
    "EarlyStopping",
    "Evaluation",
    "Flags",
    "Frozen",
    "KeepBest",
    "KeepRandomState",
    "LRSchedule",
    "LearningRate",
    "LearningRates",
    "LogTo",
    "Outer",
    "OuterEvaluation",
    "OuterPart",
    "Patience",
    "Plots",
    "Profile",
    "Profiled",
    "ProfilerOptions",
    "Progress",
    "SeedRun",
    "StopMembers",
    "StopOnNan",
    "StoppedMembers",
    "Throughput",
    "ThroughputOf",
    "TimeLimit",
    "Timing",
    "clip_grad_norm",
    "clip_grad_value",
    "early_stopping",
    "ema",
    "evaluation",
    "find_learning_rate",
    "frozen",
    "keep_best",
    "learning_rate",
    "log_to",
    "lr_schedule",
    "plots",
    "profiled",
    "progress",
    "random_state",
    "save_curves",
    "seeded",
    "stop_members",
    "stop_on_nan",
    "throughput",
    "time_limit",
]
