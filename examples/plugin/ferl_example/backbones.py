"""A backbone: images (N, C, H, W) to a feature map (N, D, H', W')."""

from collections.abc import Sequence

from torch import Tensor, nn

from ferlightning.contracts import Backbone


class TinyNet(Backbone):
    """Depthwise-separable convolutional network, small enough for a CPU.

    Howard et al. 2017 (MobileNets), section 3.1, https://arxiv.org/abs/1704.04861. Each stage halves height and
    width: (N, C, 48, 48) -> (N, 64, 6, 6) by default.

    Args:
        in_channels: C, 1 for grey and 3 for RGB; comes from the data.
        channels: width of each stage; the last one is D.
    """

    def __init__(self, in_channels: int, channels: Sequence[int] = (16, 32, 64)) -> None:
        super().__init__()
        self.out_features = channels[-1]
        layers: list[nn.Module] = [nn.Conv2d(in_channels, channels[0], 3, padding=1, bias=False)]
        before = channels[0]
        for width in channels:
            layers += [
                nn.BatchNorm2d(before),
                nn.ReLU(),
                nn.Conv2d(before, before, 3, stride=2, padding=1, groups=before, bias=False),  # within each channel
                nn.Conv2d(before, width, 1, bias=False),  # then across channels
            ]
            before = width
        self.layers = nn.Sequential(*layers, nn.BatchNorm2d(before), nn.ReLU())

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.layers(images)  # (N, D, H / 2^S, W / 2^S)
        return features
