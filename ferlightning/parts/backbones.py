"""Backbones: images (N, C, H, W) to a feature map (N, D, H', W')."""

from collections.abc import Sequence
from typing import Any

import timm
from torch import Tensor, nn

from ferlightning.contracts import Backbone
from ferlightning.errors import FerlError


class ConvStack(Backbone):
    """Plain convolutional stack: stages of (3x3 convolution, batch norm, ReLU), each ended by 2x2 max-pooling.

    The feature extractor of most CNN-LSTM papers on facial expressions, after VGG (Simonyan and Zisserman 2015,
    https://arxiv.org/abs/1409.1556). A stage halves height and width: (N, C, 48, 48) -> (N, 128, 6, 6) by default.

    Args:
        in_channels: C, 1 for grey and 3 for RGB; comes from the data.
        channels: width of each stage; the last one is D.
        depth: convolutions in each stage.
        dropout: probability of dropping a whole channel after each stage, in [0, 1).
    """

    def __init__(
        self, in_channels: int, channels: Sequence[int] = (32, 64, 128), depth: int = 2, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.out_features = channels[-1]
        layers: list[nn.Module] = []
        for width in channels:
            for _ in range(depth):
                layers += [nn.Conv2d(in_channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
                in_channels = width
            layers += [nn.MaxPool2d(2), nn.Dropout2d(dropout)]
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.layers(images)  # (N, D, H / 2^S, W / 2^S)
        return features


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2016, figure 2): (N, in, H, W) -> (N, out, H / s, W / s)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.relu(self.residual(x) + self.shortcut(x))
        return y


class ResNet(Backbone):
    """Residual network for small faces: a 3x3 stem that keeps the size, where ImageNet's would quarter it.

    He et al. 2016, section 4.2, https://arxiv.org/abs/1512.03385. Every stage halves height and width, the first one
    only if ``first_stride`` is 2: (N, C, 48, 48) -> (N, 256, 6, 6) by default.

    Args:
        in_channels: C, 1 for grey and 3 for RGB; comes from the data.
        channels: width of each stage; the last one is D.
        blocks: residual blocks of each stage; (2, 2, 2, 2) with channels (64, 128, 256, 512) is ResNet-18.
        first_stride: stride of the first stage; 2 makes the network about four times cheaper.
    """

    def __init__(
        self,
        in_channels: int,
        channels: Sequence[int] = (32, 64, 128, 256),
        blocks: Sequence[int] = (2, 2, 2, 2),
        first_stride: int = 1,
    ) -> None:
        super().__init__()
        if len(blocks) != len(channels):
            raise FerlError(
                f"ResNet: channels={list(channels)} and blocks={list(blocks)} must be of one length, one entry a stage"
            )
        self.out_features = channels[-1]
        layers: list[nn.Module] = [
            nn.Conv2d(in_channels, channels[0], 3, padding=1, bias=False), nn.BatchNorm2d(channels[0]), nn.ReLU(),
        ]  # fmt: skip
        width = channels[0]
        for stage, (out, count) in enumerate(zip(channels, blocks, strict=True)):
            for block in range(count):
                first = block == 0
                layers.append(BasicBlock(width, out, (first_stride if stage == 0 else 2) if first else 1))
                width = out
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.layers(images)  # (N, D, H', W')
        return features


class Timm(Backbone):
    """Any convolutional or hierarchical model of timm as a feature extractor.

    Wightman, https://github.com/huggingface/pytorch-image-models. Pre-trained first convolutions are folded to C
    channels by timm, so ImageNet weights serve grey images too.

    Args:
        in_channels: C, 1 for grey and 3 for RGB; comes from the data.
        name: timm's name of the model, as ``resnet18`` or ``efficientnet_b0.ra_in1k``.
        pretrained: start from timm's published weights (downloads them on first use).
        drop_path_rate: stochastic depth of models that know it, in [0, 1).
    """

    def __init__(
        self, in_channels: int, name: str = "resnet18", pretrained: bool = False, drop_path_rate: float = 0.0
    ) -> None:
        super().__init__()
        # Not every model takes drop_path_rate, so it is passed only when asked for.
        options: dict[str, Any] = {"drop_path_rate": drop_path_rate} if drop_path_rate else {}
        try:
            self.model: Any = timm.create_model(
                name, pretrained=pretrained, in_chans=in_channels, features_only=True, out_indices=(-1,), **options
            )
        except (RuntimeError, TypeError) as error:
            raise FerlError(
                f"Timm: cannot build {name!r} as a feature extractor: {error}. "
                f"timm.list_models('*{name.split('_')[0]}*') shows the names; it must support features_only"
            ) from error
        info: Any = self.model.feature_info
        self.out_features = info.channels()[-1]

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.model(images)[0]
        # Models with channels last, such as Swin, say so in their feature info.
        if getattr(self.model, "output_fmt", "NCHW") == "NHWC":
            features = features.permute(0, 3, 1, 2)
        return features
