"""A way to make each metric of pytorch-ignite, and three batches that it takes."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, Final, TypeAlias

import torch
from ignite.metrics import (
    FID,
    HSIC,
    PSNR,
    SSIM,
    Accuracy,
    Average,
    Bleu,
    ClassificationReport,
    ConfusionMatrix,
    CosineSimilarity,
    DiceCoefficient,
    Entropy,
    EpochMetric,
    Fbeta,
    GeometricAverage,
    InceptionScore,
    IoU,
    JaccardIndex,
    JSDivergence,
    KLDivergence,
    Loss,
    MatthewsCorrCoef,
    MaximumMeanDiscrepancy,
    MeanAbsoluteError,
    MeanPairwiseDistance,
    MeanSquaredError,
    MetricGroup,
    MetricsLambda,
    MultiLabelConfusionMatrix,
    MutualInformation,
    Precision,
    Recall,
    RootMeanSquaredError,
    Rouge,
    RougeL,
    RougeN,
    RunningAverage,
    TopKCategoricalAccuracy,
    VariableAccumulation,
    mIoU,
)
from ignite.metrics.average_precision import AveragePrecision
from ignite.metrics.cohen_kappa import CohenKappa
from ignite.metrics.mean_average_precision import MeanAveragePrecision
from ignite.metrics.nlp import CharacterErrorRate, Perplexity
from ignite.metrics.precision_recall_curve import PrecisionRecallCurve
from ignite.metrics.rec_sys import NDCG, HitRate
from ignite.metrics.roc_auc import ROC_AUC, RocCurve

# What these packages export, they do not export to a type checker.
clustering: Final[Any] = import_module("ignite.metrics.clustering")
fairness: Final[Any] = import_module("ignite.metrics.fairness")
regression: Final[Any] = import_module("ignite.metrics.regression")

Make: TypeAlias = Callable[[], Any]
Batches: TypeAlias = Callable[[], list[Any]]


def three(make: Callable[[], Any]) -> Batches:
    """Make the same three batches each time."""

    def batches() -> list[Any]:
        torch.manual_seed(0)
        return [make() for _ in range(3)]

    return batches


NUMBERS: Final = three(lambda: torch.rand(4) + 0.5)
PAIRS: Final = three(lambda: (torch.rand(4) + 0.5, torch.rand(4) + 0.5))
VECTORS: Final = three(lambda: (torch.rand(4, 3), torch.rand(4, 3)))
IMAGES: Final = three(lambda: (torch.rand(2, 1, 12, 12), torch.rand(2, 1, 12, 12)))
CLASSES: Final = three(lambda: (torch.rand(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])))
BINARY: Final = three(lambda: (torch.rand(6).round(), torch.tensor([0, 1, 1, 0, 1, 0])))
SCORES: Final = three(lambda: (torch.rand(6), torch.tensor([0, 1, 1, 0, 1, 0])))
LABELS: Final = three(lambda: (torch.rand(5, 3).round().int(), torch.rand(5, 3).round().int()))
GROUPS: Final = three(
    lambda: (torch.rand(6).round(), torch.tensor([0, 1, 1, 0, 1, 0]), torch.tensor([0, 1] * 3))
)
CLUSTERS: Final = three(lambda: (torch.rand(6, 2), torch.tensor([0, 0, 1, 1, 2, 2])))
RANKS: Final = three(lambda: (torch.rand(4, 6), torch.rand(4, 6).round()))
TOKENS: Final = three(lambda: (torch.rand(2, 5, 4), torch.randint(0, 5, (2, 4))))
SENTENCES: Final = three(
    lambda: (
        [["the", "cat", "sat", "on", "a", "mat"]],
        [[["the", "cat", "lay", "on", "a", "mat"], ["a", "cat", "sat", "there"]]],
    )
)
TEXTS: Final = three(lambda: (["a cat sat", "it rains"], ["the cat sat", "it rained"]))

CASES: Final[dict[str, tuple[Make, Batches]]] = {
    "Accuracy": (Accuracy, CLASSES),
    "Average": (Average, NUMBERS),
    "AveragePrecision": (AveragePrecision, SCORES),
    "Bleu": (lambda: Bleu(ngram=2), SENTENCES),
    "CalinskiHarabaszScore": (clustering.CalinskiHarabaszScore, CLUSTERS),
    "CanberraMetric": (regression.CanberraMetric, PAIRS),
    "CharacterErrorRate": (CharacterErrorRate, TEXTS),
    "ClassificationReport": (lambda: ClassificationReport(output_dict=True), CLASSES),
    "CohenKappa": (CohenKappa, BINARY),
    "ConfusionMatrix": (lambda: ConfusionMatrix(num_classes=3), CLASSES),
    "CosineSimilarity": (CosineSimilarity, VECTORS),
    "DaviesBouldinScore": (clustering.DaviesBouldinScore, CLUSTERS),
    "DemographicParityDifference": (lambda: fairness.DemographicParityDifference([0, 1]), GROUPS),
    "DiceCoefficient": (lambda: DiceCoefficient(ConfusionMatrix(3)), CLASSES),
    "Entropy": (Entropy, CLASSES),
    "EpochMetric": (lambda: EpochMetric(lambda x, y: (x - y).sum().item()), PAIRS),
    "FID": (lambda: FID(3, torch.nn.Identity()), VECTORS),
    "Fbeta": (lambda: Fbeta(beta=2.0), CLASSES),
    "FractionalAbsoluteError": (regression.FractionalAbsoluteError, PAIRS),
    "FractionalBias": (regression.FractionalBias, PAIRS),
    "GeometricAverage": (GeometricAverage, NUMBERS),
    "GeometricMeanAbsoluteError": (regression.GeometricMeanAbsoluteError, PAIRS),
    "GeometricMeanRelativeAbsoluteError": (regression.GeometricMeanRelativeAbsoluteError, PAIRS),
    "HSIC": (HSIC, VECTORS),
    "HitRate": (lambda: HitRate(top_k=[1, 3]), RANKS),
    "InceptionScore": (
        lambda: InceptionScore(3, torch.nn.Identity(), output_transform=lambda output: output[0]),
        VECTORS,
    ),
    "IoU": (lambda: IoU(ConfusionMatrix(3)), CLASSES),
    "JSDivergence": (JSDivergence, VECTORS),
    "JaccardIndex": (lambda: JaccardIndex(ConfusionMatrix(3)), CLASSES),
    "KLDivergence": (KLDivergence, VECTORS),
    "KendallRankCorrelation": (regression.KendallRankCorrelation, PAIRS),
    "Loss": (lambda: Loss(torch.nn.functional.cross_entropy), CLASSES),
    "ManhattanDistance": (regression.ManhattanDistance, PAIRS),
    "MatthewsCorrCoef": (MatthewsCorrCoef, BINARY),
    "MaximumAbsoluteError": (regression.MaximumAbsoluteError, PAIRS),
    "MaximumMeanDiscrepancy": (MaximumMeanDiscrepancy, VECTORS),
    "MeanAbsoluteError": (MeanAbsoluteError, PAIRS),
    "MeanAbsoluteRelativeError": (regression.MeanAbsoluteRelativeError, PAIRS),
    "MeanAveragePrecision": (MeanAveragePrecision, CLASSES),
    "MeanError": (regression.MeanError, PAIRS),
    "MeanNormalizedBias": (regression.MeanNormalizedBias, PAIRS),
    "MeanPairwiseDistance": (MeanPairwiseDistance, VECTORS),
    "MeanSquaredError": (MeanSquaredError, PAIRS),
    "MedianAbsoluteError": (regression.MedianAbsoluteError, PAIRS),
    "MedianAbsolutePercentageError": (regression.MedianAbsolutePercentageError, PAIRS),
    "MedianRelativeAbsoluteError": (regression.MedianRelativeAbsoluteError, PAIRS),
    "MetricGroup": (lambda: MetricGroup({"a": Accuracy(), "r": Recall(average=True)}), CLASSES),
    "MetricsLambda": (lambda: MetricsLambda(torch.add, Precision(), Recall()), CLASSES),
    "MultiLabelConfusionMatrix": (lambda: MultiLabelConfusionMatrix(num_classes=3), LABELS),
    "MutualInformation": (MutualInformation, CLASSES),
    "NDCG": (lambda: NDCG(top_k=[1, 3]), RANKS),
    "PSNR": (lambda: PSNR(data_range=1.0), IMAGES),
    "PearsonCorrelation": (regression.PearsonCorrelation, PAIRS),
    "Perplexity": (Perplexity, TOKENS),
    "Precision": (Precision, CLASSES),
    "PrecisionRecallCurve": (PrecisionRecallCurve, SCORES),
    "R2Score": (regression.R2Score, PAIRS),
    "ROC_AUC": (ROC_AUC, SCORES),
    "Recall": (Recall, CLASSES),
    "RocCurve": (RocCurve, SCORES),
    "RootMeanSquaredError": (RootMeanSquaredError, PAIRS),
    "Rouge": (lambda: Rouge(variants=["L", 2]), SENTENCES),
    "RougeL": (RougeL, SENTENCES),
    "RougeN": (lambda: RougeN(ngram=2), SENTENCES),
    "RunningAverage": (lambda: RunningAverage(Accuracy()), CLASSES),
    "SSIM": (lambda: SSIM(data_range=1.0), IMAGES),
    "SelectionRate": (fairness.SelectionRate, BINARY),
    "SilhouetteScore": (clustering.SilhouetteScore, CLUSTERS),
    "SpearmanRankCorrelation": (regression.SpearmanRankCorrelation, PAIRS),
    "SubgroupAccuracyDifference": (lambda: fairness.SubgroupAccuracyDifference([0, 1]), GROUPS),
    "SubgroupDifference": (lambda: fairness.SubgroupDifference(Accuracy(), [0, 1]), GROUPS),
    "SubgroupMetric": (lambda: fairness.SubgroupMetric(Accuracy(), [0, 1]), GROUPS),
    "TopKCategoricalAccuracy": (lambda: TopKCategoricalAccuracy(k=2), CLASSES),
    "VariableAccumulation": (lambda: VariableAccumulation(torch.maximum), NUMBERS),
    "WaveHedgesDistance": (regression.WaveHedgesDistance, PAIRS),
    "mIoU": (lambda: mIoU(ConfusionMatrix(3)), CLASSES),
}

# What cannot be made, or compared, with simple arguments, and why.
EXCLUDED: Final = {
    "CommonObjectDetectionMetrics": "needs torchvision",
    "Frequency": "gives a number of events a second; a set-up compares it on a fake clock",
    "GpuInfo": "needs a GPU and pynvml; a set-up compares it with a stand-in",
    "Metric": "abstract",
    "ObjectDetectionAvgPrecisionRecall": "needs torchvision",
    "coco_tensor_list_to_dict_list": "makes no metric",
}
