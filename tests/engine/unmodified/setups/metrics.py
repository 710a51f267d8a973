"""Metrics: each usage, running averages, arithmetic, and those that read something else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

import torch
from ignite.engine import Engine, Events
from ignite.metrics import (
    Accuracy,
    Average,
    ConfusionMatrix,
    Frequency,
    GpuInfo,
    Loss,
    MeanSquaredError,
    Metric,
    MetricGroup,
    MetricsLambda,
    Precision,
    Recall,
    RunningAverage,
)
from ignite.metrics.metric import (
    BatchFiltered,
    BatchWise,
    EpochWise,
    MetricUsage,
    RunningBatchWise,
    RunningEpochWise,
    SingleEpochRunningBatchWise,
)

from tests.engine.unmodified.setups import setup
from tests.engine.unmodified.setups.common import echo, fake_timers, plain, stand_in

# By the name of the set-up that has it.
USAGES: dict[str, Callable[[], MetricUsage]] = {
    "epoch_wise": EpochWise,
    "running_epoch_wise": RunningEpochWise,
    "batch_wise": BatchWise,
    "running_batch_wise": RunningBatchWise,
    "single_epoch_running_batch_wise": SingleEpochRunningBatchWise,
    "batch_filtered": lambda: BatchFiltered(every=2),
}


def predictions() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Make four batches of predictions of three classes, with targets."""
    torch.manual_seed(0)
    return [(torch.rand(4, 3), torch.randint(0, 3, (4,))) for _ in range(4)]


def seen(engine: Engine) -> list[Any]:
    """Have an engine note its metrics, in the order of their names, at the end of everything."""
    noted: list[Any] = []
    for event in (Events.ITERATION_COMPLETED, Events.EPOCH_COMPLETED, Events.COMPLETED):
        engine.add_event_handler(
            event, lambda engine: noted.append(plain(dict(sorted(engine.state.metrics.items()))))
        )
    return noted


def used(usage: Any) -> Any:
    """Attach metrics with a usage, run, detach them, run again."""
    engine = Engine(echo)
    metrics: dict[str, Metric] = {
        "accuracy": Accuracy(),
        "loss": Loss(torch.nn.functional.cross_entropy),
        "running": RunningAverage(output_transform=lambda output: output[0].sum().item()),
    }
    for name, metric in metrics.items():
        metric.attach(engine, name, usage)
    noted = seen(engine)
    attached = [metric.is_attached(engine, usage) for metric in metrics.values()]
    engine.run(predictions(), max_epochs=2)
    engine.run(predictions()[:2])
    for metric in metrics.values():
        metric.detach(engine, usage)
    attached += [metric.is_attached(engine, usage) for metric in metrics.values()]
    engine.state.metrics.clear()
    engine.run(predictions())
    return [noted, attached]


def _put_usage(name: str, make: Callable[[], MetricUsage]) -> None:
    def run() -> Any:
        return used(make())

    run.__name__ = f"usage_{name}"
    setup("metrics/metric.py")(run)


for _name, _make in USAGES.items():
    _put_usage(_name, _make)


@setup("metrics/metric.py")
def usages_by_name() -> Any:
    return [used(make().usage_name) for name, make in USAGES.items() if name != "batch_filtered"]


@setup("metrics/metric.py")
def metric_that_is_taken_up_again() -> Any:
    first, second = Accuracy(), Accuracy()
    engine = Engine(echo)
    first.attach(engine, "accuracy", "running_epoch_wise")
    engine.run(predictions()[:2])
    second.load_state_dict(first.state_dict())
    return [plain(engine.state.metrics), plain(second.state_dict()), second.compute()]


@setup("metrics/metrics_lambda.py")
def arithmetic_of_metrics() -> Any:
    engine = Engine(echo)
    precision, recall = Precision(average=False), Recall(average=False)
    f1 = (precision * recall * 2 / (precision + recall + 1e-20)).mean()
    f1.attach(engine, "f1")
    (1 - Accuracy()).attach(engine, "error", usage=BatchFiltered(every=2))
    precision[1].attach(engine, "precision of 1")
    matrix = ConfusionMatrix(num_classes=3)
    MetricsLambda(lambda m, scale: (m.diag() * scale).tolist(), matrix, scale=2).attach(
        engine, "diagonal"
    )
    noted = seen(engine)
    engine.run(predictions(), max_epochs=2)
    attached = [f1.is_attached(engine)]
    f1.detach(engine)
    attached.append(f1.is_attached(engine))
    engine.run(predictions())
    return [noted, attached]


@setup("metrics/running_average.py")
def running_averages() -> Any:
    engine = Engine(echo)
    RunningAverage(Accuracy(), alpha=0.5).attach(engine, "accuracy")
    for bound in (True, False, None):
        average = RunningAverage(
            output_transform=lambda output: output[0].mean(), alpha=0.9, epoch_bound=bound
        )
        average.attach(engine, f"mean, {bound}")
    noted = seen(engine)
    engine.run(predictions(), max_epochs=2)
    return noted


@setup("metrics/metric_group.py")
def metrics_in_a_group() -> Any:
    engine = Engine(echo)
    group = MetricGroup({"accuracy": Accuracy(), "matrix": ConfusionMatrix(num_classes=3)})
    group.attach(engine, "group", usage="running_batch_wise")
    noted = seen(engine)
    engine.run(predictions(), max_epochs=2)
    return noted


@setup("metrics/metric.py")
def metrics_beside_each_other() -> Any:
    train, evaluate = Engine(echo), Engine(echo)
    error = MeanSquaredError(output_transform=lambda output: (output[0].sum(dim=1), output[1]))
    error.attach(evaluate, "error")
    Average(output_transform=lambda output: output[0].mean(dim=1)).attach(train, "mean")
    noted = [seen(train), seen(evaluate)]
    train.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluate.run(predictions()))
    train.run(predictions(), max_epochs=2)
    return noted


@setup("metrics/frequency.py")
def frequency() -> Any:
    engine = Engine(echo)
    with fake_timers():
        Frequency(output_transform=lambda output: 100).attach(engine, "items a second")
        Frequency(output_transform=lambda output: 10).attach(
            engine,
            "rarely",
            event_name=Events.ITERATION_COMPLETED(every=3),  # type: ignore[arg-type]
        )
        noted = seen(engine)
        engine.run([1, 2, 3, 4], max_epochs=2)
    return noted


@setup("metrics/gpu_info.py")
def use_of_the_gpu() -> Any:
    report = {"gpu": [{"fb_memory_usage": {"used": 3, "total": 4}, "utilization": {"gpu_util": 7}}]}
    engine, every_second = Engine(echo), Events.ITERATION_COMPLETED(every=2)
    with (
        stand_in("pynvml", "smi") as package,
        mock.patch("torch.cuda.is_available", return_value=True),
    ):
        package.smi.nvidia_smi.getInstance.return_value.DeviceQuery.return_value = report
        GpuInfo().attach(engine, name="gpu", event_name=every_second)  # type: ignore[arg-type]
    noted = seen(engine)
    engine.run([1, 2, 3])
    return noted
