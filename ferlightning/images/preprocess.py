"""Preprocessing parts: one uint8 image (H, W, C) to another, once per image, without chance and without torch.

An image is grey (C = 1) or RGB (C = 3) at first; parts that append channels put them last. Filters treat each channel
separately. Border pixels are repeated outwards.

Only the number of channels tells grey from RGB: the luminance is that of the first three channels if there are three or
more, else it is the first channel. A grey image with two appended channels would pass for RGB, so no third part that
reads the luminance may follow.
"""

import math
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ferlightning.contracts.images import Preprocess
from ferlightning.errors import FerlError

Image = NDArray[np.uint8]

LARGEST = 8192
"""Pixels of a side, of which a file of a stranger may ask for any number."""
SHARPEN = [[0.0, -1.0, 0.0], [-1.0, 5.0, -1.0], [0.0, -1.0, 0.0]]
"""The image less its Laplacian."""

NEIGHBOURS = ((0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1))
"""Offsets (down, right) of the bits of a local binary pattern, lowest first."""


class Resize(Preprocess):
    """Resize to a square; other shapes are stretched.

    An axis that shrinks takes the mean over the area of each new pixel, which does not alias. One that grows is
    interpolated linearly, which, unlike bicubic interpolation, adds no bright and dark rims beside edges.

    Args:
        size: height and width of the result in pixels.
    """

    def __init__(self, size: int) -> None:
        _require(1 <= size <= LARGEST, f"Resize: size is {size}, expected a number from 1 to {LARGEST}")
        self.size = size

    def __call__(self, image: Image) -> Image:
        height, width = image.shape[:2]
        least = (min(width, self.size), min(height, self.size))

        def resize(plane: Any) -> Any:
            if least != (width, height):
                plane = cv2.resize(plane, least, interpolation=cv2.INTER_AREA)
            return cv2.resize(plane, (self.size, self.size), interpolation=cv2.INTER_LINEAR)

        return _each_channel(image, resize)


class MedianFilter(Preprocess):
    """The median of the square around each pixel, which removes specks and keeps edges.

    Args:
        size: side of the square in pixels, odd.
    """

    def __init__(self, size: int = 3) -> None:
        _require_odd("MedianFilter", size)
        self.size = size

    def __call__(self, image: Image) -> Image:
        return _each_channel(image, lambda plane: cv2.medianBlur(plane, self.size))


class GaussianFilter(Preprocess):
    """Gaussian smoothing.

    Args:
        sigma: standard deviation in pixels.
        size: side of the kernel in pixels, odd; null: three standard deviations to each side.
    """

    def __init__(self, sigma: float = 1.0, size: int | None = None) -> None:
        _require(0 < sigma < math.inf, f"GaussianFilter: sigma is {sigma}, expected a number above 0")
        if size is not None:
            _require_odd("GaussianFilter", size)
        self.sigma = sigma
        self.size = size

    def __call__(self, image: Image) -> Image:
        row = cv2.getGaussianKernel(self.size or 2 * math.ceil(3 * self.sigma) + 1, self.sigma)
        # In floating point: cv2.GaussianBlur of uint8 takes longer and is up to 1.3 grey levels off.
        return _each_channel(image, lambda x: cv2.sepFilter2D(x, -1, row, row, borderType=cv2.BORDER_REPLICATE))


class KernelFilter(Preprocess):
    """Correlation with a kernel, rounded and clipped to 0..255.

    Args:
        kernel: rows of weights, an odd number of rows of one odd length; the default sharpens.
    """

    def __init__(self, kernel: list[list[float]] = SHARPEN) -> None:
        lengths = [len(row) for row in kernel]
        odd = len(kernel) % 2 == 1 and len(set(lengths)) == 1 and lengths[0] % 2 == 1
        _require(odd, f"KernelFilter: kernel has rows of {lengths} weights, expected an odd number of one odd length")
        wrong = [weight for row in kernel for weight in row if not math.isfinite(weight)]
        _require(not wrong, f"KernelFilter: kernel has the weights {wrong}, expected finite numbers")
        self.kernel = kernel

    def __call__(self, image: Image) -> Image:
        kernel = np.array(self.kernel, np.float64)
        return _each_channel(image, lambda plane: cv2.filter2D(plane, -1, kernel, borderType=cv2.BORDER_REPLICATE))


class GlobalContrast(Preprocess):
    """Global contrast normalisation: subtract the image's mean, and divide by its standard deviation.

    Goodfellow, Bengio and Courville 2016, Deep Learning, eq. 12.3: z = (x - mean) / max(1e-8, sqrt(lambda + variance)),
    over all channels together. As uint8, z from -3 to 3 is mapped linearly to 0..255 (so the equation's s is 42.5) and
    clipped beyond; an image of one grey level becomes mid grey.

    Args:
        regularizer: lambda, in squared grey levels; above 0 it keeps the noise of almost even images small.
    """

    def __init__(self, regularizer: float = 0.0) -> None:
        valid = 0 <= regularizer < math.inf
        _require(valid, f"GlobalContrast: regularizer is {regularizer}, expected a number from 0")
        self.regularizer = regularizer

    def __call__(self, image: Image) -> Image:
        # The result depends on the grey level alone, so it is computed for 256 levels instead of all pixels.
        counts = np.bincount(image.ravel(), minlength=256)
        level = np.arange(256.0)
        level -= counts @ level / image.size
        z = level / max(1e-8, math.sqrt(self.regularizer + counts @ level**2 / image.size))
        return np.clip(np.rint(127.5 + z * (127.5 / 3)), 0, 255).astype(np.uint8).take(image)


