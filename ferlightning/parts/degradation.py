"""Random degradation of face images while a restorer trains: uneven light, sensor noise and compression.

Every image has strengths of its own, drawn on the device from a generator that may be given, so that an evaluation can
repeat its draw. Kornia's parts do not serve: its JPEG takes three channels only, its noise has one strength for all
images, and its draws take no generator. (The graded corruptions of ``ferlightning.images`` are another thing: they have
fixed severities, to measure robustness.)

Shapes: N images, C channels, H W image.
"""

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from ferlightning.errors import FerlError

# Luminance, ITU-T recommendation T.81 (JPEG), table K.1.
QUANTISATION = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)


@dataclass(frozen=True)
class Degradation:
    """Degrade images as cameras do: by a light gradient, then sensor noise, then JPEG compression.

    Each image gets each of the three with probability ``p``, at a strength drawn uniformly between none and the
    largest, so some images stay clean.

    Args:
        p: probability of each of the three, in [0, 1]; 0 leaves images clean.
        light: largest change of brightness between the middle and the rim of the light, as a share of it, in [0, 1].
        noise: largest standard deviation of the noise that is the same everywhere; images are in [0, 1].
        shot_noise: largest standard deviation, at white, of the noise that grows with the light.
        quality: lowest JPEG quality, from 1 to 100 (the best).
    """

    p: float = 0.5
    light: float = 0.5
    noise: float = 0.1
    shot_noise: float = 0.1
    quality: int = 10

    def __post_init__(self) -> None:
        if not (0 <= self.p <= 1 and 0 <= self.light <= 1 and 1 <= self.quality <= 100):
            raise FerlError(f"corruption: p and light must be in [0, 1] and quality in [1, 100]; they are {self}")

    @torch.no_grad()
    def __call__(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Degrade images, (N, C, H, W) in [0, 1] to the same.

        Args:
            images: the clean images, which are left as they are.
            generator: to draw from, on the device of the images; None for torch's own.
        """
        n, device = len(images), images.device
        lit, noisy, compressed = torch.rand(3, n, generator=generator, device=device) < self.p  # (N,) each
        light, noise, shot, coarse = torch.rand(4, n, generator=generator, device=device)  # (N,) each
        with torch.autocast(device.type, enabled=False):  # half precision would add an error of its own
            x = illuminate(images.float(), self.light * light * lit, generator)
            x = add_noise(x, self.noise * noise * noisy, self.shot_noise * shot * noisy, generator).clamp(0, 1)
            x = torch.where(_column(compressed), compress(x, 100 - (100 - self.quality) * coarse), x)
        return x.to(images.dtype)


def illuminate(images: Tensor, strength: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Multiply by 1 + strength * field: a plane in a random direction, or a round light around a random point.

    Args:
        images: (N, C, H, W).
        strength: (N,); the field spans at most [-1, 1].
        generator: to draw from; None for torch's own.
    """
    n, _, h, w = images.shape
    kind, angle, x0, y0 = torch.rand(4, n, 1, 1, generator=generator, device=images.device)  # (N, 1, 1) each
    x = torch.linspace(-1, 1, w, device=images.device)
    y = torch.linspace(-1, 1, h, device=images.device)[:, None]
    cos, sin = (2 * torch.pi * angle).cos(), (2 * torch.pi * angle).sin()
    plane = (cos * x + sin * y) / (cos.abs() + sin.abs())  # (N, H, W), -1 and 1 in opposite corners
    squared = (x - (2 * x0 - 1)) ** 2 + (y - (2 * y0 - 1)) ** 2
    round_light = 1 - 2 * squared / squared.amax((1, 2), keepdim=True)
    field = torch.where(kind < 0.5, plane, round_light).unsqueeze(1)  # (N, 1, H, W)
    return images * (1 + _column(strength) * field)


def add_noise(images: Tensor, noise: Tensor, shot_noise: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Add sensor noise: normal, of variance ``noise**2 + shot_noise**2 * image``.

    Foi et al. 2008, "Practical Poissonian-Gaussian noise modeling and fitting for single-image raw-data", eq. 1-6: the
    second term is that of counted photons, here in the normal approximation of Poisson's law.

    Args:
        images: (N, C, H, W) in [0, 1].
        noise: (N,) standard deviation at black.
        shot_noise: (N,) standard deviation of the counted photons at white.
        generator: to draw from; None for torch's own.
    """
    variance = _column(noise) ** 2 + _column(shot_noise) ** 2 * images.clamp(min=0)
    return images + variance.sqrt() * torch.randn(images.shape, generator=generator, device=images.device)


def compress(images: Tensor, quality: Tensor) -> Tensor:
    """Add the artefacts of JPEG: transform blocks of 8x8 by the DCT, and round to the steps that a quality allows.

    Wallace 1992, "The JPEG still picture compression standard"; the steps of a quality are those of the Independent
    JPEG Group's library. Every channel is treated as luminance, so colours keep their resolution.

    Args:
        images: (N, C, H, W) in [0, 1].
        quality: (N,) from 1 to 100.
    """
    h, w = images.shape[2:]
    cosine, table = _jpeg(images.device)
    quality = quality.float()
    scale = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality)
    steps = ((table * _column(scale) + 50) / 100).floor().clamp(1, 255).view(-1, 1, 1, 1, 8, 8)
    padded = F.pad(images.float(), (0, -w % 8, 0, -h % 8), mode="replicate")
    levels = (255 * padded).round() - 128
    blocks = levels.unfold(2, 8, 8).unfold(3, 8, 8)  # (N, C, H / 8, W / 8, 8, 8)
    coded = (cosine @ blocks @ cosine.T / steps).round() * steps
    decoded = (cosine.T @ coded @ cosine).transpose(3, 4).reshape(padded.shape)[..., :h, :w]
    return ((decoded + 128).round() / 255).clamp(0, 1).to(images.dtype)


@cache  # else each batch would copy them to the device
def _jpeg(device: torch.device) -> tuple[Tensor, Tensor]:
    """The orthonormal DCT of eight values, (8, 8), and the quantisation table, (8, 8)."""
    k = torch.arange(8, dtype=torch.float32)  # whatever the default is: bf16-true changes it
    cosine = 0.5 * torch.cos(torch.pi / 8 * k[:, None] * (k + 0.5))
    cosine[0] /= 2**0.5
    return cosine.to(device), torch.tensor(QUANTISATION, dtype=torch.float32, device=device)


def _column(x: Tensor) -> Tensor:
    """Shape: (N,) -> (N, 1, 1, 1)."""
    return x.view(-1, 1, 1, 1)
