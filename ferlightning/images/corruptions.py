"""Graded corruptions: one kind of damage each, at severities 1 to 5, to measure how robust a model is.

The idea, and the scales where noted, are those of Hendrycks and Dietterich 2019, "Benchmarking neural network
robustness to common corruptions and perturbations", https://arxiv.org/abs/1903.12261: ImageNet-C has images of 224
pixels, ImageNet-64-C of 64, near the 48 of FER2013. Here a face fills the image, and a strength is a share of the image
where it can be, so that a severity means the same at every size.

Severity 1 hardly disturbs a person, and severity 5 leaves little to be seen.
"""

from zlib import crc32

import cv2
import numpy as np
from numpy.typing import NDArray

from ferlightning.contracts.images import GradedCorruption
from ferlightning.images.preprocess import GaussianFilter

Image = NDArray[np.uint8]


class GaussianBlur(GradedCorruption):
    """Gaussian blur, like that of a face out of focus; the border is repeated outwards.

    ImageNet-64-C goes from 0.8 to 2.3 % of the width, on objects that do not fill the image.
    """

    strengths = (0.01, 0.02, 0.03, 0.04, 0.06)
    """Standard deviation, as a share of the image's width."""

    def corrupt(self, image: Image, strength: float) -> Image:
        return GaussianFilter(strength * image.shape[1])(image)


class GaussianNoise(GradedCorruption):
    """Gaussian noise, independent for every pixel and channel, clipped to 0..255.

    The draw is seeded by the image's own bytes, so an image has the same one in every run, order and process. It is
    also the same at every severity, times the strength, so that severities differ by nothing else.
    """

    strengths = (0.04, 0.08, 0.12, 0.15, 0.18)
    """Standard deviation, as a share of the range from black to white, as in ImageNet-64-C."""

    def corrupt(self, image: Image, strength: float) -> Image:
        draw = np.random.default_rng(crc32(image.tobytes())).standard_normal(image.shape, np.float32)
        return np.clip(np.rint(image + 255 * strength * draw), 0, 255).astype(np.uint8)


class JPEG(GradedCorruption):
    """JPEG compression. Its blocks are 8 pixels wide, so they are larger on the face the smaller the image is."""

    strengths = (65, 50, 25, 15, 7)
    """Quality, from 1 to 100: from the highest of ImageNet-64-C to the lowest of ImageNet-C."""

    def corrupt(self, image: Image, strength: float) -> Image:
        # OpenCV's colours are BGR.
        _, code = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(strength)])
        flag = cv2.IMREAD_GRAYSCALE if image.shape[2] == 1 else cv2.IMREAD_COLOR_RGB
        decoded = cv2.imdecode(code, flag)
        assert decoded is not None
        return decoded.astype(np.uint8, copy=False).reshape(image.shape)


class LowLight(GradedCorruption):
    """Darkening by a power of the brightness, which keeps black and white in place and takes the shadows first.

    Lore, Akintayo and Sarkar 2017, "LLNet: a deep autoencoder approach to natural low-light image enhancement",
    darkens in this way, by 2 to 5, and adds noise, which is GaussianNoise here. It is not a factor, because anything
    that normalises contrast would undo one.
    """

    strengths = (1.5, 2, 3, 4, 5)
    """Exponent on grey levels in [0, 1]: mid grey falls to 0.35, 0.25, 0.12, 0.06 and 0.03."""

    def corrupt(self, image: Image, strength: float) -> Image:
        return np.rint(255 * (np.arange(256) / 255) ** strength).astype(np.uint8)[image]


class _Band(GradedCorruption):
    """A black band over the whole width, where aligned face crops have a certain part of the face."""

    strengths = (0.08, 0.16, 0.24, 0.32, 0.4)
    """Height of the band, as a share of the image's."""

    centre: float
    """Middle of the band, as a share of the image's height from its top."""

    def corrupt(self, image: Image, strength: float) -> Image:
        top, bottom = (round((self.centre + side * strength / 2) * len(image)) for side in (-1, 1))
        occluded = image.copy()
        occluded[top:bottom] = 0
        return occluded


class EyesOcclusion(_Band):
    """A black band over the eyes, like dark glasses; severity 5 hides everything from above the brows to mid nose.

    The place is fixed: where FER2013 and CK+, both cropped to the face, have the eyes in their mean image. No
    landmarks are used, so it means nothing where faces are not aligned.
    """

    centre = 0.38


class MouthOcclusion(_Band):
    """A black band over the mouth, like a scarf; severity 5 hides everything from mid nose to the chin.

    The place is fixed: where FER2013 and CK+, both cropped to the face, have the mouth in their mean image. No
    landmarks are used, so it means nothing where faces are not aligned.
    """

    centre = 0.78


class Rotation(GradedCorruption):
    """Rotation about the image's centre, counter-clockwise, like a tilted head; the border is repeated.

    Up to about as far as a neck bends sideways.
    """

    strengths = (5, 10, 20, 30, 45)
    """Angle in degrees."""

    def corrupt(self, image: Image, strength: float) -> Image:
        height, width = image.shape[:2]
        turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), strength, 1)
        turned = cv2.warpAffine(image, turn, (width, height), borderMode=cv2.BORDER_REPLICATE)
        return turned.astype(np.uint8, copy=False).reshape(image.shape)


class LowResolution(GradedCorruption):
    """A face of few pixels: each is the mean over its area, enlarged again by linear interpolation.

    The strength is not a share of the image, as in ImageNet-C's pixelation: what counts is how wide the camera saw the
    face, not how many pixels it was stored with. An image that is no wider than that stays as it is.
    """

    strengths = (32, 24, 16, 12, 8)
    """Width of the face in pixels; the height follows in proportion."""

    def corrupt(self, image: Image, strength: float) -> Image:
        height, width = image.shape[:2]
        if width <= strength:
            return image
        size = (int(strength), max(1, round(height * strength / width)))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        large = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
        return large.astype(np.uint8, copy=False).reshape(image.shape)
