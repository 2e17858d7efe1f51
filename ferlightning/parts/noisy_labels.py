"""Losses for labels that are partly wrong, as those of FER2013 are."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ferlightning.contracts import Batch, Loss, Output


class SelfCureWeighting(Loss):
    """Self-cure network: an importance in (0, 1) learned for each item, so that doubtful labels count less.

    The importance a = sigmoid(w . embedding + b) scales the logits of its item: cross-entropy of softmax(a logits).
    Rank regularisation keeps the importances apart: in a batch, the mean of the highest ``high_share`` must exceed that
    of the rest by ``margin``, max(0, margin - (high - low)). The loss is gamma times the second plus (1 - gamma) times
    the first. Wang et al. 2020, section 3, https://arxiv.org/abs/2002.10392, without its relabelling.

    It takes the place of CrossEntropy. The weights w and b belong to this loss: ``lr_scale: {losses.0: 10}`` gives them
    a rate of their own. As the model's own logits are not scaled by a, its probabilities are sharper than those that
    were trained: calibrate them before they are read as confidences.

    Args:
        embed_features: E, comes from the head.
        class_counts: training images of each class, (K,), unused; comes from the data.
        weight: factor of this loss in the sum.
        high_share: share of a batch that is held to be of high importance, in (0, 1); the paper's beta.
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
        return self.gamma * self._rank(importance.flatten()) + (1 - self.gamma) * classification

    def _rank(self, importance: Tensor) -> Tensor:
        """How far the mean importances of the two groups fall short of the margin, (B,) -> scalar."""
        n = len(importance)
        if n < 2:  # one item makes no two groups
            return importance.new_zeros(())
        ranked = importance.sort(descending=True).values
        high = min(max(int(self.high_share * n), 1), n - 1)
        return (self.margin - (ranked[:high].mean() - ranked[high:].mean())).relu()
