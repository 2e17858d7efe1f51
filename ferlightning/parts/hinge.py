"""Hinge loss: a linear support vector machine in the place of softmax."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ferlightning.contracts import Batch, Loss, Output, class_index


class HingeLoss(Loss):
    """One-vs-rest hinge loss: sum over the classes of max(0, 1 - t z), t = 1 for the true class and -1 for the others.

    Tang 2013, https://arxiv.org/abs/1306.0239, eq. 5, and squared eq. 6 (L2-SVM), which won the FER2013 challenge. The
    logits z are margins, the mean is over the batch; the penalty on the weights is the optimiser's weight decay. Of
    soft labels (B, K) the most probable class counts. The probabilities in a report are the softmax of the margins:
    their order means something, their values are not calibrated.

    Args:
        embed_features: E, unused; comes from the head.
        class_counts: training images of each class, (K,), unused; comes from the data.
        weight: factor of this loss in the sum.
        squared: square the terms, which weighs violations of the margin by their size and is smooth.
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
        return (miss.square() if self.squared else miss).sum(1).mean()
