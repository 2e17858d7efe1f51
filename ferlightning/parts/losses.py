"""Losses: (Output, Batch) to a scalar. The classifier's loss is their sum, each times its weight."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ferlightning.contracts import Batch, Loss, Output
from ferlightning.errors import FerlError

ClassWeights = Literal["inverse"] | float


def frequency_weights(counts: Sequence[int], kind: ClassWeights) -> Tensor:
    """A weight for each class from its number of training images, with mean 1 over those images.

    Args:
        counts: images of each class, (K,); a class without images has no say and gets the weight 0.
        kind: ``inverse``: proportional to 1 / n; a number b in [0, 1): to (1 - b) / (1 - b^n), the inverse of the
            effective number of samples (Cui et al. 2019, https://arxiv.org/abs/1901.05555, eq. 2). It lies between no
            weights, b = 0, and nearly ``inverse``, b = 0.9999.

    Raises:
        FerlError: b is out of range.
    """
    if kind != "inverse" and not 0 <= kind < 1:
        raise FerlError(f"class_weights: a number must be in [0, 1), as 0.999; it is {kind}")
    n = torch.tensor(counts, dtype=torch.float64)
    if not n.any():  # data that is only tested on
        return torch.ones(len(n))
    weights = torch.where(n > 0, 1 / n if kind == "inverse" else 1 / (1 - kind**n), 0)
    return (weights * n.sum() / (weights * n).sum()).float()


class _ClassWeighted(Loss):
    """What the losses with class weights share: the weights, (K,), or None."""

    class_weights: Tensor | None

    def __init__(self, class_counts: Sequence[int], weight: float, class_weights: ClassWeights | None) -> None:
        super().__init__()
        self.weight = weight
        weights = None if class_weights is None else frequency_weights(class_counts, class_weights)
        # Not kept in checkpoints: they belong to the data, and init_from must not bring those of other data.
        self.register_buffer("class_weights", weights, persistent=False)


class CrossEntropy(_ClassWeighted):
    """Cross-entropy of class indices (B,) or soft labels (B, K), with class weights and label smoothing.

    With class weights, a mean weighted by the class of each image, soft labels alike.

    Args:
        embed_features: E, unused; comes from the head.
        class_counts: training images of each class, (K,); comes from the data.
        weight: factor of this loss in the sum.
        class_weights: ``inverse`` frequency, or b in [0, 1) of the effective number of samples (Cui et al. 2019), which
            evens out the less the smaller it is; null for none.
        label_smoothing: share of the label spread evenly over the classes, in [0, 1] (Szegedy et al. 2016).
    """

    def __init__(
        self,
        embed_features: int,
        class_counts: Sequence[int],
        weight: float = 1.0,
        class_weights: ClassWeights | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(class_counts, weight, class_weights)
        self.label_smoothing = label_smoothing

    def forward(self, output: Output, batch: Batch) -> Tensor:
        label, weights = batch["label"], self.class_weights
        if label.ndim == 1 or weights is None:
            return F.cross_entropy(output.logits, label, weights, label_smoothing=self.label_smoothing)
        # Torch divides by the classes' weights for indices, and by B for soft labels: mixup would change the scale.
        total = F.cross_entropy(output.logits, label, weights, reduction="sum", label_smoothing=self.label_smoothing)
        return total / (label @ weights).sum()


class FocalLoss(_ClassWeighted):
    """Focal loss -(1 - p)^gamma log p of the true class, which turns down the easy examples.

    Lin et al. 2017, eq. 4, https://arxiv.org/abs/1708.02002. Soft labels (B, K) weigh the terms of the classes.

    Args:
        embed_features: E, unused; comes from the head.
        class_counts: training images of each class, (K,); comes from the data.
        weight: factor of this loss in the sum.
        gamma: focusing exponent, >= 0; 0 is cross-entropy.
        class_weights: the alpha of eq. 5, as of ``CrossEntropy``; null for none.
    """

    def __init__(
        self,
        embed_features: int,
        class_counts: Sequence[int],
        weight: float = 1.0,
        gamma: float = 2.0,
        class_weights: ClassWeights | None = None,
    ) -> None:
        super().__init__(class_counts, weight, class_weights)
        self.gamma = gamma

    def forward(self, output: Output, batch: Batch) -> Tensor:
        label = batch["label"]
        if label.ndim == 1:
            label = F.one_hot(label, output.logits.shape[1])
        log_p = output.logits.log_softmax(1)
        # At p = 1 the power has an infinite slope if gamma < 1, and 0 * inf is not a number.
        miss = (-torch.expm1(log_p)).clamp(min=1e-12)  # 1 - p
        terms = -label * miss**self.gamma * log_p  # (B, K)
        if self.class_weights is not None:
            terms = terms * self.class_weights
        return terms.sum(1).mean()


class MultiTargetLoss(Loss):
    """Minus the log of the most probable class among those accepted: any of them is right.

    Barsoum et al. 2016, eq. 3, https://arxiv.org/abs/1608.01041. Accepted are the classes with a label above 0: the
    emotions of ``FERPlus`` with ``target: multi_target``, or the class of an index label.

    Args:
        embed_features: E, unused; comes from the head.
        class_counts: training images of each class, (K,), unused; comes from the data.
        weight: factor of this loss in the sum.
    """

    def __init__(self, embed_features: int, class_counts: Sequence[int], weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, output: Output, batch: Batch) -> Tensor:
        label = batch["label"]
        if label.ndim == 1:
            label = F.one_hot(label, output.logits.shape[1])
        log_p = output.logits.log_softmax(1).masked_fill(label <= 0, -torch.inf)
        return -log_p.amax(1).mean()
