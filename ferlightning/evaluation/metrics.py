"""The metrics logged each epoch, with scikit-learn's conventions for classes that do not occur.

Shapes: B batch, K classes.
"""

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassCalibrationError,
    MulticlassF1Score,
    MulticlassPrecision,
    MulticlassRecall,
)


class BalancedAccuracy(MulticlassRecall):
    """Mean recall over the classes that have labels, as ``sklearn.metrics.balanced_accuracy_score``.

    Torchmetrics' macro recall also averages in, as zero, a class that was predicted but has no labels; then the score
    would depend on how the errors are spread over classes that nothing can be recalled from.
    """

    def compute(self) -> Tensor:
        """Return the mean of tp / (tp + fn) over classes with tp + fn > 0, a scalar in [0, 1]."""
        tp, _, _, fn = self._final_state()
        support = tp + fn
        return (tp / support)[support > 0].mean()


class CalibrationError(MulticlassCalibrationError):
    """Expected calibration error: mean over images of abs(accuracy - confidence) of the image's bin of confidence.

    Source: Guo et al., On calibration of modern neural networks, ICML 2017, eq. 3. Fifteen bins [i/15, (i+1)/15); the
    last one includes 1. Torchmetrics alone puts a confidence of exactly 1, common in a saturated network, into a
    sixteenth bin, and takes a whole batch for logits if rounding lifts one probability above 1.
    """

    def update(self, probs: Tensor, label: Tensor) -> None:
        """Add a batch: probs (B, K) in [0, 1] and label (B,)."""
        just_below_one = 1 - torch.finfo(torch.float32).eps / 2
        super().update(probs.float().clamp(max=just_below_one), label)


class NegativeLogLikelihood(Metric):
    """Mean of -log p(label), in nats, as ``sklearn.metrics.log_loss``.

    A probability of 0 is raised to the spacing of float32 numbers at 1, 1.2e-7, so that one image costs at most
    15.9 and never makes the mean infinite.
    """

    full_state_update = False
    higher_is_better = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        # Double precision: a sum of single-precision terms loses digits over the 30,000 images of an epoch.
        self.add_state("total", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, probs: Tensor, label: Tensor) -> None:
        """Add a batch: probs (B, K) in [0, 1] and label (B,)."""
        p = probs.float().gather(1, label.unsqueeze(1))
        self.total += -p.clamp(min=torch.finfo(torch.float32).eps).log().sum()
        self.count += len(label)

    def compute(self) -> Tensor:
        """Return the mean, a scalar >= 0."""
        return (self.total / self.count).float()


def classification_metrics(num_classes: int) -> MetricCollection:
    """Scalar metrics to ``update(probs, label)`` with: probs (B, K) float in [0, 1], label (B,) long.

    Absent classes follow scikit-learn with ``zero_division=0``: balanced accuracy averages over classes with labels,
    macro precision and macro F1 over classes with labels or predictions.

    Macro recall is left out because it *is* balanced accuracy, and weighted recall because it equals accuracy; recall
    per class is read from the report's confusion matrix.

    Args:
        num_classes: K.

    Returns:
        accuracy, balanced_accuracy, macro_precision, macro_f1, weighted_precision, weighted_f1, calibration_error, nll.
    """

    def macro(metric: type[Metric]) -> Metric:
        # Validation of arguments copies each batch to the host; the labels were checked when the data were read.
        return metric(num_classes=num_classes, average="macro", validate_args=False)

    def weighted(metric: type[Metric]) -> Metric:
        return metric(num_classes=num_classes, average="weighted", validate_args=False)

    return MetricCollection(
        {
            "accuracy": MulticlassAccuracy(num_classes, average="micro", validate_args=False),
            "balanced_accuracy": macro(BalancedAccuracy),
            "macro_precision": macro(MulticlassPrecision),
            "macro_f1": macro(MulticlassF1Score),
            "weighted_precision": weighted(MulticlassPrecision),
            "weighted_f1": weighted(MulticlassF1Score),
            "calibration_error": CalibrationError(num_classes, n_bins=15, norm="l1", validate_args=False),
            "nll": NegativeLogLikelihood(),
        }
    )
