"""Losses that compare the items of a batch with each other."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ferlightning.contracts import Batch, Loss, Output
from ferlightning.errors import FerlError


class SupervisedContrastive(Loss):
    """Supervised contrastive loss: draws the embeddings of a class together and away from those of the others.

    Mean over the anchors i of -1 / |P(i)| sum over p in P(i) of log(exp(z_i z_p / t) / sum over a != i of exp(z_i z_a /
    t)), z the embeddings at unit length and P(i) the other items of i's class. Khosla et al. 2020, eq. 2,
    https://arxiv.org/abs/2004.11362. A batch holds one view of an item, so its positives are other items; an item
    without any is no anchor, and a batch without any costs 0. The larger the batch, the better; over several devices
    each compares its own items. Class indices only.

    Args:
        embed_features: E, unused; comes from the head.
        class_counts: training images of each class, (K,), unused; comes from the data.
        weight: factor of this loss in the sum.
        temperature: t, > 0; the lower, the more the nearest neighbours count.
    """

    def __init__(
        self, embed_features: int, class_counts: Sequence[int], weight: float = 1.0, temperature: float = 0.1
    ) -> None:
        super().__init__()
        self.weight = weight
        self.temperature = temperature

    def forward(self, output: Output, batch: Batch) -> Tensor:
        label = batch["label"]
        if label.ndim == 2:
            raise FerlError(
                "SupervisedContrastive: needs one class an item, but the labels are probabilities: train on majority "
                "labels and leave out augmentations that mix images"
            )
        others = ~torch.eye(len(label), dtype=torch.bool, device=label.device)
        positives = (label[:, None] == label) & others  # (B, B)
        anchors = positives.any(1)
        z = F.normalize(output.embedding, dim=1)
        with torch.autocast(z.device.type, enabled=False):  # half precision would round what is divided by t
            similarity = (z @ z.T / self.temperature)[anchors]  # (A, B)
        others, positives = others[anchors], positives[anchors]
        log_p = similarity - similarity.masked_fill(~others, -torch.inf).logsumexp(1, keepdim=True)
        terms = -(log_p * positives).sum(1) / positives.sum(1)
        return terms.sum() / max(len(terms), 1)  # a sum, as the mean of no terms is not a number