class HistogramEqualization(Preprocess):
    """Histogram equalisation: spread the grey levels so that their cumulative distribution is as straight as possible.

    An image of three channels is equalised in its luminance, the Y of YCrCb, which keeps its hues; any other is
    equalised channel by channel. Put it before parts that append channels.
    """

    def __call__(self, image: Image) -> Image:
        return _each_tone(image, cv2.equalizeHist)


class CLAHE(Preprocess):
    """Contrast-limited adaptive histogram equalisation: by tiles, interpolated between them (Zuiderveld 1994).

    An image of three channels is equalised in its luminance, the Y of YCrCb; any other is equalised channel by channel.
    Put it before parts that append channels.

    Args:
        clip: most pixels of one grey level in a tile, as a multiple of their mean number; the excess is spread over all
            levels.
        tiles: tiles along each side; few enough that each holds some hundred pixels.
    """

    def __init__(self, clip: float = 2.0, tiles: int = 8) -> None:
        _require(0 < clip < math.inf, f"CLAHE: clip is {clip}, expected a number above 0")
        _require(tiles >= 1, f"CLAHE: tiles is {tiles}, expected a number from 1")
        self.clip = clip
        self.tiles = tiles

    def __call__(self, image: Image) -> Image:
        return _each_tone(image, cv2.createCLAHE(self.clip, (self.tiles, self.tiles)).apply)


class SobelEdges(Preprocess):
    """Append one channel: the magnitude of the luminance's gradient by Sobel operators.

    The operators are divided by the sum of their positive weights, so a straight step from black to white gives 255;
    the little more that oblique steps give is clipped.

    Args:
        size: side of the operators in pixels: 3, 5 or 7.
    """

    def __init__(self, size: int = 3) -> None:
        _require(size in (3, 5, 7), f"SobelEdges: size is {size}, expected 3, 5 or 7")
        self.size = size

    def __call__(self, image: Image) -> Image:
        grey = _luminance(image)
        slope, smooth = cv2.getDerivKernels(1, 0, self.size)
        scale = 1 / float(slope[slope > 0].sum() * smooth.sum())
        across, down = (
            cv2.Sobel(grey, cv2.CV_32F, dx, 1 - dx, ksize=self.size, scale=scale, borderType=cv2.BORDER_REPLICATE)
            for dx in (1, 0)
        )
        return _append(image, cv2.convertScaleAbs(cv2.magnitude(across, down)))


class CannyEdges(Preprocess):
    """Append one channel: 255 on the edges of the luminance, 0 elsewhere (Canny 1986).

    Nothing is smoothed here; put a MedianFilter or GaussianFilter before it to remove noise. Thresholds are magnitudes
    of the 3x3 Sobel gradient, which is 1020 at a straight step from black to white.

    Args:
        low: an edge continues where the gradient is above this.
        high: an edge begins where the gradient is above this.
    """

    def __init__(self, low: float, high: float) -> None:
        _require(low >= 0, f"CannyEdges: low is {low}, expected a number from 0")
        _require(low <= high < math.inf, f"CannyEdges: high is {high}, expected a number from low, {low}")
        self.low = low
        self.high = high

    def __call__(self, image: Image) -> Image:
        return _append(image, cv2.Canny(_luminance(image), self.low, self.high, L2gradient=True))


class LocalBinaryPattern(Preprocess):
    """The code of each pixel's 3x3 neighbourhood in the luminance, which no monotonic change of brightness alters.

    Ojala, Pietikäinen and Harwood 1996, Pattern Recognition 29(1); the order of the bits is that of Ojala et al. 2002.
    A bit is set where the neighbour is at least as bright as the centre: bit 0 (of value 1) to the right, then
    counter-clockwise, bit 2 above, bit 4 to the left, bit 6 below.

    Args:
        append: keep the image and append the codes as one channel, instead of replacing all its channels.
    """

    def __init__(self, append: bool = False) -> None:
        self.append = append

    def __call__(self, image: Image) -> Image:
        grey = _luminance(image)
        height, width = grey.shape
        padded = cv2.copyMakeBorder(grey, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
        code = np.zeros_like(grey)
        for bit, (y, x) in enumerate(NEIGHBOURS):
            code |= (padded[1 + y : 1 + y + height, 1 + x : 1 + x + width] >= grey).view(np.uint8) << np.uint8(bit)
        return _append(image, code) if self.append else code[:, :, None]


# --- what they share --------------------------------------------------------------------------------------------------


def _each_channel(image: Image, function: Callable[[Any], Any]) -> Image:
    """Apply a function to each channel: OpenCV takes few numbers of channels, and drops the axis of a single one."""
    return np.stack([function(plane) for plane in cv2.split(image)], axis=2)


def _each_tone(image: Image, function: Callable[[Any], Any]) -> Image:
    """Apply a function to the luminance of an image of three channels, or to each channel of any other."""
    if image.shape[2] != 3:
        return _each_channel(image, function)
    luminance, red, blue = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb))
    equalised = cv2.cvtColor(cv2.merge([function(luminance), red, blue]), cv2.COLOR_YCrCb2RGB)
    return equalised.astype(np.uint8, copy=False)


def _luminance(image: Image) -> Image:
    """Shape: (H, W, C) -> (H, W)."""
    if image.shape[2] < 3:
        return np.ascontiguousarray(image[:, :, 0])
    return cv2.cvtColor(image[:, :, :3], cv2.COLOR_RGB2GRAY).astype(np.uint8, copy=False)


def _append(image: Image, plane: Any) -> Image:
    return cv2.merge([*cv2.split(image), plane]).astype(np.uint8, copy=False)


def _require(valid: bool, message: str) -> None:
    if not valid:
        raise FerlError(message)


def _require_odd(part: str, size: int) -> None:
    _require(size >= 3 and size % 2 == 1, f"{part}: size is {size}, expected an odd number from 3")
