"""Losses on the embedding: how far items lie from the centre of their class, and from each other."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ferlightning.contracts.modules import Batch, Loss, Output, class_index, has_label, sum_over_processes
from ferlightning.errors import FerlError


class CenterLoss(Loss):
    """Half the squared distance of an embedding to the centre of its class, 1/2 ||x - c_y||^2, mean over the batch.

    Wen et al. 2016, https://doi.org/10.1007/978-3-319-46478-7_31, eq. 2 to 4. The centres start at 0. After the loss of
    each training batch they move by alpha * sum(x - c) / (1 + n) over the n items of their class, in all processes
    together, so that all have the same centres. No gradient reaches them. Of soft labels (B, K) the most probable class
    counts.

    Args:
        embed_features: E, comes from the head.
        class_counts: training images of each class, (K,); comes from the data.
        weight: factor of this loss in the sum, the paper's lambda.
        alpha: rate at which the centres move, in [0, 1].
    """

    def __init__(
        self, embed_features: int, class_counts: Sequence[int], weight: float = 0.003, alpha: float = 0.5
    ) -> None:
        super().__init__()
        self.weight = weight
        self.alpha = alpha
        self.centers: Tensor
        self.register_buffer("centers", torch.zeros(len(class_counts), embed_features))

    def forward(self, output: Output, batch: Batch) -> Tensor:
        x, label, known = output.embedding, class_index(batch["label"]), has_label(batch["label"])
        loss = ((x - self.centers[label]).square().sum(1) * known).mean() / 2
        if self.training:
            self._move(x.detach(), label, known)
        return loss

    def _move(self, x: Tensor, label: Tensor, known: Tensor) -> None:
        one_hot = (F.one_hot(label, self.centers.shape[0]) * known.unsqueeze(1)).to(x.dtype)  # (B, K)
        # The sum of each class and its number of items side by side: one message between processes instead of two.
        totals = sum_over_processes(one_hot.T @ torch.cat([x, torch.ones_like(x[:, :1])], 1))  # (K, E + 1)
        sums, n = totals[:, :-1], totals[:, -1:]
        self.centers += self.alpha * (sums - n * self.centers) / (1 + n)


class SupervisedContrastive(Loss):
    """Supervised contrastive loss: draws the embeddings of a class together and away from those of other classes.

    Mean over the anchors i of -1 / |P(i)| sum over p in P(i) of log(exp(z_i z_p / t) / sum over a != i of exp(z_i z_a /
    t)), where z are the embeddings at unit length and P(i) the other items of i's class. Khosla et al. 2020, eq. 2,
    https://arxiv.org/abs/2004.11362. A batch holds one view of each item, so its positives are other items; an item
    without positives is no anchor, and a batch without anchors costs 0. Larger batches are better; each of several
    devices compares its own items. Class indices only.

    Args:
        embed_features: E, unused; comes from the head.
        class_counts: training images of each class, (K,), unused; comes from the data.
        weight: factor of this loss in the sum.
        temperature: t, > 0; the lower it is, the more the nearest neighbours count.

    Raises:
        FerlError: the temperature is not above 0, or the labels are probabilities.
    """

    def __init__(
        self, embed_features: int, class_counts: Sequence[int], weight: float = 1.0, temperature: float = 0.1
    ) -> None:
        super().__init__()
        if not temperature > 0:
            raise FerlError(f"SupervisedContrastive: temperature is {temperature}, expected a number above 0")
        self.weight = weight
        self.temperature = temperature

    def forward(self, output: Output, batch: Batch) -> Tensor:
        label = batch["label"]
        if label.ndim == 2:
            raise FerlError(
                "SupervisedContrastive: needs one class an item, but the labels are probabilities: train on majority "
                "labels, without augmentations that mix images"
            )
        others = ~torch.eye(label.shape[0], dtype=torch.bool, device=label.device)
        positives = (label[:, None] == label) & others  # (B, B)
        anchors = positives.any(1)
        z = F.normalize(output.embedding, dim=1)
        with torch.autocast(z.device.type, enabled=False):  # half precision would round what is divided by t
            similarity = (z @ z.T / self.temperature)[anchors]  # (A, B)
        others, positives = others[anchors], positives[anchors]
        log_p = similarity - similarity.masked_fill(~others, -torch.inf).logsumexp(1, keepdim=True)
        terms = -(log_p * positives).sum(1) / positives.sum(1)
        return terms.sum() / max(terms.shape[0], 1)  # not the mean, which of no terms is not a number
