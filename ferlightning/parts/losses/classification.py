"""Losses on the logits: (Output, Batch) to a scalar."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ferlightning.contracts.modules import Batch, Loss, Output, class_index, has_label
from ferlightning.emotions import canonical, did_you_mean
from ferlightning.errors import FerlError

ByFrequency = Literal["inverse", "balanced"] | float
ByName = dict[str | int, float]
ClassWeights = ByFrequency | list[float] | ByName


def frequency_weights(counts: Sequence[int], kind: ByFrequency | list[float]) -> Tensor:
    """Weigh each class by its number of training images; the mean over those images is 1.

    Args:
        counts: images of each class, (K,); a class without images gets the weight 0.
        kind: ``inverse``, or ``balanced`` as scikit-learn calls it, is proportional to 1 / n; a number b in [0, 1) to
            (1 - b) / (1 - b^n), the inverse of the effective number of samples (Cui et al. 2019,
            https://arxiv.org/abs/1901.05555, eq. 2), from no weights at b = 0 to nearly ``inverse`` at b = 0.9999. A
            list has the weights themselves.

    Raises:
        FerlError: b is out of range, or there are not as many weights as classes, or one is below 0, or all are 0.
    """
    if isinstance(kind, list):
        if len(kind) != len(counts) or not all(0 <= weight < math.inf for weight in kind) or not any(kind):
            raise FerlError(
                f"class_weights: {kind}, expected {len(counts)} numbers from 0, not all 0, in the order of the classes"
            )
        return torch.tensor(kind, dtype=torch.float32)
    kind = "inverse" if kind == "balanced" else kind
    if kind != "inverse" and not 0 <= kind < 1:
        raise FerlError(f"class_weights: a number must be in [0, 1), such as 0.999; it is {kind}")
    n = torch.tensor(counts, dtype=torch.float64)
    if not n.any():  # data that is only tested on
        return torch.ones(len(n))
    weights = torch.where(n > 0, 1 / n if kind == "inverse" else 1 / (1 - kind**n), 0)
    return (weights * n.sum() / (weights * n).sum()).float()


def weights_by_name(given: Mapping[str | int, float], class_names: Sequence[str]) -> Tensor:
    """Weigh classes by name, (K,); those that are not named weigh 1.

    Raises:
        FerlError: a name is that of no class, or of one that is named before, or its weight is below 0, or all are 0.
    """
    weights: dict[str, float] = {}
    for key, weight in given.items():  # keys are numbers, if they come from YAML
        name = canonical(str(key))
        if name not in class_names:
            there = ", ".join(class_names)
            close = did_you_mean(name, class_names)
            raise FerlError(f"class_weights: there is no class {str(key)!r}; the classes are {there}{close}")
        if name in weights:
            raise FerlError(f"class_weights: {name} is there twice. Remove one")
        if not 0 <= weight < math.inf:
            raise FerlError(f"class_weights: {name} has the weight {weight}, expected a number from 0")
        weights[name] = weight
    if len(weights) == len(class_names) and not any(weights.values()):
        raise FerlError("class_weights: all are 0, so there is nothing to learn. Give one above 0")
    return torch.tensor([float(weights.get(name, 1)) for name in class_names])


class _ClassWeighted(Loss):
    """A loss with class weights, (K,), or None."""

    class_weights: Tensor | None

    def __init__(self, class_counts: Sequence[int], weight: float, class_weights: ClassWeights | None) -> None:
        super().__init__()
        self.weight = weight
        self._by_name: ByName | None = None
        weights = None
        if isinstance(class_weights, dict):
            self._by_name = class_weights
            weights = torch.ones(len(class_counts))  # room for those by name
        elif class_weights is not None:
            weights = frequency_weights(class_counts, class_weights)
        # Not kept in checkpoints: they belong to the data, and init_from must not bring those of other data.
        self.register_buffer("class_weights", weights, persistent=False)

    def for_classes(self, class_names: Sequence[str]) -> None:
        if self._by_name is not None:
            self.class_weights = weights_by_name(self._by_name, class_names)
            self._by_name = None

    def _weights(self) -> Tensor | None:
        if self._by_name is not None:
            raise FerlError(f"{type(self).__name__}: class_weights has classes by name: call for_classes first")
        return self.class_weights


class CrossEntropy(_ClassWeighted):
    """Cross-entropy of class indices (B,) or soft labels (B, K), with class weights and label smoothing.

    With class weights, the mean over the batch is weighted by the class of each image, for soft labels too; a batch
    whose images all have the weight 0 costs 0. A soft label of zeros is none: its item adds nothing.

    Args:
        embed_features: E, unused; comes from the head.
        class_counts: training images of each class, (K,); comes from the data.
        weight: factor of this loss in the sum.
        class_weights: ``inverse`` frequency (or ``balanced``), or b in [0, 1) of the effective number of samples (Cui
            et al. 2019), which evens out less the smaller it is, or a mapping such as ``{anger: 2}``, where classes
            that are not named weigh 1, or a list in the order of the classes; null for none.
        label_smoothing: share of the label that is spread evenly over the classes, in [0, 1] (Szegedy et al. 2016).
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
        if not 0 <= label_smoothing <= 1:
            raise FerlError(f"CrossEntropy: label_smoothing is {label_smoothing}, expected a share from 0 to 1")
        self.label_smoothing = label_smoothing

    def forward(self, output: Output, batch: Batch) -> Tensor:
        label, weights = batch["label"], self._weights()
        if weights is None and label.ndim == 1:
            return F.cross_entropy(output.logits, label, label_smoothing=self.label_smoothing)
        if weights is None:
            return soft_cross_entropy(output.logits, label, self.label_smoothing)
        # For soft labels torch's mean divides by B, not by the weights of the classes: mixup would change the scale.
        total = F.cross_entropy(output.logits, label, weights, reduction="sum", label_smoothing=self.label_smoothing)
        weight = (weights[label] if label.ndim == 1 else label @ weights).sum()
        return torch.where(weight > 0, total, 0) / torch.where(weight > 0, weight, 1)


def soft_cross_entropy(logits: Tensor, label: Tensor, smoothing: float) -> Tensor:
    """Mean over the batch of the cross-entropy with soft labels (B, K); a label of zeros is not smoothed either."""
    spread = label.sum(1, keepdim=True) / label.shape[1]
    label = torch.lerp(label, spread.expand_as(label), smoothing)
    return -(label * logits.log_softmax(1)).sum(1).mean()


class FocalLoss(_ClassWeighted):
    """Focal loss -(1 - p)^gamma log p of the true class: easy examples count less.

    Lin et al. 2017, eq. 4, https://arxiv.org/abs/1708.02002. Soft labels (B, K) weigh the terms of the classes.

    Args:
        embed_features: E, unused; comes from the head.
        class_counts: training images of each class, (K,); comes from the data.
        weight: factor of this loss in the sum.
        gamma: focusing exponent, >= 0; 0 is cross-entropy.
        class_weights: the alpha of eq. 5, with the values of ``CrossEntropy``; null for none.
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
        if not 0 <= gamma < math.inf:
            raise FerlError(f"FocalLoss: gamma is {gamma}, expected a number from 0")
        self.gamma = gamma

    def forward(self, output: Output, batch: Batch) -> Tensor:
        label = batch["label"]
        if label.ndim == 1:
            label = F.one_hot(label, output.logits.shape[1])
        log_p = output.logits.log_softmax(1)
        # At p = 1 the power has an infinite slope if gamma < 1, and 0 * inf is not a number.
        miss = (-torch.expm1(log_p)).clamp(min=1e-12)  # 1 - p
        terms = -label * miss**self.gamma * log_p  # (B, K)
        if (weights := self._weights()) is not None:
            terms = terms * weights
        return terms.sum(1).mean()


class MultiTargetLoss(Loss):
    """Minus the log-probability of the most probable class among those accepted: any of them is right.

    Barsoum et al. 2016, eq. 3, https://arxiv.org/abs/1608.01041. The classes with a label above 0 are accepted: the
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
        refused = (label <= 0) & has_label(label).unsqueeze(1)
        log_p = output.logits.log_softmax(1).masked_fill(refused, -torch.inf)
        return -(log_p.amax(1) * has_label(label)).mean()


class HingeLoss(Loss):
    """One-vs-rest hinge loss: sum over the classes of max(0, 1 - t z), t = 1 for the true class and -1 for the others.

    Tang 2013, https://arxiv.org/abs/1306.0239, eq. 5, or squared eq. 6 (L2-SVM), which won the FER2013 challenge. The
    logits z are margins; the mean is over the batch; the penalty on the weights is the optimiser's weight decay. Of
    soft labels (B, K) the most probable class counts. The probabilities in a report are the softmax of the margins:
    their order is meaningful, but they are not calibrated.

    Args:
        embed_features: E, unused; comes from the head.
        class_counts: training images of each class, (K,), unused; comes from the data.
        weight: factor of this loss in the sum.
        squared: square the terms, which makes the loss smooth and weighs violations of the margin by their size.
    """

    def __init__(
        self, embed_features: int, class_counts: Sequence[int], weight: float = 1.0, squared: bool = True
    ) -> None:
        super().__init__()
        self.weight = weight
        self.squared = squared

    def forward(self, output: Output, batch: Batch) -> Tensor:
        z = output.logits
        t = 2.0 * F.one_hot(class_index(batch["label"]), z.shape[1]) - 1  # (B, K)
        miss = torch.relu(1 - t * z)
        terms = (miss.square() if self.squared else miss).sum(1)
        return (terms * has_label(batch["label"])).mean()


class SelfCureWeighting(Loss):
    """Self-cure network: learns an importance in (0, 1) for each item, so that doubtful labels count less.

    The importance a = sigmoid(w . embedding + b) scales the logits of its item: cross-entropy of softmax(a logits).
    Rank regularisation keeps the importances apart: in a batch, the mean of the highest ``high_share`` must exceed that
    of the rest by ``margin``, max(0, margin - (high - low)). The loss is gamma times the second plus (1 - gamma) times
    the first. Wang et al. 2020, section 3, https://arxiv.org/abs/2002.10392, without its relabelling.

    Use it in place of CrossEntropy. The weights w and b belong to this loss: ``lr_scale: {losses.0: 10}`` gives them
    their own rate. The logits of the model are not scaled by a, so its probabilities are sharper than those that were
    trained: calibrate them before you read them as confidences.

    Args:
        embed_features: E, comes from the head.
        class_counts: training images of each class, (K,), unused; comes from the data.
        weight: factor of this loss in the sum.
        high_share: share of a batch in the group of high importance, in (0, 1); the paper's beta.
        margin: by how much the mean importances of the two groups must differ, in [0, 1]; the paper's delta 1.
        gamma: share of the rank regularisation in the loss, in [0, 1).
    """

    def __init__(
        self,
        embed_features: int,
        class_counts: Sequence[int],
        weight: float = 1.0,
        high_share: float = 0.7,
        margin: float = 0.15,
        gamma: float = 0.5,
    ) -> None:
        super().__init__()
        self.weight = weight
        self.high_share = high_share
        self.margin = margin
        self.gamma = gamma
        self.importance = nn.Linear(embed_features, 1)

    def forward(self, output: Output, batch: Batch) -> Tensor:
        importance = torch.sigmoid(self.importance(output.embedding))  # (B, 1)
        classification = F.cross_entropy(importance * output.logits, batch["label"])
        rank = self._rank(importance.flatten(), has_label(batch["label"]))
        return self.gamma * rank + (1 - self.gamma) * classification

    def _rank(self, importance: Tensor, known: Tensor) -> Tensor:
        """By how much the mean importances of the two groups of items with a label fall short of the margin."""
        # Shapes depend on no values: a CUDA graph could not have it otherwise.
        n, place = known.sum(), torch.arange(len(known), device=known.device)
        ranked = importance.masked_fill(~known, -1).sort(descending=True).values  # those without a label come last
        high = torch.minimum((self.high_share * n).long().clamp(min=1), n - 1)
        groups = (place < high, (place >= high) & (place < n))
        first, second = (torch.where(of, ranked, 0).sum() / of.sum().clamp(min=1) for of in groups)
        return (self.margin - (first - second)).relu() * (n > 1)  # one item makes no two groups
