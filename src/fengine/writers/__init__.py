"""Writers: what takes the numbers of a run, each a line to use in `fengine.features.log_to`.

`jsonl("log.jsonl")` says where a log goes, as a value; a run opens a `Writer` there. One of your
own is any function of a `Place` that returns a `Writer`. To import this imports no package of an
extra.
"""

from fengine.writers.consoles import Console as Console
from fengine.writers.consoles import console as console
from fengine.writers.csv_logs import CsvFile as CsvFile
from fengine.writers.csv_logs import csv_file as csv_file
from fengine.writers.event_files import TensorBoard as TensorBoard
from fengine.writers.event_files import tensorboard as tensorboard
from fengine.writers.json_lines import JsonLines as JsonLines
from fengine.writers.json_lines import jsonl as jsonl
from fengine.writers.mlflow_runs import MLflow as MLflow
from fengine.writers.mlflow_runs import mlflow as mlflow
from fengine.writers.places import Place as Place
from fengine.writers.wandb_runs import WandB as WandB
from fengine.writers.wandb_runs import wandb as wandb
from fengine.writers.writing import OpensWriter as OpensWriter
from fengine.writers.writing import Scalar as Scalar
from fengine.writers.writing import Writer as Writer

__all__ = [
    "Console",
    "CsvFile",
    "JsonLines",
    "MLflow",
    "OpensWriter",
    "Place",
    "Scalar",
    "TensorBoard",
    "WandB",
    "Writer",
    "console",
    "csv_file",
    "jsonl",
    "mlflow",
    "tensorboard",
    "wandb",
]
