"""Backbones: images (N, C, H, W) to a feature map (N, D, H', W')."""

from collections.abc import Callable, Sequence
from typing import Any

import timm
from torch import Tensor, nn

from ferlightning.contracts import Backbone, Recalibration
from ferlightning.errors import FerlError


class _Stack(Backbone):
    """What the plain stacks share: stages of convolutions, then pooling, recalibration and dropout."""

    def __init__(
        self,
        in_channels: int,
        channels: Sequence[int] = (32, 64, 128),
        depth: int = 2,
        dropout: float = 0.0,
        pools: int | None = None,
        batch_norm: bool = True,
        recalibration: Callable[[int], Recalibration] | None = None,
    ) -> None:
        super().__init__()
        pools = len(channels) if pools is None else pools
        if not 0 <= pools <= len(channels):
            raise FerlError(
                f"{type(self).__name__}: pools={pools} must be between 0 and the number of stages, {len(channels)}"
            )
        self.out_features = channels[-1]
        layers: list[nn.Module] = []
        for stage, width in enumerate(channels):
            for _ in range(depth):
                layers += self.convolution(in_channels, width, batch_norm, first=not layers)
                in_channels = width
            if stage < pools:
                layers.append(nn.MaxPool2d(2))
            if recalibration:
                layers.append(recalibration(width))
            layers.append(nn.Dropout2d(dropout))
        self.layers = nn.Sequential(*layers)

    def convolution(self, in_channels: int, out_channels: int, batch_norm: bool, first: bool) -> list[nn.Module]:
        """The layers of one convolution; ``first`` is the one that reads the images."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.layers(images)  # (N, D, H / 2^pools, W / 2^pools)
        return features


def _convolution(in_channels: int, out_channels: int, kernel: int, norm: bool, groups: int = 1) -> list[nn.Module]:
    """Convolution that keeps height and width, batch norm if wanted, ReLU."""
    convolution = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, groups=groups, bias=not norm)
    return [convolution, nn.BatchNorm2d(out_channels), nn.ReLU()] if norm else [convolution, nn.ReLU()]


class ConvStack(_Stack):
    """Plain convolutional stack: stages of (3x3 convolution, batch norm, ReLU), each ended by 2x2 max-pooling.

    The feature extractor of most CNN-LSTM papers on facial expressions, after VGG (Simonyan and Zisserman 2015,
    https://arxiv.org/abs/1409.1556). Pooling halves height and width: (N, C, 48, 48) -> (N, 128, 6, 6) by default.

    Args:
        in_channels: C, 1 for grey and 3 for RGB; comes from the data.
        channels: width of each stage; the last one is D.
        depth: convolutions in each stage.
        dropout: probability of dropping a whole channel after each stage, in [0, 1).
        pools: pool after this many stages, counted from the first; null for all.
        batch_norm: normalise after each convolution; without it convolutions have a bias.
        recalibration: attention over channels or cells after each stage, as CBAM; null for none.
    """

    def convolution(self, in_channels: int, out_channels: int, batch_norm: bool, first: bool) -> list[nn.Module]:
        return _convolution(in_channels, out_channels, 3, batch_norm)


class DepthwiseStack(_Stack):
    """Stack of depthwise separable convolutions (DSCNN): ConvStack for a seventh of its multiply-adds.

    A separable convolution filters each channel by a 3x3 kernel of its own, then mixes channels by a 1x1 convolution,
    each with batch norm and ReLU; the first one, which reads the images, is a plain one. Howard et al. 2017
    (MobileNets), section 3.1 and table 1, https://arxiv.org/abs/1704.04861. Shapes are those of ConvStack.

    Args:
        in_channels: C, 1 for grey and 3 for RGB; comes from the data.
        channels: width of each stage; the last one is D.
        depth: separable convolutions in each stage.
        dropout: probability of dropping a whole channel after each stage, in [0, 1).
        pools: pool after this many stages, counted from the first; null for all.
        batch_norm: normalise after each convolution; without it convolutions have a bias.
        recalibration: attention over channels or cells after each stage, as CBAM; null for none.
    """

    def convolution(self, in_channels: int, out_channels: int, batch_norm: bool, first: bool) -> list[nn.Module]:
        if first:
            return _convolution(in_channels, out_channels, 3, batch_norm)
        depthwise = _convolution(in_channels, in_channels, 3, batch_norm, groups=in_channels)
        return depthwise + _convolution(in_channels, out_channels, 1, batch_norm)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2016, figure 2): (N, in, H, W) -> (N, out, H / s, W / s)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        recalibration: Callable[[int], Recalibration] | None = None,
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
        recalibration: attention over channels or cells on the residual of each block, before the shortcut is added, as
            SqueezeExcitation or CBAM; null for none.
    """

    def __init__(
        self,
        in_channels: int,
        channels: Sequence[int] = (32, 64, 128, 256),
        blocks: Sequence[int] = (2, 2, 2, 2),
        first_stride: int = 1,
        recalibration: Callable[[int], Recalibration] | None = None,
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
                stride = 1 if block > 0 else first_stride if stage == 0 else 2
                layers.append(BasicBlock(width, out, stride, recalibration))
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
