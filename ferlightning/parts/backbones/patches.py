"""A backbone that extracts nothing: the pixels themselves."""

from torch import Tensor
from torch.nn import functional as F

from ferlightning.contracts.modules import Backbone


class Patches(Backbone):
    """Patches of the image as features, pixel by pixel, without weights: (N, C, H, W) -> (N, C * s * s, H / s, W / s).

    A CNN-LSTM without its feature extraction, as in the ablation of Singh et al. 2025, Table 1. The image is first
    resized to ``cells`` patches a side.

    Args:
        in_channels: C, 1 for grey and 3 for RGB; comes from the data.
        cells: patches along height and width.
        size: height and width of a patch, pixels.
    """

    def __init__(self, in_channels: int, cells: int = 6, size: int = 8) -> None:
        super().__init__()
        self.out_features = in_channels * size * size
        self.cells = cells
        self.size = size

    def forward(self, images: Tensor) -> Tensor:
        side = self.cells * self.size
        resized = F.interpolate(images, (side, side), mode="bilinear", antialias=True)
        return F.pixel_unshuffle(resized, self.size)
