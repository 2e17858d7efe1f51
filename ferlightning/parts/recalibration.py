"""Attention inside backbones: feature maps (N, D, H', W') to the same, with channels and cells reweighed."""

import torch
from torch import Tensor, nn

from ferlightning.contracts.modules import Recalibration


def _bottleneck(features: int, reduction: int) -> int:
    """Width of the hidden layer: never below 8, as the early stages of networks for small faces are narrow."""
    return max(8, features // reduction)


class SqueezeExcitation(Recalibration):
    """Squeeze and excitation: each channel times sigmoid(W2 relu(W1 z)), z the means of the channels.

    Hu et al. 2018, eq. 2-4, https://arxiv.org/abs/1709.01507. (N, D, H', W') -> (N, D, H', W').

    Args:
        in_features: D, comes from the stage of the backbone.
        reduction: r, the hidden layer has D / r units, 8 at the least.
    """

    def __init__(self, in_features: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = _bottleneck(in_features, reduction)
        self.excite = nn.Sequential(
            nn.Linear(in_features, hidden, bias=False), nn.ReLU(),
            nn.Linear(hidden, in_features, bias=False), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        gate: Tensor = self.excite(x.mean((2, 3)))  # (N, D)
        return x * gate[:, :, None, None]


class CBAM(Recalibration):
    """Convolutional block attention module: which channels matter, then which cells.

    Channels: x' = x sigmoid(MLP(mean over cells) + MLP(maximum over cells)), one MLP for both. Cells: x'' = x'
    sigmoid(f([mean over channels; maximum over channels])), f a 7x7 convolution. Woo et al. 2018, eq. 1-3,
    https://arxiv.org/abs/1807.06521. (N, D, H', W') -> (N, D, H', W').

    Args:
        in_features: D, comes from the stage of the backbone.
        reduction: r, the hidden layer of the MLP has D / r units, 8 at the least.
    """

    def __init__(self, in_features: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = _bottleneck(in_features, reduction)
        self.mlp = nn.Sequential(nn.Linear(in_features, hidden), nn.ReLU(), nn.Linear(hidden, in_features))
        self.spatial = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        channels = torch.sigmoid(self.mlp(x.mean((2, 3))) + self.mlp(x.amax((2, 3))))  # (N, D)
        x = x * channels[:, :, None, None]
        cells = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)  # (N, 2, H', W')
        return x * torch.sigmoid(self.spatial(cells))
