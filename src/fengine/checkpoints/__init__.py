"""Checkpoints: a run kept in a folder that cannot be lost, and a good end at a signal.

`Checkpoints.run` begins a run, or goes on with the one that is kept. Nothing that is read is ever
executed. Several ranks keep one folder together.
"""

from fengine.checkpoints.checkpoints import Checkpoints as Checkpoints
from fengine.checkpoints.errors import CheckpointError as CheckpointError
from fengine.checkpoints.errors import NewerFormat as NewerFormat
from fengine.checkpoints.retention import Best as Best
from fengine.checkpoints.retention import Kept as Kept
from fengine.checkpoints.retention import retained as retained
from fengine.checkpoints.signals import Preemption as Preemption
from fengine.checkpoints.weights import weights as weights
from fengine.run.ports import Preempting as Preempting

__all__ = [
    "Best",
    "CheckpointError",
    "Checkpoints",
    "Kept",
    "NewerFormat",
    "Preempting",
    "Preemption",
    "retained",
    "weights",
]
