"""Restorers: images (N, C, H, W) in [0, 1] to cleaner images of the same shape."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ferlightning.contracts.modules import Restorer
from ferlightning.errors import FerlError
from ferlightning.parts.degradation import Degradation

DEGRADATION = Degradation()
EVAL_SEED = 0


class DenoisingAutoencoder(Restorer):
    """A convolutional encoder-decoder that learns to undo noise, compression and uneven light.

    Vincent et al. 2008, "Extracting and composing robust features with denoising autoencoders". The encoder halves
    height and width three times; the decoder doubles them and adds the encoder's maps of equal size (Chaurasia and
    Culurciello 2017, https://arxiv.org/abs/1707.03718). The result is added to the input (residual learning, Zhang et
    al. 2017, https://arxiv.org/abs/1608.03981, section III), and is zero at first, so an untrained one returns its
    input.

    Shape: (N, C, H, W) in [0, 1] -> the same, of any height and width.

    In train mode the input is corrupted first, so the loss ``Reconstruction`` compares what is restored from the
    corrupted image with the clean one. In eval mode it is not, and the loss only tells how little clean images suffer.
    Pre-training should choose its best epoch by what it trains: ``corrupt_eval`` corrupts in eval mode too.

    Args:
        in_channels: C of the images, 1 for grey and 3 for RGB.
        width: channels of the first stage; the second has twice, the third and fourth four times as many.
        corruption: how the input is degraded in train mode.
        corrupt_eval: corrupt in eval mode too, every batch with the same draw, so that epochs and models are compared
            on equal terms. For pre-training only: predictions are then made from corrupted images.
    """

    def __init__(
        self,
        in_channels: int = 1,
        width: int = 16,
        corruption: Degradation = DEGRADATION,
        corrupt_eval: bool = False,
    ) -> None:
        super().__init__()
        self.corruption, self.corrupt_eval = corruption, corrupt_eval
        self.in_channels = in_channels
        widths = (width, 2 * width, 4 * width, 4 * width)
        self.encode = nn.ModuleList()
        for i, out in enumerate(widths):
            before = widths[i - 1] if i else in_channels
            self.encode.append(nn.Sequential(*_convolution(before, out, 2 if i else 1), *_convolution(out, out)))
        self.narrow = nn.ModuleList(nn.Conv2d(widths[i + 1], widths[i], 1) for i in (2, 1, 0))
        self.decode = nn.ModuleList(nn.Sequential(*_convolution(widths[i], widths[i])) for i in (2, 1, 0))
        self.correct = nn.Conv2d(width, in_channels, 3, padding=1)
        for parameter in self.correct.parameters():
            nn.init.zeros_(parameter)
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        if images.shape[1] != self.in_channels:
            raise FerlError(
                f"DenoisingAutoencoder was built for {self.in_channels} channels, the images have {images.shape[1]}: "
                f"set model.restorer.in_channels to {images.shape[1]}"
            )
        if self.training:
            images = self.corruption(images)
        elif self.corrupt_eval:
            images = self.corruption(images, torch.Generator(images.device).manual_seed(EVAL_SEED))
        return self.restore(images)

    def restore(self, images: Tensor) -> Tensor:
        """Restore images as they are, whatever the mode: (N, C, H, W) in [0, 1] to the same."""
        x = images.contiguous(memory_format=torch.channels_last)
        maps: list[Tensor] = []
        for stage in self.encode:
            x = stage(x)  # (N, D, H / s, W / s) with s = 1, 2, 4, 8, rounded up
            maps.append(x)
        for i, narrow, stage in zip((2, 1, 0), self.narrow, self.decode, strict=True):
            x = stage(F.interpolate(narrow(x), maps[i].shape[2:], mode="bilinear", align_corners=False) + maps[i])
        restored: Tensor = (images + self.correct(x)).clamp(0, 1)
        return restored


def _convolution(in_channels: int, out_channels: int, stride: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    ]
