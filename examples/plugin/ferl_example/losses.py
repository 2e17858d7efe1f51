"""A loss: (Output, Batch) to a scalar."""

from collections.abc import Sequence

from torch import Tensor

from ferlightning.contracts import Batch, Loss, Output


class ConfidencePenalty(Loss):
    """Negative entropy of the prediction; added to a cross-entropy, it reduces overconfidence.

    Pereyra et al. 2017, section 3, https://arxiv.org/abs/1701.06548. It reads no labels, so soft labels are fine.

    Args:
        embed_features: E, unused; comes from the head.
        class_counts: training images of each class, unused; comes from the data.
        weight: factor of this loss in the sum, the beta of the paper.
    """

    def __init__(self, embed_features: int, class_counts: Sequence[int], weight: float = 0.1) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, output: Output, batch: Batch) -> Tensor:
        log_p = output.logits.log_softmax(1)  # (B, K)
        return (log_p.exp() * log_p).sum(1).mean()
