"""The metrics logged each epoch: torch counts the batches, ``statistics`` turns the counts into scores.

Shapes: B batch, K classes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric, MetricCollection
from torchmetrics.functional.classification import multiclass_confusion_matrix

from ferlightning.evaluation.statistics import BINS, SCORES, Array, Counts, scores

STEP = 2.0**-24
"""Step of the sums of confidences and costs, which are kept as integers. Integers add up exactly in any order; a
float32 sum over an epoch loses digits, and the GPU of a Mac has no float64."""


class Items(NamedTuple):
    """What the scores need to know of each image."""

    prediction: Tensor
    """(B,) class index."""
    confidence: Tensor
    """(B,) in [0, 1], up to rounding: the largest probability."""
    bin: Tensor
    """(B,) index of the confidence's bin: [i / BINS, (i + 1) / BINS), the last one includes 1."""
    cost: Tensor
    """(B,) -log p(label) in nats."""


def measure(probs: Tensor, label: Tensor) -> Items:
    """Measure each image: probs (B, K) in [0, 1], label (B,) class index.

    A probability of 0 is raised to the spacing of float32 numbers at 1, 1.2e-7, so that one image costs at most 15.9
    and never makes the mean infinite. A probability that is not a number counts as 0.
    """
    probs = probs.float().nan_to_num(0.0)
    confidence, prediction = probs.max(1)
    cost = -probs.gather(1, label.unsqueeze(1)).squeeze(1).clamp(torch.finfo(torch.float32).eps, 1.0).log()
    return Items(prediction, confidence, (confidence * BINS).long().clamp(max=BINS - 1), cost)


def count(items: Items, label: Tensor, num_classes: int) -> Tensor:
    """Add up images to integers, which batches and processes in turn add up.

    Args:
        items: from ``measure``.
        label: (B,) class index.
        num_classes: K.

    Returns:
        (K * K + 3 * BINS + 1,): the confusion matrix with true classes in rows; the number of images in each bin, the
        sum of their confidences in steps of ``STEP``, and the number of correct predictions; the cost in steps.
    """
    # Validation of arguments would copy each batch to the host; the labels were checked when the data were read.
    confusion = multiclass_confusion_matrix(items.prediction, label, num_classes, validate_args=False)
    confidence = (items.confidence / STEP).round().long()
    rows = torch.stack([torch.ones_like(label), confidence, (items.prediction == label).long()])  # (3, B)
    bins = (rows.unsqueeze(2) * F.one_hot(items.bin, BINS)).sum(1)
    return torch.cat([confusion.flatten(), bins.flatten(), (items.cost / STEP).round().long().sum(0, keepdim=True)])


def as_counts(sums: Tensor, num_classes: int) -> Counts:
    """Convert the integers of ``count`` to NumPy, confidences and cost to their own units."""
    values, k = sums.cpu().numpy(), num_classes
    images, confidence, correct = values[k * k : -1].reshape(3, BINS)
    return Counts(values[: k * k].reshape(k, k), images, correct, correct - STEP * confidence, STEP * int(values[-1]))


def count_items(label: Array, probs: Array) -> Counts:
    """Count all items of an evaluation as the metrics count a batch: label (N,) class index, probs (N, K) in [0, 1]."""
    labels = torch.from_numpy(label)
    k = probs.shape[1]
    return as_counts(count(measure(torch.from_numpy(probs), labels), labels, k), k)


class Means(Metric):
    """Means over the items of an epoch, of numbers that come as the means over each batch, such as losses.

    One addition a batch for all of them. Lightning's ``log`` would take a millisecond for each number and batch.

    Args:
        names: of the numbers.
    """

    full_state_update = False
    sums: Tensor

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = list(names)
        self.add_state("sums", torch.zeros(len(self.names) + 1), dist_reduce_fx="sum")  # the last one counts the items

    def update(self, means: Sequence[Tensor], items: int) -> None:
        """Add a batch: its means, each a scalar, in the order of the names, and the number of its items."""
        self.sums = self.sums + items * torch.stack([*means, torch.ones_like(means[0])]).detach()

    def compute(self) -> dict[str, Tensor]:
        """Return the mean of each number over all items, a float32 scalar."""
        return dict(zip(self.names, (self.sums[:-1] / self.sums[-1]).unbind(), strict=True))


class Score(Metric):
    """One of ``statistics.SCORES``; the scores of a collection share their counts.

    Args:
        name: of the score.
        num_classes: K.
    """

    full_state_update = False
    sums: Tensor

    def __init__(self, name: str, num_classes: int) -> None:
        super().__init__()
        self.score, self.num_classes = name, num_classes
        nothing = torch.zeros(num_classes * num_classes + 3 * BINS + 1, dtype=torch.long)
        self.add_state("sums", nothing, dist_reduce_fx="sum")

    def update(self, probs: Tensor, label: Tensor) -> None:
        """Add a batch: probs (B, K) in [0, 1], label (B,) class index."""
        # Not in place: what was reset in inference mode could not be changed outside it.
        self.sums = self.sums + count(measure(probs, label), label, self.num_classes)

    def compute(self) -> Tensor:
        """Return the score of all batches, a float32 scalar."""
        value = scores(as_counts(self.sums, self.num_classes))[self.score]
        return torch.tensor(value, dtype=torch.float32, device=self.sums.device)


def classification_metrics(num_classes: int) -> MetricCollection:
    """Build the scalar metrics to ``update(probs, label)``: probs (B, K) float in [0, 1], label (B,) long.

    Macro recall is left out because it *is* balanced accuracy, and weighted recall because it equals accuracy; recall
    per class is read from the report's confusion matrix.

    Args:
        num_classes: K.

    Returns:
        The metrics named in ``statistics.SCORES``, each a float32 scalar. They count a batch once.
    """
    return MetricCollection({name: Score(name, num_classes) for name in SCORES}, compute_groups=[list(SCORES)])
