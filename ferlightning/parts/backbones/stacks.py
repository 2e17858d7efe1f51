"""Plain stacks of convolutions."""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from ferlightning.contracts.modules import Backbone, Recalibration
from ferlightning.errors import FerlError


class _Stack(Backbone):
    """The frame of the plain stacks: stages of convolutions, each followed by pooling, recalibration and dropout.

    The largest of four is taken before the stage's last ReLU: the result is the same, and the ReLU has a quarter to do.
    """

    def __init__(
        self,
        in_channels: int,
        channels: Sequence[int] = (32, 64, 128),
        depth: int | Sequence[int] = 2,
        dropout: float = 0.0,
        pools: int | None = None,
        batch_norm: bool = True,
        recalibration: Callable[[int], Recalibration] | None = None,
    ) -> None:
        super().__init__()
        if not channels or min(channels) < 1:
            raise FerlError(f"{type(self).__name__}: channels={list(channels)} must be numbers from 1, at least one")
        pools = len(channels) if pools is None else pools
        depths = [depth] * len(channels) if isinstance(depth, int) else list(depth)
        if len(depths) != len(channels):
            raise FerlError(
                f"{type(self).__name__}: depth={depths} must be one number, or one for each of {len(channels)} stages"
            )
        if not 0 <= pools <= len(channels):
            raise FerlError(
                f"{type(self).__name__}: pools={pools} must be between 0 and the number of stages, {len(channels)}"
            )
        self.out_features = channels[-1]
        layers: list[nn.Module] = []
        for stage, width in enumerate(channels):
            for _ in range(depths[stage]):
                layers += self.convolution(in_channels, width, batch_norm, first=not layers)
                in_channels = width
            if stage < pools:
                layers.insert(-1, nn.MaxPool2d(2))
            if recalibration:
                layers.append(recalibration(width))
            layers.append(nn.Dropout2d(dropout))
        self.layers = nn.Sequential(*layers)

    def convolution(self, in_channels: int, out_channels: int, batch_norm: bool, first: bool) -> list[nn.Module]:
        """Make the layers of one convolution; the ``first`` one reads the images."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.layers(images)  # (N, D, H / 2^pools, W / 2^pools)
        return features


def _convolution(in_channels: int, out_channels: int, kernel: int, norm: bool, groups: int = 1) -> list[nn.Module]:
    """Make a convolution that keeps height and width, batch norm if wanted, and ReLU."""
    convolution = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, groups=groups, bias=not norm)
    return [convolution, nn.BatchNorm2d(out_channels), nn.ReLU()] if norm else [convolution, nn.ReLU()]


class ConvStack(_Stack):
    """Plain convolutional stack: stages of (3x3 convolution, batch norm, ReLU), each followed by 2x2 max-pooling.

    The feature extractor of most CNN-LSTM papers on facial expressions, after VGG (Simonyan and Zisserman 2015,
    https://arxiv.org/abs/1409.1556). Pooling halves height and width: (N, C, 48, 48) -> (N, 128, 6, 6) by default.

    Args:
        in_channels: C, 1 for grey and 3 for RGB; comes from the data.
        channels: width of each stage; the last one is D.
        depth: convolutions in each stage; one number for all, or a list.
        dropout: probability of dropping a whole channel after each stage, in [0, 1).
        pools: number of stages that end in pooling, counted from the first; null for all.
        batch_norm: use batch norm after each convolution; without it, convolutions have a bias.
        recalibration: attention over channels or cells, such as CBAM, after each stage; null for none.
    """

    def convolution(self, in_channels: int, out_channels: int, batch_norm: bool, first: bool) -> list[nn.Module]:
        return _convolution(in_channels, out_channels, 3, batch_norm)


class DepthwiseStack(_Stack):
    """Stack of depthwise separable convolutions (DSCNN): ConvStack for a seventh of its multiply-adds.

    A separable convolution filters each channel by its own 3x3 kernel, then mixes the channels by a 1x1 convolution,
    each with batch norm and ReLU. The first convolution, which reads the images, is plain. Howard et al. 2017
    (MobileNets), section 3.1 and table 1, https://arxiv.org/abs/1704.04861. Shapes are those of ConvStack.

    Args:
        in_channels: C, 1 for grey and 3 for RGB; comes from the data.
        channels: width of each stage; the last one is D.
        depth: separable convolutions in each stage; one number for all, or a list.
        dropout: probability of dropping a whole channel after each stage, in [0, 1).
        pools: number of stages that end in pooling, counted from the first; null for all.
        batch_norm: use batch norm after each convolution; without it, convolutions have a bias.
        recalibration: attention over channels or cells, such as CBAM, after each stage; null for none.
    """

    def convolution(self, in_channels: int, out_channels: int, batch_norm: bool, first: bool) -> list[nn.Module]:
        if first:
            return _convolution(in_channels, out_channels, 3, batch_norm)
        depthwise = _convolution(in_channels, in_channels, 3, batch_norm, groups=in_channels)
        return depthwise + _convolution(in_channels, out_channels, 1, batch_norm)
