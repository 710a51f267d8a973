"""Metrics as values that merge, and the features that measure a run with them.

Importing this imports torch; torchmetrics is imported when one of its metrics is measured with.
"""

from fengine.metrics.accuracy import Accuracy as Accuracy
from fengine.metrics.accuracy import Count as Count
from fengine.metrics.accuracy import accuracy as accuracy
from fengine.metrics.means import Mean as Mean
from fengine.metrics.means import Ratio as Ratio
from fengine.metrics.means import mean as mean
from fengine.metrics.means import mean_loss as mean_loss
from fengine.metrics.measuring import Measured as Measured
from fengine.metrics.measuring import MeasuresBatch as MeasuresBatch
from fengine.metrics.measuring import MeasuresBoth as MeasuresBoth
from fengine.metrics.measuring import MeasuresNumber as MeasuresNumber
from fengine.metrics.measuring import MeasuresOutput as MeasuresOutput
from fengine.metrics.measuring import measure as measure
from fengine.metrics.monoid import Metric as Metric
from fengine.metrics.of_members import MemberValues as MemberValues
from fengine.metrics.of_members import member_values as member_values
from fengine.metrics.torch_metrics import States as States
from fengine.metrics.torch_metrics import torch_metric as torch_metric

__all__ = [
    "Accuracy",
    "Count",
    "Mean",
    "Measured",
    "MeasuresBatch",
    "MeasuresBoth",
    "MeasuresNumber",
    "MeasuresOutput",
    "MemberValues",
    "Metric",
    "Ratio",
    "States",
    "accuracy",
    "mean",
    "mean_loss",
    "measure",
    "member_values",
    "torch_metric",
]
