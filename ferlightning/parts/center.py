"""Centre loss: the distance of embeddings to the centre of their class."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ferlightning.contracts import Batch, Loss, Output, class_index, sum_over_processes


class CenterLoss(Loss):
    """Half the squared distance of an embedding to the centre of its class, 1/2 ||x - c_y||^2, mean over the batch.

    Wen et al. 2016, https://doi.org/10.1007/978-3-319-46478-7_31, eq. 2 to 4. The centres start at 0 and move after
    the loss of each training batch by alpha * sum(x - c) / (1 + n) over the n items of their class. With several
    processes n and the sum are over all, so that one set of centres results. No gradient reaches them. Of soft labels
    (B, K) the most probable class counts.

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
        x, label = output.embedding, class_index(batch["label"])
        loss = (x - self.centers[label]).square().sum(1).mean() / 2
        if self.training:
            self._move(x.detach(), label)
        return loss

    def _move(self, x: Tensor, label: Tensor) -> None:
        one_hot = F.one_hot(label, len(self.centers)).to(x.dtype)  # (B, K)
        # The sum over each class and its number of items side by side: one message instead of two.
        totals = sum_over_processes(one_hot.T @ torch.cat([x, torch.ones_like(x[:, :1])], 1))  # (K, E + 1)
        sums, n = totals[:, :-1], totals[:, -1:]
        self.centers += self.alpha * (sums - n * self.centers) / (1 + n)
