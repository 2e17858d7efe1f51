"""Residual networks for small faces."""

from collections.abc import Callable, Sequence
from typing import cast

from torch import Tensor, nn

from ferlightning.contracts.modules import Backbone, Recalibration
from ferlightning.errors import FerlError
from ferlightning.parts.backbones.strided import subsample_first


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2016, figure 2): (N, in, H, W) -> (N, out, H / s, W / s)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        recalibration: Callable[[int], Recalibration] | None = None,
        averaged_shortcut: bool = False,
    ) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            *([recalibration(out_channels)] if recalibration else []),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            averaged = averaged_shortcut and stride != 1
            self.shortcut = nn.Sequential(
                *([nn.AvgPool2d(stride)] if averaged else []),
                nn.Conv2d(in_channels, out_channels, 1, 1 if averaged else stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.relu(self.residual(x) + self.shortcut(x))
        return y


class ResNet(Backbone):
    """Residual network for small faces, whose 3x3 stem keeps the size of the image (ImageNet's quarters it).

    He et al. 2016, section 4.2, https://arxiv.org/abs/1512.03385. Each stage halves height and width, but the first
    only with ``first_stride: 2``: (N, C, 48, 48) -> (N, 256, 6, 6) by default.

    Args:
        in_channels: C, 1 for grey and 3 for RGB; comes from the data.
        channels: width of each stage; the last one is D.
        blocks: residual blocks of each stage; (2, 2, 2, 2) with channels (64, 128, 256, 512) is ResNet-18.
        first_stride: stride of the first stage; 2 makes the network about four times cheaper.
        stem: widths of 3x3 convolutions, with batch norm and ReLU, before that of the stem.
        stem_stride: stride of the stem's last convolution.
        averaged_shortcut: where a block halves the image, average 2x2 cells before the shortcut's 1x1 convolution,
            which otherwise sees a quarter of them (He et al. 2019, https://arxiv.org/abs/1812.01187, figure 2c).
        start_as_shortcut: start with batch norms at 0 at the end of each residual, so that a block is its shortcut
            at first, and with Kaiming's normal weights (the same, section 3.1).
        recalibration: attention over channels or cells, such as SqueezeExcitation or CBAM, on the residual of each
            block before the shortcut is added; null for none.
    """

    def __init__(
        self,
        in_channels: int,
        channels: Sequence[int] = (32, 64, 128, 256),
        blocks: Sequence[int] = (2, 2, 2, 2),
        first_stride: int = 1,
        recalibration: Callable[[int], Recalibration] | None = None,
        stem: Sequence[int] = (),
        stem_stride: int = 1,
        averaged_shortcut: bool = False,
        start_as_shortcut: bool = False,
    ) -> None:
        super().__init__()
        if len(blocks) != len(channels):
            raise FerlError(
                f"ResNet: channels={list(channels)} and blocks={list(blocks)} must be of one length, one entry a stage"
            )
        self.out_features = channels[-1]
        layers: list[nn.Module] = []
        width = in_channels
        for out, stride in [*((out, 1) for out in stem), (channels[0], stem_stride)]:
            layers += [nn.Conv2d(width, out, 3, stride, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
            width = out
        for stage, (out, count) in enumerate(zip(channels, blocks, strict=True)):
            for block in range(count):
                stride = 1 if block > 0 else first_stride if stage == 0 else 2
                layers.append(BasicBlock(width, out, stride, recalibration, averaged_shortcut))
                width = out
        self.layers = nn.Sequential(*layers)
        subsample_first(self.layers)
        if start_as_shortcut:
            for module in self.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                elif isinstance(module, BasicBlock):
                    nn.init.zeros_(cast(nn.BatchNorm2d, module.residual[4]).weight)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.layers(images)  # (N, D, H', W')
        return features
