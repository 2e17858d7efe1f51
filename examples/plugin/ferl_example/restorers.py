"""A restorer: images (N, C, H, W) in [0, 1] to cleaner images of the same shape."""

import torch
from torch import Tensor
from torch.nn import functional as F

from ferlightning.contracts import Restorer


class GaussianBlur(Restorer):
    """Smooths images by a Gaussian of fixed width, the simplest way to reduce sensor noise: (N, C, H, W) to the same.

    Args:
        sigma: standard deviation, pixels, > 0.
    """

    def __init__(self, sigma: float = 1.0) -> None:
        super().__init__()
        self.radius = max(1, round(3 * sigma))
        x = torch.arange(-self.radius, self.radius + 1)
        kernel = torch.exp(-(x**2) / (2 * sigma**2))
        self.kernel: Tensor
        # A buffer, not an attribute, so that it moves to the device with the model.
        self.register_buffer("kernel", kernel / kernel.sum())

    def forward(self, images: Tensor) -> Tensor:
        c, r = images.shape[1], self.radius
        # Edges are repeated, because zeros would darken the border.
        images = F.pad(images, (r, r, r, r), mode="replicate")
        rows = F.conv2d(images, self.kernel.view(1, 1, -1, 1).expand(c, 1, -1, 1), groups=c)
        return F.conv2d(rows, self.kernel.view(1, 1, 1, -1).expand(c, 1, 1, -1), groups=c)  # (N, C, H, W)
