"""The loss of a restorer."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ferlightning.contracts.modules import Batch, Loss, Output
from ferlightning.errors import FerlError


class Reconstruction(Loss):
    """Mean squared error of the restored images against those of the batch, over the real frames.

    Alone it pre-trains the restorer; beside cross-entropy it keeps a jointly trained restorer from drifting. What the
    restorer does in train mode only, such as corrupting its input, does not enter the value on validation unless the
    restorer is set to do so: see ``DenoisingAutoencoder``. It reads no label.

    Args:
        embed_features: E, unused; comes from the head.
        class_counts: training images of each class, (K,), unused; comes from the data.
        weight: factor of this loss in the sum.
    """

    def __init__(self, embed_features: int, class_counts: Sequence[int], weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, output: Output, batch: Batch) -> Tensor:
        if torch.is_grad_enabled() and not output.restored.requires_grad:
            raise FerlError("Reconstruction: there is no restorer to train; set model.restorer, and do not freeze it")
        error = (output.restored - batch["image"]).square().mean((2, 3, 4))  # (B, T)
        if "mask" not in batch:
            return error.mean()
        return (error * batch["mask"]).sum() / batch["mask"].sum()
