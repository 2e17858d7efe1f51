"""Augmentations of whole batches on the device, each with a draw for every item, held over the frames of its clip.

These are the ones that kornia lacks or is slow at; ``data.augment`` takes any of kornia beside them, by name.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Beta

from ferlightning.contracts.modules import Augmentation, Batch
from ferlightning.errors import FerlError

Range = tuple[float, float]


class Warp(Augmentation):
    """Mirror, transform affinely and crop at random, in one resampling.

    The three are composed into one matrix per item, and the pixels are interpolated once (bilinearly). One after
    another, they would be interpolated up to three times, which takes three times as long and blurs each time.

    The result is that of a chain: the crop (a box of random area, shape and place, stretched to the whole image) is
    mirrored, scaled, sheared, rotated about its centre, and shifted; where the box ends and the image goes on, real
    pixels are shown.

    Args:
        flip: probability that an item is mirrored left to right.
        degrees: the angle is uniform in [-degrees, degrees].
        translate: the shift is uniform in [-translate, translate], as a share of width and of height.
        scale: range of the magnification, uniform; above 1 the face grows.
        shear: the angle of a horizontal shear is uniform in [-shear, shear] degrees.
        crop: range of the area of a random resized crop as a share of the image, uniform, within (0, 1]; null: no crop.
        ratio: range of width / height of the crop in pixels, uniform in the logarithm among the shapes that fit.
        padding: what lies outside the image: black, its nearest pixel, or its reflection.
    """

    def __init__(
        self,
        flip: float = 0.5,
        degrees: float = 10.0,
        translate: float = 0.1,
        scale: Range = (0.9, 1.1),
        shear: float = 0.0,
        crop: Range | None = None,
        ratio: Range = (3 / 4, 4 / 3),
        padding: Literal["zeros", "border", "reflection"] = "zeros",
    ) -> None:
        _check("Warp.flip", flip, 1)
        _check("Warp.degrees", degrees, 180)
        _check("Warp.translate", translate)
        _check("Warp.scale", scale, positive=True)
        _check("Warp.shear", shear, 80)
        _check("Warp.crop", crop or (1, 1), 1, positive=True)
        _check("Warp.ratio", ratio, positive=True)
        self.flip, self.degrees, self.translate, self.scale, self.shear = flip, degrees, translate, scale, shear
        self.crop, self.ratio, self.padding = crop, ratio, padding

    def __call__(self, batch: Batch, num_classes: int) -> Batch:
        image = batch["image"]
        height, width = image.shape[-2:]
        matrix = self._matrices(len(image), height, width, image.device)  # (B, 2, 3)
        x, y = (((2 * torch.arange(n, device=image.device) + 1) / n - 1) for n in (width, height))
        # No matrix product, which may be set to a precision (TF32) that is not enough for coordinates.
        along, down = matrix[:, :, :1] * x, matrix[:, :, 1:2] * y + matrix[:, :, 2:]  # (B, 2, W), (B, 2, H)
        grid = (down.unsqueeze(3) + along.unsqueeze(2)).permute(0, 2, 3, 1)  # (B, H, W, 2)
        # Frames as channels: the weights of a pixel are worked out once for all frames of a clip.
        warped = F.grid_sample(image.flatten(1, 2), grid, padding_mode=self.padding, align_corners=False)
        return batch | {"image": warped.view_as(image)}

    def _matrices(self, n: int, height: int, width: int, device: torch.device) -> Tensor:
        """From places in the result to places in the image, both -1 to 1 from edge to edge. Shape: (n, 2, 3)."""
        angle, shear = (_uniform((-d, d), n, device) * (math.pi / 180) for d in (self.degrees, self.shear))
        right, down = (_uniform((-2 * self.translate, 2 * self.translate), n, device) for _ in range(2))
        zoom = 1 / _uniform(self.scale, n, device)
        cos, sin, tan = angle.cos() * zoom, angle.sin() * zoom, shear.tan()
        sign = 1 - 2 * _chosen(self.flip, n, device).float()
        # Mirror, unscale, unshear, unrotate; the sides' ratio turns steps of width into steps of height.
        xx, xy = sign * (cos + tan * sin), sign * (sin - tan * cos) * (height / width)
        yx, yy = -sin * (width / height), cos
        x0, y0 = -(xx * right + xy * down), -(yx * right + yy * down)
        if self.crop is not None:
            left, top, w, h = _boxes(self.crop, self.ratio, height, width, n, device)
            xx, xy, x0 = w * xx, w * xy, w * x0 + (2 * left + w - 1)
            yx, yy, y0 = h * yx, h * yy, h * y0 + (2 * top + h - 1)
        return torch.stack((xx, xy, x0, yx, yy, y0), 1).view(n, 2, 3)


class Light(Augmentation):
    """Brightness and contrast: ``contrast * (x - mean) + mean + shift``, cut to [0, 1].

    The mean is that of all pixels of the item, of all channels and real frames. Kornia's ColorJitter and
    RandomBrightness do the same, but draw on the host and wait for the device.

    Args:
        brightness: the shift is uniform in [-brightness, brightness].
        contrast: the contrast is uniform in [1 - contrast, 1 + contrast].
    """

    def __init__(self, brightness: float = 0.2, contrast: float = 0.2) -> None:
        _check("Light.brightness", brightness, 1)
        _check("Light.contrast", contrast, 1)
        self.brightness, self.contrast = brightness, contrast

    def __call__(self, batch: Batch, num_classes: int) -> Batch:
        image = batch["image"]
        n, device = len(image), image.device
        real = batch["mask"] if "mask" in batch else torch.ones(image.shape[:2], device=device)
        mean = (image.mean((2, 3, 4)) * real).sum(1) / real.sum(1)
        contrast = _uniform((1 - self.contrast, 1 + self.contrast), n, device)
        offset = (1 - contrast) * mean + _uniform((-self.brightness, self.brightness), n, device)
        return batch | {"image": torch.addcmul(_per_item(offset), image, _per_item(contrast)).clamp_(0, 1)}


class Erase(Augmentation):
    """Paint over a rectangle of random area, shape and place: random erasing (Zhong et al. 2020, algorithm 1).

    https://arxiv.org/abs/1708.04896

    Args:
        p: probability that an item loses a rectangle.
        area: range of the rectangle's area as a share of the image, uniform, within [0, 1].
        ratio: range of its width / height in pixels, uniform in the logarithm among the shapes that fit.
        value: what it is painted with: a grey level in [0, 1]; ``noise``, uniform for each pixel; or ``mean``, the mean
            of each frame and channel, so that a network that normalises its input by it sees 0 there.
    """

    def __init__(
        self,
        p: float = 0.5,
        area: Range = (0.02, 0.2),
        ratio: Range = (0.3, 3.3),
        value: float | Literal["noise", "mean"] = 0.0,
    ) -> None:
        _check("Erase.p", p, 1)
        _check("Erase.area", area, 1)
        _check("Erase.ratio", ratio, positive=True)
        _check("Erase.value", 0 if isinstance(value, str) else value, 1)
        self.p, self.area, self.ratio, self.value = p, area, ratio, value

    def __call__(self, batch: Batch, num_classes: int) -> Batch:
        image = batch["image"]
        n, height, width = len(image), *image.shape[-2:]
        left, top, w, h = _boxes(self.area, self.ratio, height, width, n, image.device)
        w = w * _chosen(self.p, n, image.device)
        inside = _inside(left, top, w, h, height, width)
        if self.value == "noise":
            paint = torch.rand(n, 1, *image.shape[2:], device=image.device)
        elif self.value == "mean":
            paint = image.mean((-2, -1), keepdim=True)
        else:
            paint = torch.full((), float(self.value), device=image.device)
        return batch | {"image": torch.lerp(image, paint, inside)}


class MixUp(Augmentation):
    """Mix every item, and its label, with another of the batch as a weighted sum (Zhang et al. 2018).

    https://arxiv.org/abs/1710.09412. Labels become class probabilities (B, K). Of two clips that differ in
    length, the shorter one is continued in black, and the mixture is as long as the longer one.

    Args:
        alpha: an item's own weight is drawn from Beta(alpha, alpha).
        p: probability that an item is mixed.
    """

    def __init__(self, alpha: float = 0.2, p: float = 1.0) -> None:
        _check("MixUp.alpha", alpha, positive=True)
        _check("MixUp.p", p, 1)
        self.alpha, self.p = alpha, p

    def __call__(self, batch: Batch, num_classes: int) -> Batch:
        batch, n, device = _black_padding(batch), len(batch["image"]), batch["image"].device
        chosen = _chosen(self.p, n, device)
        other = torch.where(chosen, 1 - _beta(self.alpha, n, device), 0.0)
        partner = torch.randperm(n, device=device)
        image = torch.lerp(batch["image"], batch["image"][partner], _per_item(other))
        return _mixed(batch, image, partner, other, num_classes)


class CutMix(Augmentation):
    """Replace a box of every item, and as much of its label, by those of another of the batch (Yun et al. 2019).

    https://arxiv.org/abs/1905.04899, algorithm 1. Labels become class probabilities (B, K); the other item's share is
    that of the pixels it got. The box is the same in all frames. Of two clips that differ in length, the shorter one
    is continued in black, and the mixture is as long as the longer one.

    Args:
        alpha: the share of the box, before the part outside the image is cut off, is drawn from Beta(alpha, alpha).
        p: probability that an item gets a box.
    """

    def __init__(self, alpha: float = 1.0, p: float = 1.0) -> None:
        _check("CutMix.alpha", alpha, positive=True)
        _check("CutMix.p", p, 1)
        self.alpha, self.p = alpha, p

    def __call__(self, batch: Batch, num_classes: int) -> Batch:
        batch, n, device = _black_padding(batch), len(batch["image"]), batch["image"].device
        side = _beta(self.alpha, n, device).sqrt() * _chosen(self.p, n, device)
        left, top = (_uniform((0, 1), n, device) - side / 2 for _ in range(2))
        inside = _inside(left, top, side, side, *batch["image"].shape[-2:])
        other = inside.mean((1, 2, 3, 4))
        partner = torch.randperm(n, device=device)
        image = torch.lerp(batch["image"], batch["image"][partner], inside)
        return _mixed(batch, image, partner, other, num_classes)


# --- draws, each (n,) -------------------------------------------------------------------------------------------------


def _uniform(between: Range, n: int, device: torch.device) -> Tensor:
    return torch.empty(n, device=device).uniform_(*between)


def _chosen(p: float, n: int, device: torch.device) -> Tensor:
    return torch.rand(n, device=device) < p


def _beta(alpha: float, n: int, device: torch.device) -> Tensor:
    parameter = torch.full((n,), alpha, device=device)
    draw: Tensor = Beta(parameter, parameter, validate_args=False).sample()  # validation would wait for the device
    return draw


def _boxes(area: Range, ratio: Range, height: int, width: int, n: int, device: torch.device) -> list[Tensor]:
    """Draw boxes within the image, at uniform places: left, top, width, height as shares of the image, each (n,).

    The usual way draws area and ratio until the box fits. Here the ratio is drawn from those that fit the area, so that
    the area is uniform and no loop waits for the device.
    """
    share = _uniform(area, n, device)
    square = width / height
    tightest = share.clamp(min=1e-6).log()
    low, high = (
        (math.log(r / square) + torch.zeros_like(share)).clamp(tightest, -tightest) for r in ratio
    )  # logarithm of width / height, both as shares
    half = torch.lerp(low, high, torch.rand(n, device=device)) / 2
    side = share.sqrt()
    # Rounding may leave the image by a hair.
    w, h = (side * half.exp()).clamp(max=1), (side * (-half).exp()).clamp(max=1)
    left, top = ((1 - x) * torch.rand(n, device=device) for x in (w, h))
    return [left, top, w, h]


# --- pixels and labels ------------------------------------------------------------------------------------------------


def _per_item(x: Tensor) -> Tensor:
    """Shape: (B,) -> (B, 1, 1, 1, 1)."""
    return x.view(-1, 1, 1, 1, 1)


def _inside(left: Tensor, top: Tensor, w: Tensor, h: Tensor, height: int, width: int) -> Tensor:
    """Mark the pixels whose middle is in their item's box by 1, others by 0. Shape: (B,) each -> (B, 1, 1, H, W).

    Numbers, because on a CPU a weighted sum of two images is several times as fast as a choice by bool.
    """

    def along(start: Tensor, length: Tensor, n: int) -> Tensor:
        middle = (torch.arange(n, device=start.device) + 0.5) / n
        return ((middle >= start.unsqueeze(1)) & (middle < (start + length).unsqueeze(1))).float()

    return (along(top, h, height).unsqueeze(2) * along(left, w, width).unsqueeze(1))[:, None, None]


def _black_padding(batch: Batch) -> Batch:
    """Make padding black again: an earlier augmentation may have made it anything."""
    return batch | {"image": batch["image"] * batch["mask"][:, :, None, None, None]} if "mask" in batch else batch


def _mixed(batch: Batch, image: Tensor, partner: Tensor, other: Tensor, num_classes: int) -> Batch:
    """Return the batch with mixed images, and labels and masks to match; ``other`` (B,) is the partner's share."""
    label = batch["label"]
    if label.ndim == 1:
        label = F.one_hot(label, num_classes)
    label = label.float()
    mixed = batch | {"image": image}
    for name, x in (batch | {"label": label}).items():
        if name.startswith("label"):
            mixed[name] = torch.lerp(x, x[partner], other.unsqueeze(1))
    if "mask" in batch:
        mixed["mask"] = batch["mask"] | (batch["mask"][partner] & (other > 0).unsqueeze(1))
    return mixed


# --- options ----------------------------------------------------------------------------------------------------------


def _check(name: str, value: float | Range, most: float = math.inf, positive: bool = False) -> None:
    """Refuse a number, or a range, that is not within [0, most]."""
    low, high = (value, value) if isinstance(value, int | float) else value
    if not 0 <= low <= high <= most or (positive and not low):
        allowed = f"{'above' if positive else 'from'} 0{f' up to {most:g}' if most < math.inf else ' on'}"
        what = "a number" if isinstance(value, int | float) else "two numbers, the smaller one first,"
        raise FerlError(f"{name} is {value}: give {what} {allowed}")
