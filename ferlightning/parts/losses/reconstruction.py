"""Losses on images: of a restorer, and of a decoder of the embedding."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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
        return _mean_squared(output.restored - batch["image"], batch)


class ImageDecoder(Loss):
    """Mean squared error of the image that a decoder makes of the embedding, over the real frames of the batch.

    Beside cross-entropy it asks the embedding to keep what the face looks like. The decoder, a linear layer and three
    transposed convolutions that each double height and width (Dumoulin and Visin 2016, section 4,
    https://arxiv.org/abs/1603.07285), is part of the loss: it is trained and saved with the network, and no prediction
    needs it. It makes one grey image in [0, 1], which is compared with each frame in grey. It reads no label.

    Args:
        embed_features: E, comes from the head.
        class_counts: training images of each class, (K,), unused; comes from the data.
        weight: factor of this loss in the sum.
        size: height and width of the decoded image, pixels; those of the batch are brought to it.

    Raises:
        FerlError: the size is no multiple of 8.
    """

    def __init__(self, embed_features: int, class_counts: Sequence[int], weight: float = 1.0, size: int = 48) -> None:
        super().__init__()
        if size < 8 or size % 8:
            raise FerlError(f"ImageDecoder: size is {size}, it must be a multiple of 8")
        self.weight, self.size = weight, size
        side = size // 8
        self.decode = nn.Sequential(
            nn.Linear(embed_features, 64 * side**2), nn.ReLU(), nn.Unflatten(1, (64, side, side)),
            nn.ConvTranspose2d(64, 32, 4, 2, 1), nn.ReLU(),
            nn.ConvTranspose2d(32, 16, 4, 2, 1), nn.ReLU(),
            nn.ConvTranspose2d(16, 1, 4, 2, 1), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, output: Output, batch: Batch) -> Tensor:
        grey = batch["image"].mean(2)  # (B, T, H, W)
        grey = F.interpolate(grey, (self.size, self.size), mode="bilinear", antialias=True)
        decoded = self.decode(output.embedding).float()  # (B, 1, size, size)
        return _mean_squared((decoded - grey).unsqueeze(2), batch)


def _mean_squared(difference: Tensor, batch: Batch) -> Tensor:
    """The mean square of (B, T, C, H, W) over the real frames."""
    error = difference.square().mean((2, 3, 4))  # (B, T)
    if "mask" not in batch:
        return error.mean()
    return (error * batch["mask"]).sum() / batch["mask"].sum()
