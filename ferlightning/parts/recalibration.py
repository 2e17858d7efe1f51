"""Attention inside backbones: reweighs the channels and cells of feature maps (N, D, H', W')."""

from torch import Tensor

from ferlightning.contracts.modules import Recalibration


class SqueezeExcitation(Recalibration):
    """Squeeze and excitation: each channel times sigmoid(W2 relu(W1 z)), where z are the means of the channels.

    Hu et al. 2018, eq. 2-4, https://arxiv.org/abs/1709.01507, by timm. (N, D, H', W') -> (N, D, H', W').

    Args:
        in_features: D, comes from the stage of the backbone.
        reduction: r; the hidden layer has D / r units, rounded to a multiple of 8, at least 8.
    """

    def __init__(self, in_features: int, reduction: int = 16) -> None:
        super().__init__()
        from timm.layers.squeeze_excite import SEModule  # late: importing timm takes seconds

        self.excite = SEModule(in_features, rd_ratio=1 / reduction, rd_divisor=8, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        reweighed: Tensor = self.excite(x)
        return reweighed


class CBAM(Recalibration):
    """Convolutional block attention module: which channels matter, then which cells.

    Channels: x' = x sigmoid(MLP(mean over cells) + MLP(maximum over cells)), with one MLP for both. Cells: x'' = x'
    sigmoid(f([mean over channels; maximum over channels])), where f is a 7x7 convolution with batch norm. Woo et al.
    2018, eq. 1-3, https://arxiv.org/abs/1807.06521, by timm; the batch norm is that of the authors' code.
    (N, D, H', W') -> (N, D, H', W').

    Args:
        in_features: D, comes from the stage of the backbone.
        reduction: r; the hidden layer of the MLP has D / r units, rounded to a multiple of 8, at least 8.
    """

    def __init__(self, in_features: int, reduction: int = 16) -> None:
        super().__init__()
        from timm.layers.cbam import CbamModule  # late: importing timm takes seconds

        self.attend = CbamModule(in_features, rd_ratio=1 / reduction, rd_divisor=8)

    def forward(self, x: Tensor) -> Tensor:
        reweighed: Tensor = self.attend(x)
        return reweighed
